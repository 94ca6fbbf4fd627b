"""The checkers that what a user hands in passes: whole numbers, numbers, arrays, names, choices, values of a class.

Each returns what it was given in the library's own form, apart from what the user may change later, and says in one
sentence which argument is wrong, where in it, and what to do.
"""

import math
import operator
from collections.abc import Hashable, Iterable, Mapping, Sequence
from types import UnionType
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
    wanted = f"`{name}` must be a whole number, {_range(least, most)}, got {told(value)}."
    try:
        number = operator.index(value)  # pyright: ignore[reportArgumentType]
    except TypeError:
        raise TypeError(wanted) from None
    if isinstance(value, bool):
        raise TypeError(wanted)
    if number < least or (most is not None and number > most):
        raise ValueError(wanted)
    return number


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
    bounds = [f"at least {least:g}"] * (least > -math.inf) + [f"more than {above:g}"] * (above > -math.inf)
    bounds += [f"less than {below:g}"] * (below < math.inf)
    wanted = f"`{name}` must be {', '.join(['a finite number', *bounds])}, got {told(value)}."
    try:
        found = math.nan if isinstance(value, NOT_NUMBERS) else float(value)  # pyright: ignore[reportArgumentType]
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise TypeError(wanted) from None
    if isinstance(value, NOT_NUMBERS):
        raise TypeError(wanted)
    if not (math.isfinite(found) and found >= least and below > found > above):
        raise ValueError(wanted)
    return found


def numbers(values: object, name: str, *, shape: Sequence[int | None] | None = None, finite: bool = True) -> Tensor:
    """Return an array of numbers in float64, apart from the user's, of a shape in which None stands for any size.

    Raises:
        TypeError: If it holds no numbers.
        ValueError: If its shape is another, or a number is missing; its place is named.

    Example:
        >>> numbers([1, 2], "weights", shape=[None])
        tensor([1., 2.], dtype=torch.float64)
        >>> numbers([1.0, float("nan")], "weights", shape=[2])
        Traceback (most recent call last):
        ValueError: `weights` is nan at position 1. Fill it, or leave it out.
    """
    try:
        # What a caller changes afterwards must not change what was computed from it.
        found = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.array(values, np.float64))
        found = found.to(torch.float64, copy=True)
    except (TypeError, ValueError) as error:
        raise TypeError(f"`{name}` must be an array of numbers: {error}.") from error
    if shape is not None and not _fits(found.shape, shape):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"`{name}` must be of shape ({wanted}), got {tuple(found.shape)}.")
    if finite and len(bad := (~torch.isfinite(found)).nonzero()):
        place = ", ".join(map(str, bad[0].tolist()))
        raise ValueError(f"`{name}` is {found[tuple(bad[0])].item()} at position {place}. Fill it, or leave it out.")
    return found


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


def instance(value: object, name: str, kind: type | UnionType, example: str) -> Any:
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


def names(labels: object, n: int, what: str = "object", name: str = "labels") -> list | None:
    """Return the names of n things as a list, or None where there are none.

    Raises:
        TypeError: If they are no list.
        ValueError: If there are more or fewer than things.

    Example:
        >>> names(["a"], 2)
        Traceback (most recent call last):
        ValueError: `labels` must hold one name an object: 2 objects, got 1 names.
    """
    if labels is None:
        return None
    found = listed(labels, name, "names")
    if len(found) != n:
        article = "an" if what[0] in "aeiou" else "a"
        raise ValueError(f"`{name}` must hold one name {article} {what}: {n} {what}s, got {len(found)} names.")
    return found


def position(label: Hashable, labels: Sequence[Hashable], what: str = "object") -> int:
    """Return the place of a label: of the one that equals it, and of its text form only where none does.

    Raises:
        ValueError: If there is no such label, or the text is that of several.

    Example:
        >>> position("33", [33, "33"]), position("34", [33, 34])
        (1, 1)
    """
    equal = [place for place, known in enumerate(labels) if type(known) is type(label) and known == label]
    # 1 and 1.0 are one number; text comes last.
    equal = equal or [place for place, known in enumerate(labels) if known == label]
    equal = equal or [place for place, known in enumerate(labels) if str(known) == str(label)]
    if len(equal) != 1:
        found = "no" if not equal else f"more than one ({len(equal)})"
        raise ValueError(f"There is {found} {what} named {told(label)}. The first are {list(labels[:5])}.")
    return equal[0]


def _fits(given: Sequence[int], shape: Sequence[int | None]) -> bool:
    return len(given) == len(shape) and all(want in (None, got) for want, got in zip(shape, given, strict=True))


def _range(least: int, most: int | None) -> str:
    return f"at least {least}" if most is None else f"{least} to {most}"


def told(value: object) -> str:
    """Return a value as a message shows it: not at length."""
    text = repr(value)
    return text if len(text) <= 80 else f"{type(value).__name__} {text[:60]}…"
