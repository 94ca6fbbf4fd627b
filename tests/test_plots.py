import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence import plots

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def pair(k=30, *, failed=False):
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(k, 2, generator=generator, dtype=torch.float64)
    estimate = 0.5 * truth + 0.01 * torch.randn(k, 2, generator=generator, dtype=torch.float64)
    described = {"n_objects": k, "labels": [f"P{i}" for i in range(k)], "targets": ["age", "dose"]}
    if failed:
        truth[3] = torch.nan
    return (
        vif.Attribution(estimate, torch.arange(k), **described),
        vif.Attribution(truth, torch.arange(k), failed={3: "no minimum"} if failed else None, **described),
    )


def dots(ax, collection=0):
    return np.asarray(ax.collections[collection].get_offsets())


def test_scatter_draws_a_dot_a_removal_on_equal_axes_with_the_line_of_identity():
    estimate, truth = pair()
    ax = plots.scatter(estimate, truth, target=1)
    np.testing.assert_allclose(dots(ax), torch.stack([estimate.scores[:, 1], truth.scores[:, 1]], 1))
    np.testing.assert_allclose(*ax.lines[0].get_data())
    assert ax.get_xlim() == ax.get_ylim()
    assert ax.get_xlabel() == "predicted change of dose"
    assert ax.get_ylabel() == "measured change of dose"
    r, slope = vif.pearson(estimate, truth)[1].item(), vif.metrics.slope(estimate, truth)[1].item()
    assert ax.get_title() == f"r = {r:.4f}, slope {slope:.3f}, 30 removals, 30 not checked"
    largest = {f"P{i}" for i in truth.top(3, target=1).tolist()}
    assert {text.get_text() for text in ax.texts} == largest


def test_scatter_counts_removals_without_a_result_in_the_title_and_names_the_right_dots():
    estimate, truth = pair(failed=True)
    ax = plots.scatter(estimate, truth)
    assert "29 removals, 1 without a result" in ax.get_title()
    values = dict(zip(truth.names(), truth.scores[:, 0].tolist(), strict=True))
    for text in ax.texts:
        assert text.xy[1] == pytest.approx(values[text.get_text()])


def test_top_draws_the_largest_changes_downwards_with_their_names():
    estimate, _ = pair()
    ax = plots.top(estimate, target=-1, k=5)
    rows = estimate.top(5, target=1)
    np.testing.assert_allclose([bar.get_width() for bar in ax.patches], estimate.scores[rows, 1])
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"P{i}" for i in rows.tolist()]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]
    assert "the 5 largest of 30" in ax.get_title()


def test_top_shows_no_bar_for_removals_without_a_result():
    _, truth = pair(failed=True)
    assert len(plots.top(truth, k=100).patches) == 29


def test_top_names_groups():
    scores = torch.tensor([[1.0], [-2.0]])
    ax = plots.top(vif.Attribution(scores, ((0, 2), (1,)), n_objects=3, labels=["a", "b", "c"]))
    assert [label.get_text() for label in ax.get_yticklabels()] == ["b", "a+c"]


def test_influence_vs_time_tells_events_from_censored_patients():
    estimate, _ = pair()
    times, events = np.linspace(1, 9, 30), np.arange(30) % 3 == 0
    for given in (torch.from_numpy(events), pd.Series(events.astype(int))):
        ax = plots.influence_vs_time(estimate, times, given, target=1)
        censored, happened = dots(ax), dots(ax, 1)
        np.testing.assert_allclose(happened[:, 0], times[events])
        np.testing.assert_allclose(censored[:, 1], estimate.scores[~torch.from_numpy(events), 1])


def test_influence_vs_time_finds_the_times_of_the_objects_asked_for():
    estimate = vif.Attribution(torch.ones(2, 1), torch.tensor([4, 1]), n_objects=5)
    ax = plots.influence_vs_time(estimate, np.arange(5.0), np.ones(5))
    assert dots(ax, 1)[:, 0].tolist() == [4, 1]


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda a: plots.scatter(a, a, target=2), IndexError, "no target 2: there are 2"),
        (lambda a: plots.top(a, k=0), ValueError, "`k` must be a whole number, at least 1"),
        (lambda a: plots.influence_vs_time(a, [1.0], [1]), ValueError, "30 objects, but 1 `durations` and 1 `events`"),
        (
            lambda a: plots.influence_vs_time(
                vif.Attribution(torch.ones(1, 1), ((0, 1),), n_objects=2), [1, 2], [1, 1]
            ),
            ValueError,
            "removed in groups",
        ),
    ],
)
def test_impossible_pictures_are_refused(draw, error, message):
    with pytest.raises(error, match=message):
        draw(pair()[0])


def test_plots_draw_where_they_are_told_and_leave_settings_alone():
    estimate, truth = pair()
    before = dict(mpl.rcParams)
    _, axes = plt.subplots(1, 5)
    assert plots.scatter(estimate, truth, ax=axes[0]) is axes[0]
    assert plots.top(estimate, ax=axes[1]) is axes[1]
    assert plots.influence_vs_time(estimate, np.ones(30), np.ones(30), ax=axes[2]) is axes[2]
    assert plots.waterfall(estimate, ax=axes[3]) is axes[3]
    assert plots.leverage(estimate, np.ones(30), ax=axes[4]) is axes[4]
    assert plt.get_fignums() == [1]
    assert dict(mpl.rcParams) == before


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match=r"plots need matplotlib. Run `pip install versatile-influence\[plots\]`"):
        plots.top(pair()[0])


def doubted(k=12):
    """Return scores of which row 2 is not trusted and row 5 has no result."""
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(k, 2, generator=generator, dtype=torch.float64)
    scores[5] = torch.nan
    error = torch.full((k,), 0.01, dtype=torch.float64)
    error[2] = 0.9
    described = {"n_objects": k, "labels": [f"P{i}" for i in range(k)], "targets": ["age", "dose"]}
    return vif.Attribution(scores, torch.arange(k), failed={5: "no minimum"}, error=error, **described)


def test_a_waterfall_steps_from_the_answer_to_what_it_would_be_without_the_largest():
    made = doubted()
    ax = plots.waterfall(made, target="dose", k=4, value=3.0)
    rows = made.scores[:, 1].abs().nan_to_num(-1).argsort(descending=True)[:4]
    left = np.array([bar.get_x() for bar in ax.patches])
    right = left + [bar.get_width() for bar in ax.patches]
    place = 3.0
    for begin, end, score in zip(left, right, made.scores[rows, 1].tolist(), strict=True):
        # A step ends where the one above begins, and begins at what there is without the object.
        assert sorted([place, place + score]) == pytest.approx([begin, end])
        place += score
    names = [label.get_text().split()[0] for label in ax.get_yticklabels()]
    assert names == [f"P{row}" for row in rows.tolist()]
    assert [line.get_xdata()[0] for line in ax.lines] == pytest.approx([3.0, place])
    assert ax.get_xlabel() == "dose"
    assert "the 4 largest of 12" in ax.get_title()
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["pushed it up", "pushed it down"]


def test_a_waterfall_is_hollow_where_not_trusted_and_leaves_out_what_has_no_result():
    made = doubted()
    ax = plots.waterfall(made, k=100)
    names = [label.get_text().split()[0] for label in ax.get_yticklabels()]
    assert len(names) == 11
    assert "P5" not in names
    hollow = [name for name, bar in zip(names, ax.patches, strict=True) if bar.get_facecolor()[3] == 0]
    assert hollow == ["P2"]
    assert ax.get_xlabel() == "change of age"
    # Who pushed up is told by colour from who pushed down.
    colours = {
        made.scores[int(name[1:]), 0].item() < 0: bar.get_edgecolor()
        for name, bar in zip(names, ax.patches, strict=True)
    }
    assert colours[True] != colours[False]


def test_leverage_draws_every_object_hollow_where_not_trusted():
    made, shares = doubted(), np.linspace(0, 1, 12)
    ax = plots.leverage(made, pd.Series(shares), target=1)
    filled, hollow = dots(ax), dots(ax, 1)
    trusted = made.trusted.numpy()
    np.testing.assert_allclose(filled[:, 0], shares[trusted])
    np.testing.assert_allclose(hollow[:, 1], made.scores[~torch.from_numpy(trusted), 1])
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("leverage", "change of dose without the object")
    with pytest.raises(ValueError, match="12 objects, but 3 `leverage`"):
        plots.leverage(made, [0.1, 0.2, 0.3])
