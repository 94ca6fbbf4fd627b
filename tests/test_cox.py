"""Cox regression against R's `survival`, lifelines and itself with rows deleted."""

import itertools
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.core.removals import Removals
from versatile_influence.losses import CoxLoss, dfbeta
from versatile_influence.losses.cox.range_sums import range_log_sums, range_products

SIM80 = [
    (entry, strata, ties, weights)
    for entry, strata, ties, weights in itertools.product((False, True), (False, True), ("breslow", "efron"), "uw")
]


def reference(name: str) -> pd.DataFrame:
    folder = os.environ.get("VIF_DATA")
    if not folder or not (Path(folder) / "r_survival" / name).is_file():
        pytest.skip("set VIF_DATA to the folder with the references from R")
    return pd.read_csv(Path(folder) / "r_survival" / name)


def sim80(entry, strata, ties, weights) -> tuple[CoxLoss, str]:
    rows = reference("sim80.csv")
    loss = CoxLoss(
        rows[["x1", "x2", "x3"]].to_numpy(),
        rows["stop"] if entry else rows["duration"],
        rows["event"],
        ties=ties,
        entry=rows["entry"] if entry else None,
        strata=rows["stratum"] if strata else None,
        weights=rows["weight"] if weights == "w" else None,
    )
    return loss, "_".join([*["entry"] * entry, *["strata"] * strata]) or "plain"


def numbers(name: str) -> torch.Tensor:
    return torch.from_numpy(reference(name).filter(regex="^x").to_numpy())


@pytest.mark.data
@pytest.mark.parametrize(("entry", "strata", "ties", "weights"), SIM80)
def test_coefficients_dfbeta_and_refits_are_those_of_r(entry, strata, ties, weights):
    loss, kind = sim80(entry, strata, ties, weights)
    theta = vif.minimize(loss, loss.zeros())
    expected = torch.from_numpy(reference(f"{kind}_{ties}_{weights}_coef.csv")["coef"].to_numpy())
    torch.testing.assert_close(theta, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(dfbeta(loss, theta), numbers(f"{kind}_{ties}_{weights}_dfbeta.csv"), rtol=0, atol=1e-8)
    refitted = vif.refit(loss, theta, loss.coefficients())
    torch.testing.assert_close(refitted.scores + theta, numbers(f"{kind}_{ties}_{weights}_loo.csv"), rtol=0, atol=1e-7)


@pytest.mark.data
@pytest.mark.parametrize(("entry", "strata", "ties", "weights"), SIM80)
def test_fast_differences_of_heavily_tied_rows_are_the_generic_ones(entry, strata, ties, weights):
    loss, _ = sim80(entry, strata, ties, weights)
    theta = torch.tensor([0.5, -0.3, 0.2], dtype=torch.float64)
    removals = Removals.of(None, 80)
    fast, generic = loss.removal_differences(theta), vif.Loss.removal_differences(loss, theta, removals)
    torch.testing.assert_close(fast, generic, rtol=1e-10, atol=1e-12)
    jacobian = torch.func.jacrev(lambda point: vif.Loss.removal_differences(loss, point, removals))(theta)
    by_hand = loss.removal_products(theta, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(by_hand, jacobian, rtol=1e-10, atol=1e-12)


@pytest.mark.data
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_metabric_is_as_in_r(ties):
    from versatile_influence.datasets import metabric

    reference("R_metabric_efron_coef.csv")
    train = metabric().train
    loss = CoxLoss.from_frame(train, duration_col="duration", event_col="event", ties=ties)
    theta = vif.minimize(loss, loss.zeros())
    expected = torch.from_numpy(reference(f"R_metabric_{ties}_coef.csv")["coef"].to_numpy())
    torch.testing.assert_close(theta, expected, rtol=0, atol=1e-8)
    torch.testing.assert_close(dfbeta(loss, theta), numbers(f"R_metabric_{ties}_dfbeta.csv"), rtol=0, atol=1e-8)
    refitted = vif.refit(loss, theta, loss.coefficients()).scores + theta
    torch.testing.assert_close(refitted, numbers(f"R_metabric_{ties}_loo_coefs.csv"), rtol=0, atol=1e-7)


def test_coefficients_are_those_of_lifelines():
    import warnings

    from lifelines import CoxPHFitter

    generator = np.random.default_rng(0)
    frame = pd.DataFrame(generator.standard_normal((60, 2)), columns=["a", "b"])
    frame["months"] = generator.integers(1, 12, 60)
    frame["died"] = generator.integers(0, 2, 60)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = CoxPHFitter().fit(frame, "months", "died", fit_options={"precision": 1e-12})
    loss = CoxLoss.from_frame(frame, duration_col="months", event_col="died")
    assert vif.minimize(loss, loss.zeros()).numpy() == pytest.approx(fitted.params_.to_numpy(), abs=1e-8)


def test_an_outlier_of_enormous_risk_is_removed_exactly():
    """Its share of every risk set is far beyond where the polynomial holds."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 1, generator=generator, dtype=torch.float64)
    x[17] = 9.0
    durations = torch.rand(300, generator=generator) + 0.1
    durations[17] = 2.0
    loss = CoxLoss(x, durations, torch.rand(300, generator=generator) < 0.7, strata=torch.arange(300) % 3)
    theta = torch.ones(1, dtype=torch.float64)
    exact = vif.Loss.removal_differences(loss, theta, Removals.of(None, 300))
    torch.testing.assert_close(loss.removal_differences(theta), exact, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spread", [0.1, 3.0, 12.0])
def test_range_sums_are_the_sums_over_all_pairs(spread):
    generator = torch.Generator().manual_seed(1)
    r = (spread * torch.randn(200, generator=generator, dtype=torch.float64)).exp()
    start = torch.randint(0, 100, (200,), generator=generator)
    stop = start + torch.randint(0, 200, (200,), generator=generator)
    # Denominators as risk sets have them: at least the sum of r over the queries whose range they are in.
    inside = (torch.arange(300)[None] >= start[:, None]) & (torch.arange(300)[None] < stop[:, None])
    u = 1 / ((inside * r[:, None]).sum(0) * 1.01 + 1e-3)
    c = torch.rand(300, generator=generator, dtype=torch.float64)
    share = torch.where(inside, r[:, None] * u, 0.0)
    torch.testing.assert_close(
        range_log_sums(r, u, c, (start, stop)), (-c * torch.log1p(-share)).sum(1), rtol=1e-11, atol=1e-12
    )
    odds = range_products(r, u, c, (start, stop))(torch.ones(1, len(r)).to(r), torch.zeros(1, len(u)).to(u))
    torch.testing.assert_close(odds[0], (c * share / (1 - share)).sum(1), rtol=1e-11, atol=1e-12)


def small(**changes) -> dict:
    generator = np.random.default_rng(3)
    values = {"x": generator.standard_normal((12, 2)), "durations": generator.integers(1, 9, 12).astype(float)}
    return values | {"events": np.tile([1, 1, 0], 4)} | changes


def test_survival_probabilities_change_directly_and_through_the_parameters():
    loss = CoxLoss(**small())
    theta = vif.minimize(loss, loss.zeros())
    target = loss.survival(torch.zeros(1, 2), [3.0, 6.0])
    truth = vif.refit(loss, theta, target)
    estimate = vif.newton_step(loss, theta, target)
    torch.testing.assert_close(truth.direct, estimate.direct)
    torch.testing.assert_close(truth.scores, estimate.scores, rtol=0.3, atol=0.02)
    # By hand: the Breslow baseline of the rows that stay, at the parameters refitted on them alone.
    values, i = small(), 4
    kept = [j for j in range(12) if j != i]
    rest = CoxLoss(values["x"][kept], values["durations"][kept], values["events"][kept])
    alone = vif.minimize(rest, rest.zeros())
    risk = np.exp(values["x"] @ alone.numpy())
    hazard = sum(
        1 / sum(risk[k] for k in kept if values["durations"][k] >= values["durations"][j])
        for j in kept
        if values["events"][j] and values["durations"][j] <= 6.0
    )
    before = target(theta, torch.ones(12).double())[1].item()
    assert truth.scores[i, 1].item() == pytest.approx(np.exp(-hazard) - before, abs=1e-9)


def test_survival_of_strata_uses_the_patients_own_baseline():
    values = small()
    loss = CoxLoss(**values, strata=np.repeat(["a", "b"], 6))
    theta = vif.minimize(loss, loss.zeros())
    target = loss.survival(values["x"][:2], [5.0], strata=["a", "b"])
    scores = vif.attribute(loss, theta, target)
    assert scores.direct is not None
    # A patient of stratum b is in no baseline of stratum a.
    assert scores.direct[6:, 0].abs().max() == 0
    assert scores.direct[:6, 0].abs().max() > 0
    with pytest.raises(ValueError, match="strata"):
        loss.survival(values["x"][:2], [5.0])
    with pytest.raises(ValueError, match="no stratum named 'c'"):
        loss.survival(values["x"][:1], [5.0], strata=["c"])


def test_strata_of_test_patients_are_read_from_their_frame():
    values = small()
    frame = pd.DataFrame(values["x"], columns=["a", "b"])
    frame = frame.assign(t=values["durations"], e=values["events"], site=np.repeat(["s", "t"], 6))
    for strata in (["site"], ["site", "half"]):
        given = frame.assign(half=np.tile([0, 1], 6))
        given = given if "half" in strata else given.drop(columns="half")
        loss = CoxLoss.from_frame(given, duration_col="t", event_col="e", strata_cols=strata)
        theta, ones = loss.zeros(), torch.ones(12, dtype=torch.float64)
        read = loss.survival(given, [4.0])(theta, ones)
        named = loss.survival(values["x"], [4.0], strata=given[strata].to_numpy())(theta, ones)
        torch.testing.assert_close(read, named)


def test_held_out_likelihood_is_that_of_the_held_out_patients():
    values = small()
    loss = CoxLoss(**values)
    theta = vif.minimize(loss, loss.zeros())
    held_out = loss.partial_log_likelihood(values["x"][:5], values["durations"][:5], values["events"][:5])
    ones = torch.ones(5, dtype=torch.float64)
    alone = CoxLoss(values["x"][:5], values["durations"][:5], values["events"][:5])
    assert held_out(theta).item() == pytest.approx(-alone(theta, ones).item())


def test_subjects_are_removed_with_all_their_rows():
    values = small(subjects=np.repeat([f"p{k}" for k in range(6)], 2))
    loss = CoxLoss(**values)
    assert (loss.n_objects, loss.object_labels[3]) == (6, "p3")
    theta = vif.minimize(loss, loss.zeros())
    kept = [row for row in range(12) if row // 2 != 3]
    rest = CoxLoss(values["x"][kept], values["durations"][kept], values["events"][kept])
    truth = vif.refit(loss, theta, loss.coefficients(), objects=[3])
    torch.testing.assert_close(truth.scores[0] + theta, vif.minimize(rest, rest.zeros()), rtol=0, atol=1e-8)


def test_frames_name_objects_targets_and_columns():
    frame = pd.DataFrame(small()["x"], columns=["age", "dose"], index=[f"id{k}" for k in range(12)])
    frame = frame.assign(months=small()["durations"], died=small()["events"])
    loss = CoxLoss.from_frame(frame, duration_col="months", event_col="died")
    scores = vif.attribute(loss, vif.minimize(loss, loss.zeros()), loss.coefficients()).to_frame()
    assert scores.index[2] == "id2"
    assert list(scores.columns) == ["age", "dose"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.where(np.arange(24).reshape(12, 2) == 7, np.nan, small()["x"])}, "row 3, covariate `x1` is nan"),
        ({"x": np.where(np.arange(24).reshape(12, 2) == 8, np.inf, small()["x"])}, "row 4, covariate `x0` is inf"),
        ({"durations": np.r_[-1.0, np.ones(11)]}, "row 0, the duration is -1"),
        ({"events": np.r_[np.ones(11), 2]}, "row 11, the event is 2"),
        ({"events": np.zeros(12)}, "no event"),
        ({"entry": small()["durations"]}, "row 0, the entry time .* is not before the duration"),
        ({"weights": np.r_[0.0, np.ones(11)]}, "row 0, the weight is 0"),
        ({"x": np.c_[small()["x"], np.ones(12)]}, "`x2` is constant"),
        ({"x": np.c_[small()["x"], small()["x"].sum(1)]}, "linear combination"),
        ({"durations": np.ones(11)}, "`durations` has 11 entries, but `x` has 12 rows"),
        ({"subjects": [None] + [1] * 11}, "`subjects` is None in row 0"),
        ({"ties": "exact"}, '"efron" or "breslow"'),
        ({"penalty": -1.0}, "penalty"),
    ],
)
def test_bad_data_are_refused_by_row_and_column(changes, message):
    with pytest.raises(ValueError, match=message):
        CoxLoss(**small(**changes))


def test_text_is_refused_with_the_column_named():
    frame = pd.DataFrame({"sex": ["f", "m", "f"], "t": [1, 2, 3], "e": [1, 1, 0]})
    with pytest.raises(TypeError, match="`sex` is not numeric.*get_dummies"):
        CoxLoss.from_frame(frame, duration_col="t", event_col="e")
    with pytest.raises(ValueError, match="no column `time`"):
        CoxLoss.from_frame(frame, duration_col="time", event_col="e")
    with pytest.raises(TypeError, match="`x` must be numeric: got .a. in it"):
        CoxLoss(["a", "b"], [1, 2], [1, 1])


def test_complete_separation_is_named_not_fitted():
    x = np.c_[np.repeat([1.0, 0.0], 10), np.random.default_rng(0).standard_normal(20)]
    loss = CoxLoss(x, np.arange(1.0, 21.0), np.ones(20), columns=["treated", "age"])
    with pytest.raises(ValueError, match="no finite minimum.*`treated` goes to .∞.*separation"):
        vif.minimize(loss, loss.zeros())


def test_a_likelihood_that_is_monotone_in_two_directions_at_once_is_named_too():
    # Of the two, the one that had more curvature leads uphill again.
    x = [[-0.9, 2.0], [-0.9, 2.0], [-0.2, -1.3], [-0.2, -0.4], [-1.1, 0.1], [0.2, 1.0], [0.3, 0.8]]
    loss = CoxLoss(x, [1, 1, 2, 4, 3, 4, 1], [0, 1, 1, 0, 1, 0, 0], strata=[1, 0, 0, 2, 0, 2, 1])
    with pytest.raises(ValueError, match="no finite minimum"):
        vif.minimize(loss, loss.zeros())


def test_a_refit_that_runs_off_to_infinity_is_recorded_and_the_others_stand():
    x = np.repeat([1.0, 0.0], 10)[:, None]
    durations = np.arange(1.0, 21.0)
    durations[[9, 10]] = durations[[10, 9]]
    loss = CoxLoss(np.vstack([x, [[1.0]]]), np.r_[durations, 30.0], np.ones(21), columns=["treated"])
    theta = vif.minimize(loss, loss.zeros())
    truth = vif.refit(loss, theta, loss.coefficients(), objects=[[20, 10, 9], [0], [1]])
    assert list(truth.failed) == [0]
    assert "separation" in truth.failed[0]
    assert torch.isfinite(truth.scores[1:]).all()
    assert truth.scores[0].isnan()


@pytest.mark.parametrize("verb", [vif.attribute, vif.newton_step, vif.descend, vif.refit])
@pytest.mark.parametrize("collinear", [False, True], ids=["constant", "collinear"])
def test_what_nothing_determines_without_a_patient_is_nan_and_named(verb, collinear):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(60, 2, generator=draw, dtype=torch.float64)
    third = x.sum(1, keepdim=True) if collinear else torch.zeros(60, 1).double()
    third[7] += 1
    times, events = torch.arange(60) + 1, torch.arange(60) % 3 > 0
    loss = CoxLoss(torch.cat([x, third], 1), times, events, columns=["a", "b", "flag"])
    theta = vif.minimize(loss, loss.zeros())
    # One test patient without the flag, and one with it.
    tests = torch.tensor([[0.5, -0.5, 0.0], [0.5, -0.5, 1.0]]).double()
    target = lambda theta: torch.cat([theta, tests @ theta])  # noqa: E731
    with pytest.warns(UserWarning, match="Nothing determines `.*` without 7: it is constant among the others"):
        scores = verb(loss, theta, target, objects=[3, 7])
    assert scores.scores[0].isfinite().all()
    lost = [True, True, True, False, True] if collinear else [False, False, True, False, True]
    assert scores.scores[1].isnan().tolist() == lost
    # R's coxph gives NA to that coefficient; the others are those of the model without the column.
    kept = torch.arange(60) != 7
    small = CoxLoss(x[kept], times[kept], events[kept])
    fitted = tests[0, :2] @ vif.minimize(small, small.zeros()) - tests[0] @ theta
    assert scores.scores[1, 3].item() == pytest.approx(fitted.item(), rel=0.5 if verb is vif.attribute else 0.05)
    assert scores.error[1].isnan()


def test_without_any_patient_of_ordinary_data_everything_is_determined():
    x = torch.randn(30, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert not CoxLoss(x, torch.arange(30) + 1, torch.ones(30), strata=[0] * 29 + [1]).undetermined
    assert not CoxLoss(x, torch.arange(30) + 1, torch.ones(30), subjects=[i // 2 for i in range(30)]).undetermined
    assert not CoxLoss(torch.eye(30)[:, :2].double(), torch.arange(30) + 1, torch.ones(30), penalty=1.0).undetermined
    found = CoxLoss(torch.eye(30)[:, :2].double(), torch.arange(30) + 1, torch.ones(30)).undetermined
    assert sorted(found) == [0, 1]


@pytest.mark.parametrize("verb", [vif.attribute, vif.refit])
def test_without_the_only_event_nothing_is_estimable(verb):
    columns = {"t": [5.0, 1, 2, 3, 4, 6, 7, 8], "e": [1] + [0] * 7, "age": [1.0, 0, 5, 3, -2, 0.5, 2, 1.5]}
    loss = CoxLoss.from_frame(pd.DataFrame(columns), duration_col="t", event_col="e")
    theta = vif.minimize(loss, loss.zeros())
    with pytest.warns(UserWarning, match="Nothing determines `age` without 0"):
        scores = verb(loss, theta, loss.coefficients()).scores
    # Who left before the event was in nobody's risk set; without 5 the rest is separated, which a refit finds.
    assert scores[0].isnan().all()
    assert not scores[1:5].any()
    assert scores[6:].isfinite().all()
