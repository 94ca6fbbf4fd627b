import matplotlib as mpl
import numpy as np
import pytest
import torch

import versatile_influence as vif
from versatile_influence.reading.plots_many import convergence, heatmap

mpl.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def scores(k=30, t=4, *, failed=False):
    values = torch.randn(k, t, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    if failed:
        values[3] = torch.nan
    described = {"n_objects": k, "labels": [f"P{i}" for i in range(k)], "targets": [f"risk {j}" for j in range(t)]}
    return vif.Attribution(values, torch.arange(k), failed={3: "no minimum"} if failed else None, **described)


def test_heatmap_shows_the_objects_that_move_any_target_most_on_a_scale_around_zero():
    made = scores()
    ax = heatmap(made, k=5)
    rows = made.scores.abs().max(1).values.argsort(descending=True)[:5]
    (image,) = ax.images
    np.testing.assert_allclose(image.get_array(), made.scores[rows])
    assert image.norm.vmin == -image.norm.vmax == -made.scores.abs().max()
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"P{row}" for row in rows.tolist()]
    assert [label.get_text() for label in ax.get_xticklabels()] == made.targets
    assert "the 5 largest of 30" in ax.get_title()


def test_heatmap_masks_removals_without_a_result():
    (image,) = heatmap(scores(failed=True), k=30).images
    assert np.ma.getmaskarray(image.get_array()).sum() == 4


def test_convergence_draws_a_curve_a_method_on_a_logarithmic_axis():
    _, ax = plt.subplots()
    assert convergence({"CG": ([1, 2], [0.1, 0.01]), "LiSSA": ([1, 5], [0.5, 0.1])}, effort="products", ax=ax) is ax
    assert ax.get_yscale() == "log"
    assert ax.get_xlabel() == "products"
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["CG", "LiSSA"]
    np.testing.assert_allclose(ax.lines[0].get_ydata(), [0.1, 0.01])


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda: heatmap(scores(), k=0), "`k` must be a whole number, at least 1"),
        (lambda: convergence({"CG": ([1, 2], [0.1])}), "2 efforts and 1 errors"),
        (lambda: convergence({"CG": ([1], [0.0])}), "not above 0"),
    ],
)
def test_impossible_pictures_are_refused(draw, message):
    with pytest.raises(ValueError, match=message):
        draw()
