"""Table 5's analogue: Cox on METABRIC, linear and two-layer networks, with each curvature and solver.

Scores are compared, per test patient across removed patients and then averaged, with refits warm-started from the
trained parameters (what influence predicts) and with trainings from new random starts (what the paper's protocol
measures), each with its own ceiling. Networks are those of Appendix C: 9 → 4 → 1 without bias, weight decay 0.01 in the
mean loss, here with tanh, softplus and ReLU. Writes `experiments/results/table5.json`.

    python experiments/table5.py [--quick]
"""

import time
import warnings

import torch

import versatile_influence as vif
from versatile_influence import datasets
from versatile_influence.experiment import Run
from versatile_influence.losses import CoxLoss

STEPS_AT_KINKS = 40
HIDDEN, WEIGHT_DECAY = 4, 0.01  # Appendix C, and the weight decay
ACTIVATIONS = {"tanh": torch.nn.Tanh, "softplus": torch.nn.Softplus, "ReLU": torch.nn.ReLU}
METHODS = {
    "explicit": {"solver": vif.Explicit()},
    "CG": {"solver": vif.CG(rtol=1e-6)},
    "LiSSA": {"solver": vif.LiSSA(batch_size=128, max_steps=500)},
    "Gauss-Newton": {"solver": vif.Explicit(), "curvature": vif.GaussNewton},
    "Gauss-Newton, CG": {"solver": vif.CG(rtol=1e-6), "curvature": vif.GaussNewton},
    "EK-FAC": {"solver": vif.EKFAC(num_draws=None), "curvature": vif.GaussNewton},
    "CG, EK-FAC as preconditioner": {"solver": vif.CG(rtol=1e-6, preconditioner=vif.EKFAC(num_draws=None))},
}
PAPER = {"linear": {"explicit": 0.997, "CG": 0.997, "brute force": 0.997}}
PAPER["network"] = {"explicit": 0.238, "CG": 0.201, "LiSSA": 0.197, "brute force": 0.219}


def network(activation, seed):
    """Return the network with weights drawn by `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second = torch.nn.Linear(9, HIDDEN, bias=False), torch.nn.Linear(HIDDEN, 1, bias=False)
        return torch.nn.Sequential(first, activation(), second).double()


def correlation(estimate, truth):
    """Return the mean over test patients of the correlation across removed patients, where it is defined."""
    return round(vif.pearson(estimate, truth).nanmean().item(), 4)


def cold(loss, activation, target, removed, seed, *, max_steps):
    """Return the measured change of each target between trainings from one new start, without and with each object."""
    start = {name: value.detach() for name, value in network(activation, seed).named_parameters()}
    full = target(vif.minimize(loss, start, max_steps=max_steps))
    changes = []
    for i in removed:
        presence = torch.ones(loss.n_objects, dtype=torch.float64).index_fill(0, torch.tensor([i]), 0.0)
        changes.append(target(vif.minimize(loss, start, presence, max_steps=max_steps)) - full)
    return torch.stack(changes)


def model_numbers(run, data, activation, *, removed, few):
    """Return the correlations of one model."""
    # A ReLU network has kinks at its minima, at which Newton's method stalls: bounded, and what it reached is recorded.
    max_steps = STEPS_AT_KINKS if activation is torch.nn.ReLU else 200
    given = {"duration_col": "duration", "event_col": "event", "ties": "breslow"}
    n = len(data.train)
    if activation is None:
        loss = CoxLoss.from_frame(data.train, **given)
    else:
        model = network(activation, run.seed)
        loss = CoxLoss.from_frame(data.train, **given, model=model, penalty=WEIGHT_DECAY * n)
    target, numbers = loss.relative_risk(data.test), {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        params = vif.minimize(loss, loss.zeros(), max_steps=max_steps)
        began = time.perf_counter()
        truth = vif.refit(loss, params, target, objects=removed, max_steps=max_steps)
        numbers["refits, seconds"] = round(time.perf_counter() - began, 1)
        gradient = torch.func.grad(lambda p: loss(p, torch.ones(n, dtype=torch.float64)))(params)
        parts = gradient.values() if isinstance(gradient, dict) else [gradient]
        numbers["largest gradient entry over n"] = max(part.abs().max().item() for part in parts) / n
        numbers["failed refits"] = len(truth.failed or {})
        numbers["targets that no removal moves, left out"] = int(vif.pearson(truth.scores, truth.scores).isnan().sum())
        for name, method in METHODS.items():
            if activation is None and "EK-FAC" in name:
                continue  # its factors are those of a network's layers
            estimate = vif.attribute(loss, params, target, objects=removed, **method)
            numbers[f"{name}, warm refits"] = correlation(estimate.scores, truth.scores)
            numbers[f"{name}, largest relative residual"] = float(f"{estimate.solution.residual.max().item():.2g}")
            if name == "explicit":
                first = estimate.scores
        if activation is not None:
            restarts = [
                cold(loss, activation, target, removed[:few], seed, max_steps=max_steps)
                for seed in (run.seed + 1, run.seed + 2)
            ]
            numbers["explicit, cold restarts"] = correlation(first[:few], restarts[0])
            numbers["warm refits, cold restarts"] = correlation(truth.scores[:few], restarts[0])
            numbers["cold restarts, other seed"] = correlation(restarts[1], restarts[0])
    numbers["warnings"] = sorted({str(w.message)[:160] for w in caught if w.category is UserWarning})
    return numbers


def main():
    """Run all models, and record after each."""
    run = Run.of(__file__, __doc__)
    data = datasets.metabric()
    draw = torch.Generator().manual_seed(run.seed)
    removed = torch.randperm(len(data.train), generator=draw)[: 20 if run.quick else 100].tolist()
    few = 5 if run.quick else 40
    numbers = {"removed": len(removed), "removed, cold": few, "removed, ReLU": len(removed) // 5}
    numbers |= {f"paper, {name}": row for name, row in PAPER.items()}
    for name, activation in {"linear": None, **ACTIVATIONS}.items():
        if run.quick and name == "ReLU":
            continue  # takes minutes
        fewer = 5 if name == "ReLU" else 1
        numbers[name] = model_numbers(run, data, activation, removed=removed[::fewer], few=few // fewer)
        print(name, numbers[name], flush=True)
        run.record(numbers)


if __name__ == "__main__":
    main()
