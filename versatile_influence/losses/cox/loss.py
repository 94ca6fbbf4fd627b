"""Cox regression: the negative log partial likelihood as a function of who is present.

    L(θ, b) = −Σ_{i: Δᵢ=1} wᵢ bᵢ (ηᵢ − log Σ_{j at risk at Yᵢ} wⱼ bⱼ exp ηⱼ) + (λ/2)‖θ‖²,      η = xθ      (Eq. 4)

with the risk set Yⱼ ≥ Yᵢ (and entryⱼ < Yᵢ) and tied events by Breslow's or Efron's method, both as R's `survival`
defines them, so that coefficients agree with `coxph`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from versatile_influence.core.checks import number, one_of
from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.losses.cox.formula import formula_rows
from versatile_influence.losses.cox.frames import FrameRows, frame_rows
from versatile_influence.losses.cox.log_risks import Sorted, training_risks
from versatile_influence.losses.cox.outer import RiskSetLoss
from versatile_influence.losses.cox.survival_data import robust_by_default, survival_rows, tensor
from versatile_influence.losses.cox.targets import CoxTargets
from versatile_influence.losses.cox.undetermined import undetermined_without

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
        clusters: Labels of what robust errors are summed over, such as hospitals; the objects stay what they are.
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
        clusters: object = None,
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
            clusters=clusters,
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
        self.undetermined = undetermined_without(rows)
        self.columns, self.ties, self.strata_labels, self.strata_cols = rows.columns, ties, rows.strata, []
        self.robust, self.n_dropped, self.design = robust_by_default(rows), 0, None
        self.cluster = None if rows.cluster is None else tensor(rows.cluster)

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
        cluster_col: str | None = None,
        ties: str = "efron",
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
        na: str = "refuse",
        event_value: object = None,
    ) -> "CoxLoss":
        """Return the loss of a pandas frame; every column not named here is a covariate.

        The frame's index, or the values of `subject_col`, name the objects in every result. Rows with missing values
        are refused, or with `na="drop"` left out and counted (`n_dropped`). `event_value` is the value of the event
        column that means the event, where it does not hold 1 and 0; every other is then censored.

        Raises:
            TypeError: If it is no frame, or text stands where numbers are needed.
            ValueError: If a column is missing or has two roles; what else keeps the frame from being fitted is said
                all at once.
        """
        given = {"duration_col": duration_col, "event_col": event_col, "entry_col": entry_col}
        given |= {"strata_cols": strata_cols, "weights_col": weights_col, "subject_col": subject_col}
        given["cluster_col"] = cluster_col
        rows = frame_rows(frame, given, na=na, event_value=event_value)
        return cls.of_rows(rows, ties=ties, penalty=penalty, model=model)

    @classmethod
    def from_formula(
        cls,
        formula: str,
        frame: "pd.DataFrame",
        *,
        weights_col: str | None = None,
        subject_col: str | None = None,
        ties: str = "efron",
        penalty: float = 0.0,
        na: str = "refuse",
        event_value: object = None,
    ) -> "CoxLoss":
        """Return the loss of a formula, as R and lifelines spell it.

        `Surv(time, event)` or `Surv(start, stop, event)` on the left, where the event may be `status == 2`; on the
        right what formulaic knows (categories, interactions, splines, transformations), `strata(…)` and `cluster(…)`.
        Clusters have robust errors, as in R, and are removed as one unless `subject_col` names what is removed. Test
        patients are a frame with the columns of the formula. Other arguments are those of `from_frame`.

        Raises:
            TypeError: If the formula is no text, or the frame none.
            ValueError: If the formula cannot be read, or the frame's rows are not to be used as they are.
            ImportError: If formulaic is missing.

        Example:
            >>> import pandas as pd
            >>> trial = pd.DataFrame({"months": [1, 2, 3, 4], "status": [2, 2, 1, 2], "arm": list("abab")})
            >>> CoxLoss.from_formula("Surv(months, status == 2) ~ arm", trial).columns
            ['arm[T.b]']
        """
        given = {"weights_col": weights_col, "subject_col": subject_col}
        rows = formula_rows(formula, frame, given, na=na, event_value=event_value)
        return cls.of_rows(rows, ties=ties, penalty=penalty)

    @classmethod
    def of_rows(cls, rows: FrameRows, **given: Any) -> "CoxLoss":
        """Return the loss of a frame's rows whose columns have their roles; other arguments are those of the class."""
        x = rows.x
        loss = cls(
            x.to_numpy(dtype=float, na_value=float("nan")),
            rows.values("duration_col"),
            rows.event,
            entry=rows.values("entry_col"),
            strata=rows.values("strata_cols"),
            weights=rows.values("weights_col"),
            subjects=rows.values("subject_col"),
            clusters=rows.values("cluster_col"),
            columns=list(x.columns),
            labels=rows.frame.index.tolist(),
            **given,
        )
        loss.strata_cols, loss.n_dropped = rows.roles["strata_cols"] or [], rows.n_dropped
        loss.design, loss.robust = rows.design, loss.robust or rows.clustered
        return loss

    def as_outer(self) -> Loss:
        """Return the loss of log-risks, one for each row in the order in which the rows were given."""
        return Composed(Sorted(self.outer.sets.order), self.outer)
