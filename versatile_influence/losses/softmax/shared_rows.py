"""Rows of log-softmax terms that all have the same candidates: cross-entropy, InfoNCE."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.loss import Objects
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import HELD_NUMBERS, at_once
from versatile_influence.losses.softmax.masses import leave_one_out_sums, log_growth, masses
from versatile_influence.losses.softmax.owners import Chosen, Owners
from versatile_influence.losses.softmax.rows import Rows, Stage


@dataclass(frozen=True, eq=False, repr=False)
class SharedRows(Rows):
    """Rows whose terms all have the same candidates: cross-entropy with weights on the positives.

    Attributes:
        owners: Who owns what.
        targets: (R, V, B) weights T on the positives, V views of each candidate.
        allowed: (R, V, B) True where a view is a candidate.

    Example:
        >>> three = torch.arange(3)
        >>> rows = SharedRows(Owners(3, three), torch.eye(3).double()[:, None], torch.ones(3, 1, 3).bool())
        >>> rows(torch.zeros(3, 3).double(), torch.ones(3).double()).item()  # 3 log 3
        3.295...
    """

    owners: Owners
    targets: Float[Tensor, "R V B"]
    allowed: Bool[Tensor, "R V B"]

    @property
    def views(self) -> int:
        """How many scores each candidate has in a row."""
        return self.targets.shape[1]

    def of_rows(self, rows: Chosen) -> "SharedRows":
        """Return some of the rows."""
        return SharedRows(self.owners.part(rows), self.targets[rows], self.allowed[rows])

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row."""
        scores = self.shaped(params)
        rows, shift, mass, weights = self._present(scores, presence)
        total, denominator = weights.sum((-2, -1)), mass.sum((-2, -1))
        logs = torch.where(total > 0, denominator, 1.0).log() + shift
        return rows * (total * logs - (weights * scores).sum((-2, -1)))

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Return the derivative of the rows' summed losses along each score."""
        rows, _, mass, weights = self._present(self.shaped(params), presence)
        total = mass.sum((-2, -1), keepdim=True)
        slopes = weights.sum((-2, -1), keepdim=True) * mass / torch.where(total > 0, total, 1.0) - weights
        return (rows.reshape(-1, 1, 1) * slopes).reshape(-1)

    def bending(self, params: Params, presence: Float[Tensor, " n"]) -> Callable[[Tensor], Float[Tensor, " m"]]:
        """Return v ↦ ∇²L v = w (p v − p pᵀv), row by row."""
        rows, _, mass, weights = self._present(self.shaped(params), presence)
        total = mass.sum((-2, -1), keepdim=True)
        chance = mass / torch.where(total > 0, total, 1.0)
        weight = rows.reshape(-1, 1, 1) * weights.sum((-2, -1), keepdim=True)

        def bent(vector: Tensor) -> Tensor:
            moved = chance * self.shaped(vector)
            return (weight * (moved - chance * moved.sum((-2, -1), keepdim=True))).reshape(-1)

        return bent

    def differences(self, scores: Params) -> tuple[Float[Tensor, "R B"], Float[Tensor, " R"]]:
        """Return what each row loses without each candidate, and without the row."""
        scores = self.shaped(scores)
        shift, mass = masses(scores, self.allowed, torch.ones_like(scores[0, 0]))
        mass = mass.sum(1)
        weights, aligned = self.targets.sum(1), (self.targets * scores).sum(1)
        others = leave_one_out_sums(mass)
        total = weights.sum(1, keepdim=True)
        logs = (torch.where(total[:, 0] > 0, mass.sum(1), 1.0).log() + shift)[:, None]
        removed = log_growth(mass, others)
        units = (total - weights) * removed + weights * logs - aligned
        return units, total[:, 0] * logs[:, 0] - aligned.sum(1)

    def removal_products(
        self, params: Params, directions: Float[Tensor, "m q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of the removal differences, or its product with directions, each by `_moving`."""
        removals = Removals.of(objects, self.n_objects)
        if directions is None or removals.grouped:
            return super().removal_products(params, directions, removals)
        size = at_once(len(directions), most=HELD_NUMBERS)
        return removals.of_each(vmap(self._moving(params), chunk_size=size)(directions.T).T)

    def stages(self, scores: Params, presence: Float[Tensor, " n"]) -> Iterator[Stage]:
        """Yield the one stage of rows whose candidates have one view each."""
        rows, _, mass, weights = self._present(self.shaped(scores), presence)
        yield Stage(mass[:, 0], (rows.reshape(-1, 1, 1) * weights)[:, 0], mass[:, 0], None)

    def _present(self, scores: Float[Tensor, "R V B"], presence: Float[Tensor, " n"]) -> tuple[Tensor, ...]:
        """Return which rows are present, each row's shift, and of who is present the masses and the weights."""
        units, rows = self.owners.present(presence)
        units = units.unsqueeze(-2)
        return rows, *masses(scores, self.allowed, units), self.targets * units

    def _moving(self, scores: Params) -> Callable[[Tensor], Float[Tensor, " n"]]:
        """Return v ↦ the derivative of ΔL along v, written out.

        With m the mass of a candidate, p its share of all M, o the others', d log(1 + m / o) = (dm − p dM) / o,
        whatever number is taken from all of a row's v; with that of the row's largest mass nothing cancels as p → 1.
        """
        _, mass = masses(self.shaped(scores), self.allowed, flat(scores).new_ones(self.allowed.shape[-1]))
        each, weights = mass.sum(1), self.targets.sum(1)
        total, weight = each.sum(1, keepdim=True), weights.sum(1, keepdim=True)
        top, others = each.argmax(1, keepdim=True), leave_one_out_sums(each)
        largest = each.gather(1, top)
        # A row without candidates has no weights either.
        largest, total = (torch.where(sums > 0, sums, 1.0) for sums in (largest, total))
        share, inverse = each / total, torch.where(others > 0, 1 / others, 0.0)

        def moved(vector: Tensor) -> Float[Tensor, " n"]:
            vector = self.shaped(vector)
            along, aligned = (mass * vector).sum(1), (self.targets * vector).sum(1)
            lead = along.gather(1, top) / largest
            along = (along - each * lead).scatter(1, top, 0.0)
            gone = along.sum(1, keepdim=True)
            logs = lead + gone / total
            units = (weight - weights) * (along - share * gone) * inverse + weights * logs - aligned
            return self.owners.collected(units, (weight * logs)[:, 0] - aligned.sum(1))

        return moved
