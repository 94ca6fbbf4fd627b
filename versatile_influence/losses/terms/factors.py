"""Scores of users and items by the product of their factors, as outputs that know whose rows are whose."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params


@dataclass(frozen=True, eq=False)
class Factors(Outputs):
    """Scores s_ui = p_u · q_i + b_i, with a_u added where users have a bias: a row an interaction, a column an item.

    Parameters are a dict: `user` (U, d) and `item` (I, d), `item_bias` (I,), and `user_bias` (U,). The columns of p and
    q may be rotated together without any change: d (d − 1)/2 directions in which the loss is flat, and no score moves.

    Attributes:
        users: (R,) user of each row.
        items: (R, B) items of each row.
        n_users, n_items, dim: U, I, d.
        user_bias: Whether users have one.
        owners: Whose rows of parameters are theirs alone, "users" or "items", or None.
        seed: Of the start, normal with standard deviation 0.1: at zero nothing pulls.
    """

    users: Int[Tensor, " R"]
    items: Int[Tensor, "R B"]
    n_users: int
    n_items: int
    dim: int
    user_bias: bool
    owners: Literal["users", "items"] | None
    seed: int = 0

    def __call__(self, params: Params) -> Float[Tensor, "R B"]:
        """Return the scores.

        Raises:
            TypeError: If the parameters are no dict.
            ValueError: If their names, order or shapes are others than where we start.
        """
        if isinstance(params, dict):
            got = {name: tuple(value.shape) for name, value in params.items()}
            if [*got.items()] != [*self._shapes.items()]:
                raise ValueError(
                    f"The parameters must be those of loss.zeros(), in that order: {self._shapes}, got {got}."
                )
        return factor_scores(params, self.users, self.items)

    @property
    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of the parameters, in order."""
        shapes: dict[str, tuple[int, ...]] = {"user": (self.n_users, self.dim), "item": (self.n_items, self.dim)}
        return shapes | {"item_bias": (self.n_items,)} | ({"user_bias": (self.n_users,)} if self.user_bias else {})

    def start(self) -> dict[str, Tensor]:
        draw = torch.Generator().manual_seed(self.seed)
        return {
            name: torch.zeros(shape, dtype=torch.float64)
            if name.endswith("bias")
            else 0.1 * torch.randn(shape, generator=draw, dtype=torch.float64)
            for name, shape in self._shapes.items()
        }

    @property
    def owning(self) -> bool:
        """Whether objects are users or items, which own their rows."""
        return self.owners is not None

    def owned(self, i: int) -> Int[Tensor, " m"]:
        """Return where the object's rows of the parameters are in the flat parameters."""
        if self.owners is None:
            return torch.arange(0)
        factors, biases = self.n_users * self.dim, (self.n_users + self.n_items) * self.dim
        row = torch.arange(self.dim) + i * self.dim
        if self.owners == "items":
            return torch.cat([factors + row, torch.tensor([biases + i])])
        return torch.cat([row, torch.tensor([biases + self.n_items + i])]) if self.user_bias else row

    def back(self, params: dict[str, Tensor], slopes: Float[Tensor, "R B"]) -> Float[Tensor, " p"]:
        """Return Jᵀ u: derivatives along the parameters of those along the scores."""
        return self._gathered(slopes, [(slopes, params)])

    def bent(
        self,
        params: dict[str, Tensor],
        move: dict[str, Tensor],
        slopes: Float[Tensor, "R B"],
        bend: Callable[[Float[Tensor, "R B"]], Float[Tensor, "R B"]],
    ) -> Float[Tensor, " p"]:
        """Return ∇²L(θ) v of a loss of the scores: Jᵀ(∇²L (J v)) + Σ ∂L/∂s ∇²s v, which couples p_u and q_i.

        Args:
            params: θ.
            move: v.
            slopes: ∂L/∂s.
            bend: ∇²L, of the scores, times a direction of them.
        """
        crossed = ({**move, "user": params["user"]}, {"user": move["user"], "item": params["item"]})
        along = factor_scores(crossed[0], self.users, self.items) + products(crossed[1], self.users, self.items)
        curved = bend(along)
        return self._gathered(curved, [(curved, params), (slopes, move)])

    def _gathered(
        self, straight: Float[Tensor, "R B"], weighed: list[tuple[Float[Tensor, "R B"], dict[str, Tensor]]]
    ) -> Float[Tensor, " p"]:
        """Return Σ over pairs of weight times the other's factors, for users and items, and the sums of biases."""
        tables = [(self._table(weights), factors) for weights, factors in weighed]
        of_users = sum(table @ factors["item"].cpu().numpy() for table, factors in tables)
        of_items = sum(table.T @ factors["user"].cpu().numpy() for table, factors in tables)
        parts = [torch.as_tensor(table).flatten().to(straight) for table in (of_users, of_items)]
        zeros = [straight.new_zeros(n) for n in (self.n_items, self.n_users)]
        parts.append(zeros[0].index_add_(0, self.items.flatten(), straight.flatten()))
        if self.user_bias:
            parts.append(zeros[1].index_add_(0, self.users, straight.sum(1)))
        return torch.cat(parts)

    @cached_property
    def _pattern(self) -> tuple[Tensor, np.ndarray, np.ndarray]:
        """The places of a table of users and items that rows fill: their order, the items, and where users start."""
        users = self.users[:, None].expand_as(self.items).flatten()
        order = users.argsort(stable=True)
        starts = torch.bincount(users, minlength=self.n_users).cumsum(0)
        return order, self.items.flatten()[order].cpu().numpy(), np.concatenate([[0], starts.cpu().numpy()])

    def _table(self, weights: Float[Tensor, "R B"]) -> scipy.sparse.csr_matrix:
        """Return the weights as a table of users and items, those of the same pair side by side."""
        order, items, starts = self._pattern
        filled = weights.flatten()[order].cpu().numpy()
        return scipy.sparse.csr_matrix((filled, items, starts), shape=(self.n_users, self.n_items))

    def rows(self, chosen: Int[Tensor, " r"]) -> "Factors":
        return replace(self, users=self.users[chosen], items=self.items[chosen])


def factor_scores(params: Params, users: Int[Tensor, " R"], items: Int[Tensor, "R B"]) -> Float[Tensor, "R B"]:
    """Return s_ui of users and items of each row.

    Raises:
        TypeError: If the parameters are no such dict.
    """
    if not isinstance(params, dict) or not params.keys() >= {"user", "item", "item_bias"}:
        got = [*params] if isinstance(params, dict) else type(params).__name__
        raise TypeError(f"The parameters must be the dict of `loss.zeros()`: `user`, `item`, and biases; got {got}.")
    scores = products(params, users, items) + params["item_bias"][items]
    return scores + params["user_bias"][users][:, None] if "user_bias" in params else scores


def products(params: Mapping[str, Tensor], users: Int[Tensor, " R"], items: Int[Tensor, "R B"]) -> Float[Tensor, "R B"]:
    """Return p_u · q_i of users and items of each row."""
    own, others = params["user"].index_select(0, users), params["item"].index_select(0, items.flatten())
    return (others.unflatten(0, items.shape) @ own[:, :, None])[:, :, 0]
