"""Tables, lists and files that a user hands in, checked as `core/checks.py` checks what is smaller."""

import math
import os
import sys
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from versatile_influence.core.checks import array, held, numbers, shaped, span, told
from versatile_influence.core.labels import names
from versatile_influence.core.warn import warn

# Of larger numbers the sum of squares may be none.
LARGEST = 1e150


def features(x: object, name: str = "x", *, rows: str = "query", qid: Sequence[object] | None = None) -> Tensor:
    """Return a table of features in float64, apart from the user's; with `qid` the query of a bad row is named too.

    Raises:
        TypeError: If they are no numbers.
        ValueError: If they are no table, or a number is missing or too large; row and column are named.

    Example:
        >>> features([[1.0], [float("nan")]])
        Traceback (most recent call last):
        ValueError: `x` is nan for query 1, column 0. Fill or drop missing features.
    """
    values = array(x, name)
    if values.dim() != 2 or not values.numel():
        raise ValueError(f"`{name}` must be a table of features (rows, columns), got shape {tuple(values.shape)}.")
    if len(bad := (~(values.abs() < LARGEST)).nonzero()):
        row, column = bad[0].tolist()
        value, query = (
            values[row, column].item(),
            f" (query {qid[row]!r})" if qid is not None and row < len(qid) else "",
        )
        cure = "Measure in a larger unit" if math.isfinite(value) else "Fill or drop missing features"
        raise ValueError(f"`{name}` is {value:g} for {rows} {row}{query}, column {column}. {cure}.")
    return values


def whole_numbers(
    values: object, name: str, *, shape: Sequence[int | None] | None, least: int = 0, most: int | None = None
) -> Tensor:
    """Return whole numbers, apart from the user's, of a shape in which None stands for any size, or of any.

    Raises:
        TypeError: If they are no whole numbers.
        ValueError: If their shape is another, or one is too small or too large; its place is named.

    Example:
        >>> whole_numbers([0, 3], "winners", shape=[None], most=2)
        Traceback (most recent call last):
        ValueError: `winners` is 3 at position 1; it must be a whole number, 0 to 2.
    """
    try:
        found = values if isinstance(values, Tensor) else torch.from_numpy(np.array(values))
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`{name}` must be an array of whole numbers: {held(values)}.") from error
    if (found.is_floating_point() or found.is_complex() or found.dtype == torch.bool) and found.numel():
        raise TypeError(f"`{name}` must hold whole numbers, {span(least, most)}, got {told(values)}.")
    whole = found.detach().to("cpu", torch.long, copy=True)
    if shape is not None:
        shaped(tuple(whole.shape), name, shape)
    if len(bad := ((whole < least) | (whole > (whole if most is None else most))).nonzero()):
        place = ", ".join(map(str, bad[0].tolist()))
        raise ValueError(
            f"`{name}` is {whole[tuple(bad[0])].item()} at position {place}; it must be a whole number, "
            f"{span(least, most)}."
        )
    return whole


def flags(values: object, name: str, n: int) -> Tensor:
    """Return n truths, given as such or as 1 and 0.

    Raises:
        ValueError: If there are more or fewer, or one is neither.
    """
    found = numbers(values, name, shape=[n])
    if len(bad := ((found != 0) & (found != 1)).nonzero()):
        raise ValueError(f"`{name}` is {found[bad[0, 0]]:g} at position {int(bad[0, 0])}. Give True or False, 1 or 0.")
    return found > 0


def codes(labels: object, n: int, what: str, name: str) -> tuple[Tensor, list]:
    """Return labels that several of n things may share as codes in order of first appearance, with the labels.

    Raises:
        TypeError: If they are no list, or no text, numbers or tuples of them.
        ValueError: If there are more or fewer than things, or a label is missing; its place is named.

    Example:
        >>> codes(["b", "a", "b"], 3, "row", "strata")
        (tensor([0, 1, 0]), ['b', 'a'])
    """
    # Rows of a table of labels are tuples; a table of one column is a list.
    rows = [tuple(row) if isinstance(row, list) else row for row in names(labels, n, what, name, entry="label") or []]
    given: list[Any] = [row[0] if isinstance(row, tuple) and len(row) == 1 else row for row in rows]
    for place, label in enumerate(given):
        # NaN, NaT and NA differ from themselves.
        for part in label if isinstance(label, tuple) else (label,):
            if part is None or (not isinstance(part, str | int) and str(part) in ("nan", "NaT", "<NA>")):
                raise ValueError(f"`{name}` is {part} in {what} {place}. Give every {what} a label.")
    try:
        number = dict(zip(dict.fromkeys(given), range(len(given)), strict=False))
    except TypeError as error:
        raise TypeError(f"`{name}` must hold text, numbers or tuples of them: {error}.") from error
    return torch.tensor([number[label] for label in given], dtype=torch.long), list(number)


def covariates(frame: Any, roles: Mapping[str, Any]) -> list[Hashable]:
    """Return the columns of a pandas frame that have no other role.

    Args:
        frame: The frame.
        roles: The column, or list of columns, of each argument that names some; None for none.

    Raises:
        TypeError: If it is no frame.
        ValueError: If two columns share a name, a named one is missing or has two roles, or no other is left.
    """
    pandas = sys.modules.get("pandas")
    if pandas is None or not isinstance(frame, pandas.DataFrame):
        raise TypeError(f"`frame` must be a pandas frame, got {type(frame).__name__}.")
    known = names(frame.columns, len(frame.columns), "column", "frame.columns", unique=True) or []
    role_of: dict[Hashable, str] = {}
    for role, given in roles.items():
        columns: list[Any] = [*given] if isinstance(given, list | tuple) and given not in known else [given]
        for name in columns:
            if name is not None and name not in known:
                raise ValueError(f"There is no column `{name}` (given as {role}). The columns are: {told(known)}.")
            if name in role_of:
                raise ValueError(f"Column `{name}` is given as {role_of[name]} and as {role}. Name one for each.")
            role_of |= {} if name is None else {name: role}
    if not (left := [name for name in known if name not in role_of]):
        raise ValueError("No covariate is left: every column of the frame is named as something else.")
    return left


def kept(x: object, name: str = "x") -> Tensor:
    """Return a tensor of any type, apart from the user's: a network's input, or parameters.

    Raises:
        TypeError: If it is none.
        ValueError: If a number is missing.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"`{name}` must be a tensor, got {type(x).__name__}. Use torch.as_tensor({name}).")
    if x.is_floating_point() and not torch.isfinite(x).all():
        raise ValueError(f"`{name}` has NaN or infinite entries. Fill them, or leave such rows out.")
    return x.detach().clone()


def tell_idle(idle: int, n: int, where: str) -> None:
    """Warn of objects that a loss never uses."""
    if idle:
        warn(f"{idle} of {n} objects are {where}; their scores are 0.")


def file(path: object, name: str = "path") -> Path:
    """Return the path of something that can be read.

    Raises:
        TypeError: If it is no path.
        FileNotFoundError: If there is nothing, or a folder.
    """
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"`{name}` must be the path of a file, got {told(path)}.")
    found = Path(path)
    if not found.exists() or found.is_dir():
        there = "Is a directory" if found.is_dir() else "No such file"
        raise FileNotFoundError(f"{there}: {found}. Give the path of a file as `{name}`.")
    return found
