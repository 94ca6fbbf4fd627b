"""Who is at risk when: the part of Cox regression that does not depend on the parameters.

Rows are kept stratum by stratum, latest time first, so that the sum over a risk set is a cumulative sum. A row is at
risk at t if entry < t ≤ stop.
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.losses.cox.segments import SegmentedCumsum, pick
from versatile_influence.losses.cox.survival_data import SurvivalRows, tensor

EachRow = Float[Tensor, "... rows"]


class RiskSets:
    """Risk sets, event times and ties of survival data; all in the order of the sorted rows.

    A *time* is a time at which events happen in one stratum. The partial likelihood is a sum of *terms*: one a time
    (Breslow), or one an event, whose denominator leaves out a fraction of the tied events' risk (Efron).

    Args:
        rows: Checked survival data.
        efron: Whether ties are handled by Efron's method.

    Attributes:
        order: Row numbers in sorted order.
        event: 1 for each row with an event.
        stops, entries, strata: Times and stratum of each sorted row; entries None where all are at risk from the first.
        event_rows: Sorted rows with an event, by time.
        time_of_event: Time of each of them.
        counts: Events at each time.
        tied, efron: Whether any time has several events, and whether Efron's fractions are taken of them.
        term_time, term_fraction: Time of each term, and the fraction of the tied risk that it leaves out.
        own_time: Time of each row's own event, 0 for censored rows.
        start, stop: Terms at whose time a row is at risk, those of its own event's time excepted.
        through: `stop` with the first term of its own event's time: the only one, unless Efron's fractions apply.
        from_first: Whether every row is at risk from the first term on.
        reduced_time, reduced_fraction: The terms that stay at tied times when one of the tied events is removed.
        tied_rows, tied_start, tied_stop: Rows of tied events, and their range of such terms.
    """

    def __init__(self, rows: SurvivalRows, *, efron: bool):
        times, code = np.unique(rows.stop, return_inverse=True)
        width = len(times) + 2
        # Of one time events last: their own term is not among those that they are at risk in.
        order = np.lexsort((rows.event, -code, rows.stratum))
        code, stratum, event = code[order], rows.stratum[order], rows.event[order]
        self.order, self.event = tensor(order), tensor(event.astype(float))
        self.stops, self.entries = times[code], None if rows.start is None else rows.start[order]
        self.strata = stratum
        self._lengths = np.bincount(stratum)
        self._cumsum = SegmentedCumsum(self._lengths)

        key = stratum * width + code
        keys = np.unique(key[event])
        time_stratum, time_code = keys // width, keys % width
        self.time_values, self.time_stratum = times[time_code], time_stratum
        latest_first = stratum * width + (len(times) - code)
        wanted = time_stratum * width + (len(times) - time_code)
        self._last = tensor(np.searchsorted(latest_first, wanted, side="right") - 1)

        entered = np.full(len(order), -1)
        self._entry_order = None
        if rows.start is not None:
            entered = np.searchsorted(times, rows.start[order], side="right") - 1
            self._set_entries(stratum * width + (len(times) - entered), wanted, time_stratum)

        event_rows = np.flatnonzero(event)
        event_rows = event_rows[np.argsort(key[event_rows], kind="stable")]
        time_of_event = np.searchsorted(keys, key[event_rows])
        counts = np.bincount(time_of_event, minlength=len(keys))
        self.event_rows, self.time_of_event, self.counts = map(tensor, (event_rows, time_of_event, counts))
        self.tied = bool((counts > 1).any())
        # Without ties the two methods are one.
        self.efron = efron and self.tied
        self._set_terms(counts)

        begin = np.searchsorted(keys, stratum * width + entered, side="right")
        end = np.searchsorted(keys, key, side="right") - event
        self.start, self.stop = tensor(self._first_term[begin]), tensor(self._first_term[end])
        self.through = self.stop + tensor(event.astype(int))
        self.from_first = not bool(self.start.any())
        self.own_time = tensor(np.where(event, end, 0))
        self._set_tied_rows(event_rows, time_of_event, counts)

    def _set_entries(self, latest_first: np.ndarray, wanted: np.ndarray, time_stratum: np.ndarray) -> None:
        """Prepare sums over the rows that have not entered yet."""
        entry_order = np.argsort(latest_first, kind="stable")
        last = np.searchsorted(latest_first[entry_order], wanted, side="right") - 1
        none = last < (np.cumsum(self._lengths) - self._lengths)[time_stratum]
        self._entry_order = tensor(entry_order)
        self._entry_last = tensor(np.where(none, len(entry_order), last))

    def _set_terms(self, counts: np.ndarray) -> None:
        """Lay out the terms of the likelihood, and those that stay when a tied event goes."""
        each = counts if self.efron else np.ones_like(counts)
        left = np.where(counts > 1, np.maximum(each - 1, 1), 0)
        self._first_term = np.concatenate([[0], np.cumsum(each)])
        self._first_reduced = np.concatenate([[0], np.cumsum(left)])
        term_time, reduced_time = np.repeat(np.arange(len(counts)), each), np.repeat(np.arange(len(counts)), left)
        place = np.arange(len(term_time)) - self._first_term[term_time]
        reduced_place = np.arange(len(reduced_time)) - self._first_reduced[reduced_time]
        self.term_time, self.reduced_time = tensor(term_time), tensor(reduced_time)
        self.term_fraction = tensor(place / each[term_time])
        self.reduced_fraction = tensor(reduced_place / left[reduced_time])
        self.reduced_each = tensor(left.astype(float))

    def _set_tied_rows(self, event_rows: np.ndarray, time_of_event: np.ndarray, counts: np.ndarray) -> None:
        tied = counts[time_of_event] > 1
        self.tied_rows = tensor(event_rows[tied])
        self.tied_start = tensor(self._first_reduced[time_of_event[tied]])
        self.tied_stop = tensor(self._first_reduced[time_of_event[tied] + 1])

    def at_risk(self, risk: EachRow) -> Float[Tensor, "... times"]:
        """Return the sum of `risk` over the risk set of each time."""
        total = pick(self._cumsum(risk), self._last)
        if self._entry_order is None:
            return total
        waiting = self._cumsum(pick(risk, self._entry_order))
        return total - pick(torch.nn.functional.pad(waiting, (0, 1)), self._entry_last)

    def over_events(self, values: Float[Tensor, "... events"]) -> Float[Tensor, "... times"]:
        """Return the sum of values of the events at each time."""
        return self.by_time(values, self.time_of_event) if self.tied else values

    def by_time(self, values: Float[Tensor, "... m"], time: Int[Tensor, " m"]) -> Float[Tensor, "... times"]:
        """Return the sum of values at each time."""
        return values.new_zeros(*values.shape[:-1], len(self.counts)).index_add(-1, time, values)

    def sums(self, risk: EachRow, fraction: Tensor) -> Float[Tensor, "... T"]:
        """Return Q, which is linear in the risks."""
        return self._less(risk, fraction, self.term_time) if self.efron else self.at_risk(risk)

    def remaining(self, risk: EachRow) -> Float[Tensor, "... R"]:
        """Return A, which is linear in the risks."""
        return self._less(risk, self.reduced_fraction, self.reduced_time)

    def _less(self, risk: Tensor, fraction: Tensor, times: Tensor) -> Tensor:
        """Return the risk at some times less a fraction of that of the events there."""
        at_risk = pick(self.at_risk(risk), times)
        if not self.efron:
            return at_risk
        return at_risk - fraction * pick(self.over_events(pick(risk, self.event_rows)), times)

    def seen(self, inverse: Float[Tensor, "... T"], fraction: Tensor) -> EachRow:
        """Return each row's Σ c/Q over the terms it is at risk in; at its own event's time Σ (1 − f) c/Q."""
        upto = torch.nn.functional.pad(inverse.cumsum(-1), (1, 0))
        seen = pick(upto, self.stop if self.efron else self.through)
        seen = seen if self.from_first else seen - pick(upto, self.start)
        return seen + self.event * self.own(inverse * (1 - fraction)) if self.efron else seen

    def own(self, values: Float[Tensor, "... T"]) -> EachRow:
        """Return for each row the sum over the terms of its own event's time."""
        return pick(self.by_time(values, self.term_time) if self.efron else values, self.own_time)


def overlapping_objects(rows: SurvivalRows) -> np.ndarray:
    """Return the objects with two rows at risk at the same time in one stratum: `(start, stop]` that overlap."""
    start = np.full(len(rows.stop), -np.inf) if rows.start is None else rows.start
    order = np.lexsort((start, rows.stratum, rows.subject))
    subject, stratum, start, stop = rows.subject[order], rows.stratum[order], start[order], rows.stop[order]
    same = (subject[1:] == subject[:-1]) & (stratum[1:] == stratum[:-1]) & (start[1:] < stop[:-1])
    return np.unique(subject[1:][same])
