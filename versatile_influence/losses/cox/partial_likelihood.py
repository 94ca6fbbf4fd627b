"""The Cox negative log partial likelihood as a function of the log-risks, with what changes when a row goes.

With risk r = w exp(η), the likelihood is a sum of terms c_τ log Q_τ less the events' own w η. Q_τ is the risk of all
at risk at a time, less (Efron) a fraction f_τ of the risk of the events tied there. A row that is at risk in a range of
terms, without an event there, changes each by −c_τ log(1 − r/Q_τ). At the time of its own event its term goes, and of d
tied events d − 1 stay, with denominators A_l (1 − r u_l), where A_l = S − l/(d−1) D and u_l = (1 − l/(d−1))/A_l (for
Breslow a single one, with A = S).

The derivatives below are written out by hand where automatic ones would cost ten times as much; tests hold them to
the automatic ones.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.losses.cox.range_sums import RangeProducts, range_log_sums
from versatile_influence.losses.cox.risk_sets import RiskSets
from versatile_influence.losses.cox.segments import pick
from versatile_influence.losses.cox.survival_data import SurvivalRows, tensor


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

    eta: Float[Tensor, "... rows"]
    weight: Float[Tensor, "... rows"]
    risk: Float[Tensor, "... rows"]
    c: Float[Tensor, "... T"]
    denominator: Float[Tensor, "... T"]
    fraction: Float[Tensor, "... T"]


class PartialLikelihood:
    """The likelihood of checked survival rows, in their sorted order.

    Args:
        rows: Survival data.
        ties: "efron" or "breslow".
    """

    def __init__(self, rows: SurvivalRows, *, ties: str):
        self.sets = RiskSets(rows, efron=ties == "efron")
        order = self.sets.order.numpy()
        self.weights = tensor(rows.weight[order])
        self.event = tensor(rows.event[order].astype(float))
        # Without ties the two methods are one.
        self.efron = ties == "efron" and self.sets.tied

    def __call__(
        self, eta: Float[Tensor, " rows"], weights: Float[Tensor, " rows"], present: Float[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Return the negative log partial likelihood; rows that are not present have weight 0 too."""
        return self.event_terms(self.terms(eta, weights, present)).sum()

    def terms(
        self, eta: Float[Tensor, "... rows"], weights: Float[Tensor, "... rows"], present: Float[Tensor, "... rows"]
    ) -> Terms:
        """Return the terms; rows that are not present have weight 0 too."""
        sets, eta = self.sets, eta - eta.detach().amax(-1, keepdim=True)
        risk = weights * eta.exp()
        c, fraction = sets.over_events(pick(weights, sets.event_rows)), sets.term_fraction
        if self.efron:
            here = pick(present, sets.event_rows)
            number = sets.over_events(here).clamp_min(1.0)
            counted, times = here.cumsum(-1) - here, sets.term_time
            first = (sets.counts.cumsum(0) - sets.counts).index_select(0, times)
            fraction = (counted - pick(counted, first)) / pick(number, times)
            c = here * pick(c / number, times)
        # Where no event is left at a time, its risk set may be empty too.
        return Terms(eta, weights, risk, c, torch.where(c > 0, self._sums(risk, fraction), 1.0), fraction)

    def event_terms(self, terms: Terms) -> Float[Tensor, " events"]:
        """Return the negative log partial likelihood event by event."""
        weight, eta = (values.index_select(0, self.sets.event_rows) for values in (terms.weight, terms.eta))
        logs = terms.denominator.log()
        if not self.efron and self.sets.tied:
            return weight * (logs.index_select(0, self.sets.time_of_event) - eta)
        return terms.c * logs - weight * eta

    def slopes(self, terms: Terms) -> Float[Tensor, "... rows"]:
        """Return the derivative of the likelihood by each log-risk."""
        return terms.risk * self._seen(terms.c / terms.denominator, terms.fraction) - self.event * terms.weight

    def bends(self, terms: Terms, moved: Float[Tensor, "q rows"]) -> Float[Tensor, "q rows"]:
        """Return the derivative of the slopes along each row of `moved`."""
        inverse, change = terms.c / terms.denominator, self._sums(terms.risk * moved, terms.fraction)
        bent = self._seen(inverse * change / terms.denominator, terms.fraction)
        return terms.risk * (moved * self._seen(inverse, terms.fraction) - bent)

    def curvature(self, terms: Terms, moved: Float[Tensor, "q rows"]) -> Float[Tensor, "q q"]:
        """Return V ∇²L Vᵀ = Σ_τ c_τ (Q̈_τ/Q_τ − m_τ m_τᵀ) of the rows V of `moved`, by two matrix products."""
        mean = self._sums(terms.risk * moved, terms.fraction) / terms.denominator
        seen = self._seen(terms.c / terms.denominator, terms.fraction)
        return ((terms.risk * seen) * moved) @ moved.T - (terms.c * mean) @ mean.T

    def _sums(self, risk: Float[Tensor, "... rows"], fraction: Tensor) -> Float[Tensor, "... T"]:
        """Return Q, which is linear in the risks."""
        return self._less(risk, fraction, self.sets.term_time) if self.efron else self.sets.at_risk(risk)

    def _remaining(self, risk: Float[Tensor, "... rows"]) -> Float[Tensor, "... R"]:
        """Return A, which is linear in the risks."""
        return self._less(risk, self.sets.reduced_fraction, self.sets.reduced_time)

    def _less(self, risk: Tensor, fraction: Tensor, times: Tensor) -> Tensor:
        """Return the risk at some times less a fraction of that of the events there."""
        at_risk = pick(self.sets.at_risk(risk), times)
        if not self.efron:
            return at_risk
        return at_risk - fraction * pick(self.sets.over_events(pick(risk, self.sets.event_rows)), times)

    def _seen(self, inverse: Float[Tensor, "... T"], fraction: Tensor) -> Float[Tensor, "... rows"]:
        """Return each row's Σ c/Q over the terms it is at risk in; at its own event's time Σ (1 − f) c/Q."""
        sets = self.sets
        upto = torch.nn.functional.pad(inverse.cumsum(-1), (1, 0))
        seen = pick(upto, sets.stop if self.efron else sets.through)
        seen = seen if sets.from_first else seen - pick(upto, sets.start)
        return seen + self.event * self._own(inverse * (1 - fraction)) if self.efron else seen

    def _everyone(self, eta: Float[Tensor, " rows"]) -> Terms:
        return self.terms(eta, self.weights, torch.ones_like(self.weights))

    def row_differences(self, eta: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return L − L without the row, for each sorted row."""
        sets, terms = self.sets, self._everyone(eta)
        elsewhere = range_log_sums(terms.risk, 1 / terms.denominator, terms.c, start=sets.start, stop=sets.stop)
        own = self._own(terms.c * terms.denominator.log()) - self.weights * terms.eta
        if sets.tied:
            remaining = self._remaining(terms.risk)
            removed = range_log_sums(*self._tied(terms, remaining), start=sets.tied_start, stop=sets.tied_stop)
            own = own - self._staying(remaining.log(), removed)
        return elsewhere + self.event * own

    def row_products(self, eta: Float[Tensor, " rows"]) -> Callable[[Tensor], Tensor]:
        """Return the derivative of `row_differences`, as a function of directions (q, rows); with m = Q̇/Q."""
        sets, terms = self.sets, self._everyone(eta)
        remaining = self._remaining(terms.risk)
        elsewhere = RangeProducts(terms.risk, 1 / terms.denominator, terms.c, start=sets.start, stop=sets.stop)
        removed = RangeProducts(*self._tied(terms, remaining), start=sets.tied_start, stop=sets.tied_stop)

        def products(moved: Float[Tensor, "q rows"]) -> Float[Tensor, "q rows"]:
            change = terms.risk * moved
            mean = self._sums(change, terms.fraction) / terms.denominator
            own = self._own(terms.c * mean) - self.weights * moved
            if sets.tied:
                left = self._remaining(change) / remaining
                own = own - self._staying(left, removed(pick(moved, sets.tied_rows), left))
            return elsewhere(moved, mean) + self.event * own

        return products

    def _own(self, values: Float[Tensor, "... T"]) -> Float[Tensor, "... rows"]:
        """Return for each row the sum over the terms of its own event's time."""
        sets = self.sets
        return pick(sets.by_time(values, sets.term_time) if self.efron else values, sets.own_time)

    def _tied(self, terms: Terms, remaining: Float[Tensor, " R"]) -> tuple[Tensor, Tensor, Tensor]:
        """Return r, u and c of rows of tied events among the terms that stay without one of them."""
        share = (1 - self.sets.reduced_fraction) / remaining
        return pick(terms.risk, self.sets.tied_rows), share, torch.ones_like(share)

    def _staying(self, logs: Float[Tensor, "... R"], removed: Float[Tensor, "... tied"]) -> Float[Tensor, "... rows"]:
        """Return, for rows of tied events, what the other events at that time amount to without the row."""
        sets = self.sets
        event_weight = sets.over_events(self.weights.index_select(0, sets.event_rows))
        time = sets.own_time.index_select(0, sets.tied_rows)
        before = sets.by_time(logs, sets.reduced_time).index_select(-1, time)
        per_term = (event_weight[time] - self.weights[sets.tied_rows]) / sets.reduced_each[time]
        rows = removed.new_zeros(*removed.shape[:-1], len(self.weights))
        return rows.index_add(-1, sets.tied_rows, per_term * (before - removed))
