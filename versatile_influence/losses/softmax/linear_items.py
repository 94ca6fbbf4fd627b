"""Scores of items linear in the query's features."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.factored import ByRow
from versatile_influence.core.jacobian import Derived, Jacobian
from versatile_influence.core.loss import Loss
from versatile_influence.core.outputs import Outputs, Pull
from versatile_influence.core.ravel import Params
from versatile_influence.core.target import Effects
from versatile_influence.losses.softmax import closed_forms
from versatile_influence.losses.softmax.rows import Rows


@dataclass(frozen=True, eq=False)
class LinearItems(Outputs):
    """Scores of n items from query features: s = x Wᵀ + c, parameters (n, d+1) with the bias last.

    Attributes:
        x: (R, d+1) features of the queries, with a column of ones.
        n_items: n.
        owning: Whether the objects are the items, each of which owns its row of the parameters.
    """

    x: Float[Tensor, "R a"]
    n_items: int
    owning: bool = False
    linear = True

    def __call__(self, params: Params) -> Float[Tensor, "R n"]:
        """Return the scores.

        Raises:
            TypeError: If the parameters are a dict.
        """
        return self.x @ matrix(params).T

    @property
    def by_row(self) -> ByRow:
        """Each query by itself."""
        return (lambda params, rows: rows @ matrix(params).T), self.x

    def start(self) -> Float[Tensor, "n a"]:
        """Return zeros."""
        return self.x.new_zeros(self.n_items, self.x.shape[1])

    def jacobian(self, params: Params) -> Jacobian:
        """Return their Jacobian, whose products are those of x."""
        return ItemJacobian(self, params, self.by_row)

    def pull(self, params: Params) -> tuple[Tensor, Pull]:
        """Return the scores and U ↦ Uᵀx."""
        return self(params), lambda slopes: (slopes.reshape(-1, self.n_items).mT @ self.x).reshape(-1)

    def pull_each(self, params: Params, slopes: Float[Tensor, "k m"]) -> Float[Tensor, "k p"]:  # noqa: ARG002
        """Return Uᵀx of each."""
        return (slopes.reshape(len(slopes), -1, self.n_items).mT @ self.x).flatten(1)

    def written_out(self, outer: Loss) -> bool:
        """Return whether items or queries are removed from rows of the items."""
        return isinstance(outer, Rows) and outer.views == 1 and (outer.owners.each_candidate or outer.owners.each_row)

    def curvature(self, outer: Loss, params: Params, presence: Float[Tensor, " o"]) -> Float[Tensor, "p p"]:
        """Return Jᵀ ∇²outer J."""
        if not isinstance(outer, Rows) or outer.views > 1:
            return super().curvature(outer, params, presence)
        return closed_forms.curvature(outer, self.x, matrix(params), presence)

    def removal_gradients(self, outer: Loss, params: Params) -> Float[Tensor, "o p"]:
        """Return ∇ΔL of each object, where `written_out`."""
        assert isinstance(outer, Rows)
        if outer.owners.each_candidate:
            return closed_forms.removal_gradients(outer, self.x, matrix(params))
        slopes = outer.gradient(self(params), self.x.new_ones(outer.n_objects)).reshape(-1, self.n_items)
        return (slopes[:, :, None] * self.x[:, None]).flatten(1)

    def removal_effects(
        self, outer: Rows, params: Params, changes: Float[Tensor, "k p"], items: Int[Tensor, " k"]
    ) -> Effects:
        """Return the direct effect of each item's removal on each row's loss, and that of the parameters' change."""
        return closed_forms.removal_effects(outer, self.x, matrix(params), changes, items)

    def owned(self, i: int) -> Int[Tensor, " a"]:
        """Return where the item's weights and bias are in the flat parameters."""
        width = self.x.shape[1]
        return torch.arange(width) + i * width if self.owning else torch.arange(0)

    def rows(self, chosen: Int[Tensor, " r"]) -> "LinearItems":
        """Return the scores of some queries."""
        return replace(self, x=self.x[chosen])


@dataclass(frozen=True)
class ItemJacobian(Derived):
    """The Jacobian x ⊗ I of linear scores of items."""

    @cached_property
    def _x(self) -> Float[Tensor, "R a"]:
        assert self.by_row is not None
        return self.by_row[1]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V."""
        shaped = directions.reshape(-1, self._x.shape[1], directions.shape[1])
        return torch.einsum("ra,nak->rnk", self._x, shaped).flatten(0, 1)

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        """Return Jᵀ U."""
        shaped = outputs.reshape(len(self._x), -1, outputs.shape[1])
        return torch.einsum("ra,rnk->nak", self._x, shaped).flatten(0, 1)


def matrix(params: Params) -> Float[Tensor, "n a"]:
    """Return the parameters, checked.

    Raises:
        TypeError: If they are a dict.
    """
    if isinstance(params, dict):
        raise TypeError("The parameters are a dict, but the loss has no `model`. Pass the tensor of `loss.zeros()`.")
    return params
