"""Cox regression: the negative log partial likelihood as a function of who is present.

    L(θ, b) = −Σ_{i: Δᵢ=1} wᵢ bᵢ (ηᵢ − log Σ_{j at risk at Yᵢ} wⱼ bⱼ exp ηⱼ) + (λ/2)‖θ‖²,      η = xθ      (Eq. 4)

with the risk set Yⱼ ≥ Yᵢ (and entryⱼ < Yᵢ) and tied events by Breslow's or Efron's method, both as R's `survival`
defines them, so that coefficients agree with `coxph`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence._ravel import Params
from versatile_influence.loss import masked_differences
from versatile_influence.losses import cox_targets
from versatile_influence.losses.range_sums import range_log_sums
from versatile_influence.losses.risk_sets import RiskSets
from versatile_influence.losses.survival_data import frame_columns, survival_rows, tensor
from versatile_influence.removals import Removals

if TYPE_CHECKING:
    import pandas as pd


class CoxLoss(cox_targets.CoxTargets):
    """The Cox negative log partial likelihood; objects are rows, or subjects where rows share one.

    Args:
        x: (rows, d) covariates; a tensor, an array, or anything NumPy reads.
        durations: Times of event or censoring.
        events: 1 where the event happened, 0 where the row is censored.
        ties: "efron" (as R and lifelines) or "breslow" (as scikit-survival).
        entry: Times from which rows are at risk (left truncation, start–stop rows).
        strata: Labels of strata with a baseline hazard of their own.
        weights: Case weights; a removed row goes with its whole weight.
        subjects: Labels that rows of one subject share; then subjects are the objects.
        penalty: λ in (λ/2)‖θ‖², added to the summed loss.
        model: A network from covariates to one log-risk each, in place of xθ; parameters are then the dict of its
            `named_parameters()`.
        columns: Names of the covariates.
        labels: Names of the rows, for messages and tables.

    Raises:
        TypeError: If data are not numeric.
        ValueError: If a value is not allowed, or a covariate is constant or collinear (without penalty).

    References:
        Cox (1972); Breslow (1974); Efron (1977); Eq. 4 of the paper, with ties and Y_j ≥ Y_i.

    Example:
        >>> loss = CoxLoss([[1.0], [0.0], [1.0], [0.0]], durations=[1, 2, 3, 4], events=[1, 1, 0, 1])
        >>> loss(loss.zeros(), torch.ones(4).double()).item()  # log 4 + log 3 + log 1
        2.484...
        >>> [round(change, 3) for change in loss.removal_differences(loss.zeros()).tolist()]
        [1.386, 1.386, 0.693, 0.693]
    """

    def __init__(
        self,
        x: object,
        durations: object,
        events: object,
        *,
        ties: str = "efron",
        entry: object = None,
        strata: object = None,
        weights: object = None,
        subjects: object = None,
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
        columns: list[str] | None = None,
        labels: Sequence[object] | None = None,
    ):
        if ties not in ("efron", "breslow"):
            raise ValueError(f'`ties` must be "efron" or "breslow", got {ties!r}.')
        if not penalty >= 0:
            raise ValueError(f"`penalty` must be ≥ 0, got {penalty}.")
        labels = None if labels is None else list(labels)
        rows = survival_rows(
            x,
            durations,
            events,
            entry=entry,
            strata=strata,
            weights=weights,
            subjects=subjects,
            columns=columns,
            rows=labels,
            collinear=penalty > 0 or model is not None,
        )
        self.ties, self.penalty, self.model = ties, float(penalty), model
        self.columns, self.labelled = rows.columns, labels
        self.risk_sets = RiskSets(rows, efron=ties == "efron")
        order = self.risk_sets.order.numpy()
        self.x, self.weights = tensor(rows.x[order]), tensor(rows.weight[order])
        self.event = tensor(rows.event[order].astype(float))
        self.object_of_row = tensor(rows.subject[order])
        self.object_labels = labels if rows.subjects is None else rows.subjects
        self.n_objects = len(rows.x) if rows.subjects is None else len(rows.subjects)
        self.n_features = rows.x.shape[1]
        self.strata_labels = rows.strata
        self._place_of_object = torch.argsort(self.object_of_row) if rows.subjects is None else None
        self._overlapping = overlapping_objects(rows) if rows.subjects is not None else set()

    @classmethod
    def from_frame(
        cls,
        frame: "pd.DataFrame",
        *,
        duration_col: str,
        event_col: str,
        entry_col: str | None = None,
        strata_cols: str | list[str] | None = None,
        weights_col: str | None = None,
        subject_col: str | None = None,
        ties: str = "efron",
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
    ) -> "CoxLoss":
        """Return the loss of a pandas frame; every column not named here is a covariate.

        The frame's index, or the values of `subject_col`, name the objects in every result.
        """
        given = {"duration_col": duration_col, "event_col": event_col, "entry_col": entry_col}
        given |= {"strata_cols": strata_cols, "weights_col": weights_col, "subject_col": subject_col}
        columns = frame_columns(frame, given)
        strata = [strata_cols] if isinstance(strata_cols, str) else strata_cols
        return cls(
            frame[columns].to_numpy(dtype=float),
            frame[duration_col].to_numpy(),
            frame[event_col].to_numpy(),
            entry=None if entry_col is None else frame[entry_col].to_numpy(),
            strata=None if not strata else frame[strata].to_numpy(),
            weights=None if weights_col is None else frame[weights_col].to_numpy(),
            subjects=None if subject_col is None else frame[subject_col].to_numpy(),
            ties=ties,
            penalty=penalty,
            model=model,
            columns=columns,
            labels=frame.index.tolist(),
        )

    @property
    def parameter_names(self) -> list[str] | None:
        """Names of the coefficients; None for a network."""
        return self.columns if self.model is None else None

    def zeros(self) -> Params:
        """Return parameters to start from: zeros, or a network's present values."""
        if self.model is None:
            return torch.zeros(self.n_features, dtype=torch.float64)
        return {name: value.detach().double().clone() for name, value in self.model.named_parameters()}

    def log_risks(self, params: Params, x: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
        """Return the log-risk η of each row of x."""
        if isinstance(params, Tensor):
            return x @ params
        return torch.func.functional_call(self.model, params, (x,)).squeeze(-1)

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the penalised negative log partial likelihood of the objects present."""
        present = presence.index_select(0, self.object_of_row)
        tensors = params.values() if isinstance(params, dict) else [params]
        ridge = self.penalty / 2 * sum(value.square().sum() for value in tensors) if self.penalty else 0.0
        return self.negative_log_likelihood(self.log_risks(params, self.x), self.weights * present, present) + ridge

    def negative_log_likelihood(
        self, eta: Float[Tensor, " rows"], weights: Float[Tensor, " rows"], present: Float[Tensor, " rows"]
    ) -> Float[Tensor, ""]:
        """Return the likelihood part, as a function of the sorted rows' log-risks, weights and presence."""
        sets = self.risk_sets
        eta = eta - eta.detach().amax()
        risk = weights * eta.exp()
        at_risk = sets.at_risk(risk)
        own = (self.event * weights * eta).sum()
        event_weight = sets.over_events(weights.index_select(0, sets.event_rows))
        if self.ties == "breslow" or not sets.tied:
            # Where no event is left at a time, its risk set may be empty too.
            return (event_weight * torch.where(event_weight > 0, at_risk, 1.0).log()).sum() - own
        here = present.index_select(0, sets.event_rows)
        number = sets.over_events(here)
        tied_risk = sets.over_events(risk.index_select(0, sets.event_rows))
        mean_weight, per_event = event_weight / number.clamp_min(1.0), tied_risk / number.clamp_min(1.0)
        counted = here.cumsum(0) - here
        first = sets.counts.cumsum(0) - sets.counts
        place = counted - counted.index_select(0, first).index_select(0, sets.time_of_event)
        times = sets.time_of_event
        denominator = at_risk.index_select(0, times) - place * per_event.index_select(0, times)
        logs = torch.where(here > 0, denominator, 1.0).log()
        return (here * mean_weight.index_select(0, times) * logs).sum() - own

    def removal_differences(self, params: Params, objects: Tensor | None = None) -> Float[Tensor, " k"]:
        """Return ΔL_i = L(θ, 1) − L(θ, 1₋ᵢ) of the objects asked for, or all, in near-linear time.

        Exact to rounding. Objects with rows that overlap in time are evaluated one by one.
        """
        rows = self.row_differences(self.log_risks(params, self.x))
        if self._place_of_object is not None:
            changes = rows.index_select(0, self._place_of_object)
        else:
            changes = rows.new_zeros(self.n_objects).index_add(0, self.object_of_row, rows)
        if self._overlapping:
            asked = range(self.n_objects) if objects is None else objects.tolist()
            chosen = [number for number in asked if number in self._overlapping]
            if chosen:
                one_by_one = masked_differences(self, params, Removals.of(chosen, self.n_objects))
                changes = changes.index_copy(0, torch.tensor(chosen), one_by_one)
        return changes if objects is None else changes.index_select(0, objects)

    def row_differences(self, eta: Float[Tensor, " rows"]) -> Float[Tensor, " rows"]:
        """Return L(θ, 1) − L(θ, without the row) of every sorted row.

        With Q_τ the denominators and c_τ the multipliers of the terms, a row of risk r that is at risk in a range of
        them, without an event there, changes each by −c_τ log(1 − r/Q_τ). At the time of its own event its term goes,
        and of d tied events d − 1 stay, with denominators A_l (1 − r u_l), A_l = S − l/(d−1) D, u_l = (1 − l/(d−1))/A_l
        (Efron; for Breslow one term with A = S).
        """
        sets = self.risk_sets
        eta = eta - eta.detach().amax()
        risk = self.weights * eta.exp()
        at_risk = sets.at_risk(risk)
        event_weight = sets.over_events(self.weights.index_select(0, sets.event_rows))
        efron = self.ties == "efron" and sets.tied
        tied_risk = sets.over_events(risk.index_select(0, sets.event_rows)) if efron else None

        denominator = at_risk
        if tied_risk is not None:
            denominator = at_risk[sets.term_time] - sets.term_fraction * tied_risk[sets.term_time]
        per_term = event_weight / sets.terms_each
        multiplier = per_term[sets.term_time] if efron else per_term
        elsewhere = range_log_sums(risk, 1 / denominator, multiplier, start=sets.start, stop=sets.stop)

        logs = denominator.log()
        own_terms = logs if not efron else logs.new_zeros(len(at_risk)).index_add(0, sets.term_time, logs)
        own = (per_term * own_terms).index_select(0, sets.own_time) - self.weights * eta
        if sets.tied:
            own = own - self._terms_that_stay(risk, at_risk, tied_risk, event_weight)
        return elsewhere + self.event * own

    def _terms_that_stay(
        self, risk: Tensor, at_risk: Tensor, tied_risk: Tensor | None, event_weight: Tensor
    ) -> Float[Tensor, " rows"]:
        """Return, for rows of tied events, what the other events at that time amount to without the row."""
        sets = self.risk_sets
        remaining, share = at_risk[sets.reduced_time], 1.0
        if tied_risk is not None:
            remaining = remaining - sets.reduced_fraction * tied_risk[sets.reduced_time]
            share = 1 - sets.reduced_fraction
        logs = remaining.log()
        before = logs.new_zeros(len(at_risk)).index_add(0, sets.reduced_time, logs)
        removed = range_log_sums(
            risk[sets.tied_rows],
            share / remaining,
            torch.ones_like(logs),
            start=sets.tied_start,
            stop=sets.tied_stop,
        )
        time = sets.own_time[sets.tied_rows]
        per_term = (event_weight[time] - self.weights[sets.tied_rows]) / sets.reduced_each[time]
        staying = per_term * (before[time] - removed)
        return torch.zeros_like(risk).index_copy(0, sets.tied_rows, staying)


def overlapping_objects(rows) -> set[int]:
    """Return the objects with two rows at risk at the same time in one stratum: `(start, stop]` that overlap."""
    start = np.full(len(rows.stop), -np.inf) if rows.start is None else rows.start
    order = np.lexsort((start, rows.stratum, rows.subject))
    subject, stratum, start, stop = rows.subject[order], rows.stratum[order], start[order], rows.stop[order]
    same = (subject[1:] == subject[:-1]) & (stratum[1:] == stratum[:-1]) & (start[1:] < stop[:-1])
    return set(subject[1:][same].tolist())
