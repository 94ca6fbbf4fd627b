"""One row of `before_after.py` in a process of its own: any checkout's library that is first on PYTHONPATH.

Prints processor seconds of the call (the least of some, after one that is not counted; one alone where it is long) and
the peak memory of the process, Python and PyTorch included, as JSON. It uses nothing but what both libraries have.

    PYTHONPATH=CHECKOUT python benchmarks/before_after_rows.py ROW FOLDER
"""

import inspect
import json
import os
import resource
import sys
import time
import warnings
from pathlib import Path

import torch

import versatile_influence as vif
from versatile_influence import datasets, solvers
from versatile_influence.losses import (
    CoxLoss,
    Linear,
    ListMLELoss,
    Logistic,
    OutputLoss,
    TermLoss,
    query_loss,
    term_values,
)

# Scores alone: the library before had no estimate of their errors.
ALONE = {"check": False} if "check" in inspect.signature(vif.attribute).parameters else {}
LONG_SECONDS, SHORT_SECONDS, REPEATS = 4.0, 1.0, 30


def cox(name, ties, verb, _):
    """Return the call of one verb on a data set, every score of every held-out patient (`cox_speed`)."""
    data = {"metabric": datasets.metabric, "support": datasets.support}[name]()
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties=ties)
    theta, target = vif.minimize(loss, loss.zeros()), loss.relative_risk(data.test)
    if verb == "minimize":
        return lambda: vif.minimize(loss, loss.zeros())
    if verb == "parameter_changes":
        return lambda: vif.parameter_changes(loss, theta)
    more = ALONE if verb == "attribute" else {}
    return lambda: getattr(vif, verb)(loss, theta, target, **more)


def many_patients(n, _):
    """Return the call of the changes of parameters of many simulated patients (`cox_scale`)."""
    x, durations, events = datasets.simulated_survival(int(n), 10, seed=0)
    loss = CoxLoss(x, durations, events, ties="breslow")
    theta = vif.minimize(loss, loss.zeros())
    return lambda: vif.parameter_changes(loss, theta)


def delicious(items, _):
    """Return the call of all scores of that many items at given parameters (`delicious_scale`)."""
    from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
    from versatile_influence.datasets.ranking import delicious as read

    data, items = read(), int(items)
    queries, tests = label_queries(*data, drawn_labels(data[0], items, seed=0))
    loss = ListMLELoss(queries.x, queries.lists, n_items=items, penalty=5e-4 * len(queries.lists))
    test = query_loss(ListMLELoss(tests.x, tests.lists, n_items=items))
    params, everybody = loss.zeros(), torch.ones(items, dtype=torch.float64)
    gradient = torch.func.grad(loss)(params, everybody).reshape(-1, 1)
    step = torch.cholesky_solve(gradient, torch.linalg.cholesky(vif.Hessian(loss, params, everybody).dense()))
    return lambda: vif.attribute(loss, params - step.reshape(params.shape), test, **ALONE)


def logistic(way, verb, _):
    """Return the call of logistic regression on 1,000 rows and 200 test rows (`peers`)."""
    draw = torch.Generator().manual_seed(0)
    scale = torch.logspace(0, -1.5, 20, dtype=torch.float64)
    x = torch.randn(1200, 20, generator=draw, dtype=torch.float64) * scale
    truth = torch.randn(20, generator=draw, dtype=torch.float64) / scale / 2
    y = torch.bernoulli(torch.sigmoid(x @ truth), generator=draw)

    def terms(params, x, y):
        return torch.nn.functional.softplus((1 - 2 * y) * (x @ params))

    def parts(rows, penalty):
        return TermLoss(Logistic(y[rows]), range(len(y[rows])), penalty=penalty, outputs=Linear(x[rows]))

    few, rest = slice(1000), slice(1000, None)
    start, linear = torch.zeros(20).double(), parts(few, 0.1)
    loss = {
        "parts": linear,
        "terms": TermLoss(lambda params: terms(params, x[few], y[few]), torch.arange(1000), penalty=0.1, start=start),
        "function": lambda params, b: b @ terms(params, x[few], y[few]) + 0.05 * params @ params,
    }[way]
    theta = vif.minimize(linear, start)
    values = term_values(parts(rest, 0.0)) if way == "parts" else lambda params: terms(params, x[rest], y[rest])
    return lambda: getattr(vif, verb)(loss, theta, values, n_objects=1000, **(ALONE if verb == "attribute" else {}))


METHODS = {
    "CG": lambda: {"solver": vif.CG(rtol=1e-3), "curvature": vif.Hessian},
    "GN CG": lambda: {"solver": vif.CG(rtol=1e-3), "curvature": vif.GaussNewton},
    "GN Woodbury": lambda: {"solver": vif.Woodbury(), "curvature": vif.GaussNewton},
    "GN EK-FAC": lambda: {"solver": vif.EKFAC(), "curvature": vif.GaussNewton},
    "GN Nystrom": lambda: {"solver": solvers.Nystrom(rank=100), "curvature": vif.GaussNewton},
    "GN Arnoldi": lambda: {"solver": solvers.Arnoldi(num_steps=50), "curvature": vif.GaussNewton},
    "GN Projected": lambda: {"solver": solvers.Projected(rank=100), "curvature": vif.GaussNewton},
    "GN LiSSA": lambda: {"solver": vif.LiSSA(max_steps=100), "curvature": vif.GaussNewton},
    "GN explicit": lambda: {"solver": vif.Explicit(), "curvature": vif.GaussNewton},
    "explicit": lambda: {"solver": vif.Explicit(), "curvature": vif.Hessian},
}


def network(hidden, method, folder):
    """Return the call of one solver on Appendix C's network of that width, after some steps of L-BFGS (`table6`)."""
    torch.manual_seed(0)
    layers = torch.nn.Linear(9, int(hidden), bias=False), torch.nn.ReLU(), torch.nn.Linear(int(hidden), 1, bias=False)
    model, data = torch.nn.Sequential(*layers).double(), datasets.metabric()
    given = {"duration_col": "duration", "event_col": "event", "model": model}
    loss = CoxLoss.from_frame(data.train, **given, penalty=0.01 * len(data.train))
    params = kept(Path(folder) / f"cox-{hidden}.pt", loss, 1_000_000 // (int(hidden) + 2000))
    return lambda: vif.attribute(loss, params, loss.relative_risk(data.test), **ALONE, **METHODS[method]())


def digits(method, folder):
    """Return the call of all scores of a digits network of 2,410 parameters, 1,400 rows × 200 test rows."""
    from sklearn.datasets import load_digits

    torch.manual_seed(0)
    x, y = (torch.from_numpy(part) for part in load_digits(return_X_y=True))
    x, y = x.double() / 16, y.long()
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)).double()
    entropy = torch.nn.functional.cross_entropy
    outer = {"penalty": 1.0, "n_objects": 1400}
    loss = OutputLoss(model, x[:1400], lambda o, b: (b * entropy(o, y[:1400], reduction="none")).sum(), **outer)
    params = kept(Path(folder) / "digits.pt", loss, 1500)

    def target(params):
        return entropy(torch.func.functional_call(model, params, (x[1400:1600],)), y[1400:1600], reduction="none")

    return lambda: vif.attribute(loss, params, target, **ALONE, **METHODS[method]())


def kept(path, loss, steps):
    """Return parameters after steps of L-BFGS, found once for both libraries."""
    if not path.exists():
        params = {name: value.detach().clone().requires_grad_() for name, value in loss.zeros().items()}
        everyone = torch.ones(loss.n_objects, dtype=torch.float64)
        limits = {"max_iter": steps, "tolerance_grad": 1e-9, "tolerance_change": 0.0}
        optimizer = torch.optim.LBFGS(params.values(), line_search_fn="strong_wolfe", **limits)

        def value():
            optimizer.zero_grad()
            found = loss(params, everyone)
            found.backward()
            return found

        optimizer.step(value)
        part = path.with_suffix(f".{os.getpid()}")
        torch.save({name: value.detach() for name, value in params.items()}, part)
        part.replace(path)
    return torch.load(path)


BENCHMARKS = {"cox": cox, "many patients": many_patients, "delicious": delicious, "logistic": logistic}
BENCHMARKS |= {"network": network, "digits": digits}


def main():
    """Measure one row and print it."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    benchmark, *arguments = sys.argv[1].split(", ")
    call = BENCHMARKS[benchmark](*arguments, sys.argv[2])
    seconds: list[float] = []
    while len(seconds) < REPEATS and sum(seconds) < SHORT_SECONDS + (LONG_SECONDS if not seconds else 0):
        began = time.process_time()
        call()
        seconds.append(time.process_time() - began)
        if seconds[-1] > LONG_SECONDS:
            break
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    print(json.dumps({"seconds": min(seconds[1:] or seconds), "peak GB": peak, "library": vif.__file__}))


if __name__ == "__main__":
    main()
