"""Sums of terms, each of which dies with any of its objects: M-estimators, pairs, triplets.

    L(θ, b) = Σ_t ℓ_t(θ) Π_{i ∈ objects of t} b_i + (λ/2)‖θ‖²,      ΔL = Bᵀ ℓ(θ),

B the sparse terms × objects incidence. The engine of every loss that is a sum over rows, pairs or triplets, whatever
the objects are: rows, users, items, clinics, annotators.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import functional_call

from versatile_influence._ravel import Params
from versatile_influence.losses.scores import squared_norm


class TermLoss:
    """A sum of terms with the objects that each needs.

    Args:
        terms: From parameters to the terms ℓ(θ), (T,).
        incidence: Objects of each term: one number a term (T,), or a table (T, m) with −1 past the end of a row.
        n_objects: How many objects there are, or None for the largest number named, plus one.
        penalty: λ.
        start: Parameters to start from: what `zeros()` returns.
        labels: Names of the objects.

    Raises:
        ValueError: If an object number is out of range, or a term has no object.

    Warns:
        UserWarning: If an object is in no term; its score is 0.

    References:
        Lemma 3.1 and Theorem 3.1 of the paper: with one object a term this is the classical influence function.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = TermLoss(lambda theta: (x - theta) ** 2 / 2, [0, 0, 1], start=torch.tensor(0.0).double())
        >>> loss.removal_differences(torch.tensor(3.0)).tolist()
        [2.5, 4.5]
    """

    removes_groups = True

    def __init__(
        self,
        terms: Callable[[Params], Tensor],
        incidence: object,
        *,
        n_objects: int | None = None,
        penalty: float = 0.0,
        start: Params | None = None,
        labels: Sequence[object] | None = None,
    ):
        table = incidence_table(incidence)
        number = int(table.max()) + 1 if n_objects is None else n_objects
        if int(table.max()) >= number:
            term = int((table >= number).any(1).nonzero()[0])
            raise ValueError(f"Term {term} names object {int(table[term].max())}; objects run from 0 to {number - 1}.")
        if not penalty >= 0:
            raise ValueError(f"`penalty` must be ≥ 0, got {penalty}.")
        # An object named twice by a term (a pair of one item with itself) is there once.
        ordered = table.sort(dim=1, descending=True).values
        again = torch.zeros_like(ordered, dtype=torch.bool)
        again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
        self.members = torch.where((ordered < 0) | again, number, ordered)
        self.terms, self.n_objects, self.penalty, self.start = terms, number, float(penalty), start
        self.object_labels = None if labels is None else list(labels)
        self.size = self.members.numel()
        idle = number - len(self.members[self.members < number].unique())
        if idle:
            warnings.warn(f"{idle} of {number} objects are in no term; their scores are 0.", stacklevel=2)

    def zeros(self) -> Params:
        """Return parameters to start from.

        Raises:
            ValueError: If the loss was made without `start`.
        """
        if self.start is None:
            raise ValueError("This loss has no start: pass start=… where it is made, or your own to vif.minimize.")
        return self.start

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the penalised sum of the terms whose objects are all present."""
        there = torch.cat([presence, presence.new_ones(1)])[self.members].prod(dim=1)
        return (there * self.terms(params)).sum() + self.penalty / 2 * squared_norm(params)

    def removal_differences(
        self, params: Params, objects: Int[Tensor, " k"] | list[Tensor] | None = None
    ) -> Float[Tensor, " k"]:
        """Return ΔL_i: the sum of each object's terms; of a group, the terms of any of its members, each once."""
        terms = self.terms(params)
        if isinstance(objects, list):
            return torch.stack([(torch.isin(self.members, group).any(1) * terms).sum() for group in objects])
        width = self.members.shape[1]
        total = terms.new_zeros(self.n_objects + 1)
        total = total.index_add(0, self.members.reshape(-1), terms.repeat_interleave(width))[: self.n_objects]
        return total if objects is None else total.index_select(0, objects)


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
        scores: Callable[[Params], Tensor] | None = None,
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
        score, start = scored(scores, x, model, n_positions=int(torch.maximum(first, second).max()) + 1)

        def terms(params: Params) -> Tensor:
            values = score(params)
            lead = beta * (values[first] - values[second])
            loss = torch.nn.functional.softplus(-lead) if margin is None else (margin - lead).clamp_min(0.0)
            return loss if weights is None else weights * loss

        super().__init__(
            terms,
            torch.arange(len(first)) if incidence is None else incidence,
            n_objects=n_objects,
            penalty=penalty,
            start=start,
            labels=labels,
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

        def terms(params: Params) -> Tensor:
            z = x @ params if isinstance(params, Tensor) else functional_call(model, params, (x.to(_dtype(params)),))
            near = (z[anchor] - z[positive]).square().sum(-1)
            lead = margin + near - (z[anchor] - z[negative]).square().sum(-1)
            return torch.nn.functional.softplus(lead) if smooth else lead.clamp_min(0.0)

        super().__init__(
            terms,
            table if incidence is None else incidence,
            n_objects=len(x) if incidence is None and n_objects is None else n_objects,
            penalty=penalty,
            start=linear if model is None else named(model),
            labels=labels,
        )


def scored(
    scores: Callable[[Params], Tensor] | None, x: Tensor | None, model: torch.nn.Module | None, *, n_positions: int
) -> tuple[Callable[[Params], Tensor], Params | None]:
    """Return how parameters score positions, and a start: as given, by a network, linear, or a strength each."""
    if scores is not None:
        return scores, None
    if model is not None and x is not None:
        return lambda params: functional_call(model, params, (x.to(_dtype(params)),)).squeeze(-1), named(model)
    if x is not None:
        return lambda params: x @ params, torch.zeros(x.shape[1], dtype=torch.float64)
    return lambda params: params, torch.zeros(n_positions, dtype=torch.float64)


def named(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a network's present parameters, in float64."""
    return {name: value.detach().double().clone() for name, value in model.named_parameters()}


def _dtype(params: dict[str, Tensor]) -> torch.dtype:
    return next(iter(params.values())).dtype


def incidence_table(incidence: object) -> Int[Tensor, "T m"]:
    """Return the objects of each term as a table.

    Raises:
        ValueError: If it is empty or has a term without object.
    """
    table = incidence if isinstance(incidence, Tensor) else torch.as_tensor(np.asarray(incidence))
    table = table[:, None] if table.dim() == 1 else table
    if table.dim() != 2 or not table.numel() or table.is_floating_point():
        raise ValueError(f"`incidence` must hold object numbers, (T,) or (T, m), got shape {tuple(table.shape)}.")
    if (without := (table < 0).all(1)).any():
        raise ValueError(
            f"Term {int(without.nonzero()[0])} has no object. Name at least one, or add it to the penalty."
        )
    return table.long()
