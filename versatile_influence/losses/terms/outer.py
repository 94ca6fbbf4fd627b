"""Sums of terms, each of which dies with any of its objects, as a loss of what the terms are made of.

    L(o, b) = Σ_t ℓ_t(o) Π_{i ∈ objects of t} b_i,      ΔL = Bᵀ ℓ(o),

B the sparse terms × objects incidence.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.loss import Loss, Objects
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.removals import Removals
from versatile_influence.core.tables import whole_numbers
from versatile_influence.losses.terms.families import Family


class Terms(Loss):
    """A sum of terms with the objects that each needs.

    Args:
        function: From outputs to the terms ℓ, (T,).
        members: (T, m) objects of each term, n past the end of a row.
        n_objects: n.
        elementwise: Whether term t is made of output t alone, so that derivatives are those of single numbers.
    """

    differences_together = True

    def __init__(
        self,
        function: Callable[[Any], Tensor],
        members: Int[Tensor, "T m"],
        n_objects: int,
        *,
        elementwise: bool = False,
    ):
        self.function, self.members, self.n_objects = function, members, n_objects
        self.n_terms, self.elementwise = len(members), elementwise
        # Where each object has one term, in order, a sum over its terms is that term.
        one_each = members.shape == (n_objects, 1)
        self._single = one_each and bool((members[:, 0] == torch.arange(n_objects)).all())

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return self.terms(params, presence).sum()

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        return self._alive(presence) * self.each(params)

    def each(self, outputs: Any) -> Float[Tensor, " T"]:
        """Return the terms with everybody present.

        Raises:
            ValueError: If the function does not return one number a term.
        """
        values = self.function(outputs)
        if not isinstance(values, Tensor) or values.shape != (self.n_terms,):
            shaped = isinstance(values, Tensor)
            given = f"a tensor of shape {tuple(values.shape)}" if shaped else f"a {type(values).__name__}"
            raise ValueError(
                f"`terms` returned {given}, and `incidence` has {self.n_terms} terms: shape ({self.n_terms},) is "
                "needed. Return one number a term, neither summed nor as a column, or name the objects of as many."
            )
        return values

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return ΔL_i: the sum of each object's terms; of a group, the terms of any of its members, each once."""
        removals, terms = Removals.of(objects, self.n_objects), self.each(params)
        if removals.grouped:
            return torch.stack([(self._of(group) * terms).sum() for group in removals.groups()])
        return removals.of_each(self._by_object(terms))

    def removal_products(
        self, params: Params, directions: Float[Tensor, "m q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        removals = Removals.of(objects, self.n_objects)
        if not self.elementwise or directions is None:
            return super().removal_products(params, directions, removals)
        moved = self.slopes(flat(params))[:, None] * directions
        if removals.grouped:
            return torch.stack([self._of(group).to(moved) @ moved for group in removals.groups()])
        return removals.of_each(self._by_object(moved))

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        if not self.elementwise:
            return super().gradient(params, presence)
        return self.slopes(flat(params)) * self._alive(presence)

    def gradient_and_value(
        self, params: Params, presence: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, ""]]:
        if not self.elementwise:
            return super().gradient_and_value(params, presence)
        return self.gradient(params, presence), self(params, presence)

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k m"]:
        if not self.elementwise or not isinstance(params, Tensor):
            return super().gradients(params, presence)
        alive = presence if self._single else vmap(self._alive)(presence)
        return torch.stack([self.slopes(outputs) for outputs in params.unbind(0)]) * alive

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " n"], vectors: Float[Tensor, "m k"]
    ) -> Float[Tensor, "m k"]:
        if not self.elementwise:
            return super().hessian_products(params, presence, vectors)
        return (self.bends(flat(params)) * self._alive(presence))[:, None] * vectors

    def slopes(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return the derivative of each term along its own output."""
        if isinstance(self.function, Family):
            return self.function.slopes(outputs)
        with torch.enable_grad():
            there = outputs.detach().requires_grad_()
            return torch.autograd.grad(self.each(there).sum(), there)[0]

    def bends(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return the second derivative of each term along its own output."""
        if isinstance(self.function, Family):
            return self.function.bends(outputs)
        with torch.enable_grad():
            there = outputs.detach().requires_grad_()
            first = torch.autograd.grad(self.each(there).sum(), there, create_graph=True)[0]
            # Piecewise linear terms have slopes that are constants.
            return torch.autograd.grad(first.sum(), there)[0] if first.requires_grad else torch.zeros_like(outputs)

    def _by_object(self, values: Float[Tensor, "T *q"]) -> Float[Tensor, "n *q"]:
        """Return the sum over each object's terms."""
        if self._single:
            return values
        total = values.new_zeros(self.n_objects + 1, *values.shape[1:])
        spread = values.repeat_interleave(self.members.shape[1], dim=0)
        return total.index_add(0, self.members.reshape(-1), spread)[: self.n_objects]

    def _of(self, group: Int[Tensor, " m"]) -> Tensor:
        """Return which terms have any of these objects."""
        return torch.isin(self.members, group).any(1)

    def _alive(self, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return 1 for terms all of whose objects are present, 0 for others."""
        if self._single:
            return presence
        return torch.cat([presence, presence.new_ones(1)])[self.members].prod(dim=1)


def incidence_table(incidence: object) -> Int[Tensor, "T m"]:
    """Return the objects of each term as a table.

    Raises:
        ValueError: If it is empty or has a term without object.
    """
    table = whole_numbers(incidence, "incidence", shape=None, least=-1)
    table = table[:, None] if table.dim() == 1 else table
    if table.dim() != 2 or not table.numel():
        raise ValueError(f"`incidence` must hold object numbers, (T,) or (T, m), got shape {tuple(table.shape)}.")
    if (without := (table < 0).all(1)).any():
        raise ValueError(
            f"Term {int(without.nonzero()[0])} has no object. Name at least one, or add it to the penalty."
        )
    return table


def members_of(table: Int[Tensor, "T m"], number: int) -> Int[Tensor, "T m"]:
    """Return the table with `number` past the end of a row, each object of a term named once."""
    ordered = table.sort(dim=1, descending=True).values
    again = torch.zeros_like(ordered, dtype=torch.bool)
    again[:, 1:] = ordered[:, 1:] == ordered[:, :-1]
    return torch.where((ordered < 0) | again, number, ordered)
