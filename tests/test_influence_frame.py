"""The frame of influence measures against R's numbers, and against a model really fitted without a patient."""

import numpy as np
import pandas as pd
import pytest
import torch
from test_cox_frames import OF_R, cases, cases_table

import versatile_influence as vif
from versatile_influence.datasets import simulated_trial
from versatile_influence.losses import CoxLoss, standard_errors

SETS = ["rossi", "rossi_w", "veteran", "ovarian", "bladder_ag", "colon", "bigscale"]


@pytest.mark.data
@pytest.mark.parametrize(("name", "file", "formula", "given"), [case for case in OF_R if case[0] in SETS], ids=SETS)
def test_dfbeta_dfbetas_and_robust_errors_are_those_of_r(name, file, formula, given):
    loss = CoxLoss.from_formula(formula, cases(f"{file}.csv"), **given)
    theta = vif.minimize(loss, loss.zeros())
    frame = vif.influence_frame(loss, theta)
    expected, changes = cases(f"r/{name}_efron_coef.csv"), cases_table(f"r/{name}_efron_dfbeta.csv")
    errors = expected["se"].to_numpy()
    assert frame.filter(regex="^dfbeta_").to_numpy() / errors == pytest.approx(changes / errors, abs=1e-8)
    # R: residuals(fit, "dfbetas") divides by the errors from the information, robust or not.
    assert frame.filter(regex="^dfbetas_").to_numpy() == pytest.approx(changes / errors, abs=1e-8)
    assert list(frame.attrs["robust_se"].values()) == pytest.approx(expected["rse"].to_numpy(), rel=1e-8)
    assert list(frame.attrs["se"].values()) == pytest.approx(errors, rel=1e-8)
    # Score residuals are what R's dfbeta are made of: dfbeta = score V.
    variance = torch.linalg.inv(
        loss.hessian(theta, torch.ones(loss.n_objects).double()) * loss.units[:, None] * loss.units
    )
    by_scores = frame.filter(regex="^score_").to_numpy() * loss.units.numpy() @ variance.numpy() * loss.units.numpy()
    assert by_scores / errors == pytest.approx(changes / errors, abs=1e-8)


@pytest.mark.data
@pytest.mark.parametrize(("entry", "weights"), [(False, "u"), (True, "w")])
def test_score_residuals_are_those_of_r(entry, weights):
    from test_cox import numbers, sim80

    loss, kind = sim80(entry, True, "efron", weights)
    frame = vif.influence_frame(loss, vif.minimize(loss, loss.zeros()))
    expected = numbers(f"{kind}_efron_{weights}_score.csv").numpy()
    given = loss.outer.weights[torch.argsort(loss.outer.sets.order)].numpy()[:, None]
    assert frame.filter(regex="^score_").to_numpy() == pytest.approx(
        expected * (1 if weights == "u" else given), abs=1e-8
    )


@pytest.mark.data
@pytest.mark.parametrize("name", ["ovarian", "bladder_pwp"])
def test_case_deletion_is_the_model_fitted_without_the_patient(name):
    case = next(case for case in OF_R if case[0] == name)
    rows = cases(f"{case[1]}.csv")
    loss = CoxLoss.from_formula(case[2], rows)
    theta = vif.minimize(loss, loss.zeros())
    frame = vif.influence_frame(loss, theta, exact=True)
    who = loss.object_labels[7]
    rest = CoxLoss.from_formula(case[2], rows[rows["id"] != who] if "id" in rows else rows.drop(index=who))
    point = vif.minimize(rest, rest.zeros())

    def wald(loss, theta):
        errors = standard_errors(loss, theta)
        tail = 2 * torch.distributions.Normal(0, 1).cdf(-(theta / errors).abs())
        return torch.stack([theta, theta.exp(), (theta - 1.959963985 * errors).exp(), tail]).numpy()

    change = wald(rest, point) - wald(loss, theta)
    for kind, expected in zip(("coef", "hr", "hr_low", "p"), change, strict=True):
        assert frame.filter(regex=f"^{kind}_[^lh]").loc[who].to_numpy() == pytest.approx(expected, rel=1e-5, abs=1e-8)
    everyone = torch.ones(loss.n_objects).double()
    displaced = 2 * (loss(point, everyone) - loss(theta, everyone)).item()
    assert frame["displacement"].loc[who] == pytest.approx(displaced, rel=1e-6)
    hessian = loss.hessian(theta, everyone)
    lost = hessian - rest.hessian(theta, torch.ones(rest.n_objects).double())
    assert frame["leverage"].loc[who] == pytest.approx(torch.linalg.solve(hessian, lost).trace().item(), rel=1e-8)


def test_newton_steps_stand_in_for_refits():
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"a": generator.normal(size=80), "t": generator.exponential(size=80), "e": 1})
    loss = CoxLoss.from_formula("Surv(t, e) ~ a", frame)
    theta = vif.minimize(loss, loss.zeros())
    quick, exact = vif.influence_frame(loss, theta), vif.influence_frame(loss, theta, exact=True)
    for column in quick:
        assert quick[column].corr(exact[column]) > 0.999


def test_networks_are_refused():
    net = CoxLoss([[1.0], [0.0]], [1, 2], [1, 1], model=torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="network has no coefficients"):
        vif.influence_frame(net, net.zeros())


def test_parameters_at_no_minimum_are_told():
    loss = CoxLoss.from_frame(simulated_trial(60), duration_col="months", event_col="died", strata_cols="site")
    with pytest.warns(UserWarning, match="The parameters are not at a minimum"):
        vif.influence_frame(loss, loss.zeros())


def rare(who: list[int]) -> pd.DataFrame:
    """Return 60 patients, of whom some alone are of a rare kind."""
    generator = np.random.default_rng(0)
    frame = pd.DataFrame({"x": generator.normal(size=60)})
    frame["t"] = np.round(20 * generator.exponential(np.exp(-0.6 * frame["x"]))) + 1
    return frame.assign(
        e=(generator.random(60) < 0.7).astype(int) | frame.index.isin(who), rare=0.0 + frame.index.isin(who)
    )


@pytest.mark.parametrize("who", [[7], [7, 9]])
def test_without_all_of_a_rare_kind_its_numbers_are_nan_and_the_others_those_of_a_model_without_it(who):
    frame = rare(who)
    loss = CoxLoss.from_frame(frame, duration_col="t", event_col="e")
    theta = vif.minimize(loss, loss.zeros())
    # R's coxph gives NA to the coefficient of a constant column, and fits the others.
    small = CoxLoss.from_frame(frame.drop(index=who, columns="rare"), duration_col="t", event_col="e")
    slope = vif.minimize(small, small.zeros())
    expected = (slope - theta[0]).item()
    for verb, rel in ((vif.attribute, 0.1), (vif.newton_step, 0.01), (vif.refit, 1e-8)):
        with pytest.warns(UserWarning, match="Nothing determines `rare` without"):
            scores = verb(loss, theta, loss.coefficients(), objects=[who, [0, 1]]).scores
        assert scores.isnan().tolist() == [[False, True], [False, False]]
        assert scores[0, 0].item() == pytest.approx(expected, rel=rel)
    with pytest.warns(UserWarning, match="Nothing determines"):
        found = vif.refit(loss, theta, loss.p_values(), objects=[who]).scores[0]
    p = small.p_values()(slope, torch.ones(small.n_objects).double())
    assert found[0].item() == pytest.approx((p - loss.p_values()(theta, torch.ones(60).double())[0]).item(), rel=1e-6)
    assert found[1].isnan()
    if who == [7]:
        with pytest.warns(UserWarning, match="Nothing determines"):
            row = vif.influence_frame(loss, theta, exact=True).loc[7]
        assert set(row.index[row.isna()]) == {
            "coef_rare",
            "hr_rare",
            "hr_low_rare",
            "hr_high_rare",
            "p_rare",
            "displacement",
        }
        ends = [slope.item() + side * 1.959963984540054 * standard_errors(small, slope).item() for side in (-1, 1)]
        now = [theta[0].item() + side * 1.959963984540054 * standard_errors(loss, theta)[0].item() for side in (-1, 1)]
        assert row[["hr_low_x", "hr_high_x"]].to_numpy() == pytest.approx(np.exp(ends) - np.exp(now), abs=1e-8)
