"""From a frame or a formula to a Cox loss: R's numbers on public data, every obstacle said at once, with its cure."""

import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.losses import CoxLoss

ROLES = {"duration_col": "t", "event_col": "e"}


def messy() -> pd.DataFrame:
    frame = pd.DataFrame(
        {"t": np.arange(1.0, 9.0), "e": [1, 2] * 4, "age": np.arange(8.0) ** 2 % 7, "cell": list("abca") * 2}
    )
    frame.loc[[3, 5], "age"] = np.nan
    return frame


def fitted(loss: CoxLoss) -> np.ndarray:
    return vif.minimize(loss, loss.zeros()).numpy()


def test_all_that_keeps_a_frame_from_being_fitted_is_said_at_once():
    with pytest.raises(ValueError, match="3 things keep this frame") as said:
        CoxLoss.from_frame(messy(), **ROLES)
    for words in (
        "`cell` is not numeric (row 0 holds 'a')",
        "C(cell)",
        "In row 3, covariate `age` is nan: 2 of 8 rows",
        "na='drop'",
        "events in `e` are 1 and 2, not 1 and 0: in row 1 the event is 2",
        "event_value=2",
    ):
        assert words in str(said.value)


def test_each_cure_that_is_named_works():
    with pytest.warns(UserWarning, match="2 of 8 rows have missing values and were dropped"):
        loss = CoxLoss.from_formula("Surv(t, e) ~ age + C(cell)", messy(), na="drop", event_value=2, penalty=0.1)
    kept = messy().dropna()
    by_hand = pd.get_dummies(kept, columns=["cell"], drop_first=True, dtype=float).assign(
        e=(kept["e"] == 2).astype(int)
    )
    assert fitted(loss) == pytest.approx(fitted(CoxLoss.from_frame(by_hand, **ROLES, penalty=0.1)), abs=1e-10)
    assert (loss.n_dropped, loss.object_labels) == (2, [0, 1, 2, 4, 6, 7])
    assert loss.columns == ["age", "C(cell)[T.b]", "C(cell)[T.c]"]


@pytest.mark.parametrize(("column", "role"), [("site", "strata_cols"), ("who", "subject_col")])
def test_missing_labels_are_named_and_refused_or_dropped(column, role):
    frame = messy().drop(columns="cell").fillna(0.0).assign(e=1, **{column: [None, *"bbbcccc"]})
    with pytest.raises(ValueError, match=rf"In row 0, `{column}` is None: 1 of 8 rows have missing labels.*na='drop'"):
        CoxLoss.from_frame(frame, **ROLES, **{role: column})
    with pytest.warns(UserWarning, match="1 of 8 rows"):
        assert CoxLoss.from_frame(frame, **ROLES, **{role: column}, na="drop").n_dropped == 1


def test_ids_are_the_text_that_they_are():
    frame = messy().drop(columns="cell").fillna(0.0).assign(e=1, who=["01", "1", "1.0", "NA", "a", "b", "c", "d"])
    assert CoxLoss.from_frame(frame, **ROLES, subject_col="who").object_labels == frame["who"].tolist()


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"duration_col": "t", "event_col": "t"}, "`t` is given as duration_col and as event_col"),
        (ROLES | {"strata_cols": ["cell", "cell"]}, "`cell` is given as strata_cols and as strata_cols"),
        (ROLES | {"na": "fill"}, '`na` must be "refuse" or "drop"'),
        (ROLES | {"event_value": 3}, r"No row of `e` holds the event .event_value=3.: it holds"),
    ],
)
def test_columns_with_two_roles_and_values_that_are_not_there_are_refused(roles, message):
    with pytest.raises(ValueError, match=message):
        CoxLoss.from_frame(messy(), **roles)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("t ~ age", "`formula` must be like"),
        ("Surv(t) ~ age", r"Surv takes \(time, event\)"),
        ("Surv(t, e == two) ~ age", "column == value"),
        ("Surv(t, e) ~ age +* cell", "cannot be read"),
        ("Surv(t, e) ~ height", "height"),
        ("Surv(days / 2, e) ~ age", "no column `days / 2`"),
        ("Surv(t, e) ~ age + offset(t)", "`offset.t.` is not served"),
        ("Surv(t, e) ~ age:strata(cell)", "stands by itself"),
        ("Surv(t, e) ~ t", "`t` is a covariate and duration"),
        ("Surv(t, e) ~ 1", "names no covariate"),
        ("Surv(t, e) ~ age + cluster(e) + cluster(cell)", "names one column"),
        ("Surv(t, t) ~ age", "`t` is given as"),
    ],
)
def test_formulas_that_cannot_be_served_are_refused_with_what_to_do(formula, message):
    with pytest.raises(ValueError, match=message):
        CoxLoss.from_formula(formula, messy())


def test_a_formula_reaches_test_patients_whose_categories_are_some_of_those_trained_on():
    frame = messy().fillna(0.0)
    loss = CoxLoss.from_formula("Surv(t, e == 2) ~ age * cell", frame, penalty=0.1)
    loss = pickle.loads(pickle.dumps(loss))
    theta = vif.minimize(loss, loss.zeros())
    patient = pd.DataFrame({"age": [2.0], "cell": ["c"]}, index=["new"])
    by_name = dict(zip(loss.columns, theta.tolist(), strict=True))
    target = loss.log_risk(patient)
    assert target.labels == ["new"]
    expected = 2 * by_name["age"] + by_name["cell[T.c]"] + 2 * by_name["age:cell[T.c]"]
    assert target(theta).item() == pytest.approx(expected, abs=1e-12)


def test_a_formula_is_spelled_as_in_r():
    frame = messy().fillna(0.0).rename(columns={"age": "ph.ecog"})
    spelled = CoxLoss.from_formula("Surv(t / 12, e == 2) ~ ph.ecog + factor(cell)", frame, penalty=0.1)
    dotted = CoxLoss.from_formula("Surv(t, e == 2) ~ .", frame, penalty=0.1)
    assert spelled.columns == ["ph.ecog", "C(cell)[T.b]", "C(cell)[T.c]"]
    assert fitted(spelled) == pytest.approx(fitted(dotted), abs=1e-10)


def test_times_equal_to_within_rounding_are_tied_whole_numbers_never():
    days = np.array([3, 3, 5, 5, 8, 11.0])
    x, events = [[0.0], [1], [1], [0], [1], [0]], np.ones(6)
    noisy = days / 365.25 * (1 + np.array([0, 1e-15, 0, -1e-15, 0, 0]))
    in_days, in_years = (CoxLoss(x, times, events, entry=times / 2) for times in (days, noisy))
    assert fitted(in_years) == pytest.approx(fitted(in_days), abs=1e-12)
    stamps = CoxLoss(x, 1.5e9 + days, events)
    assert fitted(stamps) == pytest.approx(fitted(CoxLoss(x, days, events)), abs=1e-12)
    theta = torch.tensor(fitted(in_days))
    at = [
        loss.survival([[1.0]], [time]).fn(theta, torch.ones(6).double())
        for loss, time in ((in_days, 5), (in_years, 5 / 365.25))
    ]
    torch.testing.assert_close(*at)


# Public data as they come with lifelines and scikit-survival, fitted by one call each.
def cases(name: str) -> pd.DataFrame:
    folder = os.environ.get("VIF_DATA")
    file = Path(folder or "") / ".." / "cases" / "survival" / name
    if not folder or not file.is_file():
        pytest.skip("the survival cases and their references from R are not beside the folder named by VIF_DATA")
    return pd.read_csv(file)


COVARIATES = {
    "rossi": "fin + age + race + wexp + mar + paro + prio",
    "gbsg2": "horTh + age + menostat + tsize + tgrade + pnodes + progrec + estrec",
    "veteran": "trt + karno + diagtime + age + prior + celltype_large + celltype_smallcell + celltype_squamous",
    "bladder": "rx + number + size",
    "colon": "rx_Lev + rx_Lev5FU + sex + age + obstruct + adhere + nodes + differ + extent + surg",
}
# (reference, file, formula, other arguments): as oracle.R of the references calls coxph.
OF_R = [
    ("rossi", "rossi", f"Surv(week, arrest) ~ {COVARIATES['rossi']}", {}),
    ("rossi_w", "rossi_w", f"Surv(week, arrest) ~ {COVARIATES['rossi']}", {"weights_col": "w"}),
    ("rossi_strata", "rossi", "Surv(week, arrest) ~ fin + age + race + mar + paro + prio + strata(wexp)", {}),
    ("gbsg2", "gbsg2", f"Surv(time, cens) ~ {COVARIATES['gbsg2']}", {}),
    ("veteran", "veteran", f"Surv(tm, status) ~ {COVARIATES['veteran']}", {}),
    ("ovarian", "ovarian", "Surv(futime, fustat) ~ age + resid + rx + ecog", {}),
    (
        "bladder_pwp",
        "bladder_pwp",
        f"Surv(start, stop, event) ~ {COVARIATES['bladder']} + strata(enum) + cluster(id)",
        {},
    ),
    ("bladder_ag", "bladder_ag", f"Surv(start, stop, event) ~ {COVARIATES['bladder']} + cluster(id)", {}),
    ("colon", "colon", f"Surv(time, status) ~ {COVARIATES['colon']} + strata(etype) + cluster(id)", {}),
    ("bigscale", "bigscale", "Surv(t, e) ~ x1 + x2 + income + date + unix", {}),
    ("floatnoise", "floatnoise", "Surv(t, e) ~ x1 + x2", {}),
]


@pytest.mark.data
@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize(("name", "file", "formula", "given"), OF_R, ids=[case[0] for case in OF_R])
def test_coefficients_dfbeta_errors_and_refits_are_those_of_r_to_1e_8_of_a_standard_error(
    name, file, formula, given, ties
):
    loss = CoxLoss.from_formula(formula, cases(f"{file}.csv"), ties=ties, **given)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theta = vif.minimize(loss, loss.zeros())
    expected = cases(f"r/{name}_{ties}_coef.csv")
    scale = torch.from_numpy(expected["se"].to_numpy())

    def close(ours, theirs):
        torch.testing.assert_close(ours / scale, torch.as_tensor(np.asarray(theirs)) / scale, rtol=0, atol=1e-8)

    close(theta, expected["coef"])
    close(vif.losses.standard_errors(loss, theta, robust=False), expected["se"])
    close(vif.losses.standard_errors(loss, theta), expected["rdefault"])
    close(vif.losses.standard_errors(loss, theta, robust=True), expected["rse"])
    dfbeta = torch.from_numpy(np.vstack([cases_table(f"r/{name}_{ties}_dfbeta.csv")]))
    close(vif.losses.dfbeta(loss, theta), dfbeta)
    refitted = vif.refit(loss, theta, loss.coefficients()).scores + theta
    close(refitted, cases_table(f"r/{name}_{ties}_loo.csv"))


def cases_table(name: str) -> np.ndarray:
    cases(name)
    return np.loadtxt(Path(os.environ["VIF_DATA"]) / ".." / "cases" / "survival" / name, delimiter=",", ndmin=2)


@pytest.mark.data
def test_days_and_years_of_the_same_follow_up_give_r_s_one_coefficient():
    """R: coxph(Surv(futime_d, status) ~ x, tied), and with futime_y."""
    frame = cases("tied.csv")
    for time in ("futime_d", "futime_y"):
        assert fitted(CoxLoss.from_formula(f"Surv({time}, status) ~ x", frame)) == pytest.approx(
            [-0.03113932472], abs=1e-10
        )


@pytest.mark.data
def test_errors_are_by_hospital_where_patients_are_what_is_removed():
    """R: coxph(Surv(week, arrest) ~ …, rossi, cluster = site) is √Σ rowsum(dfbeta, site)², of its dfbeta here."""
    rossi = cases("rossi.csv").assign(site=[f"S{row % 20}" for row in range(432)], who=range(432))
    changes, errors = cases_table("r/rossi_efron_dfbeta.csv"), cases("r/rossi_efron_coef.csv")["se"].to_numpy()
    expected = np.sqrt((pd.DataFrame(changes).groupby(rossi["site"].to_numpy()).sum() ** 2).sum()).to_numpy()
    formula = f"Surv(week, arrest) ~ {COVARIATES['rossi']} + cluster(site)"
    loss = CoxLoss.from_formula(formula, rossi, subject_col="who")
    theta = vif.minimize(loss, loss.zeros())
    assert (loss.n_objects, loss.robust) == (432, True)
    assert vif.losses.standard_errors(loss, theta).numpy() == pytest.approx(expected, rel=1e-8)
    assert vif.influence_frame(loss, theta).filter(regex="^dfbeta_").to_numpy() / errors == pytest.approx(
        changes / errors, abs=1e-8
    )
    # Without a patient too, as a model fitted without that row has them.
    by_frame = CoxLoss.from_frame(
        rossi.drop(columns="who"), duration_col="week", event_col="arrest", cluster_col="site"
    )
    z = vif.refit(by_frame, theta, by_frame.z_values(["fin"]), objects=[7]).scores.item()
    rest = CoxLoss.from_frame(
        rossi.drop(columns="who").drop(index=7), duration_col="week", event_col="arrest", cluster_col="site"
    )
    point = vif.minimize(rest, rest.zeros())
    errors_without = vif.losses.standard_errors(rest, point)[0]
    assert z == pytest.approx((point[0] / errors_without - theta[0] / expected[0]).item(), abs=1e-7)
    with pytest.raises(ValueError, match="In row 1, the cluster is 'b', and of another row of the same subject 'c'"):
        CoxLoss([[0.0], [1.0], [2.0]], [1, 2, 3], [1, 1, 1], subjects=[1, 2, 2], clusters=["a", "b", "c"])
