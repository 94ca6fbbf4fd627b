"""Averages of attributions."""

import pytest
import torch

import versatile_influence as vif


def attribution(seed, targets=("a", "b"), objects=(0, 2, 3)):
    scores = torch.randn(len(objects), len(targets), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return vif.Attribution(scores, torch.tensor(objects), n_objects=5, targets=list(targets), parameter=scores / 2)


def test_an_ensemble_is_the_mean_and_keeps_its_members():
    members = [attribution(seed) for seed in range(4)]
    mean = vif.ensemble(members)
    torch.testing.assert_close(mean.scores, sum(member.scores for member in members) / 4)
    torch.testing.assert_close(mean.parameter, mean.scores / 2)
    assert mean.by_seed.shape == (4, 3, 2)
    assert mean.direct is None
    assert (mean.objects.tolist(), mean.targets, mean.n_objects) == ([0, 2, 3], ["a", "b"], 5)


def test_an_ensemble_of_nothing_or_of_different_things_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        vif.ensemble([])
    with pytest.raises(ValueError, match=r"1 is about other removals.*objects"):
        vif.ensemble([attribution(0), attribution(1, objects=(0, 1, 3))])
    with pytest.raises(ValueError, match=r"1 is about other targets.*'c'.*same target"):
        vif.ensemble([attribution(0), attribution(1, targets=("a", "c"))])
