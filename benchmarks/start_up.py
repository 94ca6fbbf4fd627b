"""What it costs to start: the words of the command line, and the library beside PyTorch's own import.

Each is a Python of its own, the ways in turn, and the medians are of processor and of wall seconds; the first round,
which reads the files from disk, is not counted. One thread.

    python benchmarks/start_up.py
"""

import os
import resource
import statistics
import subprocess
import sys
import time

from experiments.run import Run

REPEATS, QUICK_REPEATS = 5, 1
COMMAND = ["-m", "versatile_influence"]
WAYS = {
    "python": ["-c", "pass"],
    "vif --help": [*COMMAND, "--help"],
    "vif cox --help": [*COMMAND, "cox", "--help"],
    "vif cox, words missing": [*COMMAND, "cox"],
    "import versatile_influence": ["-c", "import versatile_influence"],
    "import torch": ["-c", "import torch"],
    "import torch, vif.attribute": ["-c", "import torch, versatile_influence as vif; vif.attribute"],
    "import torch, every name of vif": ["-c", "import torch; from versatile_influence import *"],
}


def seconds(words: list[str]) -> tuple[float, float]:
    """Return processor and wall seconds of a Python with these words."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        [sys.executable, *words], capture_output=True, check=False, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, wall


def main():
    """Time each way some times, in turn, and record the medians."""
    run = Run.of(__file__, __doc__)
    rounds = [
        {name: seconds(words) for name, words in WAYS.items()}
        for _ in range(1 + (QUICK_REPEATS if run.quick else REPEATS))
    ]
    numbers: dict = {"runs of each": len(rounds) - 1}
    for name in WAYS:
        processor, wall = (
            statistics.median(column) for column in zip(*(times[name] for times in rounds[1:]), strict=True)
        )
        numbers[name] = {"processor seconds": round(processor, 3), "wall seconds": round(wall, 3)}
    print(run.record(numbers))


if __name__ == "__main__":
    main()
