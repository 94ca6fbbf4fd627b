"""Ranks by scores among who is present, as they are and smooth, and what is gained at them."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.settings import Settings, setting


class Ranks(ABC):
    """Ranks of scores along a last axis: 1 and how many others who are present are ahead."""

    @abstractmethod
    def ahead(self, scores: Float[Tensor, "*q d"]) -> Float[Tensor, "*q d d"]:
        """Return by how much each other, along the last axis, is ahead of each."""

    @abstractmethod
    def within(self, ranks: Float[Tensor, "*q d"], k: int) -> Float[Tensor, "*q d"]:
        """Return how far each rank is among the first k."""

    def ranks(self, scores: Float[Tensor, "*q d"], presence: Float[Tensor, "*q d"]) -> Float[Tensor, "*q d"]:
        """Return the ranks."""
        return 1 + (self.ahead(scores) * presence[..., None, :]).sum(-1)


@dataclass(frozen=True)
class SoftRanks(Settings, Ranks):
    """Ranks that move with the scores: π_i = 1 + Σ_{j≠i} b_j σ((s_j − s_i)/τ), and the first k by σ((k + ½ − π_i)/w).

    As τ and w go to 0 they are the ranks themselves, and a first order says less of them: where removals move scores by
    more than τ, or ranks by more than w, ask `vif.newton_step`, which evaluates the target, and not `vif.attribute`.

    Attributes:
        temperature: τ, in units of the scores: differences below which two are nearly tied.
        width: w, in ranks: how far from the cut a rank counts in part.

    References:
        Qin, Liu & Li (2010), "A general approximation framework for direct optimization of information retrieval
        measures".

    Example:
        >>> scores, everyone = torch.tensor([2.0, 1.0]), torch.ones(2)
        >>> SoftRanks(temperature=1.0).ranks(scores, everyone)  # 1 + σ(−1), 1 + σ(1)
        tensor([1.2689, 1.7311])
    """

    temperature: float = setting(1.0, above=0)
    width: float = setting(3.0, above=0)

    def ahead(self, scores: Float[Tensor, "*q d"]) -> Float[Tensor, "*q d d"]:
        leads = scores[..., None, :] - scores[..., :, None]
        return torch.sigmoid(leads / self.temperature) * (1 - torch.eye(scores.shape[-1]).to(scores))

    def within(self, ranks: Float[Tensor, "*q d"], k: int) -> Float[Tensor, "*q d"]:
        return torch.sigmoid((k + 0.5 - ranks) / self.width)


class ExactRanks(Ranks):
    """The ranks themselves, ties in the order of the documents: steps, without a derivative."""

    def ahead(self, scores: Float[Tensor, "*q d"]) -> Float[Tensor, "*q d d"]:
        leads = scores[..., None, :] - scores[..., :, None]
        before = torch.ones(leads.shape[-2:], dtype=torch.bool, device=scores.device).tril(-1)
        return ((leads > 0) | ((leads == 0) & before)).to(scores)

    def within(self, ranks: Float[Tensor, "*q d"], k: int) -> Float[Tensor, "*q d"]:
        return (ranks <= k).to(ranks)


EXACT = ExactRanks()


def normalised(
    grades: Float[Tensor, "*q d"], presence: Float[Tensor, "*q d"], k: int | None = None
) -> Float[Tensor, "*q d"]:
    """Return 2^grade − 1 of who is present over the largest DCG@k that an order of them has; 0 where none is relevant.

    References:
        Järvelin & Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques".
    """
    gains = (torch.exp2(grades) - 1) * presence
    ranks = EXACT.ranks(grades, presence)
    best = (gains * EXACT.within(ranks, k or grades.shape[-1]) / torch.log2(1 + ranks)).sum(-1, keepdim=True)
    return gains / torch.where(best > 0, best, 1.0)
