"""Targets of prediction: against scikit-survival and lifelines, and against models fitted without a patient."""

import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence import losses
from versatile_influence.losses import CoxLoss

ROLES = {"duration_col": "t", "event_col": "e"}


def trial(n: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": generator.normal(size=n), "dose": generator.normal(size=n)})
    times = generator.exponential(np.exp(-0.6 * frame["age"]))
    censoring = generator.exponential(2.0, n)
    return frame.assign(t=np.minimum(times, censoring), e=(times <= censoring).astype(int))


TRAIN, TEST = trial(90, 0), trial(40, 1)
HELD_OUT = (TEST[["age", "dose"]], TEST["t"], TEST["e"])


def fitted(rows: pd.DataFrame, **given) -> tuple[CoxLoss, torch.Tensor]:
    loss = CoxLoss.from_frame(rows, **ROLES, **given)
    return loss, vif.minimize(loss, loss.zeros())


def at(target, loss, theta) -> np.ndarray:
    everyone = torch.ones(loss.n_objects).double()
    return (target(theta, everyone) if isinstance(target, vif.PresenceTarget) else target(theta)).numpy()


def targets(loss: CoxLoss) -> list:
    return [
        losses.smooth_concordance(loss, *HELD_OUT),
        losses.brier_score(loss, *HELD_OUT, time=0.8),
        losses.restricted_mean(loss, HELD_OUT[0][:2], 1.0),
        losses.survival_quantile(loss, HELD_OUT[0][:2]),
        loss.cumulative_hazard(HELD_OUT[0][:2], [0.3, 0.9]),
    ]


def test_concordance_and_brier_score_are_those_of_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics")
    from sksurv.util import Surv

    loss, theta = fitted(TRAIN, ties="breslow")
    eta = loss.log_risk(HELD_OUT[0])(theta).numpy()
    happened = TEST["e"].astype(bool).to_numpy()
    expected = metrics.concordance_index_censored(happened, TEST["t"].to_numpy(), eta)[0]
    assert at(losses.concordance(loss, *HELD_OUT), loss, theta) == pytest.approx(expected, abs=1e-12)
    narrow = losses.smooth_concordance(loss, *HELD_OUT, width=1e-6)
    assert at(narrow, loss, theta) == pytest.approx(expected, abs=1e-9)
    y = Surv.from_arrays(happened, TEST["t"])
    chance = at(loss.survival(HELD_OUT[0], [0.8]), loss, theta)
    score = metrics.brier_score(y, y, chance[:, None], [0.8])[1]
    assert at(losses.brier_score(loss, *HELD_OUT, time=0.8), loss, theta) == pytest.approx(score, abs=1e-10)


def test_what_is_predicted_of_a_patient_is_as_in_lifelines():
    pytest.importorskip("lifelines")
    from lifelines import CoxPHFitter

    loss, theta = fitted(TRAIN)
    model = CoxPHFitter().fit(TRAIN, "t", "e", fit_options={"precision": 1e-12})
    patients = HELD_OUT[0][:2]
    # Between event times lifelines interpolates.
    known = np.sort(TRAIN["t"][TRAIN["e"] == 1])
    hazard = model.predict_cumulative_hazard(patients, times=known[[5, 30]]).to_numpy().T.ravel()
    assert at(loss.cumulative_hazard(patients, known[[5, 30]]), loss, theta) == pytest.approx(hazard, abs=1e-6)
    curves = model.predict_survival_function(patients)
    steps = curves[curves.index < 1.0]
    widths = np.diff(np.append(steps.index, 1.0))
    expected = [steps.index[0] + (steps[one] * widths).sum() for one in curves]
    assert at(losses.restricted_mean(loss, patients, 1.0), loss, theta) == pytest.approx(expected, abs=1e-6)
    # Interpolated between event times, so within one of them of the step function's.
    medians, found = (
        model.predict_median(patients).to_numpy(),
        at(losses.survival_quantile(loss, patients), loss, theta),
    )
    known = np.sort(TRAIN["t"][TRAIN["e"] == 1])
    for median, ours in zip(medians, found, strict=True):
        place = np.searchsorted(known, median)
        assert known[place - 1] <= ours <= known[place] + 1e-12


def test_changes_are_those_of_a_model_fitted_without_the_patient():
    loss, theta = fitted(TRAIN)
    for place, target in enumerate(targets(loss)):
        refitted = vif.refit(loss, theta, target, objects=[3, 11]).scores
        for row, who in enumerate((3, 11)):
            rest, point = fitted(TRAIN.drop(index=who))
            expected = at(targets(rest)[place], rest, point) - at(target, loss, theta)
            # The quantile's and the mean's own steps move with the event times that are left.
            near = 0.02 if place == 3 else 1e-8
            assert refitted[row].numpy() == pytest.approx(expected, abs=near)
        predicted = vif.attribute(loss, theta, target, check=False)
        assert vif.pearson(predicted, vif.refit(loss, theta, target)).min() > 0.97


def test_the_exact_c_index_is_had_by_refits():
    loss, theta = fitted(TRAIN)
    target = losses.concordance(loss, *HELD_OUT)
    scores = vif.refit(loss, theta, target).scores
    assert scores.abs().max() > 0
    worst = int(scores[:, 0].abs().argmax())
    rest, point = fitted(TRAIN.drop(index=worst))
    change = at(losses.concordance(rest, *HELD_OUT), rest, point) - at(target, loss, theta)
    assert scores[worst].numpy() == pytest.approx(change, abs=1e-12)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda loss: losses.smooth_concordance(loss, *HELD_OUT, width=0.0), "`width`"),
        (lambda loss: losses.concordance(loss, HELD_OUT[0], HELD_OUT[1], np.zeros(40)), "No pair can be compared"),
        (lambda loss: losses.brier_score(loss, *HELD_OUT, time=99.0), "Nobody is followed past `time` 99"),
        (lambda loss: losses.survival_quantile(loss, HELD_OUT[0], 1.0), "`share`"),
        (lambda loss: losses.restricted_mean(loss, HELD_OUT[0], -1.0), "`horizon`"),
    ],
)
def test_wrong_questions_are_refused(ask, message):
    with pytest.raises(ValueError, match=message):
        ask(fitted(TRAIN)[0])
