"""Losses that are sums of log-softmax terms: Plackett–Luce, cross-entropy, InfoNCE, skip-gram.

One engine serves them all: `rows` holds the terms, `scores` turns parameters into the candidates' scores.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from versatile_influence._ravel import Params
from versatile_influence.losses.composed import Composed
from versatile_influence.losses.linear_items import LinearItems
from versatile_influence.losses.rows import NestedRows, SharedRows


class SoftmaxLoss(Composed):
    """A sum of log-softmax terms over rows of candidates, plus (λ/2)‖θ‖²; base of the ready losses.

    Args:
        rows: The terms, and who owns what in them.
        scores: From parameters to the scores of every row's candidates; offers `zeros()`, and may offer `owned(i)` and
            `part(rows)`, the scores of some rows.
        penalty: λ.
        labels: Names of the objects.
        owned: Whether object i owns the parameters `scores.owned(i)`.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.ListMLELoss([[0.0], [1.0]], [[0, 1], [2]], n_items=3)
        >>> isinstance(loss, SoftmaxLoss), loss.n_objects
        (True, 3)
    """

    def __init__(
        self,
        rows: NestedRows | SharedRows,
        scores: Callable[[Any], Tensor],
        *,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
        owned: bool = False,
    ):
        if not penalty >= 0:
            raise ValueError(f"`penalty` must be ≥ 0, got {penalty}.")
        self.rows, self.scores, self.penalty = rows, scores, float(penalty)
        self.n_objects = rows.owners.n_objects
        if labels is not None and len(labels) != self.n_objects:
            raise ValueError(f"`labels` must name each of the {self.n_objects} objects, got {len(labels)}.")
        self.object_labels = None if labels is None else list(labels)
        self._owned = owned
        self.size, self.n_terms = rows.size, len(rows.allowed)

    def zeros(self) -> Params:
        """Return parameters to start from: zeros, or a network's present values."""
        return self.scores.zeros()  # pyright: ignore[reportFunctionMemberAccess]

    def outputs(self, params: Params) -> Tensor:
        """Return the scores of each row's candidates."""
        return self.scores(params)

    def outer_terms(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row (query, anchor)."""
        return self.rows.losses(outputs, presence)

    def row_losses(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row at some parameters, without the penalty."""
        return self.rows.losses(self.scores(params), presence)

    def on_terms(self, params: Params, presence: Float[Tensor, " n"], terms: Int[Tensor, " r"]) -> Float[Tensor, ""]:
        """Return the sum over some rows, with their share of the penalty; over a partition they add up to the loss."""
        return self.part(terms)(params, presence)

    def part(self, terms: Int[Tensor, " r"]) -> "SoftmaxLoss":
        """Return the loss of some rows alone, with their share of the penalty."""
        chosen = getattr(self.scores, "part", None)
        scores = chosen(terms) if chosen else lambda params: self.scores(params)[terms]
        return SoftmaxLoss(self.rows.part(terms), scores, penalty=len(terms) / self.n_terms * self.penalty)

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k p"] | None:
        """Return the gradient at each of k parameters, with those of its row of presence; None for a network."""
        if not isinstance(params, Tensor) or not hasattr(self.scores, "pulled_back"):
            return None
        slopes = vmap(self.rows.slopes)(vmap(self.scores)(params), presence)
        gradients = self.scores.pulled_back(slopes) + self.penalty * params  # pyright: ignore[reportFunctionMemberAccess]
        return gradients.flatten(1)

    def outer_differences(self, outputs: Tensor, objects: Int[Tensor, " k"] | None = None) -> Float[Tensor, " k"]:
        """Return ΔL_i as a function of the scores; exact, at about the cost of the loss."""
        changes = self.rows.owners.collected(*self.rows.differences(outputs))
        return changes if objects is None else changes.index_select(0, objects)

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, "k q"] | None:
        """Return the Jacobian of the removal differences, or its product with directions; None for a network."""
        if not isinstance(params, Tensor) or not (scores := self._written_out()):
            return None
        gradients = scores.removal_gradients(self.rows, params)
        gradients = gradients if objects is None else gradients.index_select(0, objects)
        return gradients if directions is None else gradients @ directions

    def dense_hessian(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"] | None:
        """Return ∇²L(θ, b) of linear scores of items; None for a network."""
        if not isinstance(params, Tensor) or not (scores := self._written_out()):
            return None
        matrix = scores.curvature(self.rows, params, presence)
        matrix.diagonal().add_(self.penalty)
        return matrix

    def row_effects(
        self, params: Params, changes: Float[Tensor, "k p"], objects: Int[Tensor, " k"]
    ) -> tuple[Float[Tensor, "k R"], Float[Tensor, "k R"]] | None:
        """Return the direct and parameter effect on each row's loss (`PresenceTarget.effects`); None for a network."""
        if not isinstance(params, Tensor) or not (scores := self._written_out()):
            return None
        return scores.removal_effects(self.rows, params, changes, objects)

    def owned(self, i: int) -> Int[Tensor, " m"]:
        """Return the positions, in the flat parameters, that only object i's terms train."""
        return self.scores.owned(i) if self._owned else torch.arange(0)  # pyright: ignore[reportFunctionMemberAccess]

    def _written_out(self) -> LinearItems | None:
        """Return the scores where their derivatives are written out by hand: linear, items removed."""
        return self.scores if isinstance(self.scores, LinearItems) and self.rows.owners.rows is None else None
