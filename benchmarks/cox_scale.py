"""Time and memory of the change of parameters that every patient makes, for 10⁴, 10⁵ and 10⁶ patients.

Each size runs in a process of its own, so that its peak memory is its own; the data are simulated (10 covariates,
continuous times), parameters are found first and not timed. A quick run leaves out the largest.

    python benchmarks/cox_scale.py            # writes benchmarks/results/cox_scale.{json,png}
"""

import itertools
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets import simulated_survival
from versatile_influence.losses import CoxLoss

THREADS = 2
SIZES = (10_000, 100_000, 1_000_000)
COVARIATES = 10


def measure(n: int, seed: int) -> dict:
    """Return seconds and peak memory of one size, measured in this process."""
    torch.set_num_threads(THREADS)
    x, durations, events = simulated_survival(n, COVARIATES, seed=seed)
    loss = CoxLoss(x, durations, events, ties="breslow")
    theta = vif.minimize(loss, loss.zeros())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    times = []
    for _ in range(3):
        start = time.perf_counter()
        changes = vif.parameter_changes(loss, theta)
        times.append(time.perf_counter() - start)
    gradient = []
    for _ in range(5):
        start = time.perf_counter()
        torch.func.grad(loss)(theta, torch.ones(n, dtype=torch.float64))
        gradient.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "patients": n,
        "seconds": min(times),
        "gradients": min(times) / min(gradient),
        "peak memory GB": peak * 1024 / 1e9,
        "peak memory before GB": before * 1024 / 1e9,
        "largest change": changes.abs().max().item(),
    }


def draw(run: Run) -> None:
    """Plot the recorded seconds against the number of patients."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
    runs = run.numbers()["runs"]
    sizes, seconds = [one["patients"] for one in runs], [one["seconds"] for one in runs]
    ax.loglog(sizes, seconds, "o-", label="measured")
    ax.loglog(sizes, [seconds[0] * size / sizes[0] for size in sizes], "--", color="grey", label="proportional to n")
    for one in runs:
        label = f"{one['seconds']:.2g} s, {one['peak memory GB']:.2g} GB"
        ax.annotate(label, (one["patients"], one["seconds"]), textcoords="offset points", xytext=(6, -12))
    ax.set(xlabel="patients", ylabel="seconds", title="Parameter changes of every patient (10 covariates)")
    ax.margins(x=0.25)
    ax.legend()
    run.savefig(figure, ".png", dpi=110)


def main() -> None:
    """Measure every size in its own process and write the record and the plot."""
    run = Run.of(__file__, __doc__)
    if run.drawn_only:
        draw(run)
        return
    sizes = []
    for size in SIZES[:-1] if run.quick else SIZES:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            sizes.append(alone.submit(measure, size, run.seed).result())
        print(sizes[-1], flush=True)
    torch.set_num_threads(THREADS)
    growth = [later["seconds"] / earlier["seconds"] for earlier, later in itertools.pairwise(sizes)]
    run.record({"runs": sizes, "growth a decade": growth})
    draw(run)


if __name__ == "__main__":
    main()
