"""Subsets, brittleness, ceilings and intervals, against SciPy and closed forms."""

import numpy as np
import pytest
import scipy.stats
import torch

import versatile_influence as vif
from versatile_influence import evaluation

N, T = 12, 3
DRAW = torch.Generator().manual_seed(0)
SCORES = torch.randn(N, T, generator=DRAW, dtype=torch.float64)
ESTIMATE = vif.Attribution(SCORES, torch.arange(N), n_objects=N)
GROUPS = evaluation.random_groups(N, count=9, seed=1)


def measured(objects=GROUPS):
    noise = torch.randn(len(objects), T, generator=DRAW, dtype=torch.float64)
    return vif.Attribution(noise, objects, n_objects=N)


def test_groups_are_distinct_objects_of_the_size_asked_for_and_seeded():
    assert all(len(set(group)) == N // 2 for group in GROUPS)
    assert evaluation.random_groups(N, count=9, seed=1) == GROUPS != evaluation.random_groups(N, count=9, seed=2)


def test_lds_is_the_rank_correlation_of_sums():
    truth = measured()
    sums = np.array([[SCORES[list(group), j].sum() for j in range(T)] for group in GROUPS])
    expected = [scipy.stats.spearmanr(sums[:, j], truth.scores[:, j]).statistic for j in range(T)]
    np.testing.assert_allclose(evaluation.lds(ESTIMATE, truth), expected)
    of_groups = vif.Attribution(torch.from_numpy(sums), GROUPS, n_objects=N)
    np.testing.assert_allclose(evaluation.lds(of_groups, truth), expected)


def test_an_additive_target_has_an_lds_of_one():
    loss_free = vif.leave_one_out(
        lambda presence: presence, lambda theta: theta @ SCORES, n_objects=N, objects=GROUPS, progress=False
    )
    singles = vif.Attribution(-SCORES, torch.arange(N), n_objects=N)
    torch.testing.assert_close(evaluation.lds(singles, loss_free), torch.ones(T, dtype=torch.float64))


def test_an_object_without_a_score_is_named():
    some = vif.Attribution(SCORES[:2], torch.arange(2), n_objects=N)
    with pytest.raises(ValueError, match="of group 0 has no score"):
        evaluation.lds(some, measured())


def test_the_top_group_moves_an_additive_target_further_than_any_other():
    (group,) = evaluation.top_groups(ESTIMATE, [3], target=1)
    assert set(group) == set(SCORES[:, 1].argsort()[:3].tolist())
    (raising,) = evaluation.top_groups(ESTIMATE, [3], target=1, lower=False)
    assert set(raising) == set(SCORES[:, 1].argsort()[-3:].tolist())
    with pytest.raises(ValueError, match="Cannot remove 12 of 12"):
        evaluation.top_groups(ESTIMATE, [12])


def test_the_ceiling_is_the_mean_correlation_of_pairs_of_seeds():
    by_seed = torch.randn(3, N, T, generator=DRAW, dtype=torch.float64)
    truth = vif.Attribution(by_seed.mean(0), torch.arange(N), n_objects=N, by_seed=by_seed)
    pairs = [(0, 1), (0, 2), (1, 2)]
    expected = [np.mean([np.corrcoef(by_seed[a, :, j], by_seed[b, :, j])[0, 1] for a, b in pairs]) for j in range(T)]
    np.testing.assert_allclose(evaluation.seed_ceiling(truth), expected)
    with pytest.raises(ValueError, match=r"seeds=\[0, 1\]"):
        evaluation.seed_ceiling(ESTIMATE)


def test_the_interval_agrees_with_the_normal_theory_of_a_correlation():
    k, rho = 400, 0.6
    a = torch.randn(k, 1, generator=DRAW, dtype=torch.float64)
    b = rho * a + (1 - rho**2) ** 0.5 * torch.randn(k, 1, generator=DRAW, dtype=torch.float64)
    interval = evaluation.bootstrap_interval(a, b, n_resamples=400)
    expected = scipy.stats.pearsonr(a[:, 0], b[:, 0]).confidence_interval(0.95)
    assert interval.low == pytest.approx(expected.low, abs=0.02)
    assert interval.high == pytest.approx(expected.high, abs=0.02)
    assert interval == evaluation.bootstrap_interval(a, b, n_resamples=400)


def test_an_interval_of_a_high_rank_correlation_holds_its_value():
    a = torch.arange(50.0)[:, None]
    b = a + torch.randn(50, 1, generator=DRAW)
    interval = evaluation.bootstrap_interval(a, b, statistic=vif.spearman, n_resamples=100)
    assert interval.low < interval.value < interval.high < 1
    assert interval.value == pytest.approx(vif.spearman(a, b).item())
    line = evaluation.bootstrap_interval(a, 2 * b, statistic=vif.metrics.slope, n_resamples=200)
    expected = scipy.stats.linregress(a[:, 0], 2 * b[:, 0])
    assert line.value == pytest.approx(expected.slope)
    assert (line.high - line.low) / (2 * 1.96) == pytest.approx(expected.stderr, rel=0.3)


def test_an_interval_warns_once_and_not_for_each_resample():
    a = torch.tensor([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [4.0, 0.0]])
    b = a + torch.tensor([[0.1], [-0.1], [0.0], [0.2]])
    with pytest.warns(UserWarning, match="of") as caught:
        interval = evaluation.bootstrap_interval(a, b, n_resamples=300)
    said = [str(warning.message) for warning in caught]
    assert len(said) == 2
    assert said[0].startswith("1 of 2 targets undefined")
    # One removal drawn four times has no correlation: one draw in 64.
    assert "resamples have no target" in said[1]
    assert interval.low < interval.value < interval.high


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="`level`"):
        evaluation.bootstrap_interval(ESTIMATE, ESTIMATE, level=1.0)
    with pytest.raises(ValueError, match="not all"):
        evaluation.random_groups(3, fraction=1.0)
