"""The Cox negative log partial likelihood as a function of the log-risks, with what changes when a row goes.

With risk r = w exp(η), the likelihood is a sum of terms c_τ log Q_τ less the events' own w η. Q_τ is the risk of all
at risk at a time, less (Efron) a fraction f_τ of the risk of the events tied there. A row that is at risk in a range of
terms, without an event there, changes each by −c_τ log(1 − r/Q_τ). At the time of its own event its term goes, and of d
tied events d − 1 stay, with denominators A_l (1 − r u_l), where A_l = S − l/(d−1) D and u_l = (1 − l/(d−1))/A_l (for
Breslow a single one, with A = S).

The derivatives below are written out by hand where automatic ones would cost ten times as much; tests hold them to
the automatic ones.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.losses.range_sums import range_log_sums, range_odds_sums
from versatile_influence.losses.risk_sets import RiskSets
from versatile_influence.losses.segments import pick
from versatile_influence.losses.survival_data import SurvivalRows, tensor


@dataclass(frozen=True)
class Terms:
    """The terms at some log-risks.

    Attributes:
        risk: r of each sorted row.
        denominator: Q_τ.
        per_term: c of the terms at each time.
        remaining: A_l of the terms that stay when a tied event is removed.
        share: Their 1 − l/(d−1).
    """

    risk: Float[Tensor, " rows"]
    denominator: Float[Tensor, " T"]
    per_term: Float[Tensor, " times"]
    remaining: Float[Tensor, " R"]
    share: Float[Tensor, " R"]


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
        return self.event_terms(eta, weights, present).sum()

    def event_terms(
        self, eta: Float[Tensor, " rows"], weights: Float[Tensor, " rows"], present: Float[Tensor, " rows"]
    ) -> Float[Tensor, " events"]:
        """Return its terms, one an event; rows that are not present have weight 0 too."""
        eta = eta - eta.detach().amax()
        c, denominator, _ = self._terms_left(weights * eta.exp(), weights, present)
        weight, logs = weights.index_select(0, self.sets.event_rows), denominator.log()
        own = weight * eta.index_select(0, self.sets.event_rows)
        if not self.efron and self.sets.tied:
            return weight * logs.index_select(0, self.sets.time_of_event) - own
        return c * logs - own

    def slopes(
        self, eta: Float[Tensor, "... rows"], weights: Float[Tensor, "... rows"], present: Float[Tensor, "... rows"]
    ) -> Float[Tensor, "... rows"]:
        """Return the derivative of the likelihood by each log-risk, of many likelihoods at once."""
        sets = self.sets
        risk = weights * (eta - eta.amax(-1, keepdim=True)).exp()
        c, denominator, fraction = self._terms_left(risk, weights, present)
        inverse = c / denominator
        own = sets.by_time(inverse * (1 - fraction), sets.term_time) if self.efron else None
        return risk * self._seen(inverse, own) - self.event * weights

    def _terms_left(self, risk: Tensor, weights: Tensor, present: Tensor) -> tuple[Tensor, Tensor, Tensor | float]:
        """Return c, Q and f of the terms with some rows absent; a term without an event left has c = 0 and Q = 1."""
        sets = self.sets
        at_risk = sets.at_risk(risk)
        event_weight = sets.over_events(pick(weights, sets.event_rows))
        if not self.efron:
            # Where no event is left at a time, its risk set may be empty too.
            return event_weight, torch.where(event_weight > 0, at_risk, 1.0), 0.0
        here = pick(present, sets.event_rows)
        number = sets.over_events(here).clamp_min(1.0)
        tied_risk = sets.over_events(pick(risk, sets.event_rows))
        counted, times = here.cumsum(-1) - here, sets.time_of_event
        first = (sets.counts.cumsum(0) - sets.counts).index_select(0, times)
        fraction = (counted - pick(counted, first)) / pick(number, times)
        denominator = pick(at_risk, times) - fraction * pick(tied_risk, times)
        c = here * pick(event_weight / number, times)
        return c, torch.where(here > 0, denominator, 1.0), fraction

    def _seen(
        self, inverse: Float[Tensor, "... T"], own: Float[Tensor, "... times"] | None
    ) -> Float[Tensor, "... rows"]:
        """Return each row's Σ c/Q over the terms that it is at risk in; of its own time's, what `own` says, or all."""
        sets = self.sets
        upto = torch.nn.functional.pad(inverse.cumsum(-1), (1, 0))
        seen = pick(upto, sets.through if own is None else sets.stop)
        seen = seen if sets.from_first else seen - pick(upto, sets.start)
        return seen if own is None else seen + self.event * pick(own, sets.own_time)

    def terms(self, eta: Float[Tensor, " rows"]) -> Terms:
        """Return the terms with all rows present."""
        risk = self.weights * (eta - eta.detach().amax()).exp()
        event_weight = self.sets.over_events(self.weights.index_select(0, self.sets.event_rows))
        denominator, remaining = self._denominators(risk)
        share = 1 - self.sets.reduced_fraction if self.efron else torch.ones_like(remaining)
        return Terms(risk, denominator, event_weight / self.sets.terms_each, remaining, share)

    def _denominators(self, risk: Float[Tensor, "... rows"]) -> tuple[Float[Tensor, "... T"], Float[Tensor, "... R"]]:
        """Return Q and A, which are linear in the risks."""
        sets = self.sets
        at_risk = sets.at_risk(risk)
        if not self.efron:
            return at_risk, at_risk.index_select(-1, sets.reduced_time)
        tied_risk = sets.over_events(risk.index_select(-1, sets.event_rows))
        times = ((sets.term_time, sets.term_fraction), (sets.reduced_time, sets.reduced_fraction))
        denominator, remaining = (
            at_risk.index_select(-1, time) - fraction * tied_risk.index_select(-1, time) for time, fraction in times
        )
        return denominator, remaining

    def _multipliers(self, terms: Terms) -> Float[Tensor, " T"]:
        return terms.per_term.index_select(0, self.sets.term_time) if self.efron else terms.per_term

    def row_differences(self, eta: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return L − L without the row, for each sorted row."""
        sets, terms = self.sets, self.terms(eta)
        elsewhere = range_log_sums(
            terms.risk, 1 / terms.denominator, self._multipliers(terms), start=sets.start, stop=sets.stop
        )
        logs = terms.denominator.log()
        at_time = sets.by_time(logs, sets.term_time) if self.efron else logs
        own = (terms.per_term * at_time).index_select(0, sets.own_time) - self.weights * (eta - eta.detach().amax())
        if sets.tied:
            removed = range_log_sums(
                terms.risk.index_select(0, sets.tied_rows),
                terms.share / terms.remaining,
                torch.ones_like(terms.remaining),
                start=sets.tied_start,
                stop=sets.tied_stop,
            )
            own = own - self._staying(terms.remaining.log(), removed)
        return elsewhere + self.event * own

    def row_products(self, eta: Float[Tensor, " rows"], moved: Float[Tensor, "q rows"]) -> Float[Tensor, "q rows"]:
        """Return the derivative of `row_differences` along each row of `moved`.

        With p = r/Q and m = Q̇/Q, that of −log(1 − p) is p/(1 − p) (η̇ − m).
        """
        sets, terms = self.sets, self.terms(eta)
        change, remaining_change = self._denominators(terms.risk * moved)
        mean, c = change / terms.denominator, self._multipliers(terms)
        odds = range_odds_sums(
            terms.risk, 1 / terms.denominator, torch.cat([c[None], c * mean]), start=sets.start, stop=sets.stop
        )
        at_time = sets.by_time(mean, sets.term_time) if self.efron else mean
        own = (terms.per_term * at_time).index_select(-1, sets.own_time) - self.weights * moved
        if sets.tied:
            remaining_mean = remaining_change / terms.remaining
            tied_odds = range_odds_sums(
                terms.risk.index_select(0, sets.tied_rows),
                terms.share / terms.remaining,
                torch.cat([torch.ones_like(terms.remaining)[None], remaining_mean]),
                start=sets.tied_start,
                stop=sets.tied_stop,
            )
            removed = moved.index_select(-1, sets.tied_rows) * tied_odds[0] - tied_odds[1:]
            own = own - self._staying(remaining_mean, removed)
        return moved * odds[0] - odds[1:] + self.event * own

    def _staying(self, logs: Float[Tensor, "... R"], removed: Float[Tensor, "... tied"]) -> Float[Tensor, "... rows"]:
        """Return, for rows of tied events, what the other events at that time amount to without the row."""
        sets = self.sets
        event_weight = sets.over_events(self.weights.index_select(0, sets.event_rows))
        time = sets.own_time.index_select(0, sets.tied_rows)
        before = sets.by_time(logs, sets.reduced_time).index_select(-1, time)
        per_term = (event_weight[time] - self.weights[sets.tied_rows]) / sets.reduced_each[time]
        rows = removed.new_zeros(*removed.shape[:-1], len(self.weights))
        return rows.index_add(-1, sets.tied_rows, per_term * (before - removed))

    def hessian(self, eta: Float[Tensor, " rows"], x: Float[Tensor, "rows p"]) -> Float[Tensor, "p p"]:
        """Return xᵀ ∇²L(η) x = Σ_τ c_τ (Q̈_τ/Q_τ − m_τ m_τᵀ), by two matrix products."""
        sets, terms = self.sets, self.terms(eta)
        c = self._multipliers(terms)
        mean = self._denominators(terms.risk * x.T)[0] / terms.denominator
        inverse = c / terms.denominator
        # Of the terms at its own event's time, a row's share is 1 − f.
        own = sets.by_time(inverse * (1 - sets.term_fraction), sets.term_time) if self.efron else None
        seen = self._seen(inverse, own)
        return ((terms.risk * seen) * x.T) @ x - (c * mean) @ mean.T
