"""Fitted Cox regressions of lifelines, scikit-survival and statsmodels: their penalties, their coefficients checked."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import instance
from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.losses.cox.survival_data import TIED
from versatile_influence.losses.cox.wald import covariance
from versatile_influence.training.minimize import minimize

if TYPE_CHECKING:
    import pandas as pd

Fitted = tuple[CoxLoss, Float[Tensor, " d"]]
# Of a standard error, how far the model's own coefficients may be from the minimum: optimisers stop early.
CLOSE = 1e-3


@dataclass(frozen=True)
class Standardised:
    """Covariates of test patients in units of the training patients' standard deviations.

    Attributes:
        columns: Their names.
        spread: The standard deviations.
        design: The covariates by a formula, or None.
    """

    columns: list
    spread: "pd.Series"
    design: Callable[[Any], Any] | None

    def __call__(self, frame: Any) -> Any:
        """Return the covariates of a frame's rows."""
        return (frame[self.columns] if self.design is None else self.design(frame)) / self.spread


def from_lifelines(model: Any, frame: "pd.DataFrame") -> Fitted:
    """Return the loss of a fitted `CoxPHFitter` or `CoxTimeVaryingFitter` of lifelines, and its coefficients.

    Columns, formula, strata, weights, entry times and clusters are the model's; a `CoxTimeVaryingFitter`'s `id_col`
    names the objects. lifelines penalises standardised covariates, n·penalizer/2 ‖β‖²: with a penalizer the loss is of
    covariates over their standard deviations, and so are its coefficients; test patients are given as they are.

    Args:
        model: The fitted model.
        frame: The frame that it was fitted to.

    Raises:
        TypeError: If it is another model.
        ValueError: If it is not fitted, or of a kind that is not served (L1, splines as baseline); or if its
            coefficients are not those of the frame, with the setting that differs.

    Example:
        >>> from lifelines import CoxPHFitter
        >>> from lifelines.datasets import load_rossi
        >>> loss, theta = from_lifelines(CoxPHFitter().fit(load_rossi(), "week", "arrest"), load_rossi())
        >>> round(theta[0].item(), 3), loss.columns[0]
        (-0.379, 'fin')
    """
    import pandas as pd
    from lifelines import CoxPHFitter, CoxTimeVaryingFitter

    instance(model, "model", CoxPHFitter | CoxTimeVaryingFitter, "lifelines.CoxPHFitter()")
    try:
        own = model.params_
    except AttributeError as error:
        raise ValueError("`model` is not fitted. Call model.fit(…) first.") from error
    varying = isinstance(model, CoxTimeVaryingFitter)
    if not varying and model.baseline_estimation_method != "breslow":
        raise ValueError(
            f"A {model.baseline_estimation_method} baseline is no partial likelihood: fit CoxPHFitter() with Breslow's."
        )
    penalizers = np.unique(np.asarray(model.penalizer, dtype=float))
    if len(penalizers) > 1 or (penalizers.max() > 0 and model.l1_ratio):
        raise ValueError("Only one ridge penalizer for all coefficients is served: penalizer=number, l1_ratio=0.")
    if varying:
        roles = {"entry_col": model.start_col, "duration_col": model.stop_col, "subject_col": model.id_col}
    else:
        roles = {"entry_col": model.entry_col, "duration_col": model.duration_col, "subject_col": model.cluster_col}
    strata = [model.strata] if isinstance(model.strata, str) else [*(model.strata or [])]
    event = model.event_col
    if event is None:
        event = "every row has an event"
        frame = frame.assign(**{event: 1})
    roles |= {"event_col": event, "strata_cols": strata or None, "weights_col": model.weights_col}
    plain, matrix, rows = _covariates(model.formula, frame, roles)

    def build(**changes: Any) -> CoxLoss:
        given = {"penalty": len(frame) * penalizers[0], "ties": "efron"} | changes
        scaled = matrix / matrix.std(ddof=1) if given["penalty"] else matrix
        # By position: an index may name several rows alike.
        return CoxLoss.from_frame(pd.concat([scaled, rows], axis=1), **(roles | given))

    loss, own = build(), own[plain.columns]
    if loss.penalty:
        own, design = own * matrix.std(ddof=1), plain.design
        loss.design = Standardised(plain.columns, matrix.std(ddof=1), design)
    else:
        loss.design = plain.design
    loss.robust = plain.robust or bool(not varying and (model.robust or model.cluster_col))
    return checked(loss, own.to_numpy(), build)


def _covariates(formula: str | None, frame: Any, roles: dict) -> tuple[CoxLoss, Any, Any]:
    """Return the loss without penalty, its covariates as a frame, and the other columns."""
    if formula is None:
        plain = CoxLoss.from_frame(frame, **roles, penalty=1.0)
        matrix = frame[plain.columns].astype(float)
    else:
        times = [roles[role] for role in ("entry_col", "duration_col", "event_col") if roles[role]]
        surv = ", ".join(f"`{name}`" for name in times)
        strata = f" + strata({', '.join(roles['strata_cols'])})" if roles["strata_cols"] else ""
        named = {name: roles[name] for name in ("weights_col", "subject_col")}
        plain = CoxLoss.from_formula(f"Surv({surv}) ~ {formula}{strata}", frame, **named, penalty=1.0)
        assert plain.design is not None
        made: Any = plain.design(frame)
        matrix = made.astype(float)
    names = [name for given in roles.values() for name in (given if isinstance(given, list) else [given]) if name]
    return plain, matrix, frame[names]


def from_scikit_survival(model: Any, x: object, y: Any) -> Fitted:
    """Return the loss of a fitted `CoxPHSurvivalAnalysis` of scikit-survival, and its coefficients.

    Its `alpha` is our `penalty`; ties are the model's (Breslow's by default).

    Args:
        model: The fitted model.
        x: (n, d) what it was fitted to, an array or a frame, whose index names the objects.
        y: The structured array of events and times.

    Raises:
        TypeError: If it is another model.
        ValueError: If it is not fitted, or its coefficients are not those of the data, with the setting that differs.
    """
    from sksurv.linear_model import CoxPHSurvivalAnalysis

    instance(model, "model", CoxPHSurvivalAnalysis, "sksurv.linear_model.CoxPHSurvivalAnalysis()")
    try:
        own = model.coef_
    except AttributeError as error:
        raise ValueError("`model` is not fitted. Call model.fit(x, y) first.") from error
    alphas = np.unique(np.asarray(model.alpha, dtype=float))
    if len(alphas) > 1:
        raise ValueError("Only one alpha for all coefficients is served.")
    fields = y.dtype.names if isinstance(y, np.ndarray) else None
    if not fields or len(fields) != 2:
        raise TypeError(f"`y` must be events and times as sksurv.util.Surv makes them, got {type(y).__name__}.")
    event, time = fields
    named = _names(x)

    def build(**changes: Any) -> CoxLoss:
        given: dict[str, Any] = {"ties": model.ties, "penalty": float(alphas[0]), **named, **changes}
        return CoxLoss(np.asarray(x, dtype=float), y[time], y[event], **given)

    return checked(build(), own, build)


def from_statsmodels(results: Any) -> Fitted:
    """Return the loss of the results of statsmodels' `PHReg(…).fit()`, which hold the data, and its coefficients.

    Raises:
        TypeError: If they are no results of a `PHReg`.
        ValueError: If the model has offsets, or its coefficients are not those of its data (as after
            `fit_regularized`); the setting that differs is said.
    """
    from statsmodels.duration.hazard_regression import PHRegResults

    instance(results, "results", PHRegResults, "statsmodels' PHReg(…).fit()")
    data: Any = results.model
    if data.offset is not None:
        raise ValueError("An offset is not served: give it as a covariate, or write a loss of your own.")
    # There a row is at risk from its entry on, here and in R after it: as far before it as times are told apart.
    entry = None if data.entry is None else data.entry - 10 * TIED * np.abs(data.entry)

    def build(**changes: Any) -> CoxLoss:
        given = {"ties": data.ties, "columns": list(data.exog_names)} | changes
        return CoxLoss(data.exog, data.endog, data.status, entry=entry, strata=data.strata, **given)

    return checked(build(), results.params, build)


def _names(x: object) -> dict[str, list]:
    """Return the names that a frame has."""
    import pandas as pd

    return {"columns": x.columns.tolist(), "labels": x.index.tolist()} if isinstance(x, pd.DataFrame) else {}


def checked(loss: CoxLoss, own: np.ndarray, build: Callable[..., CoxLoss]) -> Fitted:
    """Return the loss and its minimum, which must be the model's own coefficients.

    Args:
        loss: The loss with the model's settings.
        own: The model's coefficients, in the loss's units.
        build: The loss with other settings, which are tried where the coefficients differ.

    Raises:
        ValueError: If they differ; with the setting under which they would not, where there is one.
    """
    own_params = torch.as_tensor(np.array(own, dtype=float))
    theta, far = _far(loss, own_params)
    if (far <= CLOSE).all():
        return loss, theta
    other = "breslow" if loss.ties == "efron" else "efron"
    for changes, said in (
        ({"ties": other}, f"its ties are {other.capitalize()}'s"),
        ({"penalty": 0.0}, "it has no penalty"),
        ({"weights_col": None}, "it has no weights"),
        ({"strata_cols": None}, "it has no strata"),
    ):
        try:
            tried = build(**changes)
        except TypeError:
            continue
        if (_far(tried, own_params)[1] <= CLOSE).all():
            raise ValueError(f"The model's coefficients are not those of these settings: they are where {said}.")
    worst = int(far.argmax())
    raise ValueError(
        f"The model's coefficients are not the minimum for this data: `{loss.columns[worst]}` is "
        f"{own_params[worst].item():.6g} in the model and {theta[worst].item():.6g} here. Was it fitted to this data, "
        "to the end, with another penalty?"
    )


def _far(loss: CoxLoss, own: Float[Tensor, " m"]) -> tuple[Float[Tensor, " d"], Float[Tensor, " d"]]:
    """Return the minimum, and how many standard errors these coefficients are from it: infinitely many if too few."""
    theta = minimize(loss, loss.zeros())
    assert isinstance(theta, Tensor)
    if len(own) != len(theta):
        return theta, torch.full_like(theta, float("inf"))
    return theta, (theta - own).abs() / covariance(loss, theta, loss.everyone(theta), robust=False).diagonal().sqrt()
