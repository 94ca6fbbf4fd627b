"""What is lost by one query's documents: LambdaLoss and ApproxNDCG. Values for `DocumentLoss`."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from versatile_influence.core.settings import Settings, setting
from versatile_influence.losses.softmax.ranks import EXACT, SoftRanks, normalised


@dataclass(frozen=True)
class LambdaLoss(Settings):
    """NDCG-Loss2++ of the LambdaLoss framework, or with `mu=None` NDCG-Loss2.

        ℓ = −Σ_{y_i > y_j} b_i b_j w_ij log₂ σ(σ₀ (s_i − s_j)),      w_ij = (μ δ_ij + ρ_ij) |G_i − G_j|,
        δ_ij = |1/D(|r_i − r_j|) − 1/D(|r_i − r_j| + 1)|,   ρ_ij = |1/D(r_i) − 1/D(r_j)|,   D(r) = log₂(1 + r)

    G are gains 2^y − 1 over the ideal DCG@k, and r the ranks by the present scores. NDCG-Loss2 has w = δ |G_i − G_j|.
    The weights depend on the ranks and not on the scores between: they are constants in every derivative, and jump
    where two documents change places, so that the loss itself has a minimum only where no such jump is near. What
    training descends is the loss with the ranks held, convex in the scores, and that is what to remove objects from:
    `DocumentLoss(…, order=scores)` holds the order at the trained scores. Without a document, ranks and the ideal DCG
    are those of the documents that remain, in that order: those below it move up by one. That others may change places
    after it is gone, and the weights with them, is not in the scores of `vif.attribute` nor in `vif.refit` of a held
    order.

    Attributes:
        mu: μ, or None for NDCG-Loss2.
        k: Pairs count where both are among the first k; None for all.
        sigma: σ₀.

    References:
        Wang et al. (2018), "The LambdaLoss framework for ranking metric optimization", Eqs. 12–15; with the sum over
        queries, allRank's `lambdaLoss` of ndcgLoss2PP_scheme and ndcgLoss2_scheme, which also bounds σ from below.

    Example:
        >>> scores, grades = torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
        >>> LambdaLoss(mu=None)(scores, grades, torch.ones(2).double()).item()  # 1 − 1/log₂ 3
        0.369...
    """

    mu: float | None = setting(10.0, least=0)
    k: int | None = setting(None, least=1)
    sigma: float = setting(1.0, above=0)

    def __call__(
        self,
        scores: Float[Tensor, " d"],
        grades: Float[Tensor, " d"],
        presence: Float[Tensor, " d"],
        order: Float[Tensor, " d"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return ℓ, ranks by the scores, or by others that hold the order."""
        ranks = EXACT.ranks(scores if order is None else order.to(scores), presence)
        inside = presence * EXACT.within(ranks, self.k or len(scores))
        gains = normalised(grades, presence, self.k)
        # Who is absent shares the rank of another: their pair has no weight, and must be finite.
        apart = (ranks[:, None] - ranks).abs().clamp_min(1)
        weights = (1 / torch.log2(1 + apart) - 1 / torch.log2(2 + apart)).abs()
        if self.mu is not None:
            places = 1 / torch.log2(1 + ranks)
            weights = self.mu * weights + (places[:, None] - places).abs()
        weights = weights * (gains[:, None] - gains).abs() * (grades[:, None] > grades) * inside[:, None] * inside
        return -(weights * logsigmoid(self.sigma * (scores[:, None] - scores))).sum() / math.log(2)


@dataclass(frozen=True)
class ApproxNDCG(Settings):
    """−NDCG with soft ranks: ℓ = −Σ_i b_i G_i / log₂(1 + π_i),   π_i = 1 + Σ_{j≠i} b_j σ((s_j − s_i)/τ).

    G are gains 2^y − 1 over the ideal DCG of the documents present. Not convex in the scores.

    Attributes:
        temperature: τ; allRank's 1/alpha.

    References:
        Qin, Liu & Li (2010), "A general approximation framework for direct optimization of information retrieval
        measures"; with the sum over queries, allRank's `approxNDCGLoss` and TF-Ranking's `ApproxNDCGLoss`.

    Example:
        >>> scores, grades = torch.tensor([0.0, 0.0]).double(), torch.tensor([1.0, 0.0]).double()
        >>> ApproxNDCG()(scores, grades, torch.ones(2).double()).item()  # −1/log₂ 2.5
        -0.756...
    """

    temperature: float = setting(1.0, above=0)

    def __call__(
        self, scores: Float[Tensor, " d"], grades: Float[Tensor, " d"], presence: Float[Tensor, " d"]
    ) -> Float[Tensor, ""]:
        """Return ℓ."""
        ranks = SoftRanks(self.temperature).ranks(scores, presence)
        return -(normalised(grades, presence) / torch.log2(1 + ranks)).sum()
