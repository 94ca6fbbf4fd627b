"""Rows of log-softmax terms that all have the same candidates: cross-entropy, InfoNCE."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.ravel import Params
from versatile_influence.losses.softmax.owners import Chosen, Owners
from versatile_influence.losses.softmax.rows import Rows, Stage, leave_one_out_sums, log_growth, masses


@dataclass(frozen=True, eq=False, repr=False)
class SharedRows(Rows):
    """Rows whose terms all have the same candidates: cross-entropy with weights on the positives.

    Attributes:
        owners: Who owns what.
        targets: (R, V, B) weights T on the positives, V views of each candidate.
        allowed: (R, V, B) True where a view is a candidate.
        mean: Whether weights are shares of those of the positives present, so that each row is a mean over these.

    Example:
        >>> three = torch.arange(3)
        >>> rows = SharedRows(Owners(3, three), torch.eye(3).double()[:, None], torch.ones(3, 1, 3).bool())
        >>> rows(torch.zeros(3, 3).double(), torch.ones(3).double()).item()  # 3 log 3
        3.295...
    """

    owners: Owners
    targets: Float[Tensor, "R V B"]
    allowed: Bool[Tensor, "R V B"]
    mean: bool = False

    def of_rows(self, rows: Chosen) -> "SharedRows":
        return SharedRows(self.owners.part(rows), self.targets[rows], self.allowed[rows], self.mean)

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        scores = self.shaped(params)
        rows, shift, mass, weights = self._present(scores, presence)
        total, denominator = weights.sum((-2, -1)), mass.sum((-2, -1))
        logs = torch.where(total > 0, denominator, 1.0).log() + shift
        return rows * (total * logs - (weights * scores).sum((-2, -1)))

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        rows, _, mass, weights = self._present(self.shaped(params), presence)
        total = mass.sum((-2, -1), keepdim=True)
        slopes = weights.sum((-2, -1), keepdim=True) * mass / torch.where(total > 0, total, 1.0) - weights
        return (rows.reshape(-1, 1, 1) * slopes).reshape(-1)

    def differences(self, scores: Params) -> tuple[Float[Tensor, "R B"], Float[Tensor, " R"]]:
        scores = self.shaped(scores)
        shift, mass = masses(scores, self.allowed, torch.ones_like(scores[0, 0]))
        mass = mass.sum(1)
        weights, aligned = self.targets.sum(1), (self.targets * scores).sum(1)
        others = leave_one_out_sums(mass)
        total = weights.sum(1, keepdim=True)
        logs = (torch.where(total[:, 0] > 0, mass.sum(1), 1.0).log() + shift)[:, None]
        removed, rest = log_growth(mass, others), total - weights
        whole = total[:, 0] * logs[:, 0] - aligned.sum(1)
        if not self.mean:
            return rest * removed + weights * logs - aligned, whole
        whole = whole / torch.where(total > 0, total, 1.0)[:, 0]
        # Without a positive the mean is over the others; without all of them there is no term.
        mean = (aligned.sum(1, keepdim=True) - aligned) / torch.where(rest > 0, rest, 1.0)
        return whole[:, None] - torch.where(rest > 0, logs - removed - mean, 0.0), whole

    def stages(self, scores: Params, presence: Float[Tensor, " n"]) -> Iterator[Stage]:
        rows, _, mass, weights = self._present(self.shaped(scores), presence)
        yield Stage(mass[:, 0], (rows.reshape(-1, 1, 1) * weights)[:, 0], mass[:, 0], None)

    def _present(self, scores: Float[Tensor, "R V B"], presence: Float[Tensor, " n"]) -> tuple[Tensor, ...]:
        """Return which rows are present, each row's shift, and of who is present the masses and the weights."""
        units, rows = self.owners.present(presence)
        units = units.unsqueeze(-2)
        weights = self.targets * units
        if self.mean:
            total = weights.sum((-2, -1), keepdim=True)
            weights = weights / torch.where(total > 0, total, 1.0)
        return rows, *masses(scores, self.allowed, units), weights
