"""Scores of items linear in the query's features."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.jacobian import Derived, Jacobian
from versatile_influence.core.loss import Loss
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params
from versatile_influence.losses.embedded import matrix
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
        return self.x @ matrix(params).T

    def start(self) -> Float[Tensor, "n a"]:
        return self.x.new_zeros(self.n_items, self.x.shape[1])

    def jacobian(self, params: Params) -> Jacobian:
        return ItemJacobian(self, params, x=self.x)

    def written_out(self, outer: Loss) -> bool:
        """Return whether items or queries are removed from rows of the items."""
        return isinstance(outer, Rows) and (outer.owners.each_candidate or outer.owners.each_row)

    def curvature(self, outer: Loss, params: Params, presence: Float[Tensor, " o"]) -> Float[Tensor, "p p"]:
        if not isinstance(outer, Rows):
            return super().curvature(outer, params, presence)
        return closed_forms.curvature(outer, self.x, matrix(params), presence)

    def removal_gradients(self, outer: Loss, params: Params) -> Float[Tensor, "o p"]:
        assert isinstance(outer, Rows)
        if outer.owners.each_candidate:
            return closed_forms.removal_gradients(outer, self.x, matrix(params))
        slopes = outer.gradient(self(params), self.x.new_ones(outer.n_objects)).reshape(-1, self.n_items)
        return (slopes[:, :, None] * self.x[:, None]).flatten(1)

    def owned(self, i: int) -> Int[Tensor, " a"]:
        width = self.x.shape[1]
        return torch.arange(width) + i * width if self.owning else torch.arange(0)

    def rows(self, chosen: Int[Tensor, " r"]) -> "LinearItems":
        return replace(self, x=self.x[chosen])


@dataclass(frozen=True, kw_only=True)
class ItemJacobian(Derived):
    """The Jacobian x ⊗ I of linear scores of items."""

    x: Float[Tensor, "R a"]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        shaped = directions.reshape(-1, self.x.shape[1], directions.shape[1])
        return torch.einsum("ra,nak->rnk", self.x, shaped).flatten(0, 1)

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        shaped = outputs.reshape(len(self.x), -1, outputs.shape[1])
        return torch.einsum("ra,rnk->nak", self.x, shaped).flatten(0, 1)
