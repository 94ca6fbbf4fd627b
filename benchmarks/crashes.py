"""Everything that is written is killed, fought over, cut off and damaged: what is mixed, lost or blocked is counted.

- Fifty `kill -9` at random moments of each: `leave_one_out(store=…)`, gone on with each time, `write_scores` and `save`
  over a file that is there.
- Two runs of different penalties are started on one folder, ten times, and one of them is killed.
- A disk that is full after a random number of bytes (a limit on the size of files), in the middle of each of the three.
- A flipped bit in every file of a store, of a folder of scores and of a saved result, at several places.

*Mixed* is a result with a number of another run, or one that is wrong and not refused; *lost* is a result or training that
was finished and is gone, beyond the one that was damaged; *blocked* is a run that could not go on, by an error or a hang.
All three must be 0. A quick run has 3 kills, 2 fights and places.

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

KILLS, QUICK_KILLS = 50, 3
FIGHTS, QUICK_FIGHTS = 10, 2
PLACES, QUICK_PLACES = 8, 2
# Few enough that a run is killed in the middle of it, and many enough that it is never done.
N, SECONDS_EACH, LONG = 40, 0.01, 2.0
SPAWN = get_context("spawn")
X = torch.sin(torch.arange(N, dtype=torch.float64))[:, None] + torch.linspace(0, 1, 3).double()
Y = torch.cos(torch.arange(N, dtype=torch.float64))


def solved(presence, penalty):
    """Return the ridge regression of those present."""
    weighted = presence[:, None] * X
    return torch.linalg.solve(X.T @ weighted + penalty * torch.eye(3).double(), weighted.T @ Y)


def trained(folder, penalty=0.1, log=None):
    """Retrain without each row; every training leaves a line in `log`."""

    def fit(presence):
        if log is not None:
            with open(log, "a") as file:
                file.write("fit\n")
            time.sleep(SECONDS_EACH)
        return solved(presence, penalty)

    return vif.leave_one_out(fit, lambda theta: theta, n_objects=N, store=folder, progress=False)


def written(folder):
    """Write the scores of 30,000 targets, 10 MB, to a folder."""
    loss = vif.losses.TermLoss(vif.losses.SquaredError(Y), N, outputs=vif.losses.Linear(X), penalty=0.1)
    test = torch.randn(30_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return vif.write_scores(loss, vif.minimize(loss, torch.zeros(3).double()), lambda theta: test @ theta, folder)


def made(number):
    """Return a result of 4 MB whose every score is `number`."""
    return vif.Attribution(torch.full((500_000, 1), float(number)).double(), torch.arange(500_000), n_objects=500_000)


def saved(path, number):
    """Save results over each other until killed."""
    while True:
        made(number := number + 1).save(path)


def killed(draw, task, *args, ready, within):
    """Run a task in a process of its own, and kill it at a random moment after it is ready."""
    process = SPAWN.Process(target=task, args=args)
    process.start()
    until = time.monotonic() + 60
    while not ready() and process.is_alive() and time.monotonic() < until:
        time.sleep(0.002)
    time.sleep(draw.uniform(0, within))
    with suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
    process.join()
