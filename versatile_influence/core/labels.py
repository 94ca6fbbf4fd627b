"""Names of things that a user hands in, and the thing that a name means."""

from collections.abc import Hashable, Sequence

from versatile_influence.core.checks import listed, told


def names(
    labels: object, n: int, what: str = "object", name: str = "labels", *, unique: bool = False, entry: str = "name"
) -> list | None:
    """Return the names of n things as a list, or None where there are none.

    Raises:
        TypeError: If they are no list.
        ValueError: If there are more or fewer than things, or two have one name where it must be `unique`.

    Example:
        >>> names(["a"], 2)
        Traceback (most recent call last):
        ValueError: `labels` must hold one name an object: 2, got 1.
    """
    if labels is None:
        return None
    found = listed(labels, name, f"{entry}s")
    if len(found) != n:
        article = "an" if what[0] in "aeiou" else "a"
        raise ValueError(f"`{name}` must hold one {entry} {article} {what}: {n}, got {len(found)}.")
    if unique and (twice := _twice(found, name)):
        raise ValueError(f"`{name}` must hold one name of its own for each {what}: {twice[0]!r} names two {what}s.")
    return found


def position(label: Hashable, labels: Sequence[Hashable], what: str = "object") -> int:
    """Return the place of a label: of the one that equals it, and of its text form only where none does.

    Raises:
        ValueError: If there is no such label, or the text is that of several.

    Example:
        >>> position("33", [33, "33"]), position("34", [33, 34])
        (1, 1)
    """
    # 1 and 1.0 are one number; text comes last.
    for same in (
        lambda one: type(one) is type(label) and one == label,
        lambda one: one == label,
        lambda one: str(one) == str(label),
    ):
        equal = [place for place, known in enumerate(labels) if same(known)]
        if equal:
            break
    if len(equal) != 1:
        number = "no" if not equal else f"more than one ({len(equal)})"
        raise ValueError(f"There is {number} {what} named {told(label)}. The first are {list(labels)[:5]}.")
    return equal[0]


def _twice(labels: list, name: str) -> list:
    """Return a label that stands twice, in a list."""
    try:
        return [] if len(set(labels)) == len(labels) else [next(one for one in labels if labels.count(one) > 1)]
    except TypeError as error:
        raise TypeError(f"`{name}` must be text, numbers or tuples of them: {error}.") from error
