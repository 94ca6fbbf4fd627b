"""`vif cox` as an analyst meets it: files as they come, R's numbers in what is printed, faults with their cure."""

import os
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from test_cli_cox import numbers, run
from test_cox_frames import cases, cases_table

from versatile_influence.reading.wald_table import Effect

# The command says warnings on its standard error, which is looked at here.
pytestmark = pytest.mark.filterwarnings("always::UserWarning")
ROSSI = ["--duration-col", "week", "--event-col", "arrest"]
QUICK = ["--top", "0", "--check", "0", "--by", "attribute"]


def file(name: str) -> Path:
    cases(name)
    return Path(os.environ["VIF_DATA"]) / ".." / "cases" / "survival" / name


def of_r(name: str) -> pd.DataFrame:
    return cases(f"r/{name}_efron_coef.csv").set_index("name")


def printed(out: str, name: str) -> list[float]:
    """Return the numbers of a covariate's row: coefficient, SE, hazard ratio, its limits, z, p."""
    return numbers(next(line for line in out.splitlines() if line.split()[:1] == [name]).removeprefix(f"  {name}"))


def trial(**columns) -> pd.DataFrame:
    generator = np.random.default_rng(3)
    frame = pd.DataFrame({"t": generator.exponential(size=40).round(3) + 0.001, "e": (np.arange(40) % 3 > 0) * 1})
    return frame.assign(age=generator.normal(60, 9, 40).round(), **columns)


def written(frame: pd.DataFrame, path: Path, **how) -> Path:
    frame.to_csv(path, index=False, **how)
    return path


OF_TRIAL = ["--duration-col", "t", "--event-col", "e"]


@pytest.mark.data
def test_dates_dollars_and_seconds_are_covariates_with_r_s_changes(capsys, tmp_path):
    status, out, err = run(
        capsys, file("bigscale.csv"), "--duration-col", "t", "--event-col", "e", "--out", tmp_path / "o.csv"
    )
    assert (status, err) == (0, "")
    expected = of_r("bigscale")
    changes = cases_table("r/bigscale_efron_loo.csv") - expected["coef"].to_numpy()
    found = pd.read_csv(tmp_path / "o.csv")[list(expected.index)].to_numpy()
    assert found / expected["se"].to_numpy() == pytest.approx(changes / expected["se"].to_numpy(), abs=1e-7)
    assert np.abs(changes[:, 0]).max() == pytest.approx(0.0504, abs=5e-5)
    assert f"{np.abs(found[:, 0]).max():.4f}"[:5] in out


@pytest.mark.data
@pytest.mark.parametrize("how", ["cluster", "--id-col"])
def test_repeated_rows_have_r_s_robust_errors_and_p(capsys, how):
    roles = [
        "--formula",
        "Surv(start, stop, event) ~ rx + number + size" + (" + cluster(id)" if how == "cluster" else ""),
    ]
    status, out, _ = run(
        capsys, file("bladder_ag.csv"), *roles, *QUICK, *(["--id-col", "id"] if how != "cluster" else [])
    )
    assert status == 0
    assert "robust SE" in out
    for name, row in of_r("bladder_ag").iterrows():
        coefficient, error, *_, p = printed(out, str(name))
        assert (coefficient, error) == pytest.approx((row["coef"], row["rdefault"]), rel=5e-3)
        assert p == pytest.approx(2 * norm.sf(abs(row["coef"] / row["rdefault"])), abs=6e-4)


@pytest.mark.data
def test_bladder_s_rx_is_not_significant_as_r_says(capsys):
    """R: coxph(Surv(start, stop, event) ~ rx + number + size + strata(enum), bladder, cluster = id): p 0.080."""
    formula = "Surv(start, stop, event) ~ rx + number + size + strata(enum) + cluster(id)"
    _, out, _ = run(capsys, file("bladder_pwp.csv"), "--formula", formula, *QUICK)
    row = of_r("bladder_pwp").loc["rx"]
    p = 2 * norm.sf(abs(row["coef"] / row["rdefault"]))
    assert printed(out, "rx")[-1] == pytest.approx(p, abs=6e-4)


@pytest.mark.data
def test_weights_that_are_no_counts_have_r_s_robust_errors(capsys):
    _, out, _ = run(capsys, file("rossi_w.csv"), *ROSSI, "--weights-col", "w", *QUICK)
    assert "robust SE" in out
    row = of_r("rossi_w").loc["fin"]
    assert printed(out, "fin")[:2] == pytest.approx([row["coef"], row["rdefault"]], rel=5e-3)


@pytest.mark.data
@pytest.mark.parametrize("time", ["futime_d", "futime_y"])
def test_days_and_years_give_r_s_one_coefficient(capsys, time):
    """R: coxph(Surv(futime_d, status) ~ x, tied) gives -0.03113932."""
    _, out, _ = run(capsys, file("tied.csv"), "--formula", f"Surv({time}, status) ~ x", *QUICK)
    assert printed(out, "x")[0] == pytest.approx(-0.03113932, abs=5e-4)


@pytest.mark.data
@pytest.mark.parametrize(("as_r", "told"), [("write.csv", "column 1 has no name"), ("write.table", "R's row names")])
def test_files_of_r_with_row_names_give_r_s_coefficients_and_say_what_is_left_out(capsys, tmp_path, as_r, told):
    frame = cases("rossi.csv")
    header = ",".join(f'"{name}"' for name in frame)
    rows = "".join(f'"{row}",{",".join(map(str, values))}\n' for row, values in enumerate(frame.to_numpy().tolist(), 1))
    (tmp_path / "r.csv").write_text(f"{'' if as_r == 'write.table' else chr(34) * 2 + ','}{header}\n{rows}")
    status, out, err = run(capsys, tmp_path / "r.csv", *ROSSI, *QUICK)
    assert status == 0
    assert told in err
    for name, row in of_r("rossi").iterrows():
        assert printed(out, str(name))[:2] == pytest.approx([row["coef"], row["se"]], rel=6e-3, abs=6e-4)


@pytest.mark.parametrize("name", ["number", "text"])
def test_one_field_too_many_in_every_row_is_refused(capsys, tmp_path, name):
    frame = trial(arm=np.arange(40) % 2)
    frame.insert(0, "id", range(1, 41) if name == "number" else [f"P{i}" for i in range(40)])
    lines = frame.to_csv(index=False).splitlines()
    (tmp_path / "shifted.csv").write_text("\n".join([lines[0], *(f"{line},1" for line in lines[1:])]))
    status, out, err = run(capsys, tmp_path / "shifted.csv", *OF_TRIAL)
    assert (status, out) == (1, "")
    assert "rows with more fields than its header names" in err


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_ids_are_text_and_each_its_own(capsys, tmp_path, kind):
    ids = ["01", "1", "1.0", "NA", "001", *(f"P{i}" for i in range(35))]
    frame, path = trial(who=ids), tmp_path / f"ids.{kind}"
    if kind == "csv":
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    status, out, err = run(capsys, path, *OF_TRIAL, "--id-col", "who", "--out", tmp_path / "o.csv")
    assert (status, err) == (0, "")
    assert "40 patients, 26 events" in out
    assert pd.read_csv(tmp_path / "o.csv", dtype=str, keep_default_na=False)["patient"].tolist() == ids


def test_parquet_gives_what_csv_gives(capsys, tmp_path):
    pytest.importorskip("pyarrow")
    trial().to_parquet(tmp_path / "t.parquet")
    written(trial(), tmp_path / "t.csv")
    tables = [run(capsys, tmp_path / f"t.{kind}", *OF_TRIAL, *QUICK)[1].splitlines()[2:] for kind in ("csv", "parquet")]
    assert tables[0] == tables[1]
    (tmp_path / "no.parquet").write_text("no table")
    assert "cannot be read as a Parquet file" in run(capsys, tmp_path / "no.parquet", *OF_TRIAL)[2]


@pytest.mark.data
def test_start_stop_rows_without_an_id_are_hinted_at_and_the_id_is_no_covariate(capsys):
    roles = ["--duration-col", "stop", "--event-col", "event", "--entry-col", "start"]
    status, out, err = run(capsys, file("bladder_ag.csv"), *roles)
    assert (status, out) == (1, "")
    assert "Column `id` looks like a name of patients, and is no covariate. Add --id-col id" in err
    status, _, err = run(capsys, file("bladder_ag.csv"), *roles, "--covariates", "rx", "size", *QUICK)
    assert status == 0
    assert "Start–stop rows without --id-col" in err
    assert "--id-col id leaves them out together" in err


def test_a_column_that_counts_the_rows_is_told(capsys, tmp_path):
    _, _, err = run(capsys, written(trial(nr=range(100, 140)), tmp_path / "t.csv"), *OF_TRIAL, *QUICK)
    assert "column `nr` counts the rows" in err


def test_all_that_is_in_the_way_is_said_at_once_in_the_words_of_the_command_and_each_cure_works(capsys, tmp_path):
    frame = trial(cell=list("abca") * 10, subject_id=range(40), site=["x", None, *"yz" * 19])
    frame["e"] = frame["e"].map({0: "alive", 1: "dead"})
    frame.loc[4, "age"] = np.nan
    path = written(frame, tmp_path / "messy.csv")
    status, out, err = run(capsys, path, *OF_TRIAL, "--strata", "site")
    assert (status, out) == (1, "")
    assert f"5 things keep {path} from being fitted" in err
    for words in (
        "`cell` is not numeric (row 1 holds 'a')",
        '--formula "Surv(t, e) ~ C(cell) + …"',
        "add --id-col cell",
        "`subject_id` looks like a name of patients",
        "In row 5, covariate `age` is nan",
        "In row 2, `site` is nan: 1 of 40 rows have missing labels",
        "--na drop",
        "--event-value dead",
    ):
        assert words in err
    assert not re.search(r"na=|event_value|from_formula|get_dummies|_col", err)
    formula = ["--formula", "Surv(t, e) ~ age + C(cell) + strata(site)", "--event-value", "dead", "--na", "drop"]
    status, out, err = run(capsys, path, *formula, "--id-col", "subject_id", *QUICK)
    assert status == 0
    assert "2 of 40 rows have missing values and were dropped (--na drop)" in err
    assert "38 patients" in out
    assert "2 rows with missing values left out" in out
    assert "C(cell)[T.b]" in out


def test_no_event_of_the_value_is_said_in_the_words_of_the_command(capsys, tmp_path):
    _, _, err = run(capsys, written(trial(), tmp_path / "t.csv"), *OF_TRIAL, "--event-value", "2")
    assert "No row of `e` holds the event (--event-value 2): it holds" in err


def test_columns_without_a_name_are_told_wherever_they_stand(capsys, tmp_path):
    (tmp_path / "t.csv").write_text(trial().to_csv().replace("age\n", "age\n", 1))
    status, out, err = run(capsys, tmp_path / "t.csv", *OF_TRIAL, *QUICK)
    assert status == 0
    assert "column 1 has no name" in err
    assert "Unnamed" not in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--duration-col", "t", "--event-col", "t"], "Column `t` cannot be both --duration-col and --event-col."),
        ([*OF_TRIAL, "--covariates", "age", "age"], "Column `age` cannot be both a covariate and a covariate."),
        ([*OF_TRIAL, "--strata", "site", "--id-col", "site"], "Column `site` cannot be both --strata and --id-col."),
        (["--formula", "Surv(t, e) ~ age", "--event-col", "e"], "--event-col is said by --formula."),
        (["--duration-col", "t"], "required: --event-col; or --formula"),
    ],
)
def test_what_does_not_go_together_is_told_from_the_words_alone(refused, words, message):
    assert message in refused("cox", "none.csv", *words)


@pytest.mark.data
def test_rossi_s_conclusions_are_overturned_without_as_few_as_refits_say(capsys):
    status, out, _ = run(capsys, file("rossi.csv"), *ROSSI, *QUICK, "--flip", "fin")
    assert status == 0
    assert re.search(r"fin +lowers the hazard +19 of 432 \(4\.4%\) +24 +coef -0\.379 → coef \+0\.00", out)
    # R: summary(coxph(Surv(week, arrest) ~ ., rossi)) has p 0.0475; without the patient found it is above 0.05.
    line = next(line for line in out.splitlines() if "fin" in line and "is significant" in line)
    assert "1 of 432 (0.2%)" in line
    assert "p 0.047 → p 0.06" in line
    assert "Without whom:" in out
    status, _, err = run(capsys, file("rossi.csv"), *ROSSI, *QUICK, "--flip", "finn")
    assert status == 1
    assert "finn" in err


def test_a_formula_s_test_patients_have_lifelines_relative_risks(capsys, tmp_path):
    from lifelines import CoxPHFitter

    frame, new = trial(cell=list("abca") * 10), pd.DataFrame({"age": [50.0, 70], "cell": ["c", "b"]}, index=["u", "v"])
    new.to_csv(tmp_path / "new.csv", index_label="who")
    words = ["--formula", "Surv(t, e) ~ age + C(cell)", "--test", tmp_path / "new.csv", "--id-col", "who"]
    path = written(frame.assign(who=[f"P{i}" for i in range(40)]), tmp_path / "t.csv")
    _, out, _ = run(capsys, path, *words, "--check", 0, "--by", "attribute")
    model = CoxPHFitter().fit(frame, "t", "e", formula="age + C(cell)", fit_options={"precision": 1e-11})
    listed = out[out.index("Risk of test patients") :].splitlines()
    for name, risk in zip(new.index, model.predict_partial_hazard(new), strict=True):
        line = next(line for line in listed if line.split()[:1] == [name])
        assert float(line.split()[1]) == pytest.approx(risk, rel=1e-3)


def test_a_penalty_is_lifelines_penalizer_times_n(capsys, tmp_path):
    from lifelines import CoxPHFitter

    frame = trial()
    frame["age"] = (frame["age"] - frame["age"].mean()) / frame["age"].std(ddof=1)
    words = ["--penalty", 0.1 * len(frame)]
    _, out, _ = run(capsys, written(frame, tmp_path / "t.csv"), *OF_TRIAL, *QUICK, *words)
    model = CoxPHFitter(penalizer=0.1).fit(frame, "t", "e", fit_options={"precision": 1e-11})
    assert printed(out, "age")[0] == pytest.approx(model.params_["age"], abs=2e-3)


@pytest.mark.parametrize(
    ("coefficient", "error", "shown"),
    [
        # p 0.051: the lower limit is below 1, which "1 … 1.016" did not say.
        (0.00796, 0.004082, ["1.0080", "0.999959 … 1.016", "0.051"]),
        (0.008, 0.004082, ["1.0080", "0.99999943 … 1.016", "0.05002"]),
        (700.0, 350.0, [">1e6", ">1e6 … >1e6", "0.046"]),
        (0.0, 1.0, ["1", "0.1409 … 7.099", "1.000"]),
        (-1.2e-9, 1e-10, ["0.9999999988", "0.9999999986 … 0.9999999990", "<0.001"]),
    ],
)
def test_limits_and_p_have_the_digits_that_decide(coefficient, error, shown):
    texts = Effect("x", coefficient, error).texts
    assert [texts[3], texts[4], texts[6]] == shown


def test_who_cannot_be_left_out_is_said_in_words(capsys, tmp_path):
    # Without the third, nobody treated has an event.
    frame = pd.DataFrame(
        {
            "t": [1.0, 2, 3, 4, 5, 6],
            "e": [1, 1, 1, 1, 1, 0],
            "drug": [0, 0, 1, 0, 0, 1],
            "x": [0.1, 0.4, 0.2, 0.3, 0.5, 0.2],
        }
    )
    path = written(frame, tmp_path / "t.csv")
    _, out, _ = run(capsys, path, "--duration-col", "t", "--event-col", "e", "--by", "refit")
    assert "Without patient 3 there is no fit" in out
    assert "nan" not in out


def rare(**columns) -> pd.DataFrame:
    """Return a trial in which row 8 alone is of a kind."""
    return trial(rare=(np.arange(40) == 7) * 1, hospital=[f"H{row % 4}" for row in range(40)], **columns).assign(
        e=lambda frame: frame["e"].where(frame.index != 7, 1)
    )


def test_a_patient_without_whom_a_coefficient_has_no_fit_comes_first_and_is_told_in_every_part(capsys, tmp_path):
    path = written(rare().drop(columns="hospital"), tmp_path / "t.csv")
    more = ["--top", 2, "--flip", "--report", tmp_path / "r.html", "--out", tmp_path / "o.csv"]
    status, out, err = run(capsys, path, *OF_TRIAL, *more)
    assert status == 0
    assert err.count("Nothing determines `rare` without 8") == 1
    assert "39 of 40 removals are exact" in out
    block = out[out.index("For each coefficient the 2 largest (first those without whom it has no fit)") :]
    assert re.search(r"^ +rare +change\b", block, re.MULTILINE) or re.search(r"age +change +rare +change", block)
    assert re.search(r"8 +no fit", block)
    assert re.search(r"rare +(raises|lowers) the hazard +1 of 40 \(2.5%\) +1 +coef \S+ → nothing determines it", out)
    assert "nan" not in out
    page = (tmp_path / "r.html").read_text()
    assert "nan" not in re.sub(r"<[^>]*>", " ", page)
    assert "no fit" in page
    assert pd.read_csv(tmp_path / "o.csv", index_col="patient").loc[8].isna().tolist()[:2] == [False, True]


def test_a_hospital_that_is_all_there_is_of_a_kind_has_no_fit_without_it(capsys, tmp_path):
    frame = rare().drop(columns="rare").assign(far=lambda rows: (rows["hospital"] == "H3") * 1)
    path = written(frame, tmp_path / "t.csv")
    status, _, _ = run(capsys, path, *OF_TRIAL, *QUICK, "--groups", "hospital", "--report", tmp_path / "r.html")
    assert status == 0
    groups = re.search(r'<table id="groups">(.*?)</table>', (tmp_path / "r.html").read_text(), re.DOTALL)[1]
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", groups, re.DOTALL)]
    assert next(row for row in rows if row and row[0] == "H3 (10)")[1:4] == ["far", "no fit", "no fit"]


def test_clusters_are_called_so_and_patients_can_be_removed_with_errors_by_cluster(capsys, tmp_path):
    path = written(rare(who=range(40)).drop(columns="rare"), tmp_path / "t.csv")
    formula = "Surv(t, e) ~ age + cluster(hospital)"
    _, out, _ = run(capsys, path, "--formula", formula, "--report", tmp_path / "r.html")
    assert "4 clusters in 40 rows" in out
    assert "Changes without each of 4 clusters." in out
    assert "patient" not in out.replace("--id-col patient", "")
    assert "4 clusters," in (tmp_path / "r.html").read_text()
    # Four are no sample to draw an interval from.
    assert re.search(r"4 removals refitted: correlation -?\d\.\d+, slope", out)
    _, by_patient, _ = run(capsys, path, "--formula", formula, "--id-col", "who")
    assert "40 patients" in by_patient
    assert printed(by_patient, "age") == printed(out, "age")


def test_an_unknown_covariate_of_flip_is_told_before_anything_is_fitted(capsys, tmp_path):
    status, out, err = run(capsys, written(trial(), tmp_path / "t.csv"), *OF_TRIAL, "--flip", "agee")
    assert (status, out) == (1, "")
    assert "There is no covariate named 'agee'" in err


def test_verdicts_of_flip_are_those_of_the_page_and_made_once(capsys, tmp_path, monkeypatch):
    from versatile_influence.cli import cox, verdicts

    asked = []
    counted = lambda *given, **named: asked.append(1) or verdicts.verdicts(*given, **named)  # noqa: E731
    monkeypatch.setattr(cox, "verdicts", counted)
    monkeypatch.setattr("versatile_influence.cli.report.verdicts", counted)
    path = written(trial(), tmp_path / "t.csv")
    _, out, _ = run(capsys, path, *OF_TRIAL, *QUICK, "--flip", "age", "--report", tmp_path / "r.html")
    assert len(asked) == 1
    page = (tmp_path / "r.html").read_text()
    assert "Sets of up to 20 were looked for" in page
    for row in re.findall(r"^  age +(?:raises|lowers|is).*→.*", out, re.MULTILINE):
        for cell in re.split(r"  +", row.strip()):
            assert cell in page


def test_covariates_in_any_unit_show_digits(capsys, tmp_path):
    frame = trial().assign(
        large=lambda rows: rows["age"] * 1e12 + np.arange(40) ** 2 * 1e11, small=np.sin(np.arange(40)) * 1e-12
    )
    _, out, _ = run(capsys, written(frame, tmp_path / "t.csv"), *OF_TRIAL, "--top", 2)
    near = trial().assign(large=frame["large"] / 1e12, small=frame["small"] * 1e12)
    _, plain, _ = run(capsys, written(near, tmp_path / "n.csv"), *OF_TRIAL, "--top", 2)
    for name, unit in (("large", 1e12), ("small", 1e-12)):
        row = next(line for line in out.splitlines() if line.split()[:1] == [name]).split()
        assert [float(row[1]) * unit, float(row[2]) * unit] == pytest.approx(printed(plain, name)[:2], rel=0.1)
    assert "0.000000" not in out


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("t,e,x\n1,1,3\n2,0,.\n3,1,4\n4,1,2\n", "`x` is not numeric (row 2 holds '.')"),
        ("t;e;x\n1;1;3,5\n2;0;1,5\n", "write decimals with points"),
        ("t,e,x,x\n1,1,3,1\n2,0,1,2\n3,1,2,7\n4,1,1,1\n", "column `x.1` is a second `x`"),
    ],
)
def test_what_is_odd_in_a_file_is_named(capsys, tmp_path, text, told):
    (tmp_path / "t.csv").write_text(text)
    _, _, err = run(capsys, tmp_path / "t.csv", *OF_TRIAL, "--penalty", 1)
    assert told in err
