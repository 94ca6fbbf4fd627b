import dataclasses
import math
import time
import warnings

import numpy as np
import pytest
import scipy.stats
import torch

import versatile_influence as vif
from versatile_influence.reading.metrics import agreement, pearson, relative_error, slope, spearman
from versatile_influence.reading.pairs import Pair


def scores(k=50, t=4, *, seed=0, noise=0.3, rounded=False):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randn(k, t, generator=generator, dtype=torch.float64) + torch.arange(t)
    estimate = 0.8 * truth + noise * torch.randn(k, t, generator=generator, dtype=torch.float64)
    return (estimate.round(decimals=1), truth.round(decimals=1)) if rounded else (estimate, truth)


def attribution(values, **changes):
    described = {"objects": torch.arange(len(values)), "n_objects": len(values), "labels": None, "targets": None}
    return vif.Attribution(values, **(described | changes))


@pytest.mark.parametrize("rounded", [False, True], ids=["distinct", "tied"])
def test_every_measure_equals_scipy_target_by_target(rounded):
    a, b = scores(rounded=rounded)
    columns = list(zip(a.T.numpy(), b.T.numpy(), strict=True))
    torch.testing.assert_close(pearson(a, b), torch.tensor([scipy.stats.pearsonr(*c).statistic for c in columns]))
    torch.testing.assert_close(spearman(a, b), torch.tensor([scipy.stats.spearmanr(*c).statistic for c in columns]))
    torch.testing.assert_close(slope(a, b), torch.tensor([scipy.stats.linregress(*c).slope for c in columns]))
    expected = torch.tensor([np.linalg.norm(x - y) / np.linalg.norm(y) for x, y in columns])
    torch.testing.assert_close(relative_error(a, b), expected)


def test_agreement_equals_scipy_over_all_pairs_and_means_over_targets():
    a, b = scores(rounded=True)
    found = agreement(attribution(a), attribution(b))
    assert found.pooled_pearson == pytest.approx(scipy.stats.pearsonr(a.ravel(), b.ravel()).statistic, abs=1e-14)
    assert found.slope == pytest.approx(scipy.stats.linregress(a.ravel(), b.ravel()).slope, abs=1e-14)
    assert found.relative_error == pytest.approx(((a - b).norm() / b.norm()).item(), abs=1e-14)
    each = [scipy.stats.pearsonr(x, y).statistic for x, y in zip(a.T, b.T, strict=True)]
    ranks = [scipy.stats.spearmanr(x, y).statistic for x, y in zip(a.T, b.T, strict=True)]
    assert (found.mean_pearson, found.median_pearson) == pytest.approx((np.mean(each), np.median(each)), abs=1e-14)
    assert (found.mean_spearman, found.median_spearman) == pytest.approx((np.mean(ranks), np.median(ranks)), abs=1e-14)
    assert (found.n_removals, found.n_targets, found.n_undefined, found.n_failed) == (50, 4, 0, 0)


def test_results_do_not_depend_on_how_the_scores_are_cut_into_blocks(monkeypatch):
    a, b = scores(rounded=True)
    whole = dataclasses.astuple(agreement(a, b))
    monkeypatch.setattr("versatile_influence.reading.pairs.BLOCK_NUMBERS", 28)
    monkeypatch.setattr("versatile_influence.metrics.BLOCK_NUMBERS", 60)
    assert dataclasses.astuple(agreement(a, b)) == pytest.approx(whole, abs=1e-14)


def test_tiny_differences_survive_a_large_common_part():
    a, _ = scores(noise=0.0)
    assert relative_error(a * (1 + 1e-12), a).max() == pytest.approx(1e-12, rel=1e-2)
    assert pearson(a + 1e6, a).min() > 1 - 1e-14


def test_float32_scores_are_compared_in_float64():
    a, b = scores()
    assert pearson(a.float(), b.float()).dtype == torch.float64
    torch.testing.assert_close(pearson(a.float(), b), pearson(a, b), atol=1e-7, rtol=0)


def test_one_column_may_be_given_as_a_vector():
    a, b = scores(t=1)
    assert pearson(a[:, 0], b).shape == (1,)


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e300, -1e-300])
@pytest.mark.parametrize("measure", [pearson, spearman])
def test_constant_targets_are_undefined_and_counted(measure, constant):
    a, b = scores()
    b[:, 2] = constant
    with pytest.warns(UserWarning, match=r"1 of 4 targets undefined .* Number 2"):
        values = measure(a, b)
    assert values.isnan().tolist() == [False, False, True, False]


def test_an_estimate_that_is_constant_has_no_slope_and_a_zero_truth_no_relative_error():
    a, b = scores()
    a[:, 0], b[:, 1] = 0.1, 0.0
    with pytest.warns(UserWarning, match=r"1 of 4 targets undefined .* Number 0"):
        assert slope(a, b).isnan().tolist() == [True, False, False, False]
    with pytest.warns(UserWarning, match=r"1 of 4 targets undefined .* Number 1"):
        assert relative_error(a, b).isnan().tolist() == [False, True, False, False]


def test_agreement_counts_undefined_targets_and_means_the_others():
    a, b = scores()
    without = agreement(a[:, :3], b[:, :3])
    a[:, 3] = 7.0
    found = agreement(a, b)
    assert found.n_undefined == 1
    assert found.mean_pearson == without.mean_pearson
    assert "of the 3 that vary" in str(found)


def test_removals_without_a_result_are_left_out_and_named():
    a, b = scores()
    expected = pearson(torch.cat([a[:7], a[8:]]), torch.cat([b[:7], b[8:]]))
    b[7] = torch.nan
    labels = [f"patient {i}" for i in range(50)]
    estimate, truth = attribution(a, labels=labels), attribution(b, labels=labels, failed={7: "no finite minimum"})
    with pytest.warns(UserWarning, match=r"1 removal without a result left out: patient 7\."):
        torch.testing.assert_close(pearson(estimate, truth), expected)
    with pytest.warns(UserWarning, match=r"left out: 7\."):
        spearman(a, b)
    found = agreement(estimate, truth)
    assert (found.n_removals, found.n_failed) == (49, 1)
    assert "49 removals, 1 without a result left out" in str(found)


def test_a_warning_about_many_removals_names_the_first_and_counts_the_rest():
    a, b = scores()
    a[10:20, 1] = math.inf
    with pytest.warns(UserWarning, match=r"10 removals without .*: 10, 11, 12, 13, 14 and 5 more"):
        pearson(a, b)


def test_a_target_without_any_result_is_undefined_and_costs_no_removal():
    a, b = scores()
    b[:, 1] = torch.nan
    for measure in (pearson, spearman, slope, relative_error):
        with pytest.warns(UserWarning, match=r"1 of 4 targets undefined"):
            assert measure(a, b).isnan().tolist() == [False, True, False, False]
    found = agreement(a, b)
    assert (found.n_removals, found.n_undefined, found.n_failed) == (50, 1, 0)
    assert found.pooled_pearson == agreement(a[:, [0, 2, 3]], b[:, [0, 2, 3]]).pooled_pearson


def test_nothing_left_to_compare_is_an_error():
    with pytest.raises(ValueError, match="None of the 3 removals has a result in both"):
        agreement(torch.full((3, 2), torch.nan), torch.ones(3, 2))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_objects": 60, "labels": None}, "50 objects and 60"),
        ({"objects": torch.arange(50).flip(0)}, "different objects: at position 0, 0 and 49"),
        ({"labels": [f"p{i}" for i in range(50)]}, "different labels of objects: at position 0, 0 and p0"),
        ({"targets": ["age", "sex", "dose", "stage"]}, "different targets: at position 1, treatment and sex"),
    ],
)
def test_scores_about_different_things_are_refused(changes, message):
    a, b = scores()
    described = {"labels": range(50), "targets": ["age", "treatment", "dose", "stage"]}
    with pytest.raises(ValueError, match=message):
        pearson(attribution(a, **described), attribution(b, **(described | changes)))


def test_different_shapes_are_refused():
    a, b = scores()
    with pytest.raises(ValueError, match="50 removals × 4 targets, and 49 × 4"):
        pearson(attribution(a), attribution(b[:-1], n_objects=50))


def test_groups_are_compared_like_objects():
    a, b = scores(k=2)
    groups = ((0, 1), (2, 3, 4))
    estimate = attribution(a, objects=groups, n_objects=5)
    assert pearson(estimate, attribution(b, objects=groups, n_objects=5)).shape == (4,)
    with pytest.raises(ValueError, match="different objects: at position 1"):
        pearson(estimate, attribution(b, objects=((0, 1), (2, 3)), n_objects=5))


def test_ten_million_pairs_are_compared_in_seconds():
    generator = torch.Generator().manual_seed(0)
    b = torch.randn(5678, 1775, generator=generator)
    a = b + 0.1 * torch.randn(5678, 1775, generator=generator)
    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pearson(a, b)
    assert found.mean() == pytest.approx(1 / math.sqrt(1.01), abs=1e-3)
    assert time.perf_counter() - start < 5


def test_what_becomes_of_a_pair_without_a_node_of_its_own_is_left_out_of_agreement(tmp_path):
    import networkx as nx

    graph = nx.krackhardt_kite_graph()
    loss = vif.losses.WalkEmbeddingLoss(graph, length=4, window=2, dim=2, penalty=1.0)
    theta = vif.minimize(loss, loss.start())
    pairs = [(0, 7), (3, 9), (5, 6), (8, 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimate, truth = (verb(loss, theta, loss.pair_losses(pairs)) for verb in (vif.attribute, vif.refit))
    found = agreement(estimate, truth)
    columns = []
    for place, pair in enumerate(pairs):
        others = [node for node in range(10) if node not in pair]
        columns.append((estimate.scores[others, place].numpy(), truth.scores[others, place].numpy()))
    a, b = (np.concatenate(side) for side in zip(*columns, strict=True))
    assert found.n_own == 8
    assert found.pooled_pearson == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert found.slope == pytest.approx(scipy.stats.linregress(a, b).slope)
    assert found.relative_error == pytest.approx(np.linalg.norm(a - b) / np.linalg.norm(b))
    assert found.mean_pearson == pytest.approx(np.mean([scipy.stats.pearsonr(*both).statistic for both in columns]))
    assert found.mean_spearman == pytest.approx(np.mean([scipy.stats.spearmanr(*both).statistic for both in columns]))
    # The nodes of the pair itself would hide how others are predicted.
    assert agreement(estimate.scores, truth.scores).n_own == 0
    spot = vif.spot_check(estimate, loss, theta, loss.pair_losses(pairs), k=10)
    unit = estimate.scores.square().mean(0).sqrt().numpy()
    a, b = (
        np.concatenate([part / u for part, u in zip(side, unit, strict=True)]) for side in zip(*columns, strict=True)
    )
    assert spot.correlation.value == pytest.approx(scipy.stats.pearsonr(a, b).statistic)
    assert spot.slope.value == pytest.approx(scipy.stats.linregress(a, b).slope)
    estimate.save(tmp_path / "scores.npz")
    assert agreement(vif.Attribution.load(tmp_path / "scores.npz"), truth) == found
    groups = vif.attribute(loss, theta, loss.pair_losses(pairs), objects=[[0, 1], [4, 7, 9], [1]], check=False)
    kept = Pair.of(groups, groups).a.isfinite().tolist()
    assert kept == [[False, True, True, True], [False, False, True, True], [True] * 4]
