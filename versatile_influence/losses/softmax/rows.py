"""Rows of candidates with log-softmax terms: the structure that ranking and contrastive losses share.

A row holds scores s of candidates; each candidate belongs to an object, and so may the row itself. At stage j of a row,
with candidates C_j and weights T_j on the positives among them,

    ℓ = Σ_{c ∈ C_j} T_jc b_c (log Σ_{l ∈ C_j} b_l e^{s_l} − s_c),

times the presence of the row's own object. With m_i the mass e^{s} of object i, removing it changes the row by

    ΔL_i = (W − t_i) log(1 + m_i / Σ_{l ≠ i} m_l) + t_i log Σ_l m_l − Σ_{c of i} T_c s_c,

W the sum of all weights and t_i those on i: the exact −log(1 − p_i), written so that nothing cancels as p_i → 1.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core.composed import ByRows
from versatile_influence.core.loss import Objects
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.removals import Removals
from versatile_influence.losses.softmax.owners import Chosen, Owners


@dataclass(frozen=True)
class Stage:
    """One term of each of some rows.

    Attributes:
        mass: (c, B) masses of its candidates, 0 for others.
        positives: (c, B) weights on its positives.
        staying: (c, B) masses of those that are candidates in the next stage too.
        leaving: (c,) the one that is not, where `weight` > 0, or None where nobody leaves.
    """

    mass: Float[Tensor, "c B"]
    positives: Float[Tensor, "c B"]
    staying: Float[Tensor, "c B"]
    leaving: Int[Tensor, " c"] | None

    @property
    def weight(self) -> Float[Tensor, "c 1"]:
        """The sum of the weights, 0 where a row has no such term."""
        return self.positives.sum(-1, keepdim=True)

    @property
    def total(self) -> Float[Tensor, "c 1"]:
        """The sum of the masses, 1 where a row has no such term."""
        return torch.where(self.weight > 0, self.mass.sum(-1, keepdim=True), 1.0)

    @property
    def others(self) -> Float[Tensor, "c B"]:
        """The sum of the masses without each candidate."""
        return leave_one_out_sums(self.mass)


class Rows(ByRows):
    """A sum of log-softmax terms over rows, as a loss of the scores of every row's candidates.

    Attributes:
        owners: Who owns what.
        allowed: True where there is a candidate, in the shape of the scores.
    """

    owners: Owners
    allowed: Bool[Tensor, "R *V B"]
    differences_together = True

    @property
    def n_objects(self) -> int:
        """How many objects there are."""
        return self.owners.n_objects

    @property
    def n_terms(self) -> int:
        return len(self.allowed)

    @property
    def n_stages(self) -> int:
        """How many stages a row has at most."""
        return 1

    @abstractmethod
    def differences(self, scores: Params) -> tuple[Float[Tensor, "R B"], Float[Tensor, " R"]]:
        """Return what each row loses without each candidate, and without the row."""

    @abstractmethod
    def stages(self, scores: Params, presence: Float[Tensor, " n"]) -> Iterator[Stage]:
        """Yield the stages of rows whose candidates have one view each, from the first."""

    @abstractmethod
    def of_rows(self, rows: Chosen) -> "Rows":
        """Return some of the rows."""

    def shaped(self, scores: Params) -> Float[Tensor, "R *V B"]:
        """Return the scores row by row.

        Raises:
            ValueError: If there is not one for each candidate of each row.
        """
        numbers, shape = flat(scores), self.allowed.shape
        if len(numbers) != shape.numel():
            raise ValueError(
                f"There must be a score for each candidate of each row, {tuple(shape)}, but there are {len(numbers)}."
            )
        return numbers.reshape(shape)

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return self.terms(params, presence).sum()

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return ΔL_i of the removals asked for, or each object; exact, at about the cost of the loss."""
        removals = Removals.of(objects, self.n_objects)
        if removals.grouped:
            return super().removal_differences(params, removals)
        return removals.of_each(self.owners.collected(*self.differences(params)))


def masses(scores: Tensor, allowed: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest score of who is there, row by row, and b e^{s − it}; the shift carries no derivative."""
    there = allowed & (units > 0)
    shift = torch.where(there, scores.detach(), -torch.inf).amax(tuple(range(1, there.dim())), keepdim=True)
    shift = torch.where(torch.isfinite(shift), shift, 0.0)
    # No infinity for who is absent and may be above.
    return shift.reshape(-1), (scores - shift).clamp(max=0.0).exp() * (there * units)


def reverse_cumsum(values: Tensor) -> Tensor:
    """Return the sum of each entry and all after it, along the last axis."""
    return values.flip(-1).cumsum(-1).flip(-1)


def leave_one_out_sums(mass: Float[Tensor, "... B"]) -> Float[Tensor, "... B"]:
    """Return Σ_{l ≠ i} m_l for each i without cancellation: only the largest is summed anew, the rest by difference."""
    top = torch.arange(mass.shape[-1]) == mass.detach().argmax(-1, keepdim=True)
    rest = torch.where(top, 0.0, mass).sum(-1, keepdim=True)
    return torch.where(top, rest, mass.sum(-1, keepdim=True) - mass)


def log_growth(mass: Tensor, others: Tensor) -> Tensor:
    """Return log(Σ m) − log(Σ m − m_i) = log(1 + m_i / others), 0 where there are no others."""
    alone = others <= 0
    return torch.log1p(torch.where(alone, 0.0, mass / torch.where(alone, 1.0, others)))
