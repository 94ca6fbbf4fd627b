"""Losses of pairs and triplets: terms that die with any of their objects."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import relu, softplus

from versatile_influence.core.checks import instance, number, numbers
from versatile_influence.core.models import Mapped
from versatile_influence.core.outputs import Function, Outputs, Parameters
from versatile_influence.core.tables import features, kept, whole_numbers
from versatile_influence.losses.embedded import embedded, product
from versatile_influence.losses.terms.loss import TermLoss


class PairwiseLoss(TermLoss):
    """Logistic loss of preference pairs: ℓ_t = w_t log(1 + e^{−β (s_winner − s_loser)}).

    RankNet (documents), BPR (items of a user), Bradley–Terry (players), a reward model (responses) and DPO (β times the
    difference of log-ratios as scores) are this loss with different scores.

    Args:
        winners: (T,) position of each pair's winner among the scores.
        losers: (T,) position of its loser.
        scores: From parameters to scores; None for Bradley–Terry, one strength a position.
        x: (rows, d) features for linear scores x w, or the input of `model`.
        model: A network from x to one score a row.
        incidence: Objects of each pair, as in `TermLoss`; None: the pairs themselves are the objects.
        n_objects: How many objects there are.
        beta: β.
        weights: (T,) w.
        margin: None for the logistic loss, a number for the hinge max(0, margin − β(s_winner − s_loser)).
        penalty: λ.
        labels: Names of the objects.

    References:
        Bradley & Terry (1952); Burges et al. (2005), RankNet; Rendle et al. (2009), BPR; Rafailov et al. (2023), DPO.

    Example:
        >>> loss = PairwiseLoss([0, 1, 0], [1, 2, 2], penalty=1.0)
        >>> loss(loss.zeros(), torch.ones(3).double()).item()  # 3 log 2
        2.079...
    """

    def __init__(
        self,
        winners: object,
        losers: object,
        *,
        scores: Callable[[Any], Tensor] | None = None,
        x: object = None,
        model: torch.nn.Module | None = None,
        incidence: object = None,
        n_objects: int | None = None,
        beta: float = 1.0,
        weights: object = None,
        margin: float | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        first = whole_numbers(winners, "winners", shape=[None])
        second = whole_numbers(losers, "losers", shape=[len(first)])
        if not len(first):
            raise ValueError("There is no pair: `winners` is empty.")
        if (same := first == second).any():
            raise ValueError(f"Pair {int(same.nonzero()[0])} prefers {int(first[same][0])} to itself. Leave it out.")
        score = scored(scores, x, model, n_positions=int(torch.maximum(first, second).max()) + 1)
        super().__init__(
            Preferences(
                first,
                second,
                beta=number(beta, "beta", above=0),
                weights=None if weights is None else numbers(weights, "weights", shape=[len(first)], least=0),
                margin=None if margin is None else number(margin, "margin"),
            ),
            torch.arange(len(first)) if incidence is None else incidence,
            n_objects=n_objects,
            penalty=penalty,
            labels=labels,
            outputs=score,
        )


@dataclass(frozen=True, eq=False)
class Preferences:
    """The terms of preference pairs.

    Attributes:
        winners, losers: Position of each pair's winner and loser among the scores.
        beta, weights, margin: As in `PairwiseLoss`.
    """

    winners: Int[Tensor, " T"]
    losers: Int[Tensor, " T"]
    beta: float
    weights: Float[Tensor, " T"] | None
    margin: float | None

    def __call__(self, scores: Tensor) -> Float[Tensor, " T"]:
        """Return the terms at some scores."""
        lead = self.beta * (scores[self.winners] - scores[self.losers])
        loss = softplus(-lead) if self.margin is None else (self.margin - lead).clamp_min(0.0)
        return loss if self.weights is None else self.weights * loss


class TripletLoss(TermLoss):
    """Triplets: ℓ_t = softplus or hinge of margin + ‖a − p‖² − ‖a − n‖² of embeddings.

    Args:
        triplets: (T, 3) positions of anchor, positive and negative among the embeddings.
        x: (rows, d) input of the model, or features of the linear map x W.
        dim: Dimension of the linear embedding.
        model: A network from x to embeddings.
        margin: Added to the difference of squared distances.
        smooth: Softplus in place of the hinge, whose kinks have no curvature.
        incidence: Objects of each triplet; None: the rows of x, and a triplet dies with any of its three.
        n_objects: How many objects there are.
        penalty: λ.
        labels: Names of the objects.

    References:
        Schroff, Kalenichenko & Philbin (2015), FaceNet.

    Example:
        >>> loss = TripletLoss([[0, 1, 2]], x=torch.eye(3).double(), dim=2, margin=0.0)
        >>> loss(loss.zeros() * 0, torch.ones(3).double()).item()  # log 2
        0.693...
    """

    def __init__(
        self,
        triplets: object,
        *,
        x: object,
        dim: int = 2,
        model: torch.nn.Module | None = None,
        margin: float = 1.0,
        smooth: bool = True,
        incidence: object = None,
        n_objects: int | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        x = features(x, rows="row") if model is None else kept(x)
        table = whole_numbers(triplets, "triplets", shape=[None, 3], most=len(x) - 1)
        margin = number(margin, "margin")
        super().__init__(
            softplus if smooth else relu,
            table if incidence is None else incidence,
            n_objects=len(x) if incidence is None and n_objects is None else n_objects,
            penalty=penalty,
            labels=labels,
            # Differences of distances are the outputs, not embeddings: the loss is convex in them.
            outputs=Mapped(embedded(model, x, dim), partial(leads, triplets=table, margin=margin)),
        )


def leads(z: Float[Tensor, "rows d"], triplets: Int[Tensor, "T 3"], margin: float) -> Float[Tensor, " T"]:
    """Return margin + ‖a − p‖² − ‖a − n‖² of each triplet."""
    anchor, positive, negative = (z[rows] for rows in triplets.unbind(1))
    return margin + (anchor - positive).square().sum(-1) - (anchor - negative).square().sum(-1)


def scored(
    scores: Callable[[Any], Tensor] | None, x: object, model: torch.nn.Module | None, *, n_positions: int
) -> Outputs:
    """Return how parameters score positions: as given, by a network, linear, or a strength each.

    Raises:
        TypeError: If `scores` is no function.
        ValueError: If there are scores and x, a model without x, or fewer rows of x than positions.
    """
    if (scores is not None and x is not None) or (model is not None and x is None):
        raise ValueError("Give `scores` alone, `x` alone for linear scores, or `model` and `x`.")
    if scores is not None:
        return Function(scores) if callable(scores) else instance(scores, "scores", Outputs, "a function")
    if x is None:
        return Parameters(torch.zeros(n_positions, dtype=torch.float64))
    rows = features(x, rows="row") if model is None else kept(x)
    if len(rows) < n_positions:
        raise ValueError(f"The pairs name row {n_positions - 1}, but `x` has {len(rows)} rows. Positions run from 0.")
    if model is None:
        return Function(partial(product, rows), torch.zeros(rows.shape[1], dtype=torch.float64))
    return Mapped(embedded(model, rows, 1), partial(torch.Tensor.squeeze, dim=-1), each=True)
