"""Losses of pairs and triplets: terms that die with any of their objects."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from versatile_influence.core.models import Mapped, Network
from versatile_influence.core.outputs import Function, Outputs, Parameters
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
        x: Tensor | None = None,
        model: torch.nn.Module | None = None,
        incidence: object = None,
        n_objects: int | None = None,
        beta: float = 1.0,
        weights: Tensor | None = None,
        margin: float | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        first, second = torch.as_tensor(winners), torch.as_tensor(losers)
        if first.shape != second.shape or first.dim() != 1 or not len(first):
            raise ValueError(
                f"`winners` and `losers` must be one position a pair, got shapes {tuple(first.shape)} and "
                f"{tuple(second.shape)}."
            )
        if (same := first == second).any():
            raise ValueError(f"Pair {int(same.nonzero()[0])} prefers {int(first[same][0])} to itself. Leave it out.")
        score = scored(scores, x, model, n_positions=int(torch.maximum(first, second).max()) + 1)

        def terms(values: Tensor) -> Tensor:
            lead = beta * (values[first] - values[second])
            loss = torch.nn.functional.softplus(-lead) if margin is None else (margin - lead).clamp_min(0.0)
            return loss if weights is None else weights * loss

        super().__init__(
            terms,
            torch.arange(len(first)) if incidence is None else incidence,
            n_objects=n_objects,
            penalty=penalty,
            labels=labels,
            outputs=score,
        )


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
        x: Tensor,
        dim: int = 2,
        model: torch.nn.Module | None = None,
        margin: float = 1.0,
        smooth: bool = True,
        incidence: object = None,
        n_objects: int | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        table = torch.as_tensor(triplets)
        if table.dim() != 2 or table.shape[1] != 3 or not len(table):
            raise ValueError(f"`triplets` must be rows of (anchor, positive, negative), got {tuple(table.shape)}.")
        if int(table.min()) < 0 or int(table.max()) >= len(x):
            raise ValueError(f"`triplets` names row {int(table.max())}; x has rows 0 to {len(x) - 1}.")
        anchor, positive, negative = table.unbind(1)
        # At zero all distances are equal and nothing pulls: start from the leading coordinates.
        linear = torch.eye(x.shape[1], dim, dtype=torch.float64)
        embed = Function(lambda params: x @ params, linear) if model is None else Network(model, x)

        # Differences of distances are the outputs, not embeddings: the loss is convex in them.
        def leads(z: Tensor) -> Tensor:
            near = (z[anchor] - z[positive]).square().sum(-1)
            return margin + near - (z[anchor] - z[negative]).square().sum(-1)

        def terms(lead: Tensor) -> Tensor:
            return torch.nn.functional.softplus(lead) if smooth else lead.clamp_min(0.0)

        super().__init__(
            terms,
            table if incidence is None else incidence,
            n_objects=len(x) if incidence is None and n_objects is None else n_objects,
            penalty=penalty,
            labels=labels,
            outputs=Mapped(embed, leads),
        )


def scored(
    scores: Callable[[Any], Tensor] | None, x: Tensor | None, model: torch.nn.Module | None, *, n_positions: int
) -> Outputs:
    """Return how parameters score positions: as given, by a network, linear, or a strength each."""
    if scores is not None:
        return Function(scores)
    if model is not None and x is not None:
        return Mapped(Network(model, x), lambda values: values.squeeze(-1), each=True)
    if x is not None:
        return Function(lambda params: x @ params, torch.zeros(x.shape[1], dtype=torch.float64))
    return Parameters(torch.zeros(n_positions, dtype=torch.float64))
