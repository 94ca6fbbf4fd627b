"""The negative log partial likelihood as a loss of log-risks."""

# The parameters of an outer loss are its outputs, one tensor.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.loss import Loss, Objects
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import at_once
from versatile_influence.losses.cox.partial_likelihood import PartialLikelihood, Terms
from versatile_influence.losses.cox.segments import pick
from versatile_influence.losses.cox.survival_data import SurvivalRows, overlapping_objects, tensor


class RiskSetLoss(Loss):
    """The negative log partial likelihood of log-risks, in the order of `likelihood.sets`.

    Args:
        rows: Survival data.
        ties: "efron" or "breslow".
        labels: Names of the objects, or None.
    """

    differences_together = True

    def __init__(self, rows: SurvivalRows, *, ties: str, labels: Sequence[object] | None = None):
        self.likelihood = PartialLikelihood(rows, ties=ties)
        self.n_terms = len(self.likelihood.sets.event_rows)
        self.object_of_row = tensor(rows.subject[self.likelihood.sets.order.numpy()])
        self.object_labels = labels
        self.n_objects = len(rows.x) if rows.subjects is None else len(rows.subjects)
        self._row_of_object = torch.argsort(self.object_of_row) if rows.subjects is None else None
        self._overlapping = torch.zeros(self.n_objects, dtype=torch.bool)
        if rows.subjects is not None:
            self._overlapping[tensor(overlapping_objects(rows))] = True

    def __call__(self, params: Float[Tensor, " rows"], presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the loss."""
        return self.terms(params, presence).sum()

    def terms(self, params: Float[Tensor, " rows"], presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return the terms, one an event."""
        return self.likelihood.event_terms(self._present_terms(params, presence))

    def gradient(self, params: Float[Tensor, " rows"], presence: Float[Tensor, " n"]) -> Float[Tensor, " rows"]:
        """Return the derivative by each log-risk."""
        return self.likelihood.slopes(self._present_terms(params, presence))

    def gradient_and_value(
        self, params: Float[Tensor, " rows"], presence: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " rows"], Float[Tensor, ""]]:
        """Return the derivative by each log-risk, and the loss."""
        terms = self._present_terms(params, presence)
        return self.likelihood.slopes(terms), self.likelihood.event_terms(terms).sum()

    def gradients(self, params: Float[Tensor, "#k rows"], presence: Float[Tensor, "k n"]) -> Float[Tensor, "k rows"]:
        """Return the derivatives at k stacked log-risks, each with its own presence."""
        return self.likelihood.slopes(self._present_terms(params.contiguous(), presence.to(params)))

    def gradients_without(self, params: Float[Tensor, " rows"], removals: Removals) -> Float[Tensor, "k rows"]:
        """Return the derivatives without each removal."""
        parts = removals.parts(len(params))
        return torch.cat([self.gradients(params[None], part.presences(params)) for part in parts])

    def hessian_products(
        self, params: Float[Tensor, " rows"], presence: Float[Tensor, " n"], vectors: Float[Tensor, "rows k"]
    ) -> Float[Tensor, "rows k"]:
        """Return the derivative of the gradient along each column."""
        terms = self._present_terms(params, presence)
        return _blocks(lambda moved: self.likelihood.bends(terms, moved), vectors)

    def curvature_along(
        self, params: Float[Tensor, " rows"], presence: Float[Tensor, " n"], directions: Float[Tensor, "rows q"]
    ) -> Float[Tensor, "q q"]:
        """Return Vᵀ ∇²L V, by two matrix products."""
        return self.likelihood.curvature(self._present_terms(params, presence), directions.T)

    def removal_differences(self, params: Float[Tensor, " rows"], objects: Objects = None) -> Float[Tensor, " k"]:
        """Return ΔL_i in near-linear time, exact to rounding.

        Objects with rows that overlap in time, and groups, are evaluated one by one.
        """
        removals = Removals.of(objects, self.n_objects)
        if removals.grouped:
            return super().removal_differences(params, removals)
        one_by_one = super().removal_differences
        return self._by_object(self.likelihood.row_differences(params), removals, lambda some: one_by_one(params, some))

    def removal_products(
        self,
        params: Float[Tensor, " rows"],
        directions: Float[Tensor, "rows q"] | None = None,
        objects: Objects = None,
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of the removal differences along each direction, or their Jacobian.

        Of objects that are evaluated one by one, and without directions, by a gradient a removal.
        """
        removals = Removals.of(objects, self.n_objects)
        if directions is None or removals.grouped:
            return self._by_gradients(params, directions, removals)
        along = self.likelihood.row_products(params)

        def products(moved: Tensor) -> Tensor:
            return self._by_object(along(moved), removals, lambda some: self._by_gradients(params, moved.T, some).T)

        return _blocks(products, directions)

    def _present_terms(self, params: Float[Tensor, "... rows"], presence: Float[Tensor, "... n"]) -> Terms:
        present = pick(presence, self.object_of_row)
        return self.likelihood.terms(params, self.likelihood.weights * present, present)

    def _by_gradients(
        self, params: Float[Tensor, " rows"], directions: Float[Tensor, "rows q"] | None, removals: Removals
    ) -> Float[Tensor, "k q"]:
        """Return what `removal_products` does, by the gradient without each removal."""
        whole, found = self.gradient(params, self.everyone(params)), []
        for part in removals.parts(len(params)):
            changes = whole - self.gradients_without(params, part)
            found.append(changes if directions is None else changes @ directions)
        return torch.cat(found)

    def _by_object(
        self, rows: Float[Tensor, "... rows"], removals: Removals, one_by_one: Callable[[Removals], Tensor]
    ) -> Float[Tensor, "... k"]:
        """Return what rows amount to for the objects removed, of which those whose rows overlap are done one by one."""
        asked = removals.members
        if self._row_of_object is not None:
            return rows.index_select(-1, self._row_of_object[asked])
        changes = rows.new_zeros(*rows.shape[:-1], self.n_objects).index_add(-1, self.object_of_row, rows)
        changes, places = changes.index_select(-1, asked), self._overlapping[asked].nonzero()[:, 0]
        if not len(places):
            return changes
        return changes.index_copy(-1, places, one_by_one(Removals.of(asked[places], self.n_objects)))


def _blocks(
    products: Callable[[Tensor], Float[Tensor, "_ k"]], directions: Float[Tensor, "rows q"]
) -> Float[Tensor, "k q"]:
    """Return `products` of some directions at a time, one a row, so that they stay in the cache."""
    size = at_once(len(directions))
    found = [products(part.T.contiguous()) for part in directions.split(size, dim=1)]
    return (found[0] if len(found) == 1 else torch.cat(found)).T
