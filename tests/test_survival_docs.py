"""The page on survival analysis runs, and its models of other kinds are those of lifelines."""

import re
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.losses import CoxLoss, standard_errors

PAGE = Path(__file__).parent.parent / "docs" / "survival.md"
DELTA_BETA = PAGE.parent / "lifelines_delta_beta.md"


def test_the_page_runs_from_top_to_bottom_and_prints_what_it_says(capsys):
    pytest.importorskip("lifelines")
    names: dict = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(
            compile("\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)), PAGE.name, "exec"),
            names,
        )
    said = capsys.readouterr().out
    assert "overturned without 19 of 432 (4.4%; first order says 24)" in said
    from lifelines import WeibullAFTFitter

    fitter = WeibullAFTFitter().fit(names["rossi"][["week", "arrest", "fin", "age"]], "week", "arrest")
    own = fitter.params_
    expected = [own["lambda_"][["Intercept", "fin", "age"]], -own["rho_"]["Intercept"]]
    assert names["aft"].numpy() == pytest.approx(np.hstack(expected), abs=1e-4)
    # Without one row, fitted anew by lifelines.
    change = vif.refit(names["weibull"], names["aft"], lambda theta: theta, n_objects=432, objects=[100]).scores[0]
    without = WeibullAFTFitter().fit(names["rossi"][["week", "arrest", "fin", "age"]].drop(100), "week", "arrest")
    assert (names["aft"] + change)[1].item() == pytest.approx(without.params_["lambda_"]["fin"], abs=1e-4)


def test_the_page_on_delta_beta_prints_what_it_says(capsys):
    """Where lifelines mends its residuals this fails: the page is to say so then."""
    pytest.importorskip("lifelines")
    programs = re.findall(r"```python\n(.*?)```", DELTA_BETA.read_text(), flags=re.S)
    assert len(programs[0].strip().splitlines()) <= 20
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec(compile("\n".join(programs), DELTA_BETA.name, "exec"), {})
    printed = capsys.readouterr().out.strip().splitlines()
    assert printed == re.findall(r"^# (\{.*\})$", "\n".join(programs), flags=re.M)
    assert len(printed) == 3


def fine_gray_rows(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the weighted start–stop rows of Fine & Gray's model, as R's finegray makes them.

    A person with the competing event stays at risk, with the weight G(t)/G(T) of not having been censored meanwhile.
    """
    times = np.sort(frame.t.unique())
    left = 1.0
    kept = {0.0: 1.0}
    for time in times:
        # Censoring after events at the same time, as the Kaplan–Meier estimate of censoring has it.
        at_risk = (frame.t > time).sum() + ((frame.t == time) & (frame.cause == 0)).sum()
        left *= 1 - ((frame.t == time) & (frame.cause == 0)).sum() / max(at_risk, 1)
        kept[time] = left
    events = np.sort(frame.t[frame.cause == 1].unique())
    rows = []
    for who, row in frame.iterrows():
        rows.append((who, 0.0, row.t, int(row.cause == 1), 1.0, row.x))
        if row.cause == 2:
            begin = row.t
            for time in events[events > row.t]:
                before = times[times < time].max()
                rows.append((who, begin, time, 0, kept[before] / kept[row.t], row.x))
                begin = time
    made = pd.DataFrame(rows, columns=["who", "start", "stop", "event", "w", "x"])
    return made[(made.w > 0) & (made.stop > made.start)]


def test_fine_and_gray_s_model_is_weighted_rows_and_each_person_goes_with_all_of_theirs():
    pytest.importorskip("lifelines")
    from lifelines import CoxTimeVaryingFitter

    generator = np.random.default_rng(0)
    n = 80
    frame = pd.DataFrame({"x": generator.normal(size=n), "t": generator.exponential(size=n)})
    frame["cause"] = generator.choice([0, 1, 2], n, p=[0.3, 0.4, 0.3])
    rows = fine_gray_rows(frame)
    given = {"weights_col": "w", "subject_col": "who"}
    loss = CoxLoss.from_formula("Surv(start, stop, event) ~ x", rows, **given)
    theta = vif.minimize(loss, loss.zeros())
    fitter = CoxTimeVaryingFitter().fit(
        rows, id_col="who", event_col="event", start_col="start", stop_col="stop", weights_col="w"
    )
    assert theta.numpy() == pytest.approx(fitter.params_.to_numpy(), abs=1e-6)
    assert loss.robust
    assert standard_errors(loss, theta).isfinite().all()
    change = vif.refit(loss, theta, loss.coefficients(), objects=[7]).scores[0]
    rest = CoxLoss.from_formula("Surv(start, stop, event) ~ x", rows[rows.who != loss.object_labels[7]], **given)
    assert torch.allclose(theta + change, vif.minimize(rest, rest.zeros()), atol=1e-8)
