"""Issue 6: each solver's error against the dense answer as a function of its effort, on a neural Cox model.

METABRIC, network 9 → 16 (tanh) → 1 without bias, weight decay 0.01 in the loss divided by the number of patients, at a
stationary point. Curvature is the Gauss–Newton matrix throughout, and what is compared are all scores, patients × test
patients, with those of the dense solution: relative error and correlation. Effort is in loss gradients for one
right-hand side: a product with the curvature counts as 2, a backpropagated vector as 1. Ground truth is the dense
Gauss–Newton answer, not a refit: this is about solvers alone.

    python experiments/solver_effort.py [--quick]
"""

import warnings

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets import metabric
from versatile_influence.losses import CoxLoss
from versatile_influence.solvers import Arnoldi, Nystrom, Projected

HIDDEN, WEIGHT_DECAY = 16, 0.01
PRODUCT = 2  # loss gradients that a product with the curvature costs


def settings(p, n, *, quick):
    """Return (solver's name, effort, solver) for each point."""
    few = 2 if quick else None
    points = [("CG", PRODUCT * k, vif.CG(max_steps=k)) for k in (5, 10, 20, 40, 80)[:few]]
    points += [("Arnoldi", PRODUCT * k, Arnoldi(num_steps=k)) for k in (10, 20, 40, 80)[:few]]
    points += [("Nyström", PRODUCT * k, Nystrom(rank=k)) for k in (10, 20, 40, 80, p)[:few]]
    points += [("Projected", (PRODUCT + 1) * k, Projected(rank=k)) for k in (10, 20, 40, 80, p)[:few]]
    points += [
        ("Projected, unstructured", PRODUCT * k, Projected(rank=k, unstructured=True))
        for k in (10, 20, 40, 80, p)[:few]
    ]
    points += [("EK-FAC", k, vif.EKFAC(num_draws=k)) for k in (8, 32, 128, 512)[:few]]
    points += [("EK-FAC", n, vif.EKFAC(num_draws=None))]
    points += [
        (f"LiSSA, {batch} of 703 terms", PRODUCT * k, vif.LiSSA(batch_size=batch, max_steps=k))
        for batch in (4, 32, 256)[: 1 if quick else None]
        for k in (10, 30, 100, 300, 1000)[:few]
    ]
    return points


def main():
    """Measure, record and draw."""
    run = Run.of(__file__, __doc__)
    if run.drawn_only:
        draw(run)
        return
    torch.manual_seed(run.seed)
    data = metabric()
    n = len(data.train)
    model = torch.nn.Sequential(
        torch.nn.Linear(9, HIDDEN, bias=False), torch.nn.Tanh(), torch.nn.Linear(HIDDEN, 1, bias=False)
    ).double()
    loss = CoxLoss.from_frame(
        data.train, duration_col="duration", event_col="event", model=model, penalty=WEIGHT_DECAY * n
    )
    theta = vif.minimize(loss, loss.zeros())
    target = loss.log_risk(data.test[:40])
    curvature = {"curvature": vif.GaussNewton}
    exact = vif.attribute(loss, theta, target, **curvature).scores
    p = sum(value.numel() for value in theta.values())
    points = []
    for name, effort, solver in settings(p, n, quick=run.quick):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = vif.attribute(loss, theta, target, solver=solver, check=False, **curvature)
        error = ((found.scores - exact).norm() / exact.norm()).item()
        pooled = torch.corrcoef(torch.stack([found.scores.flatten(), exact.flatten()]))[0, 1].item()
        residual = found.solution.residual.max().item()
        point = {"solver": name, "loss gradients": effort, "relative error of scores": error}
        points.append(point | {"correlation of scores": pooled, "worst relative residual": residual})
        print(
            f"{name:26} {effort:5d} gradients: error {error:9.2e}  r {pooled:.4f}  residual {residual:.1e}", flush=True
        )
    run.record({"parameters": p, "ground truth": "dense Gauss-Newton scores", "points": points})
    draw(run)


def draw(run):
    """Draw the recorded error over the effort: LiSSA and EK-FAC by themselves, and those that become exact."""
    from matplotlib import pyplot as plt

    points = run.numbers()["points"]
    figure, panels = plt.subplots(1, 2, figsize=(11, 4.5))
    for name, marker in zip(dict.fromkeys(point["solver"] for point in points), "osD^v<>P*X", strict=False):
        own = [point for point in points if point["solver"] == name]
        floored = [max(point["relative error of scores"], 1e-12) for point in own]
        axes = panels[0 if name.startswith(("LiSSA", "EK-FAC")) else 1]
        axes.loglog([point["loss gradients"] for point in own], floored, marker=marker, markersize=5, label=name)
    panels[0].set_title("noisy or approximate by nature")
    panels[1].set_title("exact in the end (shown down to 1e-12)")
    panels[0].set_ylabel("relative error of all scores against dense")
    for axes in panels:
        axes.set_xlabel("effort for one right-hand side (loss gradients)")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3, which="both")
    figure.tight_layout()
    run.savefig(figure, "_figure.png", dpi=150)


if __name__ == "__main__":
    main()
