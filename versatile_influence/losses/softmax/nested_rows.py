"""Rows of log-softmax terms in a ranked list: Plackett–Luce, ListMLE."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core.ravel import Params
from versatile_influence.losses.softmax.owners import Chosen, Owners
from versatile_influence.losses.softmax.rows import Rows, Stage, leave_one_out_sums, log_growth, masses, reverse_cumsum


@dataclass(frozen=True, eq=False, repr=False)
class NestedRows(Rows):
    """Rows ranked from the top: what is ranked leaves the candidates of the later terms (Plackett–Luce, Eq. 6).

    Attributes:
        owners: Who owns what.
        ranking: (R, K) candidates in their order, any number where `weights` is 0.
        weights: (R, K) weight of each position's term, 0 past the end of a list.
        ranked: (R, B) True where a candidate is in the row's list.
        allowed: (R, B) True where there is a candidate.

    Example:
        >>> owners, every = Owners(3, torch.arange(3)), torch.ones(1, 3)
        >>> rows = NestedRows(owners, torch.tensor([[2, 0, 1]]), every.double(), every.bool(), every.bool())
        >>> rows(torch.zeros(1, 3).double(), torch.ones(3).double()).item()  # log 3 + log 2 + log 1
        1.791...
    """

    owners: Owners
    ranking: Int[Tensor, "R K"]
    weights: Float[Tensor, "R K"]
    ranked: Bool[Tensor, "R B"]
    allowed: Bool[Tensor, "R B"]

    @property
    def n_stages(self) -> int:
        return self.ranking.shape[1]

    def of_rows(self, rows: Chosen) -> "NestedRows":
        tables = (table[rows] for table in (self.ranking, self.weights, self.ranked, self.allowed))
        return NestedRows(self.owners.part(rows), *tables)

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row: prefix sums, so O(candidates + positions) a row."""
        rows, weights, sums, aligned, _, _ = self._positions(self.shaped(params), presence)
        return rows * (weights * (sums.log() - aligned)).sum(-1)

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        """Return the derivative of the rows' summed losses along each score: prefix sums of w / Σ mass."""
        rows, weights, sums, _, listed, unlisted = self._positions(self.shaped(params), presence)
        odds = (weights / sums).cumsum(-1)
        slopes = (unlisted * odds[..., -1:]).scatter_add(-1, self.ranking, listed * odds - weights)
        return (rows[..., None] * slopes).reshape(-1)

    def differences(self, scores: Params) -> tuple[Float[Tensor, "R B"], Float[Tensor, " R"]]:
        scores = self.shaped(scores)
        aligned, listed, unlisted = self._masses(scores, torch.ones_like(scores))
        unranked, tails = unlisted.sum(-1, keepdim=True), reverse_cumsum(listed)
        valid = self.weights > 0
        terms = self.weights * (torch.where(valid, unranked + tails, 1.0).log() - aligned)
        # A ranked candidate r was a candidate in all terms j before its own: (R, r, j).
        steps = torch.arange(self.n_stages)
        elsewhere = reverse_cumsum(listed[:, None, :] * (steps[:, None] != steps)) + unranked[:, :, None]
        grown = log_growth(listed[:, :, None], elsewhere) * (steps[:, None] > steps)
        own = terms + (grown * self.weights[:, None, :]).sum(-1) * valid
        units = torch.zeros_like(unlisted).scatter_add(1, self.ranking, own * valid)
        if not bool((self.ranked | ~self.allowed).all()):
            rest = leave_one_out_sums(unlisted)
            for j in range(self.n_stages):
                units = units + self.weights[:, j, None] * log_growth(unlisted, rest + tails[:, j, None])
        return units, terms.sum(-1)

    def stages(self, scores: Params, presence: Float[Tensor, " n"]) -> Iterator[Stage]:
        units, rows = self.owners.present(presence)
        _, mass = masses(self.shaped(scores), self.allowed, units)
        weights, steps = rows[..., None] * self.weights, torch.arange(self.n_stages)
        place = torch.full(mass.shape, self.n_stages).scatter_reduce(
            1, self.ranking, torch.where(self.weights > 0, steps, self.n_stages), "amin"
        )
        for step in range(self.n_stages):
            leaving = self.ranking[:, step]
            positives = torch.zeros_like(mass).scatter(1, leaving[:, None], weights[:, step, None]) * units
            yield Stage(mass * (place >= step), positives, mass * (place > step), leaving)

    def _masses(self, scores: Tensor, units: Float[Tensor, "R B"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return the scores on the list less their shift, the masses on the list, and those of who is not listed."""
        shift, mass = masses(scores, self.allowed, units)
        listed = mass.gather(-1, self.ranking) * (self.weights > 0)
        return scores.gather(-1, self.ranking) - shift[:, None], listed, torch.where(self.ranked, 0.0, mass)

    def _positions(self, scores: Float[Tensor, "R B"], presence: Float[Tensor, " n"]) -> tuple[Tensor, ...]:
        """Return who is present of the rows; of each position its weight and denominator (1 without); and `_masses`."""
        units, rows = self.owners.present(presence)
        units = units.expand(scores.shape)
        aligned, listed, unlisted = self._masses(scores, units)
        weights = self.weights * units.gather(-1, self.ranking)
        sums = unlisted.sum(-1, keepdim=True) + reverse_cumsum(listed)
        return rows, weights, torch.where(weights > 0, sums, 1.0), aligned, listed, unlisted
