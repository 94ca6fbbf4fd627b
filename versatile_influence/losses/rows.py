"""Rows of candidates with log-softmax terms: the structure that ranking and contrastive losses share.

A row holds scores s of candidates; each candidate belongs to an object, and so may the row itself. At stage j of a row,
with candidates C_j and weights T_j on the positives among them,

    ℓ = Σ_{c ∈ C_j} T_jc b_c (log Σ_{l ∈ C_j} b_l e^{s_l} − s_c),

times the presence of the row's own object. With m_i the mass e^{s} of object i, removing it changes the row by

    ΔL_i = (W − t_i) log(1 + m_i / Σ_{l ≠ i} m_l) + t_i log Σ_l m_l − Σ_{c of i} T_c s_c,

W the sum of all weights and t_i those on i: the exact −log(1 − p_i), written so that nothing cancels as p_i → 1.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.losses.masses import (
    bounded_exp,
    leave_one_out_sums,
    log_growth,
    masses,
    reverse_cumsum,
    shifts,
)


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

    def part(self, rows: Int[Tensor, " r"]) -> "Owners":
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


@dataclass(frozen=True)
class SharedRows:
    """Rows whose terms all have the same candidates: cross-entropy with weights on the positives.

    Attributes:
        owners: Who owns what.
        targets: (R, V, B) weights T on the positives, V views of each candidate.
        allowed: (R, V, B) True where a view is a candidate.
    """

    owners: Owners
    targets: Float[Tensor, "R V B"]
    allowed: Bool[Tensor, "R V B"]

    @property
    def size(self) -> int:
        """How many numbers one evaluation holds."""
        return self.targets.numel()

    def part(self, rows: Int[Tensor, " r"]) -> "SharedRows":
        """Return some of the rows."""
        return SharedRows(self.owners.part(rows), self.targets[rows], self.allowed[rows])

    def losses(self, scores: Float[Tensor, "..."], presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row."""
        scores = scores.reshape(self.targets.shape)
        units, rows = self.owners.present(presence)
        units = units.unsqueeze(-2)
        shift, mass = masses(scores, self.allowed, units)
        weights = self.targets * units
        total = weights.sum((-2, -1))
        denominator = mass.sum((-2, -1))
        logs = torch.where(total > 0, denominator, 1.0).log() + shift
        return rows * (total * logs - (weights * scores).sum((-2, -1)))

    def slopes(self, scores: Float[Tensor, "..."], presence: Float[Tensor, " n"]) -> Float[Tensor, "..."]:
        """Return the derivative of the rows' summed losses along each score."""
        units, rows = self.owners.present(presence)
        units = units.unsqueeze(-2)
        _, mass = masses(scores.reshape(self.targets.shape), self.allowed, units)
        weights = self.targets * units
        total = mass.sum((-2, -1), keepdim=True)
        slopes = weights.sum((-2, -1), keepdim=True) * mass / torch.where(total > 0, total, 1.0) - weights
        return (rows.reshape(-1, 1, 1) * slopes).reshape(scores.shape)

    def differences(self, scores: Float[Tensor, "..."]) -> tuple[Float[Tensor, "R B"], Float[Tensor, " R"]]:
        """Return what each row loses without each candidate, and without the row."""
        scores = scores.reshape(self.targets.shape)
        shift, mass = masses(scores, self.allowed, torch.ones_like(scores[0, 0]))
        mass = mass.sum(1)
        weights, aligned = self.targets.sum(1), (self.targets * scores).sum(1)
        others = leave_one_out_sums(mass)
        total = weights.sum(1, keepdim=True)
        logs = (torch.where(total[:, 0] > 0, mass.sum(1), 1.0).log() + shift)[:, None]
        removed = log_growth(mass, others)
        units = (total - weights) * removed + weights * logs - aligned
        return units, total[:, 0] * logs[:, 0] - aligned.sum(1)

    def stages(self, scores: Float[Tensor, "c B"], rows: slice, units: Tensor) -> Iterator[Stage]:
        """Yield the one stage of some rows whose candidates have one view each."""
        _, mass = masses(scores, self.allowed[rows, 0], units)
        yield Stage(mass, self.targets[rows, 0] * units, mass, None)


@dataclass(frozen=True)
class NestedRows:
    """Rows ranked from the top: what is ranked leaves the candidates of the later terms (Plackett–Luce, Eq. 6).

    Attributes:
        owners: Who owns what.
        ranking: (R, K) candidates in their order, any number where `weights` is 0.
        weights: (R, K) weight of each position's term, 0 past the end of a list.
        ranked: (R, B) True where a candidate is in the row's list.
        allowed: (R, B) True where there is a candidate.
    """

    owners: Owners
    ranking: Int[Tensor, "R K"]
    weights: Float[Tensor, "R K"]
    ranked: Bool[Tensor, "R B"]
    allowed: Bool[Tensor, "R B"]

    @property
    def size(self) -> int:
        """How many numbers one evaluation holds."""
        return max(self.allowed.numel(), self.ranking.shape[1] * self.ranking.numel())

    def part(self, rows: Int[Tensor, " r"]) -> "NestedRows":
        """Return some of the rows."""
        tables = (table[rows] for table in (self.ranking, self.weights, self.ranked, self.allowed))
        return NestedRows(self.owners.part(rows), *tables)

    def parts(self, scores: Tensor, units: Float[Tensor, "R B"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores on the list less their shift, the masses on the list, and those of who is not listed."""
        shift = shifts(scores, self.allowed & (units > 0))
        aligned = scores.gather(-1, self.ranking) - shift
        listed = bounded_exp(aligned) * units.gather(-1, self.ranking) * (self.weights > 0)
        return aligned, listed, bounded_exp(scores - shift) * torch.where(self.ranked, 0.0, self.allowed * units)

    def losses(self, scores: Float[Tensor, "R B"], presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row: prefix sums, so O(candidates + positions) a row."""
        rows, weights, sums, aligned, _, _ = self._positions(scores, presence)
        return rows * (weights * (sums.log() - aligned)).sum(-1)

    def slopes(self, scores: Float[Tensor, "R B"], presence: Float[Tensor, " n"]) -> Float[Tensor, "R B"]:
        """Return the derivative of the rows' summed losses along each score: prefix sums of w / Σ mass."""
        rows, weights, sums, _, listed, unlisted = self._positions(scores, presence)
        odds = (weights / sums).cumsum(-1)
        slopes = (unlisted * odds[..., -1:]).scatter_add(-1, self.ranking, listed * odds - weights)
        return slopes * (rows if rows.dim() == 0 else rows[:, None])

    def _positions(self, scores: Float[Tensor, "R B"], presence: Float[Tensor, " n"]) -> tuple[Tensor, ...]:
        """Return who is present of the rows; of each position its weight and denominator (1 without); and `parts`."""
        units, rows = self.owners.present(presence)
        units = units.expand(scores.shape)
        aligned, listed, unlisted = self.parts(scores, units)
        weights = self.weights * units.gather(-1, self.ranking)
        sums = unlisted.sum(-1, keepdim=True) + reverse_cumsum(listed)
        return rows, weights, torch.where(weights > 0, sums, 1.0), aligned, listed, unlisted

    def differences(self, scores: Float[Tensor, "R B"]) -> tuple[Float[Tensor, "R B"], Float[Tensor, " R"]]:
        """Return what each row loses without each candidate, and without the row."""
        aligned, listed, unlisted = self.parts(scores, torch.ones_like(scores))
        unranked, tails = unlisted.sum(-1, keepdim=True), reverse_cumsum(listed)
        valid = self.weights > 0
        terms = self.weights * (torch.where(valid, unranked + tails, 1.0).log() - aligned)
        # A ranked candidate r was a candidate in all terms j before its own: (R, r, j).
        steps = torch.arange(self.ranking.shape[1])
        elsewhere = reverse_cumsum(listed[:, None, :] * (steps[:, None] != steps)) + unranked[:, :, None]
        grown = log_growth(listed[:, :, None], elsewhere) * (steps[:, None] > steps)
        own = terms + (grown * self.weights[:, None, :]).sum(-1) * valid
        units = torch.zeros_like(unlisted).scatter_add(1, self.ranking, own * valid)
        if not bool((self.ranked | ~self.allowed).all()):
            rest = leave_one_out_sums(unlisted)
            for j in range(self.ranking.shape[1]):
                units = units + self.weights[:, j, None] * log_growth(unlisted, rest + tails[:, j, None])
        return units, terms.sum(-1)

    def stages(self, scores: Float[Tensor, "c B"], rows: slice, units: Tensor) -> Iterator[Stage]:
        """Yield the stages of some rows, from the top of their lists."""
        _, mass = masses(scores, self.allowed[rows], units)
        ranking, weights = self.ranking[rows], self.weights[rows]
        steps = torch.arange(ranking.shape[1])
        place = torch.full(mass.shape, len(steps)).scatter_reduce(
            1, ranking, torch.where(weights > 0, steps, len(steps)), "amin"
        )
        for step in range(len(steps)):
            leaving = ranking[:, step]
            positives = torch.zeros_like(mass).scatter(1, leaving[:, None], weights[:, step, None]) * units
            staying = mass * (place > step)
            yield Stage(mass * (place >= step), positives, staying, leaving)
