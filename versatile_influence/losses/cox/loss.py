"""Cox regression: the negative log partial likelihood as a function of who is present.

    L(θ, b) = −Σ_{i: Δᵢ=1} wᵢ bᵢ (ηᵢ − log Σ_{j at risk at Yᵢ} wⱼ bⱼ exp ηⱼ) + (λ/2)‖θ‖²,      η = xθ      (Eq. 4)

with the risk set Yⱼ ≥ Yᵢ (and entryⱼ < Yᵢ) and tied events by Breslow's or Efron's method, both as R's `survival`
defines them, so that coefficients agree with `coxph`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from versatile_influence.core.checks import number, one_of
from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.losses.cox.log_risks import Sorted, training_risks
from versatile_influence.losses.cox.outer import RiskSetLoss
from versatile_influence.losses.cox.survival_data import frame_columns, survival_rows, tensor
from versatile_influence.losses.cox.targets import CoxTargets

if TYPE_CHECKING:
    import pandas as pd


class CoxLoss(CoxTargets):
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
        columns: Sequence[object] | None = None,
        labels: Sequence[object] | None = None,
    ):
        penalty = number(penalty, "penalty", least=0)
        rows = survival_rows(
            x,
            durations,
            events,
            entry=entry,
            strata=strata,
            weights=weights,
            subjects=subjects,
            columns=columns,
            labels=labels,
            collinear=penalty > 0 or model is not None,
        )
        outer = RiskSetLoss(rows, ties=one_of(ties, "ties", ["efron", "breslow"]))
        self.x = tensor(rows.x[outer.sets.order.numpy()])
        super().__init__(
            training_risks(model, self.x),
            outer,
            penalty=penalty,
            names=list(map(str, rows.columns)) if model is None else None,
        )
        self.columns, self.ties, self.strata_labels, self.strata_cols = rows.columns, ties, rows.strata, []

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
        strata = strata_cols if isinstance(strata_cols, list) or strata_cols is None else [strata_cols]
        loss = cls(
            frame[columns].to_numpy(dtype=float, na_value=float("nan")),
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
        loss.strata_cols = strata or []
        return loss

    def as_outer(self) -> Loss:
        """Return the loss of log-risks, one for each row in the order in which the rows were given."""
        return Composed(Sorted(self.outer.sets.order), self.outer)
