"""Table 5, ReLU: why a minimiser does not converge there, and what influence predicts all the same.

A ReLU network 9 → 4 → 1 (Appendix C) on METABRIC. Softplus(βx)/β goes to ReLU as β grows; each is minimised to a
stationary point, from the last one on, and scores are held against warm-started refits of the same network. Some rows
stay at the boundary of a unit, within 3/β of it, as β grows: the minimum of the ReLU network itself lies on kinks.
There no gradient vanishes; what vanishes is its part along the kinks, outside the span of the boundary rows' inputs.
Three predictions are held against refits at the largest β: from its own Hessian, from ReLU's, which knows nothing of
kinks, and from ReLU's along the kinks only, as if no row could leave its boundary.

    python experiments/relu_kinks.py [--quick]
"""

import math
import warnings
from dataclasses import dataclass
from functools import partial

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets
from versatile_influence.losses import CoxLoss

HIDDEN, WEIGHT_DECAYS, BETAS, SEEDS = 4, (0.01, 0.1), (5, 50, 500, 2500), (0, 1)


@dataclass(frozen=True)
class Within(vif.solvers.Solver):
    """Solve within the span of some orthonormal directions.

    Attributes:
        basis: The directions, as columns.
    """

    basis: torch.Tensor
    tolerated = math.inf

    def solved(self, hessian, rhs):
        """Return the solution there."""
        inside = self.basis.T @ (hessian @ self.basis)
        value = self.basis @ torch.linalg.solve(inside, self.basis.T @ rhs)
        return vif.solvers.Solution(value, (hessian @ value - rhs).norm(dim=0) / rhs.norm(dim=0))


def loss_of(data, activation, seed, weight_decay):
    """Return the loss of the network with weights drawn by `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second = torch.nn.Linear(9, HIDDEN, bias=False), torch.nn.Linear(HIDDEN, 1, bias=False)
        model = torch.nn.Sequential(first, activation(), second).double()
    given = {"duration_col": "duration", "event_col": "event", "ties": "breslow"}
    return CoxLoss.from_frame(data.train, **given, model=model, penalty=weight_decay * len(data.train))


def slope(loss, params):
    """Return the gradient as one vector, divided by the number of patients."""
    gradient = torch.func.grad(loss)(params, torch.ones(loss.n_objects, dtype=torch.float64))
    return torch.cat([gradient[name].flatten() for name in params]) / loss.n_objects


def boundary(loss, params, width):
    """Return which rows are within `width` of the boundary of which unit in use, (rows, units)."""
    used = params["2.weight"][0].abs() > 1e-3 * params["2.weight"].abs().max()
    return ((loss.x @ params["0.weight"].T).abs() < width) & used


def along_kinks(loss, near):
    """Return orthonormal directions of the parameters, as columns, in which no boundary row leaves its boundary."""
    rows, units = near.nonzero(as_tuple=True)
    normals = torch.zeros(len(rows), HIDDEN, loss.x.shape[1], dtype=torch.float64)
    normals[torch.arange(len(rows)), units] = loss.x[rows]
    flat = torch.cat([normals.flatten(1), torch.zeros(len(rows), HIDDEN, dtype=torch.float64)], dim=1)
    _, size, directions = torch.linalg.svd(flat, full_matrices=True)
    return directions[int((size > 1e-10 * size.max()).sum()) if len(size) else 0 :].T


def correlation(loss, params, target, truth, removed, **method):
    """Return the mean correlation of scores with measured ones."""
    scores = vif.attribute(loss, params, target, objects=removed, **method).scores
    return round(vif.pearson(scores, truth.scores).nanmean().item(), 4)


def measured(data, *, seed, weight_decay, removed):
    """Return what happens as softplus goes to ReLU."""
    numbers, params = {}, None
    for beta in BETAS:
        loss = loss_of(data, partial(torch.nn.Softplus, beta=beta, threshold=40), seed, weight_decay)
        target = loss.relative_risk(data.test)
        params = vif.minimize(loss, loss.zeros() if params is None else params)
        truth = vif.refit(loss, params, target, objects=removed)
        numbers[f"beta {beta}"] = {
            "explicit, warm refits": correlation(loss, params, target, truth, removed),
            "largest gradient entry over n": float(f"{slope(loss, params).abs().max().item():.2g}"),
            "rows at a boundary": int(boundary(loss, params, 3 / beta).sum()),
        }
    kinked = loss_of(data, torch.nn.ReLU, seed, weight_decay)
    basis, gradient = along_kinks(kinked, boundary(kinked, params, 3 / BETAS[-1])), slope(kinked, params)
    inner = basis.T @ (vif.Hessian(kinked, params, torch.ones(kinked.n_objects).double()) @ basis)
    along = basis @ (basis.T @ gradient)
    numbers["ReLU at the last"] = {
        "largest gradient entry over n": float(f"{gradient.abs().max().item():.2g}"),
        "largest gradient entry over n, along the kinks": float(f"{along.abs().max().item():.2g}"),
        "kinks, of 40 directions": len(gradient) - basis.shape[1],
        "smallest curvature along the kinks": round(torch.linalg.eigvalsh(inner)[0].item(), 2),
        "explicit, warm refits of the last": correlation(kinked, params, target, truth, removed),
        "explicit along the kinks, warm refits of the last": correlation(
            kinked, params, target, truth, removed, solver=Within(basis)
        ),
    }
    return numbers


def main():
    """Run each start and weight decay, and record after each."""
    run = Run.of(__file__, __doc__)
    data = datasets.metabric()
    draw = torch.Generator().manual_seed(run.seed)
    removed = torch.randperm(len(data.train), generator=draw)[: 8 if run.quick else 20].tolist()
    numbers = {"removed": len(removed), "paper, network, explicit": 0.238}
    for weight_decay in WEIGHT_DECAYS[: 1 if run.quick else None]:
        for seed in SEEDS[: 1 if run.quick else None]:
            with warnings.catch_warnings():
                # The gradient of the ReLU network does not vanish; how large it is, is recorded.
                warnings.simplefilter("ignore", UserWarning)
                found = measured(data, seed=seed, weight_decay=weight_decay, removed=removed)
            numbers[f"weight decay {weight_decay:g}, start {seed}"] = found
            print(weight_decay, seed, found, flush=True)
            run.record(numbers)


if __name__ == "__main__":
    main()
