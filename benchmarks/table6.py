"""Table 6's analogue: seconds and peak memory of each solver as the network grows, 1,218 objects × 381 targets.

The network of Appendix C (9 → h → 1, ReLU, no bias; 10·h parameters) after some steps of Adam, weight decay 0.01 in the
mean loss, in float64. Each cell is a process of its own with a limit in seconds; what passes it says so. Seconds are
those of `vif.attribute` alone, also given in gradients of the loss. Writes `benchmarks/results/table6.json`.

    python benchmarks/table6.py [--quick]
"""

import multiprocessing
import resource
import statistics
import time
import warnings

import torch

import versatile_influence as vif
from versatile_influence import datasets
from versatile_influence.experiment import Run
from versatile_influence.losses import CoxLoss

SIZES = {"0.04K": 4, "10.2K": 1024, "41.0K": 4096, "81.9K": 8192}
WEIGHT_DECAY, STEPS, LIMIT = 0.01, 30, 90
METHODS = {
    "explicit": {"solver": vif.Explicit()},
    "CG": {"solver": vif.CG(rtol=1e-3)},
    "Gauss-Newton, CG": {"solver": vif.CG(rtol=1e-3), "curvature": vif.GaussNewton},
    "Gauss-Newton, Woodbury": {"solver": vif.Woodbury(), "curvature": vif.GaussNewton},
}
LARGEST = {"explicit": "0.04K", "CG": "10.2K", "Gauss-Newton, CG": "10.2K", "Gauss-Newton, Woodbury": "81.9K"}
PAPER = {
    "explicit": {"0.04K": 9.88, "10.2K": 116.0, "41.0K": "OOM", "81.9K": "OOM"},
    "CG": {"0.04K": 5.68, "10.2K": 27.7, "41.0K": 113.0, "81.9K": 171.0},
    "LiSSA": {"0.04K": 8.85, "10.2K": 17.18, "41.0K": 67.7, "81.9K": 79.1},
}


def measured(hidden, method, seed, results):
    """Put seconds, peak memory and residual of one method on one network on the queue."""
    torch.manual_seed(seed)
    layers = torch.nn.Linear(9, hidden, bias=False), torch.nn.ReLU(), torch.nn.Linear(hidden, 1, bias=False)
    model, data = torch.nn.Sequential(*layers).double(), datasets.metabric()
    given = {"duration_col": "duration", "event_col": "event", "model": model}
    loss = CoxLoss.from_frame(data.train, **given, penalty=WEIGHT_DECAY * len(data.train))
    params = vif.train(loss, loss.zeros(), epochs=STEPS, lr=0.001, scale=1 / len(data.train))
    everyone = torch.ones(loss.n_objects, dtype=torch.float64)
    gradient, times = torch.func.grad(lambda p: loss(p, everyone)), []
    for _ in range(5):
        began = time.perf_counter()
        gradient(params)
        times.append(time.perf_counter() - began)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        began = time.perf_counter()
        scores = vif.attribute(loss, params, loss.relative_risk(data.test), **METHODS[method])
        seconds = time.perf_counter() - began
    numbers = {"seconds": round(seconds, 2), "loss gradients": round(seconds / statistics.median(times))}
    numbers["peak GB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)
    numbers["largest relative residual"] = float(f"{scores.solution.residual.max().item():.2g}")
    numbers["steps"], numbers["shape"] = scores.solution.num_steps, str(tuple(scores.scores.shape))
    numbers["warnings"] = sorted({str(w.message)[:160] for w in caught if w.category is UserWarning})
    results.put(numbers)


def cell(hidden, method, seed, limit):
    """Return the numbers of one cell, or why there are none."""
    context = multiprocessing.get_context("spawn")
    results = context.SimpleQueue()
    process = context.Process(target=measured, args=(hidden, method, seed, results))
    process.start()
    process.join(limit)
    if process.is_alive():
        process.kill()
        process.join()
        return f"stopped after {limit} s, training included"
    return results.get() if process.exitcode == 0 else f"ended with exit code {process.exitcode}"


def main():
    """Fill the table, and record after each cell."""
    run, names = Run.of(__file__, __doc__), list(SIZES)
    numbers = {"threads": torch.get_num_threads(), "paper, seconds": PAPER}
    for method in METHODS:
        for size in names[: 2 if run.quick else names.index(LARGEST[method]) + 1]:
            if run.quick and size != "0.04K" and method != "Gauss-Newton, Woodbury":
                continue
            numbers[f"{method}, {size}"] = cell(SIZES[size], method, run.seed, LIMIT)
            print(method, size, numbers[f"{method}, {size}"], flush=True)
            run.record(numbers)


if __name__ == "__main__":
    main()
