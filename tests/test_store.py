"""A run that is killed goes on where it stopped; a folder of another run is refused; damage is noticed."""

import errno
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

import versatile_influence as vif

X = torch.tensor([1.0, 2.0, 6.0, 3.0, 8.0], dtype=torch.float64)
KILLED = """
import os, sys, time, torch, versatile_influence as vif
folder, log = sys.argv[1:]
x = torch.sin(torch.arange(60, dtype=torch.float64)) + 2
def fit(presence):
    with open(log, "a") as file:
        file.write("fit\\n")
    time.sleep(0.02)
    return (presence @ x / presence.sum())[None]
result = vif.leave_one_out(fit, torch.exp, n_objects=60, store=folder, progress=False)
result.save(folder + ".npz")
"""


def mean(presence):
    return (presence @ X / presence.sum())[None]


def run(store, fit=mean, target=torch.exp, **given):
    return vif.leave_one_out(fit, target, n_objects=given.pop("n_objects", 5), store=store, progress=False, **given)


class Counted:
    """A fit that counts its calls, and stops the run at one of them."""

    def __init__(self, stop=None):
        self.calls, self.stop = 0, stop

    def __call__(self, presence):
        self.calls += 1
        if self.calls == self.stop:
            raise KeyboardInterrupt
        return mean(presence)


def test_a_stopped_run_goes_on_and_gives_the_same_bits(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Counted(stop=5))
    fit = Counted()
    resumed = run(tmp_path, fit)
    # Everyone present, one comparison, and the two removals that were missing.
    assert fit.calls == 4
    assert torch.equal(resumed.scores, vif.leave_one_out(mean, torch.exp, n_objects=5, progress=False).scores)


def test_kill_9_loses_only_the_training_in_flight(tmp_path):
    folder, log = tmp_path / "store", tmp_path / "log"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", KILLED, str(folder), str(log)]
    for kill, at_least in enumerate([5, 20, 41]):
        process = subprocess.Popen(command, env=environment)
        while len(list(folder.glob("refit-*.npz"))) < at_least:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, kill
    subprocess.run(command, env=environment, check=True)
    trained = log.read_text().count("fit")
    # 60 retrainings; in each of 4 runs the full one; 3 comparisons; at most one lost by each kill.
    assert 60 + 4 + 3 <= trained <= 60 + 4 + 3 + 3
    x = torch.sin(torch.arange(60, dtype=torch.float64)) + 2
    undisturbed = vif.leave_one_out(
        lambda presence: (presence @ x / presence.sum())[None], torch.exp, n_objects=60, progress=False
    )
    assert torch.equal(vif.Attribution.load(f"{folder}.npz").scores, undisturbed.scores)


def wrong_presence(presence):
    return mean(presence) if presence.all() else mean(presence) * 1.001


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n_objects": 4, "fit": lambda presence: presence.sum()[None]}, r"`n_objects`: 5 there, 4 here"),
        ({"objects": [0, 1]}, r"`objects`: null there, \[\[0\], \[1\]\] here"),
        ({"key": "2"}, r'`key`: "1" there, "2" here'),
        (
            {"fit": lambda presence: mean(presence) * 1.01},
            r"target 0 with everyone present: 54\.\S+ there, 56\.\S+ here",
        ),
        ({"target": torch.sin}, r"target 0 with everyone present"),
        ({"target": lambda theta: torch.cat([theta, theta])}, r"targets with everyone present: 1 there, 2 here"),
        ({"fit": wrong_presence}, r"target 0 in retraining 0"),
    ],
)
def test_a_folder_of_another_run_is_refused_and_says_what_differs(tmp_path, given, message):
    run(tmp_path, key="1")
    before = sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match=message):
        run(tmp_path, **({"key": "1"} | given))
    assert sorted((path.name, path.read_bytes()) for path in tmp_path.iterdir()) == before


def test_a_random_fit_is_refused_on_resuming(tmp_path):
    def fit(presence):
        return mean(presence) + torch.rand(1, dtype=torch.float64)

    run(tmp_path, fit)
    with pytest.raises(ValueError, match="seeds="):
        run(tmp_path, fit)


def test_seeds_are_part_of_the_run(tmp_path):
    def fit(presence, *, seed):
        return mean(presence) * seed

    first = run(tmp_path, fit, seeds=[1, 2])
    assert torch.equal(run(tmp_path, fit, seeds=[1, 2]).by_seed, first.by_seed)
    with pytest.raises(ValueError, match="`seeds`"):
        run(tmp_path, fit, seeds=[1, 3])


@pytest.mark.parametrize(
    "damage", [lambda data: data[:50], lambda data: b"", lambda data: data.replace(b"<f8", b"<i8")]
)
def test_a_damaged_file_is_named_and_its_training_repeated(tmp_path, damage):
    whole = run(tmp_path)
    path = tmp_path / "refit-0-3.npz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=r"refit-0-3\.npz"):
        assert torch.equal(run(tmp_path).scores, whole.scores)


def test_a_damaged_header_is_refused(tmp_path):
    run(tmp_path)
    header = tmp_path / "run.json"
    header.write_text(header.read_text().replace("54.", "55.", 1))
    with pytest.raises(ValueError, match="its checksum is wrong"):
        run(tmp_path)
    header.unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        run(tmp_path)


def test_failures_are_kept_with_their_reason(tmp_path):
    def fit(presence):
        if presence[1] == 0:
            raise ArithmeticError("no minimum")
        return mean(presence)

    for _ in range(2):
        with pytest.warns(UserWarning, match="no minimum"):
            result = run(tmp_path, fit)
    assert result.failed == {1: "ArithmeticError: no minimum"}


def test_a_full_disk_says_so_and_corrupts_nothing(tmp_path, monkeypatch):
    savez = np.savez

    def full(file, **arrays):
        if len(list(tmp_path.glob("refit-*.npz"))) == 3:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        savez(file, **arrays)

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"No space left on device.*make room"):
        run(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    fit = Counted()
    assert torch.equal(run(tmp_path, fit).scores, run(None).scores)
    assert fit.calls == 4
