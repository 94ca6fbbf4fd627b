"""Which objects are removed: one at a time, or groups of them together."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import listed, whole
from versatile_influence.core.sizes import MOST_OBJECTS, at_once
from versatile_influence.core.warn import warn

Objects = Int[Tensor, " k"] | tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Removals:
    """The k things that are removed, each a single object or a group.

    Attributes:
        n_objects: How many objects there are.
        members: Object numbers, removal after removal.
        rows: For each member, the removal it belongs to.
        count: k, the number of removals.
        grouped: Whether the removals were given as groups.
        everything: Whether they are all objects, one at a time, in order.
    """

    n_objects: int
    members: Int[Tensor, " m"]
    rows: Int[Tensor, " m"]
    count: int
    grouped: bool
    everything: bool

    @classmethod
    def of(cls, objects: "Removals | Iterable | None", n_objects: int) -> "Removals":
        """Return the removals that `objects` asks for: None for all, numbers, or groups of numbers.

        Raises:
            ValueError: If a number is not in 0…n−1, a group is empty or names an object twice, or nothing is asked for.
            TypeError: If the entries are not whole numbers.
        """
        n_objects = whole(n_objects, "n_objects", least=1, most=MOST_OBJECTS)
        if isinstance(objects, Removals):
            if objects.n_objects != n_objects:
                raise ValueError(f"`objects` are removals from {objects.n_objects} objects, and there are {n_objects}.")
            return objects
        if objects is None:
            every = torch.arange(n_objects)
            return cls(n_objects, every, every, n_objects, grouped=False, everything=True)
        entries = listed(objects, "objects", "object numbers, or of groups of them")
        if not entries:
            raise ValueError("`objects` is empty. Leave it out for all objects, or name at least one.")
        grouped = any(isinstance(entry, Iterable) and not isinstance(entry, str) for entry in entries)
        groups = [_group(entry, position, n_objects) for position, entry in enumerate(entries)]
        members = torch.tensor([member for group in groups for member in group])
        rows = torch.repeat_interleave(torch.tensor([len(group) for group in groups]))
        return cls(n_objects, members, rows, len(groups), grouped=grouped, everything=False)

    @classmethod
    def asked(cls, objects: "Removals | Iterable | None", n_objects: int, *, penalty: float = 0.0) -> "Removals":
        """Return the removals that a user asks for, and warn of one after which nobody is left, nor a penalty."""
        removals = cls.of(objects, n_objects)
        if not penalty and (nobody := torch.bincount(removals.rows) == n_objects).any():
            warn(
                f"Removal {int(nobody.nonzero()[0])} of `objects` takes all {n_objects} objects away: nothing is left "
                "to train on. Leave somebody."
            )
        return removals

    def part(self, start: int, stop: int) -> "Removals":
        """Return removals start…stop−1 only."""
        if (start, stop) == (0, self.count):
            return self
        inside = (self.rows >= start) & (self.rows < stop)
        return Removals(
            self.n_objects,
            self.members[inside],
            self.rows[inside] - start,
            min(stop, self.count) - start,
            grouped=self.grouped,
            everything=False,
        )

    def split(self, size: int) -> list["Removals"]:
        """Return the removals in parts of so many."""
        return [self.part(start, min(start + size, self.count)) for start in range(0, self.count, size)]

    def parts(self, numbers_each: int) -> list["Removals"]:
        """Return the removals in parts, such that a part's arrays of `numbers_each` numbers a removal fit in memory."""
        return self.split(at_once(numbers_each))

    def presences(self, like: Tensor) -> Float[Tensor, "k n"]:
        """Return 1₋ᵢ for each removal i, in the dtype and on the device of `like`."""
        masks = torch.ones(self.count, self.n_objects, dtype=like.dtype, device=like.device)
        # Zeros where absent, and no shape depends on who is.
        masks[self.rows.to(like.device), self.members.to(like.device)] = 0.0
        return masks

    def of_each(self, singles: Float[Tensor, "n *q"]) -> Float[Tensor, "k *q"]:
        """Return of a number an object those of single removals; groups are for their caller."""
        # All objects in order: no copy of what may be the largest array there is.
        return singles if self.everything else singles.index_select(0, self.members)

    def groups(self) -> list[Int[Tensor, " _"]]:
        """Return the object numbers of each removal."""
        return list(self.members.split(torch.bincount(self.rows, minlength=self.count).tolist()))

    def among(self, objects: Int[Tensor, " m"]) -> tuple[Int[Tensor, " k"], "Removals | None"]:
        """Return the numbers of those that meet these objects, and what they remove of them, by position, or None.

        Example:
            >>> rows, there = Removals.of([[0, 1], [5], [4, 1]], 6).among(torch.tensor([1, 3, 4]))
            >>> rows.tolist(), there.objects()
            ([0, 2], ((0,), (0, 2)))
        """
        known, rows = self._by_object
        objects = objects.to(known.device)
        first, last = (torch.searchsorted(known, objects, right=side) for side in (False, True))
        counts = last - first
        positions = torch.repeat_interleave(counts)
        # Of each position, the places of its object among the members.
        places = torch.arange(len(positions)) + (first - counts.cumsum(0) + counts)[positions]
        found, which = torch.unique(rows[places], return_inverse=True)
        if not len(found):
            return found, None
        order = which.argsort(stable=True)
        members, grouped = positions[order], len(which) > len(found)
        everything = not grouped and torch.equal(members, torch.arange(len(objects)))
        return found, Removals(len(objects), members, which[order], len(found), grouped=grouped, everything=everything)

    @cached_property
    def _by_object(self) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
        order = self.members.argsort(stable=True)
        return self.members[order], self.rows[order]

    def objects(self) -> Objects:
        """Return the object numbers, or for groups a tuple of them each."""
        if not self.grouped:
            return self.members
        groups: list[list[int]] = [[] for _ in range(self.count)]
        for row, member in zip(self.rows.tolist(), self.members.tolist(), strict=True):
            groups[row].append(member)
        return tuple(map(tuple, groups))


def _group(entry: object, position: int, n_objects: int) -> list[int]:
    members = list(entry) if isinstance(entry, Iterable) and not isinstance(entry, str) else [entry]
    numbers: list[int] = []
    for member in members:
        # Numbers out of NumPy and PyTorch are whole numbers too; True is none.
        number = member.item() if isinstance(member, Tensor | np.generic) else member
        if not isinstance(number, int) or isinstance(number, bool):
            raise TypeError(
                f"`objects` must hold object numbers or groups of them, got {number!r} at position {position}. "
                "Objects are numbered 0…n−1; that of a name is list(loss.object_labels).index(name)."
            )
        if not 0 <= number < n_objects:
            raise ValueError(
                f"Object {number} (position {position} of `objects`) is not one of the {n_objects} objects: "
                f"numbers run from 0 to {n_objects - 1}."
            )
        numbers.append(number)
    if not numbers:
        raise ValueError(f"Group {position} of `objects` is empty. Name at least one object in each group.")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"Group {position} of `objects` names an object twice: {numbers}. List each once.")
    return numbers
