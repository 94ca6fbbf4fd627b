"""Measures of detection against counting by hand, and the rule of `vif rank`."""

from itertools import permutations

import pytest
import torch

from versatile_influence.reading.detection import area, precision, suspicious

SCORE = torch.tensor([2.0, 1.0, 1.0, 0.0, 1.0])
PLANTED = torch.tensor([True, False, True, False, False])


def test_area_counts_the_pairs_in_which_the_planted_one_scores_above():
    above = [(p > o) + (p == o) / 2 for p in SCORE[PLANTED].tolist() for o in SCORE[~PLANTED].tolist()]
    assert area(SCORE, PLANTED) == pytest.approx(sum(above) / len(above))


@pytest.mark.parametrize("k", range(1, 6))
def test_precision_is_the_mean_over_every_order_of_ties(k):
    orders = [order for order in permutations(range(5)) if (SCORE[list(order)].diff() <= 0).all()]
    expected = sum(PLANTED[list(order[:k])].double().mean().item() for order in orders) / len(orders)
    assert precision(SCORE, PLANTED, k=k) == pytest.approx(expected)


def test_nothing_planted_is_an_error_and_so_is_a_k_too_large():
    with pytest.raises(ValueError, match="nothing can be told apart"):
        area(SCORE, torch.zeros(5, dtype=torch.bool))
    with pytest.raises(ValueError, match="1 to 5"):
        precision(SCORE, PLANTED, k=6)


def test_the_rule_marks_normal_changes_as_rarely_as_it_says_and_never_a_positive_one():
    changes = torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert suspicious(changes, rate=1.0).double().mean().item() == pytest.approx(1 / 4300, rel=0.3)
    assert not suspicious(changes + 10.0, rate=1.0).any()


@pytest.mark.parametrize("seed", range(5))
def test_heavy_tails_alone_are_not_suspicious_and_what_is_planted_in_them_is_at_the_rate_asked_for(seed):
    changes = torch.distributions.StudentT(torch.tensor(2.0).double())
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        noise = changes.sample((60_000,))
    # By distance alone thousands are.
    assert suspicious(noise, rate=1.0).sum() > 1500
    assert suspicious(noise).sum() <= 12
    planted = torch.arange(60_000) < 600
    marked = suspicious(noise - 30.0 * planted)
    assert (marked & planted).sum() > 500
    assert (marked & ~planted).sum() <= 0.2 * marked.sum()
