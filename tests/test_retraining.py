"""Retraining on an engine: the same scores whoever runs it, and bad input by name."""

import os
import threading

import joblib
import pytest
import torch

import versatile_influence as vif

X = torch.tensor([1.0, 2.0, 6.0, 3.0, 8.0], dtype=torch.float64)
N = len(X)


def mean(presence):
    return (presence @ X / presence.sum())[None]


def slow_norm(theta):
    return torch.stack([theta.sum(), theta.square().sum()])


def run(fit, target=slow_norm, **given):
    return vif.leave_one_out(fit, target, n_objects=N, progress=False, **given)


def seeded(presence, *, seed):
    noise = torch.randn(1, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return mean(presence) * (1 + noise)


def closed_form():
    total = X.sum()
    return ((total - X) / (N - 1) - total / N)[:, None]


def test_the_mean_without_each_number_is_its_closed_form():
    torch.testing.assert_close(run(mean).scores[:, :1], closed_form())


def test_objects_and_groups_are_removed_as_named():
    truth = run(mean)
    torch.testing.assert_close(run(mean, objects=[3, 1]).scores, truth.scores[[3, 1]], rtol=0, atol=0)
    groups = run(mean, objects=[(0, 4), (2,)])
    assert groups.objects == ((0, 4), (2,))
    assert groups.scores[0, 0].item() == pytest.approx((2 + 6 + 3) / 3 - 4)
    torch.testing.assert_close(groups.scores[1], truth.scores[2], rtol=0, atol=0)


def test_processes_and_threads_give_the_scores_of_one_at_a_time():
    alone = run(mean).scores
    torch.testing.assert_close(run(mean, n_jobs=2).scores, alone, rtol=0, atol=0)
    with joblib.parallel_config("threading", n_jobs=2):
        torch.testing.assert_close(run(mean).scores, alone, rtol=0, atol=0)


def test_an_engine_that_returns_no_generator_gives_the_same_scores():
    with joblib.parallel_config("multiprocessing", n_jobs=2):
        torch.testing.assert_close(run(mean).scores, run(mean, n_jobs=1).scores, rtol=0, atol=0)


def test_many_presences_at_a_time_give_the_same_scores():
    def means(presences):
        return {"mean": (presences @ X / presences.sum(dim=1))[:, None]}

    batched = run(means, lambda params: slow_norm(params["mean"]), batch_size=2)
    torch.testing.assert_close(batched.scores, run(mean).scores)


def test_seeds_are_common_to_both_trainings_and_kept(tmp_path):
    both = run(seeded, seeds=[3, 5])
    for position, seed in enumerate([3, 5]):
        one = run(seeded, seeds=[seed])
        torch.testing.assert_close(both.by_seed[position], one.scores, rtol=0, atol=0)
    torch.testing.assert_close(both.scores, both.by_seed.mean(dim=0))
    both.save(tmp_path / "both.npz")
    torch.testing.assert_close(vif.Attribution.load(tmp_path / "both.npz").by_seed, both.by_seed)


def test_a_presence_target_is_split_into_direct_and_parameter_part():
    target = vif.PresenceTarget(lambda theta, presence: theta * presence.sum())
    result = run(mean, target)
    torch.testing.assert_close(result.scores, (X.sum() - X - X.sum())[:, None])
    torch.testing.assert_close(result.direct, torch.full((N, 1), -X.mean().item(), dtype=torch.float64))
    torch.testing.assert_close(result.direct + result.parameter, result.scores)


def test_failed_trainings_are_named_and_leave_the_rest_unharmed():
    def fit(presence):
        if presence[1] == 0:
            raise ArithmeticError("no minimum")
        return mean(presence) if presence[3] else mean(presence) * float("nan")

    with pytest.warns(UserWarning, match="2 of 5 retrainings failed; the first, row 1: ArithmeticError: no minimum"):
        result = run(fit)
    assert set(result.failed) == {1, 3}
    assert "NaN" in result.failed[3]
    torch.testing.assert_close(result.scores[[0, 2, 4], :1], closed_form()[[0, 2, 4]])
    assert result.scores[[1, 3]].isnan().all()


def test_a_failure_in_a_batch_leaves_those_beside_it_unharmed():
    def fit(presences):
        if (presences[:, 1] == 0).any():
            raise ArithmeticError("no minimum")
        return (presences @ X / presences.sum(dim=1))[:, None]

    with pytest.warns(UserWarning, match="1 of 5"):
        result = run(fit, batch_size=3)
    assert list(result.failed) == [1]


def test_every_failure_is_an_error():
    with pytest.raises(ValueError, match="5 of 5 retrainings failed"):
        run(lambda presence: mean(presence) if presence.all() else mean(presence) / 0.0)


def test_a_fit_that_ignores_presence_is_noticed():
    with pytest.warns(UserWarning, match="Does `fit` use `presence`"):
        run(lambda presence: X[:1])


def test_a_fit_of_other_shapes_is_an_error_that_shows_both():
    with pytest.raises(TypeError, match=r"\(4,\).*without object 0.*\(5,\)"):
        run(lambda presence: X[presence.bool()])
    with pytest.raises(TypeError, match=r"a tensor or a dict of tensors.*got float"):
        run(lambda presence: mean(presence).item())
    with pytest.raises(TypeError, match="stacked along"):
        run(lambda presences: X, batch_size=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_jobs": 0}, "other than 0"),
        ({"seeds": []}, "at least one seed"),
        ({"seeds": [1, 1]}, "each once"),
        ({"batch_size": 0}, "`batch_size` must be .* at least 1"),
        ({"objects": []}, "`objects` is empty"),
    ],
)
def test_bad_settings_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        run(mean, **given)


def test_a_target_that_is_not_finite_at_the_full_training_is_an_error():
    with pytest.raises(ValueError, match="Target 0 is nan"):
        run(mean, lambda theta: theta * float("nan"))


def test_what_cannot_be_sent_to_processes_says_so():
    lock = threading.Lock()

    def fit(presence):
        with lock:
            return mean(presence)

    with pytest.raises(TypeError, match="cloudpickle"):
        run(fit, n_jobs=2)
    assert run(fit).scores.shape == (N, 2)


def test_a_worker_that_dies_says_so():
    def fit(presence):
        if presence[2] == 0:
            os._exit(3)
        return mean(presence)

    with pytest.raises(RuntimeError, match=r"(?s)A worker died.*store="):
        run(fit, n_jobs=2)


def test_progress_is_written_to_stderr(capfd):
    vif.leave_one_out(mean, slow_norm, n_objects=N)
    shown = capfd.readouterr()
    assert "5/5" in shown.err
    assert not shown.out


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_fit_that_trains_one_module_in_place_and_returns_its_own_parameters_is_read_right(n_jobs):
    kept = {"mean": torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))}

    def fit(presence):
        with torch.no_grad():
            kept["mean"].copy_(mean(presence))
        return kept

    def change(params, presence):
        return params["mean"] * presence[0]

    # The target is the parameter itself, not a copy of it.
    measured = run(fit, target=lambda params: params["mean"], n_jobs=n_jobs)
    torch.testing.assert_close(measured.scores, closed_form())
    parts = run(fit, target=vif.PresenceTarget(change), n_jobs=n_jobs)
    torch.testing.assert_close(parts.direct[:, 0], torch.cat([-X.mean()[None], torch.zeros(N - 1).double()]))
    torch.testing.assert_close(parts.parameter[1:], closed_form()[1:])
