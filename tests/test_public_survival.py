"""Public data sets as they come, each fitted by one call: text, gaps, codes of all kinds; lifelines is the oracle."""

import re
import warnings

import pandas as pd
import pytest

import versatile_influence as vif
from versatile_influence.cli import main
from versatile_influence.losses import CoxLoss


def of_lifelines(name: str) -> pd.DataFrame:
    datasets = pytest.importorskip("lifelines.datasets")
    return getattr(datasets, f"load_{name}")()


def of_scikit_survival(name: str, event: str, time: str) -> pd.DataFrame:
    datasets = pytest.importorskip("sksurv.datasets")
    x, y = getattr(datasets, f"load_{name}")()
    return x.assign(**{time: y[y.dtype.names[1]], event: y[y.dtype.names[0]]})


# Name, data, formula of ours, the same right side for lifelines, its time and event columns.
SETS = {
    "rossi": (lambda: of_lifelines("rossi"), "Surv(week, arrest) ~ .", None, ("week", "arrest")),
    "lung": (
        lambda: of_lifelines("lung"),
        "Surv(time, status) ~ age + sex + ph.ecog + ph.karno + wt.loss",
        "age + sex + `ph.ecog` + `ph.karno` + `wt.loss`",
        ("time", "status"),
    ),
    "lung by institution": (
        lambda: of_lifelines("lung"),
        "Surv(time, status) ~ age + factor(ph.ecog) + strata(sex)",
        None,
        ("time", "status"),
    ),
    "gbsg2": (lambda: of_lifelines("gbsg2"), "Surv(time, cens) ~ .", None, ("time", "cens")),
    "regression": (
        lambda: of_lifelines("regression_dataset"),
        "Surv(T, E) ~ var1 * var2 + var3",
        "var1 * var2 + var3",
        ("T", "E"),
    ),
    "larynx": (
        lambda: of_lifelines("larynx"),
        "Surv(time, death) ~ age + Stage_II + Stage_III + Stage_IV",
        None,
        ("time", "death"),
    ),
    "dd": (
        lambda: of_lifelines("dd"),
        "Surv(duration, observed) ~ un_continent_name + regime",
        "un_continent_name + regime",
        ("duration", "observed"),
    ),
    "kidney transplant": (lambda: of_lifelines("kidney_transplant"), "Surv(time, death) ~ .", None, ("time", "death")),
    "veteran": (
        lambda: of_scikit_survival("veterans_lung_cancer", "dead", "days"),
        "Surv(days, dead) ~ .",
        None,
        ("days", "dead"),
    ),
    "whas500": (
        lambda: of_scikit_survival("whas500", "died", "days"),
        "Surv(days, died) ~ age + bmi + C(sho)",
        "age + bmi + C(sho)",
        ("days", "died"),
    ),
    "gbsg2 of scikit-survival": (
        lambda: of_scikit_survival("gbsg2", "happened", "days"),
        "Surv(days, happened) ~ .",
        None,
        ("days", "happened"),
    ),
}


def of_lifelines_model(name: str, used: pd.DataFrame) -> pd.Series:
    """Return lifelines' coefficients of the rows that are used, under our names."""
    from lifelines import CoxPHFitter

    _, formula, right, (time, event) = SETS[name]
    if right is None and "factor" in formula:
        # lifelines takes no odd names inside a function.
        used, right = used.rename(columns={"ph.ecog": "ecog"}), "age + C(ecog)"
    others = [f"`{column}`" for column in used.columns if column not in (time, event)]
    strata = ["sex"] if "strata(sex)" in formula else None
    right = right or " + ".join(others)
    return CoxPHFitter().fit(used, time, event, formula=right, strata=strata, fit_options={"precision": 1e-12}).params_


@pytest.mark.parametrize("name", SETS)
def test_public_data_fit_by_one_call_with_lifelines_coefficients(name):
    pytest.importorskip("lifelines")
    load, formula, *_ = SETS[name]
    frame = load()
    with warnings.catch_warnings():
        # Rows with gaps are dropped, and counted.
        warnings.simplefilter("ignore")
        loss = CoxLoss.from_formula(formula, frame, na="drop")
        theta = vif.minimize(loss, loss.zeros())
        expected = of_lifelines_model(name, frame.loc[loss.object_labels])
    names = [column.replace("`ph.ecog`", "ecog") for column in loss.columns]
    assert theta.numpy() == pytest.approx(expected[names].to_numpy(), abs=1e-6)
    assert loss.n_dropped == len(frame) - loss.n_objects


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("name", SETS)
def test_public_data_fit_by_one_command_with_lifelines_coefficients(name, tmp_path, capsys):
    pytest.importorskip("lifelines")
    load, formula, *_ = SETS[name]
    frame = load()
    frame.to_csv(tmp_path / "set.csv", index=False)
    # Categories have no order of their own in a file.
    frame = pd.read_csv(tmp_path / "set.csv")
    words = ["--formula", formula, "--na", "drop", "--by", "attribute", "--check", "0", "--top", "0"]
    assert main(["cox", str(tmp_path / "set.csv"), *words]) == 0
    lines = capsys.readouterr().out.split("\n\n")[1].splitlines()
    end = lines[0].index("coef") + len("coef")
    found = dict(line[:end].rsplit(None, 1) for line in lines[1:])
    named = [one for one in frame.columns if re.search(rf"(?<![\w.]){re.escape(one)}(?![\w.])", formula)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = of_lifelines_model(name, frame.dropna(subset=None if "~ ." in formula else named))
    assert len(found) == len(expected)
    for label, text in found.items():
        # To the last digit printed.
        digits = len(text.partition(".")[2])
        assert float(text) == pytest.approx(
            expected[label.strip().replace("`ph.ecog`", "ecog")], abs=0.51 * 10**-digits
        )


def test_start_stop_rows_of_stanford_s_heart_transplants_have_patients_as_objects():
    """R: coxph(Surv(start, stop, event) ~ age + transplant + surgery + year, heart), of the help page of `heart`."""
    rows = of_lifelines("stanford_heart_transplants")
    loss = CoxLoss.from_formula("Surv(start, stop, event) ~ age + transplant + surgery + year", rows, subject_col="id")
    theta = dict(zip(loss.columns, vif.minimize(loss, loss.zeros()).tolist(), strict=True))
    expected = {"age": 0.0272, "transplant": -0.0103, "surgery": -0.6371, "year": -0.1464}
    assert theta == pytest.approx(expected, abs=1e-3)
    assert loss.n_objects == rows["id"].nunique() == 103
    assert not loss.robust


def test_lung_s_coefficients_are_those_of_r():
    """R: coxph(Surv(time, status) ~ age + sex + ph.ecog, lung), of Therneau's survival vignette."""
    frame = of_lifelines("lung")
    with pytest.warns(UserWarning, match="1 of 228 rows have missing values"):
        loss = CoxLoss.from_formula("Surv(time, status) ~ age + sex + ph.ecog", frame, na="drop")
    assert vif.minimize(loss, loss.zeros()).numpy() == pytest.approx([0.011067, -0.552612, 0.463728], abs=1e-6)
