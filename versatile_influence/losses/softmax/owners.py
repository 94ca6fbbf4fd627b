"""Who owns the candidates and the rows of log-softmax terms."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

Chosen = Int[Tensor, " r"] | slice


@dataclass(frozen=True)
class Owners:
    """Which object each candidate and each row belongs to; n_objects stands for nobody, who is always there.

    Attributes:
        n_objects: How many objects.
        units: Object of each candidate, the same in all rows (B,) or row by row (R, B); no object twice in a row.
        rows: Object of each row, or None where rows belong to nobody.
    """

    n_objects: int
    units: Int[Tensor, " B"] | Int[Tensor, "R B"]
    rows: Int[Tensor, " R"] | None = None

    def part(self, rows: Chosen) -> "Owners":
        """Return the owners in some rows only."""
        units = self.units if self.units.dim() == 1 else self.units[rows]
        return Owners(self.n_objects, units, None if self.rows is None else self.rows[rows])

    def present(self, presence: Float[Tensor, " n"]) -> tuple[Tensor, Tensor]:
        """Return the presence of candidates, (B,) or (R, B), and of rows, (R,) or ()."""
        extended = torch.cat([presence, presence.new_ones(1)])
        return extended[self.units], extended.new_ones(()) if self.rows is None else extended[self.rows]

    def collected(self, units: Float[Tensor, "R B"], rows: Float[Tensor, " R"]) -> Float[Tensor, " n"]:
        """Return the sum over each object's candidates and rows; a candidate in its object's own row goes with it."""
        total = units.new_zeros(self.n_objects + 1)
        if self.rows is not None:
            own = self.units == self.rows[:, None]
            units = torch.where(own, 0.0, units)
            total = total.index_add(0, self.rows, rows)
        if self.units.dim() == 1:
            return total.index_add(0, self.units, units.sum(0))[: self.n_objects]
        return total.index_add(0, self.units.reshape(-1), units.reshape(-1))[: self.n_objects]

    @property
    def each_candidate(self) -> bool:
        """Whether the objects are the candidates, the same in all rows and in order, and rows are nobody's."""
        return self.rows is None and torch.equal(self.units, torch.arange(self.n_objects))

    @property
    def each_row(self) -> bool:
        """Whether the objects are the rows, in order, and candidates are nobody's."""
        every = torch.arange(self.n_objects)
        return self.rows is not None and torch.equal(self.rows, every) and bool((self.units == self.n_objects).all())
