"""A run that is killed goes on where it stopped; a folder of another run is refused; damage is noticed."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import versatile_influence as vif
from versatile_influence.core import files
from versatile_influence.core.files import read_json, write_json

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
        while len(list(folder.glob("refit-*.json"))) < at_least:
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


def sealed(path, body):
    path.unlink()
    write_json(path, body)


def body(path):
    return read_json(path, most=10**6)


def enlarge(path):
    os.truncate(path, 10**13)


DAMAGE = {
    "cut": lambda path, _: os.truncate(path, 50),
    "emptied": lambda path, _: os.truncate(path, 0),
    "a terabyte": lambda path, _: enlarge(path),
    "another number": lambda path, _: path.write_bytes(path.read_bytes().replace(b".", b"1", 1)),
    "a bit flipped": lambda path, _: path.write_bytes(path.read_bytes()[:-3] + b"\x00" + path.read_bytes()[-2:]),
    "no checksum": lambda path, _: path.write_text(json.dumps(body(path))),
    "swapped": lambda path, _: path.replace(path.with_name("refit-0-4.json")),
    "copied": lambda path, _: path.write_bytes(path.with_name("refit-0-1.json").read_bytes()),
    "from another run": lambda path, other: path.write_bytes((other / path.name).read_bytes()),
    "too few targets": lambda path, _: sealed(path, body(path) | {"outcome": [[], None, ""]}),
    "words for numbers": lambda path, _: sealed(path, body(path) | {"outcome": [["x"], None, ""]}),
    "a list": lambda path, _: sealed(path, [1]),
    "deep": lambda path, _: path.write_bytes(b"[" * 10**4),
    "a link to nothing": lambda path, _: (path.unlink(), path.symlink_to("nowhere")),
    "a pipe": lambda path, _: (path.unlink(), os.mkfifo(path)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_file_that_is_damaged_or_of_another_place_is_named_and_its_training_repeated(tmp_path, damage):
    folder, other = tmp_path / "this", tmp_path / "other"
    whole = run(folder)
    # The same with everyone present; the others differ.
    run(other, lambda presence: mean(presence) if presence.all() else mean(presence) + 1)
    damage(folder / "refit-0-3.json", other)
    with pytest.warns(UserWarning, match=r"are damaged, or not of this run.*refit-0-[34]\.json"):
        assert torch.equal(run(folder).scores, whole.scores)
    # The damage is made good.
    assert torch.equal(run(folder).scores, whole.scores)


def test_every_bit_of_a_file_is_under_its_checksum(tmp_path):
    run(tmp_path)
    path, count = tmp_path / "refit-0-3.json", Counted()
    data = path.read_bytes()
    for place in range(0, len(data), 29):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :])
        with pytest.warns(UserWarning, match="refit-0-3"):
            run(tmp_path, count)
        assert path.read_bytes() == data
    # Everyone present, the comparison, and what was damaged.
    assert count.calls == 3 * len(range(0, len(data), 29))


def test_a_damaged_header_is_made_good_by_its_copy_and_without_any_the_folder_is_refused(tmp_path):
    whole = run(tmp_path)
    header, copy = tmp_path / "run.json", tmp_path / "run-copy.json"
    for path in (header, copy):
        data = path.read_bytes()
        path.write_bytes(data.replace(b"54.", b"55.", 1))
        fit = Counted()
        with pytest.warns(UserWarning, match=path.name):
            assert torch.equal(run(tmp_path, fit).scores, whole.scores)
        assert fit.calls == 2
        assert path.read_bytes() == data
    for path in (header, copy):
        path.write_bytes(data[:40])
    with pytest.raises(ValueError, match=r"run\.json is damaged.*Delete the folder"):
        run(tmp_path)
    header.unlink(), copy.unlink()
    with pytest.raises(ValueError, match=r"no run\.json"):
        run(tmp_path)


def test_a_folder_of_an_earlier_version_is_refused_and_said_to_be_one(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps({"sha256": "0" * 64, "run": "{}"}))
    with pytest.raises(ValueError, match=r"from a version before 0\.2"):
        run(tmp_path)


def test_other_files_and_names_in_the_folder_are_left_alone_and_parts_of_dead_runs_go(tmp_path):
    whole = run(tmp_path)
    for name in ("refit-x.npz", "refit-0-x.json", "refit-0-99.json", "my.part"):
        (tmp_path / name).touch()
    (tmp_path / "refit-0-1.json.0a1b2c3d.part").touch()
    assert torch.equal(run(tmp_path).scores, whole.scores)
    left = {path.name for path in tmp_path.iterdir()}
    assert {"refit-x.npz", "refit-0-x.json", "refit-0-99.json", "my.part"} <= left
    assert not list(tmp_path.glob("refit*.part"))


def test_a_second_run_on_a_folder_that_is_being_filled_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)

    def fit(presence):
        if presence[2] == 0:
            with pytest.raises(ValueError, match=f"Another run is filling {tmp_path}"):
                run(tmp_path)
        return mean(presence)

    assert torch.equal(run(tmp_path, fit).scores, run(None).scores)


@pytest.mark.parametrize("error", [MemoryError("no room"), RuntimeError("CUDA error: out of memory")])
def test_a_fit_that_ran_out_of_memory_is_tried_again(tmp_path, error):
    def fit(presence):
        if presence[1] == 0:
            raise error
        return mean(presence)

    with pytest.warns(UserWarning, match=str(error)):
        assert run(tmp_path, fit).failed == {1: f"{type(error).__name__}: {error}"}
    assert torch.equal(run(tmp_path).scores, run(None).scores)


def test_what_runs_out_of_memory_when_repeated_is_no_other_run(tmp_path):
    run(tmp_path)

    def fit(presence):
        if not presence.all():
            raise MemoryError("no room")
        return mean(presence)

    with pytest.raises(MemoryError, match="Retraining 0, repeated .* no room"):
        run(tmp_path, fit)


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
    sync = os.fsync

    def full(descriptor):
        if len(list(tmp_path.glob("refit-*.json"))) == 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device.*make room"):
        run(tmp_path)
    assert not list(tmp_path.glob("*.part"))
    monkeypatch.undo()
    fit = Counted()
    assert torch.equal(run(tmp_path, fit).scores, run(None).scores)
    assert fit.calls == 4
