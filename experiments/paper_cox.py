"""The paper's Cox protocol (§4.1, Appendix B): Adam, learning rate 0.01, full batch; Table 1, Cox regression.

All leave-one-out models are trained together in one batched run, from two random starts ("seeds"), and compared per
test patient across training patients, then averaged. Ties are Breslow's, deterministic: a start is all that a seed
changes, where the published training also breaks ties at random in each epoch. Writes
`experiments/results/paper_cox_<dataset>.json`.

    python experiments/paper_cox.py metabric
    python experiments/paper_cox.py support
"""

import argparse
import time
import warnings
from functools import partial
from pathlib import Path

import torch

import versatile_influence as vif
from versatile_influence import datasets, evaluation
from versatile_influence.losses import CoxLoss
from versatile_influence.record import write_record

RESULTS = Path(__file__).parent / "results"
LR = 0.01  # Appendix B
EPOCHS = {"metabric": 200, "support": 100}  # Appendix B
PAPER = {"metabric": {"vif": 0.997, "retraining": 0.997}, "support": {"vif": 0.943, "retraining": 0.955}}  # Table 1
DTYPES = {"metabric": (torch.float64, torch.float32), "support": (torch.float64,)}
SEEDS = (0, 1)
TIMED_ALONE = 5


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


def compared(loss, train, target, n):
    """Return correlations of VIF and of retraining, with intervals, of one dtype."""
    began = time.perf_counter()
    truth = vif.leave_one_out(train, target, n_objects=n, seeds=SEEDS, batch_size=n, progress=False)
    seconds = time.perf_counter() - began
    by_seed = truth.by_seed if truth.by_seed is not None else truth.scores[None]
    everyone = torch.ones(n, dtype=torch.float64)
    numbers = {"seconds_per_retraining": seconds / n / len(SEEDS), "failed": len(truth.failed or {})}
    estimates = []
    for position, seed in enumerate(SEEDS):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            estimates.append(vif.attribute(loss, train(everyone, seed=seed).double(), target))
        numbers[f"warnings_of_seed_{seed}"] = [
            str(warning.message) for warning in caught if warning.category is UserWarning
        ]
        same = evaluation.bootstrap_interval(estimates[-1].scores, by_seed[position], n_resamples=60)
        numbers[f"vif_seed_{seed}_with_retraining_seed_{seed}"] = vars(same)
    other = evaluation.bootstrap_interval(estimates[0].scores, by_seed[1], n_resamples=60)
    ceiling = evaluation.bootstrap_interval(by_seed[0], by_seed[1], n_resamples=60)
    return numbers | {"vif_seed_0_with_retraining_seed_1": vars(other), "retraining_seed_0_with_seed_1": vars(ceiling)}


def seconds_alone(train, n):
    """Return the median time of one training on its own."""
    times = []
    for row in range(TIMED_ALONE):
        presence = torch.ones(n, dtype=torch.float64).index_fill(0, torch.tensor([row]), 0.0)
        began = time.perf_counter()
        train(presence)
        times.append(time.perf_counter() - began)
    return sorted(times)[TIMED_ALONE // 2]


def main():
    """Run one data set, and write what was measured."""
    parser = argparse.ArgumentParser()
    parser.add_argument("dataset", choices=EPOCHS)
    name = parser.parse_args().dataset
    data, epochs = getattr(datasets, name)(), EPOCHS[name]
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties="breslow")
    n, n_events = loss.n_objects, int(data.train["event"].sum())
    target = loss.relative_risk(data.test)
    settings = {"loss": loss, "epochs": epochs, "n_events": n_events}
    numbers = {"dataset": name, "n_objects": n, "epochs": epochs, "paper": PAPER[name]}

    one = partial(fit, seed=SEEDS[0], dtype=torch.float64, **settings)
    numbers["seconds_alone"] = seconds_alone(one, n)
    numbers["seconds_alone_torch_optim"] = seconds_alone(partial(fit_by_torch, **settings), n)
    for dtype in DTYPES[name]:
        train = partial(fit, dtype=dtype, **settings)
        numbers[str(dtype).removeprefix("torch.")] = compared(loss, train, target, n)
        print(dtype, numbers[str(dtype).removeprefix("torch.")], flush=True)
        together = numbers["float64"]["seconds_per_retraining"]
        numbers["times_faster_than_alone"] = numbers["seconds_alone"] / together
        numbers["times_faster_than_torch_optim"] = numbers["seconds_alone_torch_optim"] / together
        write_record(RESULTS / f"paper_cox_{name}.json", numbers, seed=SEEDS[0])
    print({key: value for key, value in numbers.items() if "second" in key or "faster" in key})


if __name__ == "__main__":
    main()
