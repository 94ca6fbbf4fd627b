"""What one asks of a fitted Cox model: ready targets."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import array, numbers
from versatile_influence.core.composed import Composed
from versatile_influence.core.labels import names, position
from versatile_influence.core.ravel import Params
from versatile_influence.core.target import LabelledTarget, PresenceTarget
from versatile_influence.losses.cox.log_risks import log_risks
from versatile_influence.losses.cox.outer import RiskSetLoss
from versatile_influence.losses.cox.segments import SegmentedCumsum
from versatile_influence.losses.cox.survival_data import TIED, Frame, survival_rows
from versatile_influence.losses.cox.wald import covariance, normal_tail


class CoxTargets(Composed):
    """The targets of a `CoxLoss`: each a function of the parameters that closes over test patients.

    Test patients are a frame with the training covariates' columns, whose index names them, or (m, d) numbers.

    Attributes:
        x: Training covariates, in the outer loss's order of rows.
        columns: Names of the covariates.
        strata_labels: Labels of the strata, or None.
        strata_cols: The columns they came from, where the data were a frame.
        robust: Whether R would print robust standard errors: clusters, weights that are no counts, or subjects with
            more than one event.
        cluster: What robust errors are summed over, a code for each object; None for the objects.
        n_dropped: How many rows were left out for missing values (`na="drop"`).
        design: The covariates of a frame by a formula, or None.
    """

    x: Float[Tensor, "rows d"]
    outer: RiskSetLoss
    columns: list
    ties: str
    strata_labels: list | None
    strata_cols: list[str]
    robust: bool
    cluster: Int[Tensor, " n"] | None
    n_dropped: int
    design: Callable[[Any], Frame] | None

    @property
    def n_features(self) -> int:
        """Number of covariates."""
        return self.x.shape[1]

    def log_risks(self, params: Params, x: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
        """Return the log-risk η of each row of x, in its float64 whatever the parameters are kept in."""
        return log_risks(self.outputs.module, x)(params)

    def coefficients(self, names: Sequence[str] | None = None) -> LabelledTarget:
        """Return the target of the coefficients (log hazard ratios) themselves, all or those named.

        Raises:
            ValueError: If there is no such covariate, or the model is a network.
        """
        if self.outputs.module is not None:
            raise ValueError("A network has no coefficients. Ask for log_risk(x) or survival(x, times).")
        if isinstance(names, str):
            raise TypeError(f"`names` must be a list of covariates, got {names!r}. Write [{names!r}].")
        chosen = list(self.columns) if names is None else list(names)
        index = torch.tensor([position(name, self.columns, "covariate") for name in chosen])
        return LabelledTarget(lambda params: torch.as_tensor(params)[index], chosen)

    def z_values(self, names: Sequence[str] | None = None, *, robust: bool | None = None) -> PresenceTarget:
        """Return the target of Wald's z of coefficients, all or those named: each over its standard error.

        The error too depends on who is present, so that the target is exact without a patient. `robust` is that of
        `vif.losses.standard_errors`.
        """
        return self._wald(names, robust, lambda z: z, "z")

    def p_values(self, names: Sequence[str] | None = None, *, robust: bool | None = None) -> PresenceTarget:
        """Return the target of Wald's two-sided p, with the arguments of `z_values`."""
        return self._wald(names, robust, normal_tail, "p")

    def _wald(
        self, names: Sequence[str] | None, robust: bool | None, of: Callable[[Tensor], Tensor], what: str
    ) -> PresenceTarget:
        asked = self.coefficients(names)
        chosen = self.robust if robust is None else robust

        def numbers(params: Params, presence: Tensor) -> Tensor:
            errors = covariance(self, params, presence, robust=chosen).diagonal().sqrt()
            return of(asked(params) / asked(errors))

        return PresenceTarget(numbers, [f"{what}({label})" for label in asked.labels or []])

    def log_risk(self, x: object) -> LabelledTarget:
        """Return the target η = xθ of each test patient."""
        rows, labels = self.test_rows(x)
        return LabelledTarget(lambda params: self.log_risks(params, rows), labels, (self.log_risks, rows))

    def relative_risk(self, x: object) -> LabelledTarget:
        """Return the target exp(xθ) of each test patient (§4.1 of the paper)."""
        rows, labels = self.test_rows(x)

        def risks(params: Params, some: Tensor) -> Tensor:
            return self.log_risks(params, some).exp()

        return LabelledTarget(lambda params: risks(params, rows), labels, (risks, rows))

    def partial_log_likelihood(self, x: object, durations: object, events: object) -> LabelledTarget:
        """Return the target of the log partial likelihood of held-out patients: one number, larger is better."""
        rows, _ = self.test_rows(x)
        held_out = RiskSetLoss(survival_rows(rows, durations, events, collinear=True), ties=self.ties)
        sorted_rows, present = rows[held_out.sets.order], torch.ones(len(rows), dtype=torch.float64)

        def log_likelihood(params: Params) -> Tensor:
            return -held_out(self.log_risks(params, sorted_rows), present).reshape(1)

        return LabelledTarget(log_likelihood, ["partial log-likelihood"])

    def survival(self, x: object, times: object, *, strata: object = None) -> PresenceTarget:
        """Return the target S(t | x) = exp(−H(t | x)) of each test patient at each time, with `cumulative_hazard`'s H.

        Arguments are those of `cumulative_hazard`.
        """
        hazards = self.cumulative_hazard(x, times, strata=strata)
        labels = [f"S{str(label)[1:]}" for label in hazards.labels or []]
        return PresenceTarget(lambda params, presence: (-hazards(params, presence)).exp(), labels)

    def cumulative_hazard(self, x: object, times: object, *, strata: object = None) -> PresenceTarget:
        """Return the target H(t | x) = H₀(t) exp(xθ) of each test patient at each time, patient by patient.

        H₀ is Breslow's baseline cumulative hazard, Σ_{events ≤ t} w / Σ_{at risk} w exp(xθ). It too depends on who is
        present: the score's direct part is what a patient's absence from the baseline does, the parameter part what
        it does through θ.

        Args:
            x: m test patients.
            times: Times, in the unit of the durations.
            strata: Label of each test patient's stratum, where the loss has strata; read from the frame where both
                the loss and the test patients came as one.

        Raises:
            ValueError: If strata are missing or unknown.
        """
        rows, labels = self.test_rows(x)
        if strata is None and self.strata_cols and isinstance(x, Frame) and {*self.strata_cols} <= {*x.columns}:
            strata = x[self.strata_cols].to_numpy()
        moments = numbers([times] if np.ndim(times) == 0 else times, "times", shape=[None], least=0).numpy()  # pyright: ignore
        if not len(moments):
            raise ValueError("`times` is empty. Name at least one.")
        stratum = self.stratum_codes(strata, len(rows))
        sets = self.outer.sets
        cumulate = SegmentedCumsum(np.bincount(sets.time_stratum))
        first = np.searchsorted(sets.time_stratum, stratum)
        # Number of event times up to each moment, in each patient's own stratum; 0 points at a zero in front.
        own = sets.time_stratum == np.arange(int(sets.time_stratum.max()) + 1)[:, None, None]
        upto = (own & (sets.time_values <= moments[:, None] * (1 + TIED))).sum(-1)[stratum]
        index = torch.from_numpy(np.where(upto > 0, first[:, None] + upto, 0))

        def hazards(params: Params, presence: Tensor) -> Tensor:
            eta = self.log_risks(params, self.x)
            shift = eta.detach().amax()
            weights = self.outer.weights * presence.index_select(0, self.outer.object_of_row)
            at_risk = sets.at_risk(weights * (eta - shift).exp())
            event_weight = sets.over_events(weights.index_select(0, sets.event_rows))
            hazard = torch.where(event_weight > 0, event_weight / torch.where(event_weight > 0, at_risk, 1.0), 0.0)
            cumulative = torch.cat([hazard.new_zeros(1), cumulate(hazard)])
            risk = (self.log_risks(params, rows) - shift).exp()
            return (cumulative[index] * risk[:, None]).reshape(-1)

        return PresenceTarget(hazards, [f"H({moment:g} | {label})" for label in labels for moment in moments])

    def stratum_codes(self, strata: object, m: int) -> np.ndarray:
        """Return the codes of the test patients' strata."""
        if self.strata_labels is None:
            return np.zeros(m, dtype=np.int64)
        if strata is None:
            raise ValueError("The model has strata, each with its own baseline: give the test patients' strata=….")
        given = names(strata, m, "test patient", "strata") or []
        given = [tuple(label) if isinstance(label, list) and len(label) > 1 else label for label in given]
        given = [label[0] if isinstance(label, list) else label for label in given]
        return np.array([position(label, self.strata_labels, "stratum") for label in given])

    def test_rows(self, x: object) -> tuple[Float[Tensor, "m d"], list]:
        """Return test patients as float64 rows, with their names.

        Raises:
            ValueError: If columns are missing, their number is wrong, or a value is NaN or infinite.
        """
        labels = None
        x = self.design(x) if self.design is not None and isinstance(x, Frame) else x
        if isinstance(x, Frame):
            if missing := [name for name in self.columns if name not in x.columns]:
                raise ValueError(f"The test patients lack the column `{missing[0]}` that the model was trained on.")
            labels, x = x.index.tolist(), x[self.columns].to_numpy(dtype=float)
        rows = array(x, "x")
        rows = rows[None] if rows.shape == (self.n_features,) else rows
        if rows.dim() != 2 or rows.shape[1] != self.n_features or not len(rows):
            raise ValueError(f"Test patients must be (m, {self.n_features}), got {tuple(rows.shape)}.")
        labels = list(range(len(rows))) if labels is None else labels
        bad = (~torch.isfinite(rows)).nonzero()
        if len(bad):
            i, j = bad[0].tolist()
            raise ValueError(
                f"Test patient {labels[i]} has {self.columns[j]} = {rows[i, j].item()}. Drop or impute it."
            )
        return rows, labels
