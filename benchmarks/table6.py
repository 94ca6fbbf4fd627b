"""Table 6's analogue: seconds and peak memory of each solver as the network grows, 1,218 objects × 381 targets.

The network of Appendix C (9 → h → 1, ReLU, no bias; 10·h parameters) on METABRIC, weight decay 0.01 in the mean loss,
float64, after some hundred steps of L-BFGS (fewer for the largest, which starts from a tenth of PyTorch's weights).
Networks of one size are trained once, and each cell is a process of its own, with a limit in processor seconds and in
memory; what passes it says so, and larger networks are then not tried. Seconds are those of `vif.attribute` alone; in
gradients of the loss by processor time, so that other work beside does not count. Peak memory is the process's, Python
and PyTorch included. Residuals are measured twice: by the solver, and on three columns by plain automatic
differentiation, in all parameters also where the solver worked in the span of the gradients.

    python benchmarks/table6.py [--quick]
"""

import multiprocessing
import queue
import resource
import signal
import statistics
import tempfile
import time
import warnings
from pathlib import Path

import torch
from torch.func import grad, jacrev, jvp, vjp

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets, solvers
from versatile_influence.losses import CoxLoss

SIZES = {"0.04K": 4, "10.2K": 1024, "41.0K": 4096, "81.9K": 8192, "1M": 100_000}
STEPS = {"0.04K": 2000, "10.2K": 600, "41.0K": 200, "81.9K": 150, "1M": 25}
WEIGHT_DECAY, GIGABYTES = 0.01, 14
PROCESSOR_SECONDS, WAITED_SECONDS = 120, 400
HESSIAN, GAUSS_NEWTON = {"curvature": vif.Hessian}, {"curvature": vif.GaussNewton}
METHODS = {
    "Gauss-Newton, CG": {"solver": vif.CG(rtol=1e-3), **GAUSS_NEWTON},
    "CG": {"solver": vif.CG(rtol=1e-3), **HESSIAN},
    "Gauss-Newton, Woodbury": {"solver": vif.Woodbury(), **GAUSS_NEWTON},
    "Gauss-Newton, EK-FAC": {"solver": vif.EKFAC(), **GAUSS_NEWTON},
    "Gauss-Newton, Nystrom of rank 100": {"solver": solvers.Nystrom(rank=100), **GAUSS_NEWTON},
    "Gauss-Newton, Arnoldi, 50 steps": {"solver": solvers.Arnoldi(num_steps=50), **GAUSS_NEWTON},
    "Gauss-Newton, projected to rank 100": {"solver": solvers.Projected(rank=100), **GAUSS_NEWTON},
    "Gauss-Newton, LiSSA, 100 steps of 64 terms": {"solver": vif.LiSSA(max_steps=100), **GAUSS_NEWTON},
    "Gauss-Newton, explicit": {"solver": vif.Explicit(), **GAUSS_NEWTON},
    "explicit": {"solver": vif.Explicit(), **HESSIAN},
}
PAPER = {
    "explicit": {"0.04K": 9.88, "10.2K": 116.0, "41.0K": "OOM", "81.9K": "OOM"},
    "CG": {"0.04K": 5.68, "10.2K": 27.7, "41.0K": 113.0, "81.9K": 171.0},
    "LiSSA": {"0.04K": 8.85, "10.2K": 17.18, "41.0K": 67.7, "81.9K": 79.1},
}


def problem(hidden):
    """Return the loss of a network of that width, the target, and everybody's presence."""
    layers = torch.nn.Linear(9, hidden, bias=False), torch.nn.ReLU(), torch.nn.Linear(hidden, 1, bias=False)
    model, data = torch.nn.Sequential(*layers).double(), datasets.metabric()
    given = {"duration_col": "duration", "event_col": "event", "model": model}
    loss = CoxLoss.from_frame(data.train, **given, penalty=WEIGHT_DECAY * len(data.train))
    return loss, loss.relative_risk(data.test), torch.ones(loss.n_objects, dtype=torch.float64)


def trained(size, steps, seed, folder, results):
    """Train a network, keep its parameters in a file, and put on the queue how far the training came."""
    torch.manual_seed(seed)
    loss, _, everyone = problem(SIZES[size])
    start = 0.1 if size == "1M" else 1.0
    params = {name: (start * value).requires_grad_() for name, value in loss.zeros().items()}
    before, times = loss(params, everyone).item(), []
    limits = {"max_iter": steps, "tolerance_grad": 1e-7, "tolerance_change": 0.0, "history_size": 20}
    optimizer = torch.optim.LBFGS(params.values(), line_search_fn="strong_wolfe", **limits)

    def gradient():
        began = time.process_time()
        optimizer.zero_grad()
        value = loss(params, everyone)
        value.backward()
        times.append(time.process_time() - began)
        return value

    optimizer.step(gradient)
    after = gradient().item()
    slope = torch.cat([value.grad.flatten() for value in params.values()])
    torch.save({name: value.detach() for name, value in params.items()}, Path(folder) / f"{size}.pt")
    numbers = {"loss before": round(before, 2), "loss after": round(after, 2), "gradients taken": len(times)}
    numbers["largest entry of the gradient / n"] = float(f"{slope.abs().max().item() / loss.n_objects:.2g}")
    results.put(numbers | {"processor seconds of one gradient": float(f"{statistics.median(times):.3g}")})


def measured(size, method, folder, limit, results):
    """Put seconds, peak memory and residuals of one method on one network on the queue."""
    resource.setrlimit(resource.RLIMIT_AS, (GIGABYTES * 2**30, GIGABYTES * 2**30))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    loss, target, everyone = problem(SIZES[size])
    params = torch.load(Path(folder) / f"{size}.pt")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # The first derivatives of a process load a good deal of PyTorch.
        small = problem(2)
        vif.attribute(
            small[0], small[0].zeros(), small[1], **METHODS[method] | {"solver": vif.CG(max_steps=1), "check": False}
        )
        caught.clear()
        began, used = time.perf_counter(), time.process_time()
        try:
            scores = vif.attribute(loss, params, target, check=False, **METHODS[method])
        except (MemoryError, RuntimeError, ValueError) as error:
            results.put(f"{type(error).__name__}: {str(error)[:300]}")
            return
        seconds, used = time.perf_counter() - began, time.process_time() - used
    solution, peak = scores.solution, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    numbers = {
        "seconds": round(seconds, 2),
        "processor seconds": round(used, 2),
        "peak GB": round(peak, 2),
        "steps": solution.num_steps,
    }
    numbers["largest relative residual"] = float(f"{solution.residual.max().item():.2g}")
    numbers["warnings"] = sorted({str(w.message)[:220] for w in caught if w.category is UserWarning})
    # What is solved for: targets, or unit vectors where parameters are fewer.
    sizes, shapes = [value.numel() for value in params.values()], [value.shape for value in params.values()]
    p, (length, columns), three = sum(sizes), solution.value.shape, solution.value[:, :3]
    found = three if solution.lift is None else solution.lift(three)
    few = jacrev(lambda theta: target(theta)[:3])(params)
    rhs = torch.cat([value.reshape(3, -1) for value in few.values()], dim=1) if columns < length else torch.eye(p)[:3]
    again = []
    for x, b in zip(found.T, rhs.to(found), strict=True):
        parts = [part.reshape(shape) for part, shape in zip(x.split(sizes), shapes, strict=True)]
        product = curved(loss, params, everyone, dict(zip(params, parts, strict=True)), METHODS[method]["curvature"])
        again.append(((product - b).norm() / b.norm()).item())
    numbers["largest of three residuals by automatic differentiation"] = float(f"{max(again):.2g}")
    numbers["scores"] = scores.scores.numpy()
    results.put(numbers)


def curved(loss, params, everyone, direction, kind):
    """Return the product of the Hessian or Gauss–Newton matrix with a direction by automatic differentiation."""
    if kind is vif.Hessian:
        product = jvp(grad(lambda theta: loss(theta, everyone)), (params,), (direction,))[1]
        return torch.cat([value.flatten() for value in product.values()])
    outputs, pull = vjp(loss.outputs, params)
    moved = jvp(loss.outputs, (params,), (direction,))[1]
    bent = jvp(grad(lambda values: loss.outer(values, everyone)), (outputs,), (moved,))[1]
    product = pull(bent)[0]
    return torch.cat([(product[name] + loss.penalty * direction[name]).flatten() for name in params])


def in_a_process(function, arguments):
    """Return what a function puts on its queue, or why there is nothing."""
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=function, args=(*arguments, results), daemon=True)
    process.start()
    deadline, found = time.monotonic() + WAITED_SECONDS, None
    while found is None and time.monotonic() < deadline and (process.is_alive() or not results.empty()):
        try:
            found = results.get(timeout=0.5)
        except queue.Empty:
            continue
    alive = process.is_alive()
    process.kill()
    process.join()
    if found is not None:
        return found
    if process.exitcode == -signal.SIGXCPU or (process.exitcode == -signal.SIGKILL and not alive):
        return f"stopped after {PROCESSOR_SECONDS} s of processor time"
    return f"stopped after {WAITED_SECONDS} s" if alive else f"ended with exit code {process.exitcode}"


def main():
    """Train the networks, fill the table, and record after each cell."""
    run = Run.of(__file__, __doc__)
    datasets.metabric()  # missing data are told here, not by each cell
    sizes = list(SIZES)[: 2 if run.quick else None]
    numbers = {
        "threads": torch.get_num_threads(),
        "limits": f"{PROCESSOR_SECONDS} s of processor time and {GIGABYTES} GB a cell",
    }
    numbers |= {"paper, seconds": PAPER, "training": {}}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            steps = min(STEPS[size], 50) if run.quick else STEPS[size]
            numbers["training"][size] = in_a_process(trained, (size, steps, run.seed, folder))
            print(size, numbers["training"][size], flush=True)
        exact = {}
        for method in METHODS:
            found = None
            for size in sizes if not run.quick or "Gauss-Newton, CG" in method else sizes[:1]:
                stopped = isinstance(found, str) and found.startswith(("stopped", "not tried"))
                found = "not tried" if stopped else in_a_process(measured, (size, method, folder, PROCESSOR_SECONDS))
                if isinstance(found, dict):
                    one = numbers["training"][size]["processor seconds of one gradient"]
                    found["loss gradients"] = round(found["processor seconds"] / one)
                    found = compared(found, exact, size, method)
                numbers[f"{method}, {size}"] = found
                print(method, size, found, flush=True)
                run.record(numbers)


def compared(found, exact, size, method):
    """Return a cell with its scores' correlation with those of Gauss–Newton by CG in place of the scores."""
    scores = torch.from_numpy(found.pop("scores")).flatten()
    if method == "Gauss-Newton, CG":
        exact[size] = scores
    elif size in exact:
        pooled = torch.corrcoef(torch.stack([scores, exact[size]]))[0, 1].item()
        found["correlation with Gauss-Newton, CG"] = round(pooled, 4)
    return found


if __name__ == "__main__":
    main()
