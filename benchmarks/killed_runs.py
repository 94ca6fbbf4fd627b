"""A run of 200 retrainings is killed with `kill -9` ten times, at random moments, and resumed each time.

The result is held bit for bit against that of an undisturbed run, and trainings are counted as they begin: beside the
200, each of the runs repeats the full training and one finished retraining on purpose, to recognise its folder, and
each kill may lose what was in flight. Writes `benchmarks/results/killed_runs.json`.
"""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

import versatile_influence as vif
from versatile_influence.record import write_record

RESULTS = Path(__file__).parent / "results"
OBJECTS, KILLS, SEED = 200, 10, 0
SECONDS_EACH = 0.05


def train(folder, log):
    """Retrain without each number of a mean; every training leaves a line in `log`."""
    x = torch.sin(torch.arange(OBJECTS, dtype=torch.float64)) + 2

    def fit(presence):
        with open(log, "a") as file:
            file.write("fit\n")
        time.sleep(SECONDS_EACH)
        return (presence @ x / presence.sum())[None]

    def target(theta):
        return theta.exp()

    return vif.leave_one_out(fit, target, n_objects=OBJECTS, store=folder, progress=False)


def main():
    """Kill, resume, compare and write."""
    draw = random.Random(SEED)
    with tempfile.TemporaryDirectory() as place:
        undisturbed = train(f"{place}/undisturbed", f"{place}/first_log")
        folder, log = Path(place) / "killed", Path(place) / "log"
        finished = []
        for _ in range(KILLS):
            before = len(list(folder.glob("refit-*.npz")))
            process = subprocess.Popen([sys.executable, __file__, str(folder), str(log)])
            while len(list(folder.glob("refit-*.npz"))) <= before:
                time.sleep(0.01)
            time.sleep(draw.uniform(0, 15 * SECONDS_EACH))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            finished.append(len(list(folder.glob("refit-*.npz"))))
        resumed = train(folder, log)
        begun = log.read_text().count("fit")
    on_purpose = KILLS + 1 + KILLS
    numbers = {
        "retrainings": OBJECTS,
        "finished_at_each_kill": finished,
        "same_bits": torch.equal(resumed.scores, undisturbed.scores),
        "trainings_begun": begun,
        "repeated_on_purpose": on_purpose,
        "lost_in_flight": begun - OBJECTS - on_purpose,
    }
    print(numbers)
    write_record(RESULTS / "killed_runs.json", numbers, seed=SEED)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        train(*sys.argv[1:])
    else:
        main()
