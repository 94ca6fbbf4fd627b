"""This checkout beside another one, job by job: processor time and peak memory, in pairs.

Each job runs in a process of its own, one thread, in turn A B B A …, and the ratio is taken pair by pair; the record
has the medians of ratios of seconds and of peak memory, and those beyond `LIMIT`. The jobs are those of `cox_speed`,
`cox_scale`, `delicious_scale`, `peers` and `table6`, and a network on digits. A quick run leaves out the long ones.

    git worktree add ../before COMMIT
    python benchmarks/before_after.py --other ../before [--only WORD]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from experiments.run import Run

HERE, LIMIT = Path(__file__).resolve().parent, 1.10
WHAT = ("seconds", "peak GB")
COX_VERBS = ("attribute", "parameter_changes", "newton_step", "refit", "minimize")
SHORT = [f"cox, metabric, {ties}, {verb}" for ties in ("breslow", "efron") for verb in COX_VERBS]
SHORT += ["many patients, 10000", "many patients, 100000", "delicious, 100"]
SHORT += [f"logistic, {way}, attribute" for way in ("parts", "terms", "function")] + ["logistic, parts, newton_step"]
SHORT += [f"network, 4, {method}" for method in ("CG", "GN CG", "GN EK-FAC", "GN explicit", "explicit")]
LONG = [f"cox, support, {ties}, {verb}" for ties in ("breslow", "efron") for verb in COX_VERBS]
LONG += ["many patients, 1000000", "delicious, 983"]
SOLVERS = ("GN CG", "GN Woodbury", "GN EK-FAC", "GN Nystrom", "GN Arnoldi", "GN Projected", "GN LiSSA")
LONG += [f"network, 1024, {method}" for method in SOLVERS]
LONG += [f"network, 8192, {method}" for method in SOLVERS[:4]]
LONG += ["network, 1024, CG", "network, 256, explicit", "network, 256, GN explicit"]
LONG += ["digits, explicit", "digits, GN explicit", "digits, GN CG"]


def measured(checkout: Path, row: str, folder: str) -> dict:
    """Return what one process measures with the library of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "before_after_rows.py"), row, folder]
    run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"{row} with {checkout} ended in:\n{run.stderr[-2000:]}")
    found = json.loads(run.stdout.splitlines()[-1])
    if not Path(found["library"]).is_relative_to(checkout.resolve()):
        raise RuntimeError(f"{row} measured {found['library']}, which is not in {checkout}.")
    return found


def paired(row: str, trees: tuple[Path, Path], folder: str, quick: bool) -> dict:
    """Return both libraries' medians, and the medians of the ratios after over before."""
    before, after = [], []
    pairs = 3 if quick or row in LONG else 5
    while len(before) < pairs:
        order = (0, 1) if len(before) % 2 == 0 else (1, 0)
        runs = {which: measured(trees[which], row, folder) for which in order}
        before.append(runs[0])
        after.append(runs[1])
    numbers: dict = {"pairs": len(before)}
    for what in WHAT:
        numbers[f"{what} before"] = statistics.median(run[what] for run in before)
        numbers[f"{what} after"] = statistics.median(run[what] for run in after)
        ratios = [new[what] / old[what] for old, new in zip(before, after, strict=True)]
        numbers[f"{what} after over before"] = statistics.median(ratios)
    return numbers


def main() -> None:
    """Measure every row and record after each."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--other", type=Path, help="the checkout to compare with")
    parser.add_argument("--only", default="", help="rows with this in their name alone; nothing is recorded")
    given, rest = parser.parse_known_args()
    run = Run.of(__file__, __doc__, argv=rest)
    if given.other is None:
        raise SystemExit("Say which checkout to compare with: --other FOLDER.")
    trees = given.other, HERE.parent
    numbers: dict = {"before": commit(given.other), "after": commit(HERE.parent), "threads": 1, "rows": {}}
    rows = [row for row in (SHORT if run.quick else SHORT + LONG) if given.only in row]
    # Two at a time, one thread each: both of a pair meet the same neighbour.
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(2) as two:
        jobs = {row: two.submit(paired, row, trees, folder, run.quick) for row in rows}
        for row, job in jobs.items():
            numbers["rows"][row] = found = job.result()
            seconds, memory = (found[f"{what} after over before"] for what in WHAT)
            was = [f"{found[f'{what} before']:.3g}" for what in WHAT]
            print(f"{row:42} {seconds:5.2f} of {was[0]} s, {memory:.2f} of {was[1]} GB", flush=True)
            numbers[f"beyond {LIMIT}"] = [
                f"{name}: {what} {known[f'{what} after over before']:.3f}"
                for name, known in numbers["rows"].items()
                for what in WHAT
                if known[f"{what} after over before"] > LIMIT
            ]
            if not given.only:
                run.record(numbers)
    print(f"beyond {LIMIT}:", numbers[f"beyond {LIMIT}"] or "none")


def commit(tree: Path) -> str:
    """Return which commit a checkout is at."""
    command = ["git", "-C", str(tree), "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


if __name__ == "__main__":
    main()
