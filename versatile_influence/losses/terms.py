"""Sums of terms, each of which dies with any of its objects: M-estimators, pairs, triplets.

    L(θ, b) = Σ_t ℓ_t(θ) Π_{i ∈ objects of t} b_i + (λ/2)‖θ‖²,      ΔL = Bᵀ ℓ(θ),

B the sparse terms × objects incidence. The engine of every loss that is a sum over rows, pairs or triplets, whatever
the objects are: rows, users, items, clinics, annotators.
"""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from versatile_influence._ravel import Params
from versatile_influence.loss import squared_norm
from versatile_influence.losses.linear_terms import Linear, bends, slopes


class TermLoss:
    """A sum of terms with the objects that each needs.

    Args:
        terms: From parameters to the terms ℓ(θ), (T,); from outputs, where there are any.
        incidence: Objects of each term: one number a term (T,), or a table (T, m) with −1 past the end of a row.
        n_objects: How many objects there are, or None for the largest number named, plus one.
        penalty: λ.
        start: Parameters to start from: what `zeros()` returns.
        labels: Names of the objects.
        outputs: From parameters to what the terms are made of, such as a network's outputs; None: the parameters.
            `Linear(x)` for a regression of rows, whose derivatives are then matrix products.

    Raises:
        ValueError: If an object number is out of range, a term has no object, or `Linear` outputs are in several terms.

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
        terms: Callable[[Any], Tensor],
        incidence: object,
        *,
        n_objects: int | None = None,
        penalty: float = 0.0,
        start: Params | None = None,
        labels: Sequence[object] | None = None,
        outputs: Callable[[Params], Tensor] | None = None,
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
        self.outputs, self.n_terms = outputs, len(self.members)
        # Where each object has one term, in order, a sum over its terms is that term.
        self._single = self.members.shape == (number, 1) and bool((self.members[:, 0] == torch.arange(number)).all())
        if isinstance(outputs, Linear):
            outputs.check(terms)
            self.start = outputs.zeros() if start is None else start
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
        return self.outer(self._through(params), presence) + self.penalty / 2 * squared_norm(params)

    def outer(self, outputs: Any, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the sum as a function of the outputs, without the penalty."""
        return self.outer_terms(outputs, presence).sum()

    def outer_terms(self, outputs: Any, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return the terms, 0 where an object is absent."""
        return self._alive(presence) * self.each(outputs)

    def each(self, outputs: Any) -> Float[Tensor, " T"]:
        """Return the terms as a function of the outputs.

        Raises:
            ValueError: If `terms` does not return one number a term.
        """
        values = self.terms(outputs)
        if not isinstance(values, Tensor) or values.shape != (self.n_terms,):
            given = (
                f"a tensor of shape {tuple(values.shape)}"
                if isinstance(values, Tensor)
                else f"a {type(values).__name__}"
            )
            raise ValueError(
                f"`terms` returned {given}, and `incidence` has {self.n_terms} terms: shape ({self.n_terms},) is "
                "needed. Return one number a term, neither summed nor as a column, or name the objects of as many."
            )
        return values

    def on_terms(self, params: Params, presence: Float[Tensor, " n"], terms: Int[Tensor, " m"]) -> Float[Tensor, ""]:
        """Return the sum of some terms, with their share of the penalty."""
        chosen = self.outer_terms(self._through(params), presence).index_select(0, terms).sum()
        return chosen + len(terms) / self.n_terms * self.penalty / 2 * squared_norm(params)

    def removal_differences(
        self, params: Params, objects: Int[Tensor, " k"] | list[Tensor] | None = None
    ) -> Float[Tensor, " k"]:
        """Return ΔL_i: the sum of each object's terms; of a group, the terms of any of its members, each once."""
        return self.outer_differences(self._through(params), objects)

    def outer_differences(
        self, outputs: Any, objects: Int[Tensor, " k"] | list[Tensor] | None = None
    ) -> Float[Tensor, " k"]:
        """Return ΔL_i as a function of the outputs."""
        terms = self.each(outputs)
        if isinstance(objects, list):
            return torch.stack([(torch.isin(self.members, group).any(1) * terms).sum() for group in objects])
        total = self._by_object(terms)
        return total if objects is None else total.index_select(0, objects)

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, "k q"] | None:
        """Return the Jacobian of the removal differences, or its product with directions; None unless `Linear`."""
        if not isinstance(self.outputs, Linear):
            return None
        moved = self.outputs.x if directions is None else self.outputs.x @ directions
        total = self._by_object(slopes(self.terms, self.outputs(params))[:, None] * moved)
        return total if objects is None else total.index_select(0, objects)

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k p"] | None:
        """Return the gradient at each of k parameters, with those of its row of presence; None unless `Linear`."""
        if not isinstance(self.outputs, Linear) or isinstance(params, dict):
            return None
        each = [slopes(self.terms, self.outputs(theta)) for theta in params.unbind(0)]
        alive = presence if self._single else vmap(self._alive)(presence)
        return (torch.stack(each) * alive) @ self.outputs.x + self.penalty * params

    def dense_hessian(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"] | None:
        """Return ∇²L(θ, 1) = Xᵀ diag(w) X + λ; None unless `Linear`, or with someone absent."""
        if not isinstance(self.outputs, Linear) or not bool((presence == 1).all()):
            return None
        x = self.outputs.x
        matrix = x.T @ (x * bends(self.terms, self.outputs(params))[:, None])
        matrix = (matrix + matrix.T) / 2
        matrix.diagonal().add_(self.penalty)
        return matrix

    def _by_object(self, values: Float[Tensor, "T *q"]) -> Float[Tensor, "n *q"]:
        """Return the sum over each object's terms."""
        if self._single:
            return values
        total = values.new_zeros(self.n_objects + 1, *values.shape[1:])
        spread = values.repeat_interleave(self.members.shape[1], dim=0)
        return total.index_add(0, self.members.reshape(-1), spread)[: self.n_objects]

    def _alive(self, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return 1 for terms all of whose objects are present, 0 for others."""
        if self._single:
            return presence
        return torch.cat([presence, presence.new_ones(1)])[self.members].prod(dim=1)

    def _through(self, params: Params) -> Any:
        return params if self.outputs is None else self.outputs(params)


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
