"""The paper's Cox protocol (§4.1, Appendix B) on METABRIC and SUPPORT: Table 1, Cox regression, and its run time.

Ground truth *paper protocol*: Adam, learning rate 0.01, full batch, a fixed number of epochs, from a random start that
is the same with and without the patient; two starts ("seeds"). All leave-one-out models of a seed are trained in one
batched run, in parts that fit the cache, and compared per test patient across training patients, then averaged. Ties
are Breslow's, deterministic: a start is all that a seed changes, where the published training also breaks ties at
random in each epoch. Parameters and steps are float64 or float32; the likelihood is float64 inside. Writes
`experiments/results/paper_cox_<data>.json`.

    python experiments/paper_cox.py
"""

import time
import warnings
from dataclasses import replace
from functools import partial

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets, evaluation
from versatile_influence.losses import CoxLoss

LR = 0.01  # Appendix B
EPOCHS = {"metabric": 200, "support": 100}  # Appendix B
PAPER = {"metabric": {"VIF": 0.997, "retraining twice": 0.997}, "support": {"VIF": 0.943, "retraining twice": 0.955}}
SEEDS = (0, 1)
TIMED_ALONE = 5
QUICK_REMOVALS = 60


def start(seed, *, n_features, dtype):
    """Return random parameters as torch’s linear layer draws them: uniform within ±1/√d."""
    draw = torch.Generator().manual_seed(seed)
    return ((2 * torch.rand(n_features, generator=draw, dtype=torch.float64) - 1) / n_features**0.5).to(dtype)


def fit(presence, *, seed, loss, dtype, epochs, n_events):
    """Train by the protocol; the loss is a mean over events, as published."""
    init = start(seed, n_features=loss.n_features, dtype=dtype)
    return vif.train(loss, init, presence, epochs=epochs, lr=LR, optimizer=vif.Adam(), scale=1 / n_events)


def fit_by_torch(presence, *, loss, epochs, n_events):
    """Train one model as one writes it with torch.optim: what the batched run is timed against."""
    theta = start(SEEDS[0], n_features=loss.n_features, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=LR)
    for _ in range(epochs):
        optimizer.zero_grad()
        (loss(theta, presence) / n_events).backward()
        optimizer.step()
    return theta.detach()


def problem(name):
    """Return the training loss, the relative risks of the test patients, and what `fit` needs besides."""
    data = getattr(datasets, name)()
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties="breslow")
    settings = {"loss": loss, "epochs": EPOCHS[name], "n_events": int(data.train["event"].sum())}
    return loss, loss.relative_risk(data.test), settings


def compared(loss, train, target, objects):
    """Return correlations of VIF and of retraining, of one dtype, and the seconds of a retraining."""
    n, k = loss.n_objects, len(objects)
    began = time.perf_counter()
    truth = vif.leave_one_out(train, target, n_objects=n, objects=objects, seeds=SEEDS, batch_size=k, progress=False)
    numbers = {"seconds per retraining": (time.perf_counter() - began) / k / len(SEEDS)}
    numbers |= {"failed retrainings": len(truth.failed or {}), "predictions warned of": []}
    estimates = []
    for seed in SEEDS:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            params = train(torch.ones(n, dtype=torch.float64), seed=seed).double()
            estimates.append(vif.attribute(loss, params, target, objects=objects).scores)
        numbers["predictions warned of"] += [str(one.message) for one in caught if one.category is UserWarning]
    pairs = {
        f"{name} of seed {a} with retraining of seed {b}": (scores[a], truth.by_seed[b])
        for name, scores in (("VIF", estimates), ("retraining", truth.by_seed))
        for a, b in ((0, 0), (1, 1), (0, 1), (1, 0))
        if name == "VIF" or (a, b) == (0, 1)
    }
    for name, (one, other) in pairs.items():
        numbers[name] = vars(evaluation.bootstrap_interval(one, other, n_resamples=20))
    return numbers


def seconds_alone(train, n):
    """Return the median time of one training on its own."""
    times = []
    for row in range(TIMED_ALONE):
        presence = torch.ones(n, dtype=torch.float64).index_fill(0, torch.tensor([row]), 0.0)
        began = time.perf_counter()
        train(presence)
        times.append(time.perf_counter() - began)
    return sorted(times)[TIMED_ALONE // 2]


def measure(name, run):
    """Run one data set, and write what was measured."""
    run = replace(run, name=f"paper_cox_{name}", started=time.perf_counter())
    loss, target, settings = problem(name)
    n = loss.n_objects
    drawn = torch.randperm(n, generator=torch.Generator().manual_seed(run.seed))
    objects = drawn[:QUICK_REMOVALS].tolist() if run.quick else list(range(n))
    numbers = {
        "data": name,
        "ground truth": f"paper protocol: Adam {LR}, full batch, {settings['epochs']} epochs, seeds {SEEDS}",
        "training patients": n,
        "removed one at a time": len(objects),
        "paper: VIF": PAPER[name]["VIF"],
        "paper: retraining twice": PAPER[name]["retraining twice"],
    }
    one = partial(fit, seed=SEEDS[0], dtype=torch.float64, **settings)
    alone = {"vif.train": seconds_alone(one, n), "torch.optim": seconds_alone(partial(fit_by_torch, **settings), n)}
    for kind, seconds in alone.items():
        numbers[f"seconds of one training alone, {kind}"] = seconds
    for dtype in (torch.float64, torch.float32):
        found = compared(loss, partial(fit, dtype=dtype, **settings), target, objects)
        numbers[str(dtype).removeprefix("torch.")] = found
        for kind, seconds in alone.items() if dtype == torch.float64 else ():
            numbers[f"times faster in one batch than alone, {kind}"] = seconds / found["seconds per retraining"]
        run.record(numbers)
    for what, value in numbers.items():
        print(what, value, sep=": ")


if __name__ == "__main__":
    arguments = Run.of(__file__, __doc__)
    for data in EPOCHS:
        measure(data, arguments)
