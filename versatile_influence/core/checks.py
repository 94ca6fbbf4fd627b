"""The checkers that what a user hands in passes: whole numbers, numbers, arrays, choices, lists, values of a class.

Each returns what it was given in the library's own form, apart from what the user may change later, and says in one
sentence which argument is wrong, where in it, and what to do.
"""

import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Text holds numbers for float(), and True is one for it.
NOT_NUMBERS = str | bytes | bool | np.bool_
Real = float | int


def whole(value: object, name: str, *, least: int = 0, most: int | None = None) -> int:
    """Return a whole number of any library; True is none.

    Raises:
        TypeError: If it is no whole number.
        ValueError: If it is too small or too large.

    Example:
        >>> whole(np.int64(3), "rank", least=1)
        3
        >>> whole(0, "rank", least=1)
        Traceback (most recent call last):
        ValueError: `rank` must be a whole number, at least 1, got 0.
    """
    number = None
    with suppress(TypeError):
        number = None if isinstance(value, bool) else operator.index(value)  # pyright: ignore[reportArgumentType]
    if number is not None and number >= least and (most is None or number <= most):
        return number
    # Made here alone: to show a tensor takes longer than all of the above.
    wanted = f"`{name}` must be a whole number, {span(least, most)}, got {told(value)}."
    raise TypeError(wanted) if number is None else ValueError(wanted)


def number(
    value: object, name: str, *, least: Real = -math.inf, above: Real = -math.inf, below: Real = math.inf
) -> float:
    """Return a finite number, at least `least`, more than `above` and less than `below`.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is out of range, infinite or NaN.

    Example:
        >>> number(float("nan"), "rtol", above=0)
        Traceback (most recent call last):
        ValueError: `rtol` must be a finite number, more than 0, got nan.
    """
    found = None
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        found = None if isinstance(value, NOT_NUMBERS) else float(value)  # pyright: ignore[reportArgumentType]
    if found is not None and math.isfinite(found) and found >= least and below > found > above:
        return found
    wanted = f"`{name}` must be a {_bounds(least, above, below)}, got {told(value)}."
    raise TypeError(wanted) if found is None else ValueError(wanted)


def numbers(
    values: object,
    name: str,
    *,
    shape: Sequence[int | None] | None = None,
    finite: bool = True,
    least: float | int = -math.inf,
    above: float | int = -math.inf,
) -> Tensor:
    """Return an array of numbers in float64, apart from the user's, of a shape in which None stands for any size.

    Raises:
        TypeError: If it holds no numbers.
        ValueError: If its shape is another, or a number is missing or too small; its place is named.

    Example:
        >>> numbers([1, 2], "weights", shape=[None])
        tensor([1., 2.], dtype=torch.float64)
        >>> numbers([1.0, float("nan")], "weights", shape=[2])
        Traceback (most recent call last):
        ValueError: `weights` is nan at position 1. Fill it, or leave it out.
    """
    found = array(values, name)
    if shape is not None:
        shaped(tuple(found.shape), name, shape)
    wrong = torch.full_like(found, finite, dtype=torch.bool) & ~torch.isfinite(found)
    if least > -math.inf or above > -math.inf:
        wrong |= (found < least) | (found <= above)
    if len(bad := wrong.nonzero()):
        value, place = found[tuple(bad[0])].item(), ", ".join(map(str, bad[0].tolist()))
        cure = f"It must be a {_bounds(least, above)}" if math.isfinite(value) else "Fill it, or leave it out"
        raise ValueError(f"`{name}` is {value:g} at position {place}. {cure}.")
    return found


def array(values: object, name: str) -> Tensor:
    """Return an array of numbers in float64, on the processor and apart from the user's, of any shape.

    Raises:
        TypeError: If it holds anything but numbers; the first word is named.
    """
    if isinstance(values, Tensor):
        if values.is_complex() or values.layout != torch.strided or values.is_meta:
            raise TypeError(f"`{name}` must be a tensor of numbers, got {values.dtype}, {values.layout}.")
        # What a caller changes afterwards must not change what was computed from it.
        return values.detach().to("cpu", torch.float64, copy=True)
    with suppress(TypeError, ValueError, RuntimeError, OverflowError):
        found = np.asarray(values)
        # Text holds numbers for NumPy.
        if found.dtype.kind in "biuf" or (found.dtype.kind == "O" and not _words(found)):
            return torch.from_numpy(found.astype(np.float64))
    raise TypeError(f"`{name}` must be numeric: {held(values)}. Encode words and categories as numbers.")


def held(values: object) -> str:
    """Return in words what something holds that is no array of numbers.

    Example:
        >>> held([1, None]), held([[1], [2, 3]])
        ('got None in it', 'got rows of different lengths')
    """
    try:
        found = np.asarray(values)
    except (TypeError, ValueError, RuntimeError):
        return "got rows of different lengths"
    if found.dtype.kind not in "OUS" or not found.shape:
        return f"got {told(values)}" if not found.shape else f"got {type(values).__name__} of {found.dtype}"
    others = [one for one in found.reshape(-1).tolist() if not isinstance(one, Real)]
    return f"got {told((_words(found) or others)[0])} in it" if others else f"got {told(values)}"


def _words(found: np.ndarray) -> list[str | bytes]:
    return [value for value in found.reshape(-1).tolist() if isinstance(value, str | bytes)]


def one_of(value: object, name: str, choices: Sequence[str]) -> Any:
    """Return a choice.

    Raises:
        ValueError: If it is none of them.

    Example:
        >>> one_of("effron", "ties", ["efron", "breslow"])
        Traceback (most recent call last):
        ValueError: `ties` must be "efron" or "breslow", got 'effron'.
    """
    if not isinstance(value, str) or value not in choices:
        listed = " or ".join(f'"{choice}"' for choice in choices)
        raise ValueError(f"`{name}` must be {listed}, got {told(value)}.")
    return value


def instance(value: object, name: str, kind: Any, example: str) -> Any:
    """Return a value of a class.

    Raises:
        TypeError: If it is of another, or the class itself.

    Example:
        >>> instance("cg", "solver", int, "vif.CG()")
        Traceback (most recent call last):
        TypeError: `solver` must be a value like vif.CG(), got 'cg'.
    """
    # A class has the methods of its values, which is all that a protocol asks.
    if isinstance(value, kind) and not isinstance(value, type):
        return value
    called = f" Call it: {value.__name__}()." if isinstance(value, type) and issubclass(value, kind) else ""
    raise TypeError(f"`{name}` must be a value like {example}, got {told(value)}.{called}")


def listed(values: object, name: str, what: str) -> list:
    """Return the things in a list, array or other collection that is neither text nor a dict.

    Raises:
        TypeError: If it is none.

    Example:
        >>> listed("12", "seeds", "whole numbers")
        Traceback (most recent call last):
        TypeError: `seeds` must be a list of whole numbers, got '12'.
    """
    found = values.tolist() if isinstance(values, Tensor | np.ndarray) else values
    if isinstance(found, str | bytes | Mapping | type) or not isinstance(found, Iterable):
        raise TypeError(f"`{name}` must be a list of {what}, got {told(values)}.")
    return list(found)


def span(least: int, most: int | None) -> str:
    """Return a range of whole numbers in words."""
    return f"at least {least}" if most is None else f"{least} to {most}"


def _bounds(least: float | int, above: float | int, below: float | int = math.inf) -> str:
    bounds = (("at least", least), ("more than", above), ("less than", below))
    return ", ".join(["finite number", *(f"{word} {end:g}" for word, end in bounds if math.isfinite(end))])


def shaped(found: tuple[int, ...], name: str, shape: Sequence[int | None]) -> None:
    """Raise a ValueError unless a shape is the one wanted, in which None stands for any size."""
    if len(found) != len(shape) or any(want not in (None, got) for want, got in zip(shape, found, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        alone = " Put it in a list." if not found and len(shape) == 1 else ""
        raise ValueError(f"`{name}` must be of shape ({wanted}), got {found}.{alone}")


def told(value: object) -> str:
    """Return a value in words short enough for a message."""
    text = repr(value)
    return text if len(text) <= 80 else f"{type(value).__name__} {text[:60]}…"
