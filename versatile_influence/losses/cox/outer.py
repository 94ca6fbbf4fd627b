"""The negative log partial likelihood as a loss of log-risks, with what changes when a row goes.

With risk r = w exp(η), the likelihood is a sum of terms c_τ log Q_τ less the events' own w η. Q_τ is the risk of all
at risk at a time, less (Efron) a fraction f_τ of the risk of the events tied there. A row that is at risk in a range of
terms, without an event there, changes each by −c_τ log(1 − r/Q_τ). At the time of its own event its term goes, and of d
tied events d − 1 stay, with denominators A_l (1 − r u_l), where A_l = S − l/(d−1) D and u_l = (1 − l/(d−1))/A_l (for
Breslow a single one, with A = S).

The derivatives below are written out by hand where automatic ones would cost ten times as much; tests hold them to
the automatic ones.
"""

# The parameters of an outer loss are its outputs, one tensor.
# pyright: reportIncompatibleMethodOverride=false

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.derivatives import in_blocks
from versatile_influence.core.loss import Loss, Objects
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import at_once
from versatile_influence.losses.cox.range_sums import Ranges, range_log_sums, range_products
from versatile_influence.losses.cox.risk_sets import EachRow, RiskSets, overlapping_objects
from versatile_influence.losses.cox.segments import pick
from versatile_influence.losses.cox.survival_data import SurvivalRows, tensor

Risks = Float[Tensor, " rows"]
Presence = Float[Tensor, " n"]
Along = Float[Tensor, "q rows"]
Columns = Float[Tensor, "_ c"]


@dataclass(frozen=True)
class Terms:
    """The terms at some log-risks with some rows present, perhaps of many likelihoods at once.

    Attributes:
        eta: The log-risk of each sorted row, less the largest.
        weight: w; of rows that are absent 0.
        risk: r.
        c: c_τ, 0 where no event is left.
        denominator: Q_τ; 1 where no event is left.
        fraction: f_τ.
    """

    eta: EachRow
    weight: EachRow
    risk: EachRow
    c: Float[Tensor, "... T"]
    denominator: Float[Tensor, "... T"]
    fraction: Float[Tensor, "... T"]


class RiskSetLoss(Loss):
    """The negative log partial likelihood of log-risks, in the order of `sets`.

    Args:
        rows: Survival data.
        ties: "efron" or "breslow".
    """

    def __init__(self, rows: SurvivalRows, *, ties: str):
        self.sets = RiskSets(rows, efron=ties == "efron")
        order = self.sets.order.numpy()
        self.weights, self.object_of_row = tensor(rows.weight[order]), tensor(rows.subject[order])
        self.n_terms = len(self.sets.event_rows)
        self.object_labels = rows.labels
        self.n_objects = int(rows.subject.max()) + 1
        self._row_of_object = None if rows.shared else torch.argsort(self.object_of_row)
        self._overlapping = torch.zeros(self.n_objects, dtype=torch.bool)
        if rows.shared:
            self._overlapping[tensor(overlapping_objects(rows))] = True

    def __call__(self, params: Risks, presence: Presence) -> Float[Tensor, ""]:
        return self.terms(params, presence).sum()

    def terms(self, params: Risks, presence: Presence) -> Float[Tensor, " T"]:
        return self.event_terms(self._present_terms(params, presence))

    def gradient(self, params: Risks, presence: Presence) -> Risks:
        return self._slopes(self._present_terms(params, presence))

    def gradient_and_value(self, params: Risks, presence: Presence) -> tuple[Risks, Float[Tensor, ""]]:
        terms = self._present_terms(params, presence)
        return self._slopes(terms), self.event_terms(terms).sum()

    def gradients(self, params: Float[Tensor, "#k rows"], presence: Float[Tensor, "k n"]) -> Float[Tensor, "k rows"]:
        return self._slopes(self._present_terms(params.contiguous(), presence.to(params)))

    def gradients_without(self, params: Risks, removals: Removals) -> Float[Tensor, "k rows"]:
        parts = removals.parts(len(params))
        return torch.cat([self.gradients(params[None], part.presences(params)) for part in parts])

    def hessian_products(
        self, params: Risks, presence: Presence, vectors: Float[Tensor, "rows k"]
    ) -> Float[Tensor, "rows k"]:
        terms = self._present_terms(params, presence)
        inverse = terms.c / terms.denominator
        seen = self.sets.seen(inverse, terms.fraction)

        def bends(moved: Along) -> Along:
            change = self.sets.sums(terms.risk * moved, terms.fraction) / terms.denominator
            return terms.risk * (moved * seen - self.sets.seen(inverse * change, terms.fraction))

        return in_blocks(lambda part: bends(part.T.contiguous()).T, vectors, at_once(len(vectors)))

    def curvature_along(
        self, params: Risks, presence: Presence, directions: Float[Tensor, "rows q"]
    ) -> Float[Tensor, "q q"]:
        """Return Vᵀ ∇²L V = Σ_τ c_τ (Q̈_τ/Q_τ − m_τ m_τᵀ), m = Q̇/Q, by two matrix products."""
        terms, moved = self._present_terms(params, presence), directions.T
        mean = self.sets.sums(terms.risk * moved, terms.fraction) / terms.denominator
        seen = self.sets.seen(terms.c / terms.denominator, terms.fraction)
        return ((terms.risk * seen) * moved) @ moved.T - (terms.c * mean) @ mean.T

    def removal_differences(self, params: Risks, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return ΔL_i in near-linear time, exact to rounding.

        Objects with rows that overlap in time, and groups, are evaluated one by one.
        """
        removals = Removals.of(objects, self.n_objects)
        one_by_one = super().removal_differences
        if removals.grouped:
            return one_by_one(params, removals)
        return self._by_object(self._row_differences(params), removals, lambda some: one_by_one(params, some))

    def removal_products(
        self, params: Risks, directions: Float[Tensor, "rows q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of the removal differences along each direction, or their Jacobian.

        Of objects that are evaluated one by one, and without directions, by a gradient a removal.
        """
        removals = Removals.of(objects, self.n_objects)
        by_gradients = super().removal_products
        if directions is None or removals.grouped:
            return by_gradients(params, directions, removals)
        along = self._row_products(params)

        def products(part: Columns) -> Columns:
            rows = along(part.T.contiguous())
            return self._by_object(rows, removals, lambda some: by_gradients(params, part, some).T).T

        return in_blocks(products, directions, at_once(len(directions)))

    def _present_terms(self, params: Float[Tensor, "... rows"], presence: Float[Tensor, "... n"]) -> Terms:
        if presence.shape[-1] != self.n_objects:
            raise ValueError(f"There are {self.n_objects} objects, but `presence` has {presence.shape[-1]} entries.")
        present = pick(presence, self.object_of_row)
        return self.weighted(params, self.weights * present, present)

    def weighted(self, eta: EachRow, weights: EachRow, present: EachRow) -> Terms:
        """Return the terms; rows that are not present have weight 0 too."""
        sets, eta = self.sets, eta - eta.detach().amax(-1, keepdim=True)
        risk = weights * eta.exp()
        c, fraction = sets.over_events(pick(weights, sets.event_rows)), sets.term_fraction
        if self.sets.efron:
            here = pick(present, sets.event_rows)
            number = sets.over_events(here).clamp_min(1.0)
            counted, times = here.cumsum(-1) - here, sets.term_time
            first = (sets.counts.cumsum(0) - sets.counts).index_select(0, times)
            fraction = (counted - pick(counted, first)) / pick(number, times)
            c = here * pick(c / number, times)
        # Where no event is left at a time, its risk set may be empty too.
        return Terms(eta, weights, risk, c, torch.where(c > 0, self.sets.sums(risk, fraction), 1.0), fraction)

    def event_terms(self, terms: Terms) -> Float[Tensor, " events"]:
        """Return the negative log partial likelihood event by event."""
        weight, eta = (values.index_select(0, self.sets.event_rows) for values in (terms.weight, terms.eta))
        logs = terms.denominator.log()
        if not self.sets.efron and self.sets.tied:
            return weight * (logs.index_select(0, self.sets.time_of_event) - eta)
        return terms.c * logs - weight * eta

    def _slopes(self, terms: Terms) -> EachRow:
        """Return the derivative of the likelihood by each log-risk."""
        return terms.risk * self.sets.seen(terms.c / terms.denominator, terms.fraction) - self.sets.event * terms.weight

    def _row_differences(self, eta: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return L − L without the row, for each sorted row."""
        sets, terms = self.sets, self.weighted(eta, self.weights, torch.ones_like(self.weights))
        elsewhere = range_log_sums(terms.risk, 1 / terms.denominator, terms.c, (sets.start, sets.stop))
        own = self.sets.own(terms.c * terms.denominator.log()) - self.weights * terms.eta
        if sets.tied:
            remaining = self.sets.remaining(terms.risk)
            removed = range_log_sums(*self._tied(terms, remaining))
            own = own - self._staying(remaining.log(), removed)
        return elsewhere + self.sets.event * own

    def _row_products(self, eta: Float[Tensor, " rows"]) -> Callable[[Tensor], Tensor]:
        """Return the derivative of `_row_differences`, as a function of directions (q, rows); with m = Q̇/Q."""
        sets, terms = self.sets, self.weighted(eta, self.weights, torch.ones_like(self.weights))
        remaining = self.sets.remaining(terms.risk)
        elsewhere = range_products(terms.risk, 1 / terms.denominator, terms.c, (sets.start, sets.stop))
        removed = range_products(*self._tied(terms, remaining))

        def products(moved: Along) -> Along:
            change = terms.risk * moved
            mean = self.sets.sums(change, terms.fraction) / terms.denominator
            own = self.sets.own(terms.c * mean) - self.weights * moved
            if sets.tied:
                left = self.sets.remaining(change) / remaining
                own = own - self._staying(left, removed(pick(moved, sets.tied_rows), left))
            return elsewhere(moved, mean) + self.sets.event * own

        return products

    def _tied(self, terms: Terms, remaining: Float[Tensor, " R"]) -> tuple[Tensor, Tensor, Tensor, Ranges]:
        """Return r, u, c and ranges of rows of tied events among the terms that stay without one of them."""
        sets = self.sets
        share = (1 - sets.reduced_fraction) / remaining
        return pick(terms.risk, sets.tied_rows), share, torch.ones_like(share), (sets.tied_start, sets.tied_stop)

    def _staying(self, logs: Float[Tensor, "... R"], removed: Float[Tensor, "... tied"]) -> EachRow:
        """Return, for rows of tied events, what the other events at that time amount to without the row."""
        sets = self.sets
        event_weight = sets.over_events(self.weights.index_select(0, sets.event_rows))
        time = sets.own_time.index_select(0, sets.tied_rows)
        before = sets.by_time(logs, sets.reduced_time).index_select(-1, time)
        per_term = (event_weight[time] - self.weights[sets.tied_rows]) / sets.reduced_each[time]
        rows = removed.new_zeros(*removed.shape[:-1], len(self.weights))
        return rows.index_add(-1, sets.tied_rows, per_term * (before - removed))

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
