"""A training and its way back in a folder: the same numbers, little lost by a kill, nothing mixed, damage mended."""

import multiprocessing
import os
import signal
import warnings
from dataclasses import replace

import pytest
import torch

import versatile_influence as vif

N, STEPS = 12, 40
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, 3, generator=DRAW, dtype=torch.float64)
BATCHES = [(X[some], some) for some in (torch.randint(N, (4,), generator=DRAW) for _ in range(STEPS))]
START = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)


def step_loss(theta, x, presence):
    return (presence * torch.nn.functional.softplus(x @ theta) ** 2).sum()


def training(loss=step_loss, dtype=torch.float64, **options):
    settings = {"optimizer": vif.AdamW(lr=0.02, eps=1e-3), "n_objects": N} | options
    return vif.Training(loss, BATCHES, start=START.to(dtype), **settings)


def target(theta):
    return torch.cat([theta, theta.square()])


def dying(after, calls):
    """Return the loss, which kills its process when it is called once more than `after` times."""

    def loss(theta, x, presence):
        calls.append(1)
        if after is not None and after < len(calls):
            os.kill(os.getpid(), signal.SIGKILL)
        return step_loss(theta, x.to(theta), presence)

    return loss


def work(folder, after, seen):
    calls = []
    vif.unrolled(training(dying(after, calls)), target, store=folder)
    seen.put(len(calls))


def calls_of(folder, after=None):
    """Return how often the loss was called in a process of its own, or None where that was killed."""
    # Not forked: derivatives in a fork may wait for threads that are not there.
    context = multiprocessing.get_context("spawn")
    seen = context.SimpleQueue()
    process = context.Process(target=work, args=(folder, after, seen))
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return None if process.exitcode == -signal.SIGKILL else seen.get()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"averaging": 0.9, "max_norm": 1.0, "accumulation": 2}])
def test_scores_by_a_folder_are_those_without(tmp_path, dtype, options):
    loss = lambda theta, x, presence: step_loss(theta, x.to(theta), presence)  # noqa: E731
    made = training(loss, dtype, **options)
    expected = vif.unrolled(made, target).scores
    first = vif.unrolled(made, target, store=tmp_path).scores
    assert torch.equal(vif.unrolled(made, target, store=tmp_path).scores, first)
    torch.testing.assert_close(first, expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(made.run(store=tmp_path), made.run())
    # Forwards, and another target, from the same states.
    few = vif.unrolled(made, target, objects=[2], store=tmp_path).scores
    torch.testing.assert_close(few[0], expected[2], rtol=1e-5 if dtype == torch.float64 else 0.1, atol=1e-2)
    torch.testing.assert_close(
        vif.unrolled(made, lambda theta: theta, store=tmp_path).scores, expected[:, :3], rtol=1e-9, atol=1e-12
    )


def test_a_kill_loses_no_more_than_a_segment(tmp_path):
    expected = vif.unrolled(training(), target).scores
    whole = calls_of(tmp_path / "whole")
    segment = 3  # steps between two states: half the root of 40
    for place, after in enumerate((8, whole // 2, whole - 12)):
        folder = tmp_path / str(place)
        assert calls_of(folder, after) is None
        rest = calls_of(folder)
        # Of each step of a segment its gradient and derivatives, and what is looked at when the folder is opened.
        assert rest <= whole - after + 8 * segment + 10
        assert torch.allclose(vif.unrolled(training(), target, store=folder).scores, expected, rtol=1e-10)


def test_a_folder_of_another_training_is_refused(tmp_path):
    vif.unrolled(training(), target, store=tmp_path)
    others = {
        "optimizer": training(optimizer=vif.AdamW(lr=0.03, eps=1e-3)),
        "schedule": training(schedule=lambda step: 1.0 + step),
        "max_norm": training(max_norm=1.0),
        "start": replace(training(), start=START + 1),
        "steps": replace(training(), steps=[(x + 1, some) for x, some in BATCHES]),
        "The gradient of step": training(lambda theta, x, presence: 2 * step_loss(theta, x, presence)),
    }
    for named, other in others.items():
        with pytest.raises(ValueError, match=f"holds the states of another training.*{named}"):
            vif.unrolled(other, target, store=tmp_path)
    arrays = [(x.numpy().repeat(500, axis=1), some) for x, some in BATCHES]
    by_array = lambda theta, x, presence: step_loss(theta, torch.from_numpy(x[:, ::500].copy()), presence)  # noqa: E731
    folder = tmp_path / "arrays"
    replace(training(by_array), steps=arrays).run(store=folder)
    arrays[7][0][2, 700] += 1.0
    with pytest.raises(ValueError, match="steps"):
        replace(training(by_array), steps=arrays).run(store=folder)
    with pytest.raises(ValueError, match="presence"):
        training().run(torch.zeros(N), store=tmp_path)
    with pytest.raises(ValueError, match="`presence` must be of shape"):
        training().run(torch.ones(2, N), store=tmp_path)
    with pytest.raises(ValueError, match="`store` must be a folder"):
        training().run(store=next(tmp_path.glob("*.npz")))


def test_a_loss_that_differs_only_where_somebody_is_absent_gets_its_own_scores(tmp_path):
    other = training(lambda theta, x, presence: step_loss(theta, x, presence) * presence.mean() ** 3)
    first = vif.unrolled(training(), target, store=tmp_path).scores
    second = vif.unrolled(other, target, store=tmp_path).scores
    torch.testing.assert_close(second, vif.unrolled(other, target).scores, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(first, second, rtol=1e-2)


def test_each_damaged_file_is_told_and_made_again(tmp_path):
    expected = vif.unrolled(training(), target, store=tmp_path).scores
    files = sorted(tmp_path.glob("*.npz"))
    assert len(files) > 10
    for number, path in enumerate(files):
        whole = path.read_bytes()
        for place in (3, len(whole) // 2, len(whole) - 5):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
            # Of what is finished nothing but the last files are read; of another target all of them are.
            factor = 1.0 + number + place / len(whole)
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                again = vif.unrolled(training(), target, store=tmp_path).scores
                other = vif.unrolled(training(), lambda theta: factor * theta[:1], store=tmp_path).scores
            assert torch.allclose(again, expected, rtol=1e-12)
            torch.testing.assert_close(other, factor * expected[:, :1], rtol=1e-9, atol=1e-12)
            told = [str(warning.message) for warning in caught]
            # The start is known without its file.
            assert any("is damaged" in one for one in told) or path.name == "state-000000000.npz"
            path.write_bytes(whole)
