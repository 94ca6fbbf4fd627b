"""Checkers of arguments that are neither numbers nor arrays: flags, functions, folders."""

import inspect
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from versatile_influence.core.checks import instance, told


def flag(value: object, name: str) -> bool:
    """Return True or False.

    Raises:
        TypeError: If it is neither.

    Example:
        >>> flag("no", "progress")
        Traceback (most recent call last):
        TypeError: `progress` must be True or False, got 'no'.
    """
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"`{name}` must be True or False, got {told(value)}.")
    return bool(value)


def function(value: object, name: str, *takes: str) -> Any:
    """Return a function that can be called with such arguments: by position, or by name where one ends in `=`.

    Raises:
        TypeError: If it is none, or takes others.

    Example:
        >>> function(lambda presence: presence, "fit", "presence", "seed=")
        Traceback (most recent call last):
        TypeError: `fit` must be a function, called as fit(presence, seed=…): got an unexpected keyword argument 'seed'.
    """
    wanted = f"`{name}` must be a function, called as {name}({', '.join(takes).replace('=', '=…')})"
    if not callable(value):
        raise TypeError(f"{wanted}, got {told(value)}.")
    try:
        called = inspect.signature(value)
    except (TypeError, ValueError):
        # Some written in C say nothing of what they take; a class such as `dict` is none that is meant.
        if isinstance(value, type):
            raise TypeError(f"{wanted}, got {told(value)}.") from None
        return value
    try:
        named = {argument[:-1]: None for argument in takes if argument.endswith("=")}
        called.bind(*takes[: len(takes) - len(named)], **named)
    except TypeError as error:
        raise TypeError(f"{wanted}: {error}.") from None
    return value


def folder(value: object, name: str) -> Path:
    """Return the path of a folder, which need not be there.

    Raises:
        TypeError: If it is no path.
        ValueError: If a file is there.

    Example:
        >>> folder(3, "out")
        Traceback (most recent call last):
        TypeError: `out` must be the path of a folder, got 3.
    """
    if not isinstance(value, str | PathLike):
        raise TypeError(f"`{name}` must be the path of a folder, got {told(value)}.")
    path = Path(value)
    if path.exists() and not path.is_dir():
        raise ValueError(f"`{name}` must be a folder, and {path} is a file.")
    return path


def module(model: object) -> torch.nn.Module:
    """Return the network that a user gives in place of a linear map, checked."""
    return instance(model, "model", torch.nn.Module, "torch.nn.Linear(3, 1)")
