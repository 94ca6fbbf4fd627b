import re
import warnings

import numpy as np
import pandas as pd
import pytest

import versatile_influence as vif
from versatile_influence.cli import main
from versatile_influence.datasets import simulated_trial

ROLES = ["--duration-col", "months", "--event-col", "died"]


@pytest.fixture
def trial(tmp_path):
    """Write a small trial, and return its path, its rows and its arguments."""
    frame = simulated_trial(120)
    frame.to_csv(tmp_path / "patients.csv")
    return tmp_path / "patients.csv", frame, [*ROLES, "--id-col", "patient", "--strata", "site"]


def run(capsys, *arguments):
    status = main(["cox", *map(str, arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def lifelines_coefficients(frame, **roles):
    from lifelines import CoxPHFitter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitter = CoxPHFitter().fit(frame, "months", "died", fit_options={"precision": 1e-11}, **roles)
    return fitter


def numbers(line):
    return [float(text) for text in re.findall(r"[-+]?\d+\.?\d*", line)]


def test_coefficients_errors_and_hazard_ratios_are_those_of_lifelines(trial, capsys):
    path, frame, arguments = trial
    status, out, err = run(capsys, path, *arguments)
    assert (status, err) == (0, "")
    expected = lifelines_coefficients(frame, strata="site").summary
    for name in ("age", "female", "treatment", "biomarker", "stage"):
        line = next(line for line in out.splitlines() if line.split()[:1] == [name])
        row = expected.loc[name]
        found = numbers(line.replace("<", ""))
        columns = ["coef", "se(coef)", "exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "z"]
        np.testing.assert_allclose(found[:6], row[columns].astype(float), rtol=6e-3, atol=6e-3)
    assert f"120 patients, {frame['died'].sum()} events, Efron's ties, stratified by site" in out


@pytest.mark.parametrize("how", [["--by", "attribute", "--check", 2], []])
def test_refitted_changes_beside_predicted_are_those_of_deleting_the_patient_in_lifelines(trial, capsys, how):
    path, frame, arguments = trial
    _, out, _ = run(capsys, path, *arguments, *how)
    lines = out.splitlines()
    start = next(
        i for i, line in enumerate(lines) if line.split() == ["patient", "coefficient", "predicted", "refitted"]
    )
    patient, coefficient, _, refitted = lines[start + 1].split()
    full = lifelines_coefficients(frame, strata="site").params_[coefficient]
    without = lifelines_coefficients(frame.drop(index=patient), strata="site").params_[coefficient]
    assert float(refitted) == pytest.approx(without - full, rel=0.01, abs=5e-4)


def test_out_holds_every_change_under_the_names_of_patients_and_columns(trial, capsys, tmp_path):
    path, frame, arguments = trial
    simulated_trial(4, seed=1).to_csv(tmp_path / "test.csv")
    test, out_path = ["--test", tmp_path / "test.csv"], tmp_path / "scores.csv"
    _, out, _ = run(capsys, path, *arguments, *test, "--by", "attribute", "--check", 0, "--out", out_path)
    scores = pd.read_csv(out_path, index_col="patient")
    assert scores.index.tolist() == frame.index.tolist()
    risks = [f"relative_risk(P{i})" for i in range(1, 5)]
    assert scores.columns.tolist() == [
        "age",
        "female",
        "treatment",
        "biomarker",
        "stage",
        *risks,
        "estimated error",
        "verdict",
    ]
    loss = vif.losses.CoxLoss.from_frame(frame, duration_col="months", event_col="died", strata_cols="site")
    expected = vif.attribute(loss, vif.minimize(loss, loss.zeros()), loss.coefficients())
    np.testing.assert_allclose(scores.iloc[:, :5], expected.scores, rtol=1e-6, atol=1e-12)
    assert "120 patients × 9 numbers" in out
    assert "against refits" not in out


def test_out_holds_by_default_what_lifelines_fits_without_each_patient(trial, capsys, tmp_path):
    path, frame, arguments = trial
    _, out, _ = run(capsys, path, *arguments, "--out", tmp_path / "o.csv")
    assert re.search(r"Refitting without each of 120 patients: about [\d.e-]+ s", out)
    assert "All 120 removals are exact" in out
    assert re.search(r"Predictions against refits: 120 removals refitted: correlation 0\.9", out)
    scores = pd.read_csv(tmp_path / "o.csv", index_col="patient")
    full = lifelines_coefficients(frame, strata="site").params_
    for patient in ("P007", "P042", "P111"):
        without = lifelines_coefficients(frame.drop(index=patient), strata="site").params_
        np.testing.assert_allclose(scores[full.index].loc[patient], without - full, rtol=1e-4, atol=1e-7)
    assert (scores["estimated error"] == 0).all()


def test_what_would_take_long_is_predicted_and_said_so(trial, capsys, monkeypatch):
    path, _, arguments = trial
    monkeypatch.setattr("versatile_influence.cli.answers.REFIT_SECONDS", 1e-9)
    _, out, _ = run(capsys, path, *arguments)
    assert "(predicted instead; --by refit does it)" in out
    assert "of 120 removals are trusted" in out
    assert "Predictions against refits: 20 removals refitted" in out
    _, out, _ = run(capsys, path, *arguments, "--by", "refit")
    assert "All 120 removals are exact" in out


def test_the_table_ranks_patients_by_how_much_they_change_each_coefficient(trial, capsys):
    path, frame, arguments = trial
    _, out, _ = run(capsys, path, *arguments, "--top", 3, "--by", "attribute", "--check", 0)
    loss = vif.losses.CoxLoss.from_frame(frame, duration_col="months", event_col="died", strata_cols="site")
    scores = vif.attribute(loss, vif.minimize(loss, loss.zeros()), loss.coefficients())
    lines = out.splitlines()
    start = next(i for i, line in enumerate(lines) if "change" in line.split() and "age" in line.split())
    listed = [line.split()[0] for line in lines[start + 1 : start + 4]]
    assert listed == [scores.names()[row] for row in scores.top(3).tolist()]


def test_risks_of_test_patients_are_relative_to_the_average_patient_as_in_lifelines(trial, capsys, tmp_path):
    path, frame, arguments = trial
    test = simulated_trial(5, seed=1)
    test.to_csv(tmp_path / "test.csv")
    _, out, _ = run(capsys, path, *arguments, "--test", tmp_path / "test.csv")
    expected = lifelines_coefficients(frame, strata="site").predict_partial_hazard(test)
    listed = out[out.index("Risk of test patients") :].splitlines()
    for name, risk in expected.items():
        line = next(line for line in listed if line.split()[:1] == [name])
        assert float(line.split()[1]) == pytest.approx(risk, rel=1e-3)


def test_newton_steps_are_nearer_to_refits_than_predictions(trial, capsys):
    path, _, arguments = trial
    errors = {}
    for verb in ("attribute", "newton_step"):
        _, out, _ = run(capsys, path, *arguments, "--check", 120, "--by", verb)
        errors[verb] = float(re.search(r"error of a removal ([\d.]+) in the median", out).group(1))
    assert errors["attribute"] < 0.25
    assert errors["newton_step"] < 0.3 * errors["attribute"]


def test_rows_are_numbered_from_one_without_names(trial, capsys, tmp_path):
    _, frame, _ = trial
    frame.drop(columns="site").to_csv(tmp_path / "plain.csv", index=False)
    _, _, err = run(capsys, tmp_path / "plain.csv", *ROLES, "--check", 0, "--out", tmp_path / "o.csv")
    assert err == ""
    assert pd.read_csv(tmp_path / "o.csv")["patient"].tolist() == list(range(1, 121))


def test_start_stop_rows_of_a_patient_are_left_out_together(trial, capsys, tmp_path):
    path, frame, arguments = trial
    whole = frame.reset_index().assign(entry=0.0)
    early = whole.assign(months=whole["months"] / 2, died=0)
    late = whole.assign(entry=whole["months"] / 2)
    pd.concat([early, late]).to_csv(tmp_path / "long.csv", index=False)
    _, out, err = run(
        capsys, tmp_path / "long.csv", *arguments, "--entry-col", "entry", "--out", tmp_path / "long_o.csv"
    )
    assert err == ""
    assert f"120 patients in 240 rows, {frame['died'].sum()} events" in out
    run(capsys, path, *arguments, "--out", tmp_path / "o.csv")
    long, short = (pd.read_csv(tmp_path / name, index_col="patient") for name in ("long_o.csv", "o.csv"))
    assert long.pop("verdict").tolist() == short.pop("verdict").tolist()
    np.testing.assert_allclose(long.loc[short.index], short, rtol=1e-6, atol=1e-9)


def test_weights_and_chosen_covariates_and_breslow_ties(trial, capsys, tmp_path):
    _, frame, _ = trial
    frame.assign(weight=2.0).to_csv(tmp_path / "weighted.csv")
    chosen = ["--weights-col", "weight", "--ties", "breslow", "--covariates", "age", "stage"]
    status, out, _ = run(capsys, tmp_path / "weighted.csv", *ROLES, *chosen, "--check", 4)
    assert status == 0
    assert "Breslow's ties" in out
    assert "biomarker" not in out


def edited(frame, **columns):
    return frame.assign(**columns)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        (
            lambda f: f,
            [*ROLES, "--strata", "site"],
            r"Column `patient` is not numeric \(row 1 holds 'P001'\).*--id-col patient",
        ),
        (lambda f: f, ["--duration-col", "time", "--event-col", "died"], r"no column `time` \(--duration-col\)\. Its"),
        (lambda f: f, [*ROLES, "--strata", "clinic"], r"no column `clinic` \(--strata\)"),
        (
            lambda f: edited(f, died=f["died"].map({0: "alive", 1: "dead"})),
            [*ROLES, "--covariates", "age"],
            r"events in `died` are '\w+' and '\w+', not 1 and 0: in row 1 .* as --event-value dead",
        ),
        (
            lambda f: edited(f, age=f["age"].where(f.index != "P007")),
            [*ROLES, "--covariates", "age", "stage"],
            r"In row 7, covariate `age` is nan",
        ),
        (
            lambda f: edited(f, months=f["months"].where(f.index != "P003", -1.0)),
            [*ROLES, "--covariates", "age"],
            r"In row 3, the duration is -1",
        ),
        (
            lambda f: edited(f, site=f["site"].where(f.index != "P002")),
            [*ROLES, "--id-col", "patient", "--strata", "site"],
            r"In row 2, `site` is nan: 1 of 120 rows have missing labels",
        ),
        (lambda f: edited(f, died=0), [*ROLES, "--covariates", "age"], r"There is no event"),
        (lambda f: edited(f, age=1.0), [*ROLES, "--covariates", "age"], r"Column `age` is constant"),
    ],
)
def test_wrong_data_end_in_one_line_and_status_one(trial, capsys, change, arguments, message):
    path, frame, _ = trial
    change(frame).to_csv(path)
    status, out, err = run(capsys, path, *arguments)
    assert (status, out) == (1, "")
    assert err.startswith("vif: ")
    assert err.count("\n") == 1
    assert re.search(message, err)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"There is no file .*none\.csv"),
        ("", r"cannot be read as a CSV file"),
        ("a,b\n", "no rows below its header"),
        ("a,b\n1,2,3\n4,5,6\n", "rows with more fields than its header names"),
    ],
)
def test_files_that_are_no_tables_are_named(tmp_path, capsys, content, message):
    path = tmp_path / "none.csv"
    if content is not None:
        path.write_text(content)
    status, _, err = run(capsys, path, *ROLES)
    assert status == 1
    assert re.search(message, err)
    assert err.count("\n") == 1


def test_test_patients_without_a_covariate_are_refused(trial, capsys, tmp_path):
    path, _, arguments = trial
    simulated_trial(4).drop(columns="stage").to_csv(tmp_path / "test.csv")
    status, _, err = run(capsys, path, *arguments, "--test", tmp_path / "test.csv")
    assert status == 1
    assert "no column `stage` (a covariate of the model)" in err


def test_a_column_of_two_roles_is_told_from_the_words_alone(refused):
    said = refused("cox", "none.csv", *ROLES, "--strata", "site", "--covariates", "age", "site")
    assert "Column `site` cannot be both --strata and a covariate." in said


def test_help_shows_every_flag_with_an_example(capsys):
    with pytest.raises(SystemExit) as left:
        main(["cox", "--help"])
    out = capsys.readouterr().out
    assert left.value.code == 0
    for words in (
        "--duration-col COL",
        "--check K",
        "--by {refit,attribute,newton_step}",
        "example:",
        "--id-col patient",
    ):
        assert words in out
    with pytest.raises(SystemExit):
        main(["cox", "x.csv", *ROLES, "--top", "-1"])
    assert "must be 0 or more, got -1" in capsys.readouterr().err
