"""A run of 200 retrainings is killed with `kill -9` ten times, at random moments, and resumed each time.

The result is held bit for bit against that of an undisturbed run, and trainings are counted as they begin: beside the
200, each of the runs repeats the full training and one finished retraining on purpose, to recognise its folder, and
each kill may lose what was in flight. A quick run has 40 retrainings and 3 kills.

    python benchmarks/killed_runs.py
"""

import os
import random
import signal
import tempfile
import time
from multiprocessing import get_context
from pathlib import Path

import torch

import versatile_influence as vif
from experiments.run import Run

OBJECTS, KILLS = 200, 10
QUICK_OBJECTS, QUICK_KILLS = 40, 3
SECONDS_EACH = 0.05


def train(folder, log, n):
    """Retrain without each number of a mean; every training leaves a line in `log`."""
    x = torch.sin(torch.arange(n, dtype=torch.float64)) + 2

    def fit(presence):
        with open(log, "a") as file:
            file.write("fit\n")
        time.sleep(SECONDS_EACH)
        return (presence @ x / presence.sum())[None]

    def target(theta):
        return theta.exp()

    return vif.leave_one_out(fit, target, n_objects=n, store=folder, progress=False)


def main():
    """Kill, resume, compare and write."""
    run = Run.of(__file__, __doc__)
    n, kills = (QUICK_OBJECTS, QUICK_KILLS) if run.quick else (OBJECTS, KILLS)
    draw = random.Random(run.seed)
    with tempfile.TemporaryDirectory() as place:
        undisturbed = train(f"{place}/undisturbed", f"{place}/first_log", n)
        folder, log = Path(place) / "killed", Path(place) / "log"
        finished = []
        for _ in range(kills):
            before = len(list(folder.glob("refit-*.json")))
            process = get_context("spawn").Process(target=train, args=(folder, log, n))
            process.start()
            while len(list(folder.glob("refit-*.json"))) <= before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 15 * SECONDS_EACH))
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            finished.append(len(list(folder.glob("refit-*.json"))))
        resumed = train(folder, log, n)
        begun = log.read_text().count("fit")
    on_purpose = kills + 1 + kills
    numbers = {
        "retrainings": n,
        "finished_at_each_kill": finished,
        "same_bits": torch.equal(resumed.scores, undisturbed.scores),
        "trainings_begun": begun,
        "repeated_on_purpose": on_purpose,
        "lost_in_flight": begun - n - on_purpose,
    }
    print(numbers)
    run.record(numbers)


if __name__ == "__main__":
    main()
