"""Table 5's analogue: Cox on METABRIC, linear and two-layer networks, with each curvature and solver.

Networks are those of Appendix C, 9 → 4 → 1 without bias, with weight decay 0.01 in the mean loss. Correlations are
across removed patients, averaged over test patients. Ground truths:

    warm refits      stationary: minimised again from the trained parameters, what influence predicts
    cold restarts    paper protocol: Adam, learning rate 0.01, full batch, 200 epochs (Appendix B), from a random start
                     that is the same with and without the patient. Scores of one start are held against retraining
                     from another, over all pairs of starts; the ceiling is retraining against retraining

Where EK-FAC loses is taken apart: the Gauss-Newton matrix, its blocks by layer, EK-FAC of these, EK-FAC with strong
directions kept across layers, and EK-FAC as the preconditioner of a few steps of CG on the Hessian.

A network has several minima, of nearly the same loss: each one met over ten starts is listed, lowest first, with its
smallest curvature, the correlation of first-order scores, and that of five steps of descent (`vif.descend`).

Networks of ReLU have no stationary point (`relu_kinks.py`), only cold restarts.

    python experiments/table5.py [--quick]
"""

import math
import re
import time
import warnings
from dataclasses import dataclass
from functools import partial

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets
from versatile_influence.losses import CoxLoss

HIDDEN, WEIGHT_DECAY = 4, 0.01  # Appendix C, and the weight decay
EPOCHS, LR = 200, 0.01  # Appendix B
ACTIVATIONS = {"tanh": torch.nn.Tanh, "softplus": torch.nn.Softplus}
PAPER = {"linear": {"explicit": 0.997, "CG": 0.997, "brute force": 0.997}}
PAPER["network"] = {"explicit": 0.238, "CG": 0.201, "LiSSA": 0.197, "brute force": 0.219}


@dataclass(frozen=True)
class LayerBlocks(vif.solvers.Solver):
    """Solve with what a curvature has within each parameter, without what couples them."""

    tolerated = math.inf

    def solved(self, hessian, rhs):
        """Return the solution, block by block."""
        dense, value, start = hessian.dense(), torch.zeros_like(rhs), 0
        for part in hessian.params.values():
            own = slice(start, start + part.numel())
            value[own] = torch.linalg.solve(dense[own, own], rhs[own])
            start += part.numel()
        return vif.solvers.Solution(value, (dense @ value - rhs).norm(dim=0) / rhs.norm(dim=0))


EXACT = vif.EKFAC(num_draws=None)
METHODS = {
    "explicit": {"solver": vif.Explicit()},
    "CG": {"solver": vif.CG(rtol=1e-6)},
    "LiSSA": {"solver": vif.LiSSA(batch_size=128, max_steps=500)},
    "Gauss-Newton": {"solver": vif.Explicit(), "curvature": vif.GaussNewton},
}
OF_NETWORKS = {
    "Hessian, blocks by layer": {"solver": LayerBlocks()},
    "Gauss-Newton, blocks by layer": {"solver": LayerBlocks(), "curvature": vif.GaussNewton},
    "EK-FAC": {"solver": EXACT, "curvature": vif.GaussNewton},
    "EK-FAC, rank 8": {"solver": vif.EKFAC(num_draws=None, rank=8), "curvature": vif.GaussNewton},
    "EK-FAC, rank 16": {"solver": vif.EKFAC(num_draws=None, rank=16), "curvature": vif.GaussNewton},
    "EK-FAC and 5 steps of CG": {"solver": vif.CG(max_steps=5, preconditioner=EXACT)},
    "EK-FAC and 10 steps of CG": {"solver": vif.CG(max_steps=10, preconditioner=EXACT)},
    "EK-FAC and CG to the end": {"solver": vif.CG(rtol=1e-6, preconditioner=EXACT)},
}


def network(activation, seed, hidden=HIDDEN):
    """Return the network with weights drawn by `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second = torch.nn.Linear(9, hidden, bias=False), torch.nn.Linear(hidden, 1, bias=False)
        return torch.nn.Sequential(first, activation(), second).double()


def loss_of(data, model=None, weight_decay=WEIGHT_DECAY):
    """Return the loss of a network, or of the linear model."""
    penalty = 0.0 if model is None else weight_decay * len(data.train)
    given = {"duration_col": "duration", "event_col": "event", "ties": "breslow"}
    return CoxLoss.from_frame(data.train, **given, model=model, penalty=penalty)


def correlation(estimate, truth):
    """Return the mean over test patients of the correlation across removed patients, where it is defined."""
    return round(vif.pearson(estimate, truth).nanmean().item(), 4)


def largest_gradient(loss, params):
    """Return the largest entry of the gradient, divided by the number of patients."""
    gradient = torch.func.grad(loss)(params, torch.ones(loss.n_objects, dtype=torch.float64))
    parts = gradient.values() if isinstance(gradient, dict) else [gradient]
    return float(f"{max(part.abs().max().item() for part in parts) / loss.n_objects:.2g}")


def warm(loss, target, methods, *, removed):
    """Return each method's correlation with warm refits."""
    params = vif.minimize(loss, loss.zeros())
    began = time.perf_counter()
    truth = vif.refit(loss, params, target, objects=removed)
    numbers = {
        "refits, seconds": round(time.perf_counter() - began, 1),
        "largest gradient entry over n": largest_gradient(loss, params),
        "failed refits": len(truth.failed or {}),
    }
    for name, method in methods.items():
        estimate = vif.attribute(loss, params, target, objects=removed, **method)
        numbers[f"{name}, warm refits"] = correlation(estimate.scores, truth.scores)
        numbers[f"{name}, largest relative residual"] = float(f"{estimate.solution.residual.max().item():.2g}")
    return numbers


def minima(data, activation, *, removed, starts):
    """Return, for each minimum met from these starts, lowest first, how well scores agree with warm refits there."""
    found = {}
    for seed in starts:
        loss = loss_of(data, network(activation, seed))
        params = vif.minimize(loss, loss.zeros())
        everyone = torch.ones(loss.n_objects, dtype=torch.float64)
        value = round(loss(params, everyone).item(), 4)
        found.setdefault(value, {"starts": [], "fit": (loss, params, everyone)})["starts"].append(seed)
    numbers = {}
    for place, value in enumerate(sorted(found)):
        loss, params, everyone = found[value]["fit"]
        target = loss.relative_risk(data.test)
        curvature = torch.linalg.eigvalsh(vif.Hessian(loss, params, everyone).dense())[0].item()
        truth = vif.refit(loss, params, target, objects=removed).scores
        numbers[f"minimum {place}"] = {
            "loss": value,
            "starts": found[value]["starts"],
            "smallest curvature": float(f"{curvature:.3g}"),
            "explicit, warm refits": correlation(vif.attribute(loss, params, target, objects=removed).scores, truth),
            "descend, 5 steps, warm refits": correlation(
                vif.descend(loss, params, target, objects=removed, steps=5).scores, truth
            ),
        }
    return numbers


def trained(presence, *, seed, loss, activation):
    """Train by the paper's protocol, many presences at once."""
    start = {name: value.detach() for name, value in network(activation, seed).named_parameters()}
    return vif.train(loss, start, presence, epochs=EPOCHS, lr=LR, scale=1 / loss.n_objects)


def cold(loss, activation, target, *, removed, seeds):
    """Return the correlations of scores and of retraining with the retraining of the same and of another start."""
    fit = partial(trained, loss=loss, activation=activation)
    n, many = loss.n_objects, {"seeds": seeds, "batch_size": len(removed), "progress": False}
    truth = vif.leave_one_out(fit, target, n_objects=n, objects=removed, **many).by_seed
    everyone = torch.ones(n, dtype=torch.float64)
    kinds = {"explicit": vif.Hessian, "Gauss-Newton": vif.GaussNewton}
    numbers, predicted = {"starts": len(seeds)}, {}
    for name, curvature in kinds.items():
        predicted[name] = torch.stack(
            [
                vif.attribute(loss, fit(everyone, seed=seed), target, objects=removed, curvature=curvature).scores
                for seed in seeds
            ]
        )
    pairs = [(a, b) for a in range(len(seeds)) for b in range(len(seeds)) if a != b]
    for name, scores in (predicted | {"retraining": truth}).items():
        if name != "retraining":
            own = [correlation(one, other) for one, other in zip(scores, truth, strict=True)]
            numbers[f"{name}, retraining from the same start"] = ranged(own)
        numbers[f"{name}, retraining from another start"] = ranged(
            [correlation(scores[a], truth[b]) for a, b in pairs if name != "retraining" or a < b]
        )
    return numbers


def ranged(values):
    """Return mean, least and largest."""
    return {"mean": round(sum(values) / len(values), 4), "least": min(values), "largest": max(values)}


def told(caught):
    """Return how often each warning came, by its first words."""
    texts = [
        re.sub(r"[-+]?\d[\d.]*(?:e[-+]?\d+)?", "…", str(one.message))[:60]
        for one in caught
        if one.category is UserWarning
    ]
    return {text: texts.count(text) for text in sorted(set(texts))}


def main():
    """Run all models, and record after each."""
    run = Run.of(__file__, __doc__)
    data = datasets.metabric()
    draw = torch.Generator().manual_seed(run.seed)
    removed = torch.randperm(len(data.train), generator=draw)[: 20 if run.quick else 100].tolist()
    few, seeds = (8, range(2)) if run.quick else (40, range(8))
    numbers = {"removed": len(removed), "removed, cold": few}
    numbers |= {f"paper, {name}": row for name, row in PAPER.items()}

    def recorded(name, work, *args, **given):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            numbers[name] = work(*args, **given)
        numbers[name]["warnings"] = told(caught)
        print(name, numbers[name], flush=True)
        run.record(numbers)

    linear = loss_of(data)
    recorded("linear", warm, linear, linear.relative_risk(data.test), METHODS, removed=removed)
    for name, activation in ACTIVATIONS.items():
        loss = loss_of(data, network(activation, run.seed))
        recorded(name, warm, loss, loss.relative_risk(data.test), METHODS | OF_NETWORKS, removed=removed)
        recorded(f"{name}, minima", minima, data, activation, removed=removed, starts=range(2 if run.quick else 10))
    if not run.quick:
        wide = loss_of(data, network(torch.nn.Tanh, run.seed, hidden=64))
        methods = {name: method for name, method in (METHODS | OF_NETWORKS).items() if name != "LiSSA"}
        recorded("tanh, 64 units", warm, wide, wide.relative_risk(data.test), methods, removed=removed)
    for name, activation in {"tanh": torch.nn.Tanh, "ReLU": torch.nn.ReLU}.items():
        loss = loss_of(data, network(activation, run.seed))
        given = {"removed": removed[:few], "seeds": seeds}
        recorded(f"{name}, cold restarts", cold, loss, activation, loss.relative_risk(data.test), **given)


if __name__ == "__main__":
    main()
