"""The report of a Cox model: its numbers read back, nothing in it that should not be, and how it looks in a browser."""

import html
import re
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from chromium import NEEDED, opened, size
from test_cli_cox import run

import versatile_influence as vif
from versatile_influence.datasets import simulated_trial
from versatile_influence.losses import CoxLoss
from versatile_influence.losses.cox.kaplan_meier import kaplan_meier
from versatile_influence.reading.wald_table import hazard, tail

ROLES = {"duration_col": "months", "event_col": "died", "strata_cols": "site"}


def trial() -> pd.DataFrame:
    return simulated_trial(120).rename(index=lambda name: f"Ms {name} <b>")


@pytest.fixture(scope="module")
def made():
    loss = CoxLoss.from_frame(trial(), **ROLES)
    theta = vif.minimize(loss, loss.zeros())
    return loss, theta, vif.report(loss, theta, title="A trial & its <patients>", anonymous=False)


def table(page: str, name: str) -> list[list[str]]:
    """Return the cells of a table of the page."""
    found = re.search(rf'<table id="{name}">(.*?)</table>', page, re.DOTALL)[1]
    rows = re.findall(r"<tr>(.*?)</tr>", found.split("<tbody>")[1], re.DOTALL)
    return [[html.unescape(cell) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row, re.DOTALL)] for row in rows]


def test_the_model_table_has_the_numbers_of_lifelines(made):
    from lifelines import CoxPHFitter

    frame = trial()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = CoxPHFitter().fit(frame, "months", "died", strata="site", fit_options={"precision": 1e-11}).summary
    for name, ratio, limits, p, coefficient, error, z in table(made[2].html, "model"):
        row = model.loc[name]
        low, high = limits.split(" … ")
        found = [float(text) for text in (ratio, low, high, coefficient, error, z)]
        columns = ["exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%", "coef", "se(coef)", "z"]
        assert found == pytest.approx(row[columns].tolist(), rel=6e-3, abs=6e-3)
        assert p == tail(row["p"])


def test_every_number_of_a_carrier_is_that_of_the_influence_frame_or_of_a_refit(made):
    loss, theta, page = made
    frame = vif.influence_frame(loss, theta)
    errors, rows = frame.attrs["se"], table(page.html, "carriers")
    assert len(rows) == 12
    full = vif.attribute(loss, theta, loss.coefficients()).to_frame()
    for name, column, predicted, refitted, ratio, p, leverage, displacement in rows:
        row, before = frame.loc[name], theta[loss.columns.index(column)].item()
        # The coefficient that moves most, in standard errors.
        assert column == max(loss.columns, key=lambda other: abs(full.loc[name, other]) / errors[other])
        assert float(predicted) == pytest.approx(full.loc[name, column], rel=6e-3, abs=errors[column] * 6e-3)
        rest = CoxLoss.from_frame(trial().drop(index=name), **ROLES)
        change = (vif.minimize(rest, rest.zeros()) - theta)[loss.columns.index(column)].item()
        assert float(refitted) == pytest.approx(change, rel=6e-3, abs=errors[column] * 6e-3)
        assert ratio == f"{hazard(before)} → {hazard(before + change)}"
        now = float(torch.erfc(torch.tensor(abs(before / errors[column]) / 2**0.5, dtype=torch.float64)))
        assert p == f"{tail(now)} → {tail(now + row[f'p_{column}'])}"
        assert [leverage, displacement] == [f"{row['leverage']:.3f}", f"{row['displacement']:.3f}"]


def test_what_overturns_a_conclusion_does_so_in_a_model_fitted_without_it(made):
    loss, theta, page = made
    cells = table(page.html, "verdicts")
    assert len(cells) == len(page.verdicts) == 10
    names = list(trial().index)
    for cell, verdict in zip(cells, page.verdicts, strict=True):
        if not verdict.found.overturned:
            assert cell[2] == "none up to 12 of 120"
            continue
        out = [names[row] for row in verdict.found.removed]
        assert cell[2].startswith(f"{len(out)} of 120")
        assert cell[5] == ", ".join(out)
        rest = CoxLoss.from_frame(trial().drop(index=out), **ROLES)
        point = vif.minimize(rest, rest.zeros())
        place = loss.columns.index(verdict.covariate)
        p = rest.p_values([verdict.covariate])(point, torch.ones(rest.n_objects).double()).item()
        if "hazard" in verdict.words:
            assert point[place] * theta[place] <= 0
        else:
            assert (p >= 0.05) == (verdict.words == "is significant")
            assert cell[4].endswith(f"p {tail(p)}")


def test_no_name_of_a_patient_is_in_the_page_unless_asked(made):
    loss, theta, named = made
    page = vif.report(loss, theta, flip=[]).html
    assert not re.search(r"\bP\d\d|Ms ", page)
    assert table(page, "carriers")[0][0] == "#1"
    assert table(page, "verdicts") == []
    assert "Ms P" in named.html
    assert "pass this page on with care" in named.html


def test_the_page_is_whole_without_scripts_and_what_is_not_ours_is_escaped(made):
    page = made[2].html
    assert not re.search(r"<script|javascript:|\bon\w+=|(src|href)=\"(?!#)|@import|url\((?!#)", page)
    assert "<title>A trial &amp; its &lt;patients&gt;</title>" in page
    assert "<b>" not in page
    # Names inside pictures do not meet those of others.
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 5 + 2 + 1
    shown = made[2]._repr_html_()
    assert html.unescape(re.search(r'srcdoc="([^"]*)"', shown)[1]) == page


def test_dots_are_hollow_where_predictions_are_not_to_be_trusted():
    # Two events carry the effect of a rare exposure: what becomes of it without one is predicted badly.
    frame = simulated_trial(40).drop(columns="site")
    event = frame["died"].to_numpy() == 1
    frame["rare"] = 0.0
    frame.loc[frame.index[[*np.flatnonzero(event)[:2], *np.flatnonzero(~event)[:3]]], "rare"] = 1.0
    loss = CoxLoss.from_frame(frame, duration_col="months", event_col="died")
    theta = vif.minimize(loss, loss.zeros())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", vif.UntrustedWarning)
        page = vif.report(loss, theta, flip=[])
    trusted = page.carriers[0].trusted
    assert not trusted.all()
    # Matplotlib fills a hollow dot with white.
    assert "fill: #ffffff" in page.html


def test_without_a_site_is_the_model_fitted_without_it(capsys, tmp_path):
    frame = simulated_trial(90)
    frame.to_csv(tmp_path / "t.csv")
    words = [
        "--duration-col",
        "months",
        "--event-col",
        "died",
        "--id-col",
        "patient",
        "--groups",
        "site",
        "--flip",
        "age",
    ]
    status, _, _ = run(capsys, tmp_path / "t.csv", *words, "--report", tmp_path / "page.html", "--by", "attribute")
    assert status == 0
    rows = table((tmp_path / "page.html").read_text(encoding="utf-8"), "groups")
    frame, roles = frame.drop(columns="site"), {"duration_col": "months", "event_col": "died"}
    sites = simulated_trial(90)["site"]
    assert {row[0] for row in rows} == {f"{name} ({count})" for name, count in sites.value_counts().items()}
    full = CoxLoss.from_frame(frame, **roles)
    theta = vif.minimize(full, full.zeros())
    for site, column, _, refitted, ratio in rows:
        rest = CoxLoss.from_frame(frame[sites != site.split(" (")[0]], **roles)
        before, now = (point[full.columns.index(column)].item() for point in (theta, vif.minimize(rest, rest.zeros())))
        assert float(refitted) == pytest.approx(now - before, abs=0.51 * 10 ** -len(refitted.partition(".")[2]))
        assert ratio == f"{hazard(before)} → {hazard(now)}"


def test_curves_are_those_of_lifelines():
    from lifelines import KaplanMeierFitter

    generator = np.random.default_rng(0)
    entry = generator.uniform(0, 1, 50).round(1)
    stop = entry + generator.exponential(3, 50).round(1) + 0.1
    event = (generator.uniform(size=50) < 0.7).astype(float)
    for start in (None, entry):
        times, alive = kaplan_meier(stop, event, np.ones(50), start)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = KaplanMeierFitter().fit(stop, event, entry=start).survival_function_at_times(times)
        assert alive == pytest.approx(expected.to_numpy(), abs=1e-12)


def test_the_command_writes_the_page_and_says_whether_names_are_in_it(capsys, tmp_path):
    simulated_trial(60).drop(columns="site").to_csv(tmp_path / "t.csv")
    words = [tmp_path / "t.csv", "--duration-col", "months", "--event-col", "died", "--id-col", "patient", "--check", 0]
    _, out, _ = run(capsys, *words, "--report", tmp_path / "page.html", "--flip", "age", "--by", "attribute")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert f"The report is in {tmp_path / 'page.html'}, without names of patients." in out
    assert "60 patients" in page
    assert not re.search(r"\bP\d\d\b", page)
    assert {row[0] for row in table(page, "verdicts")} == {"age"}
    run(capsys, *words, "--report", tmp_path / "page.html", "--no-anonymous", "--flip", "age", "--by", "attribute")
    assert re.search(r"\bP\d\d\b", (tmp_path / "page.html").read_text(encoding="utf-8"))
    status, _, err = run(capsys, *words, "--report", tmp_path / "nowhere" / "page.html")
    assert status == 1
    assert "--report" in err


@NEEDED
@pytest.mark.parametrize("width", [360, 1400])
def test_nothing_is_wider_than_the_window_or_cut(made, tmp_path, width):
    made[2].write(str(tmp_path / "page.html"))
    with opened(tmp_path / "chromium") as browser:
        size(browser, width)
        browser.get((tmp_path / "page.html").as_uri())
        assert browser.get_log("browser") == []
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        wide = """return [...document.querySelectorAll('p, h1, h2, figure, svg, .scroll, td')].filter(each =>
            each.getBoundingClientRect().right > innerWidth + 1).length"""
        assert browser.execute_script(wide) == 0
        heights = "return [...document.querySelectorAll('svg')].map(each => each.getBoundingClientRect().height)"
        assert min(browser.execute_script(heights)) > 100
