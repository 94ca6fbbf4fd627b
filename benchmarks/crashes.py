"""Everything that is written is killed, fought over, cut off and damaged: what is mixed, lost or blocked is counted.

- `kill -9` at random moments, 50 each: of `leave_one_out(store=…)`, gone on with each time; of `write_scores`; and of
  `save` over a file that is there.
- Ten times two runs start on one folder, of two penalties or of one, and at a random moment one of them is killed.
- A disk that is full (a limit on the size of files), ten times in the middle of each of the three.
- A flipped bit in every file of a store, of a folder of scores and of a saved result, at 20 places each.

*Mixed* is a number that is not, to rounding, what its run computes, and was not refused; *lost* is a training or result
that had been finished and is gone, beyond the one damaged; *blocked* is a run that could not go on. All must be 0.
A quick run has 3 of each.

    python benchmarks/crashes.py
"""

import os
import random
import resource
import signal
import tempfile
import time
import warnings
from collections import Counter
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.verbs import write_scores

KILLS, FIGHTS, FULL, PLACES, QUICK = 50, 10, 10, 20, 3
ROWS, FOUGHT_ROWS, QUICK_ROWS, SECONDS_EACH = 400, 20, 40, 0.005
TARGETS, TARGETS_AT_ONCE, NUMBERS = 30_000, 200, 300_000
PENALTIES, ROUNDING = (0.1, 1.0), 1e-14
# Forked: a process of its own that need not import everything again.
FORK = get_context("fork")


def data(n):
    """Return the rows and answers of a regression."""
    numbers = torch.arange(n, dtype=torch.float64)
    return torch.stack([numbers.sin(), numbers.cos(), numbers / n], dim=1), (3 * numbers).sin()


def trained(folder, n, penalty=PENALTIES[0], log=None):
    """Retrain a ridge regression without each row; every training leaves a line in `log`."""
    x, y = data(n)

    def fit(presence):
        if log is not None:
            with open(log, "a") as file:
                file.write("fit\n")
        time.sleep(SECONDS_EACH)
        return torch.linalg.solve(x.T @ (presence[:, None] * x) + penalty * torch.eye(3).double(), x.T @ (presence * y))

    return vif.leave_one_out(fit, torch.sin, n_objects=n, store=folder, progress=False)


def written(folder):
    """Write scores of many targets, block by block."""
    x, y = data(QUICK_ROWS)
    test = torch.randn(TARGETS, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    write_scores.SCORE_NUMBERS = TARGETS_AT_ONCE * QUICK_ROWS
    theta = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    return vif.write_scores(
        lambda theta, presence: (presence * (y - x @ theta) ** 2).sum() / 2, theta, lambda theta: test @ theta, folder,
        n_objects=QUICK_ROWS,
    )  # fmt: skip


def saved(path, number, again):
    """Save a result whose scores are all `number`, and if asked others over it without end."""
    while True:
        scores = torch.full((NUMBERS, 1), float(number), dtype=torch.float64)
        vif.Attribution(scores, torch.arange(NUMBERS), n_objects=NUMBERS).save(path)
        number += 1
        if not again:
            return


def ended(task, *args):
    """Do a task, and exit with 3 where it is refused."""
    try:
        task(*args)
    except ValueError:
        os._exit(3)


def started(task, *args):
    """Start a task in a process of its own."""
    process = FORK.Process(target=ended, args=(task, *args))
    process.start()
    return process


def killed(seconds, *processes):
    """Kill the first process after some seconds, and wait for all; return whether one ended in an error of its own."""
    time.sleep(seconds)
    with suppress(ProcessLookupError):
        os.kill(processes[0].pid, signal.SIGKILL)
    for process in processes:
        process.join()
    return processes[0].exitcode not in (0, -signal.SIGKILL)


def limited(task, most, *args):
    """Do a task where no file may have more than `most` bytes; exit with 7 where it says so."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        task(*args)
    except OSError as error:
        os._exit(7 if "could not be written" in str(error) else 1)


def outcome(function, *args):
    """Return what a function returns, or the error it raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*args)
    except Exception as error:
        return error


def right(result, truth):
    """Return whether it is a result with these scores; products in blocks may round otherwise from run to run."""
    return isinstance(result, vif.Attribution) and torch.allclose(result.scores, truth, rtol=0, atol=ROUNDING)


def judged(counts, result, truth):
    """Count a result that is wrong as mixed, and an error as blocked."""
    counts["blocked"] += isinstance(result, Exception)
    counts["mixed"] += isinstance(result, vif.Attribution) and not right(result, truth)


def kill_trainings(place, draw, times, n):
    """Kill and go on; return counts."""
    counts, folder, log = Counter(kills=0, mixed=0, lost=0, blocked=0), place / "store", place / "log"
    before = set()
    for _ in range(times):
        process = started(trained, folder, n, PENALTIES[0], log)
        counts["blocked"] += killed(draw.uniform(0, 0.3), process)
        counts["kills"] += process.exitcode == -signal.SIGKILL
        there = {path.name for path in folder.glob("refit-*.json")}
        counts["lost"] += len(before - there)
        before = there
    judged(counts, outcome(trained, folder, n, PENALTIES[0], log), trained(None, n).scores)
    begun = log.read_text().count("fit")
    # Each run repeats two on purpose, and each kill may take what was being trained.
    counts["lost"] += max(0, begun - n - 3 * (times + 1))
    return counts | {"finished when killed last": len(before), "retrainings": n, "trainings begun": begun}


def kill_scores(place, draw, times):
    """Kill `write_scores` in folder after folder, and write again; return counts."""
    truth, counts = written(place / "truth").scores, Counter(kills=0, mixed=0, lost=0, blocked=0)
    began = time.perf_counter()
    written(place / "timed")
    took = time.perf_counter() - began
    for number in range(times):
        folder = place / f"scores{number}"
        process = started(written, folder)
        counts["blocked"] += killed(draw.uniform(0, took), process)
        counts["kills"] += process.exitcode == -signal.SIGKILL
        half = outcome(vif.Attribution.load, folder) if folder.exists() else FileNotFoundError()
        counts["mixed"] += isinstance(half, vif.Attribution) and not right(half, truth)
        if not isinstance(half, vif.Attribution):
            judged(counts, outcome(written, folder), truth)
    return counts


def kill_saves(place, draw, times):
    """Kill `save` over a file that is there; return counts."""
    path, counts = place / "saved.npz", Counter(kills=0, mixed=0, lost=0, blocked=0)
    saved(path, 0, False)
    for number in range(times):
        process = started(saved, path, 1000 * number, True)
        counts["blocked"] += killed(draw.uniform(0, 0.2), process)
        counts["kills"] += process.exitcode == -signal.SIGKILL
        found = outcome(vif.Attribution.load, path)
        counts["lost"] += isinstance(found, Exception)
        counts["mixed"] += isinstance(found, vif.Attribution) and len(found.scores.unique()) != 1
    return counts


def fights(place, draw, times):
    """Start two runs on one folder and kill one; return counts."""
    counts, n = Counter(fights=times, mixed=0, lost=0, blocked=0), FOUGHT_ROWS
    truths = {penalty: trained(None, n, penalty).scores for penalty in PENALTIES}
    for number in range(times):
        folder, second = place / f"fought{number}", PENALTIES[number % 2]
        killed(draw.uniform(0, 0.3), *(started(trained, folder, n, penalty) for penalty in (PENALTIES[0], second)))
        results = {penalty: outcome(trained, folder, n, penalty) for penalty in {PENALTIES[0], second}}
        counts["mixed"] += sum(
            isinstance(result, vif.Attribution) and not right(result, truths[penalty])
            for penalty, result in results.items()
        )
        # One of the two owns the folder, and the other is refused.
        counts["blocked"] += sum(isinstance(result, Exception) for result in results.values()) != len(results) - 1
    return counts


def full_disks(place, draw, times):
    """Run out of room in the middle of each of the three, and make room; return counts."""
    counts = Counter(full=0, said=0, mixed=0, lost=0, blocked=0)
    path, store = place / "full.npz", place / "full"
    saved(path, 1, False)
    truth, scores = trained(None, QUICK_ROWS).scores, written(place / "not-full").scores
    for number in range(times):
        folder = place / f"full{number}"
        # Into the store of a run that was killed, of which the header is there.
        killed(draw.uniform(0.2, 0.3), started(trained, store, QUICK_ROWS))
        finished = len(list(store.glob("refit-*.json")))
        ends = [
            started(limited, trained, draw.randrange(150), store, QUICK_ROWS),
            started(limited, written, draw.randrange(8 * QUICK_ROWS * TARGETS), folder),
            started(limited, saved, draw.randrange(8 * NUMBERS), path, 2, False),
        ]
        for process in ends:
            process.join()
        counts["full"] += len(ends)
        counts["said"] += sum(process.exitcode == 7 for process in ends)
        counts["lost"] += finished > len(list(store.glob("refit-*.json")))
        counts["lost"] += not right(outcome(vif.Attribution.load, path), torch.ones(NUMBERS, 1).double())
        judged(counts, outcome(written, folder), scores)
        judged(counts, outcome(trained, store, QUICK_ROWS), truth)
        for finished in store.glob("refit-*.json"):
            finished.unlink()
    return counts


def flips(place, draw, times):
    """Flip bits in every file; return counts."""
    n, store, folder, log = FOUGHT_ROWS, place / "flipped", place / "flipped-scores", place / "flipped-log"
    counts = Counter(files=0, flips=0, mixed=0, lost=0, blocked=0)
    truth = trained(store, n).scores
    written(folder)
    vif.Attribution(truth, torch.arange(n), n_objects=n).save(place / "flipped.npz")
    for path in sorted(path for path in [*store.iterdir(), *folder.iterdir(), place / "flipped.npz"]):
        whole = path.read_bytes()
        counts["files"] += bool(whole)
        for _ in range(times if whole else 0):
            at = draw.randrange(len(whole))
            path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << draw.randrange(8)]) + whole[at + 1 :])
            counts["flips"] += 1
            if path.parent == store:
                log.write_text("")
                judged(counts, outcome(trained, store, n, PENALTIES[0], log), truth)
                counts["lost"] += log.read_text().count("fit") > 3
                continue
            # Refused, whatever was flipped.
            found = outcome(vif.Attribution.load, folder if path.parent == folder else path)
            counts["mixed"] += not isinstance(found, ValueError)
            path.write_bytes(whole)
    return counts


def main():
    """Do all of it, and write the counts."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    kills, fought, full, places = (QUICK,) * 4 if run.quick else (KILLS, FIGHTS, FULL, PLACES)
    draw = random.Random(run.seed)
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        numbers = {
            "killed trainings": kill_trainings(place, draw, kills, QUICK_ROWS if run.quick else ROWS),
            "killed write_scores": kill_scores(place, draw, kills),
            "killed save": kill_saves(place, draw, kills),
            "two runs on one folder": fights(place, draw, fought),
            "full disk": full_disks(place, draw, full),
            "flipped bits": flips(place, draw, places),
        }
    numbers |= {word: sum(part[word] for part in numbers.values()) for word in ("mixed", "lost", "blocked")}
    print(numbers)
    run.record(numbers)


if __name__ == "__main__":
    main()
