"""Settings of a frozen value, each held to what it is declared to be when the value is made."""

from dataclasses import field, fields
from types import NoneType
from typing import Any, get_args, get_origin

from versatile_influence.core.arguments import flag
from versatile_influence.core.checks import instance, number, numbers, whole


def setting(default: object, **allowed: object) -> Any:
    """Return a field of a dataclass that `Settings` checks: by its annotation, and bounds that a checker takes."""
    return field(default=default, metadata={"allowed": allowed})


class Settings:
    """A frozen dataclass whose fields made by `setting` are checked, and kept as plain numbers.

    Raises:
        TypeError: If a setting is of another type than it is annotated with.
        ValueError: If it is out of range.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass(frozen=True)
        ... class Steps(Settings):
        ...     rank: int | None = setting(None, least=1)
        >>> Steps(rank=0)
        Traceback (most recent call last):
        ValueError: `rank` must be a whole number, at least 1, got 0.
    """

    def __post_init__(self):
        for one in fields(self):  # pyright: ignore[reportArgumentType]
            if "allowed" in one.metadata:
                given = getattr(self, one.name)
                object.__setattr__(self, one.name, _checked(given, one.name, one.type, **one.metadata["allowed"]))


def _checked(given: object, name: str, kind: Any, **allowed: Any) -> object:
    kinds = get_args(kind) if NoneType in get_args(kind) else (kind,)
    if given is None and NoneType in kinds:
        return None
    if get_origin(kind) is tuple:
        several = numbers(given, name, shape=[len(get_args(kind))]).tolist()
        return tuple(number(one, name, **allowed) for one in several)
    check = {bool: flag, int: whole, float: number}.get(kinds[0])
    return check(given, name, **allowed) if check else instance(given, name, kinds[0], **allowed)
