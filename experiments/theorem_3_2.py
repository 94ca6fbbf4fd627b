"""Theorem 3.2: the VIF of Cox regression differs from the classical influence function by O(1/n).

Simulated survival data of growing size; for each, the norm of VIF − IF over its own patients, in the paper's units
(n times a change of parameters), and the slope of its logarithm against that of n.

    python experiments/theorem_3_2.py         # writes experiments/results/theorem_3_2.{json,png}
"""

import numpy as np
import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets import simulated_survival
from versatile_influence.losses import CoxLoss, dfbeta

SIZES = (250, 500, 1000, 2000, 4000, 8000)
REPEATS = 5
COVARIATES = 3


def differences(n: int, seed: int) -> dict[str, float]:
    """Return mean and median norm of VIF − IF, and of IF itself, over the n patients of one simulated data set.

    The assumptions of the theorem hold: bounded covariates, and follow-up that ends while patients are at risk.
    """
    x, durations, events = simulated_survival(n, COVARIATES, seed=seed)
    x = x.clamp(-2.0, 2.0)
    end = durations.quantile(0.8)
    events = torch.where(durations > end, torch.zeros_like(events), events)
    loss = CoxLoss(x, durations.clamp_max(end), events)
    theta = vif.minimize(loss, loss.zeros())
    # Eq. 10 is −n times the change; the classical function is n times R's dfbeta, which has the opposite sign of it.
    influence = n * dfbeta(loss, theta)
    versatile = -n * vif.parameter_changes(loss, theta)
    distance = torch.linalg.vector_norm(versatile - influence, dim=1)
    size = torch.linalg.vector_norm(influence, dim=1).mean().item()
    return {"mean": distance.mean().item(), "median": distance.median().item(), "influence": size}


def log_slope(sizes, values) -> float:
    """Return the slope of log(values) against log(sizes)."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def rows(sizes=SIZES, repeats: int = REPEATS) -> list[dict]:
    """Return the differences at each size, averaged over repeats."""
    found = []
    for n in sizes:
        each = [differences(n, seed) for seed in range(repeats)]
        found.append({"n": n, **{name: float(np.mean([one[name] for one in each])) for name in each[0]}})
    return found


def draw(run: Run) -> None:
    """Plot the recorded differences against n."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(5, 4), layout="constrained")
    found = run.numbers()["rows"]
    sizes = [row["n"] for row in found]
    for name, label in (("influence", "‖IF‖"), ("mean", "‖VIF − IF‖, mean"), ("median", "‖VIF − IF‖, median")):
        values = [row[name] for row in found]
        ax.loglog(sizes, values, "o-", label=f"{label} (slope {log_slope(sizes, values):+.2f})")
    ax.set(xlabel="patients n", ylabel="norm, averaged over patients", title="Theorem 3.2: the difference falls as 1/n")
    ax.set_xticks(sizes, [f"{size:,}" for size in sizes])
    ax.minorticks_off()
    ax.legend()
    run.savefig(figure, ".png", dpi=110)


def main() -> None:
    """Measure, write the record and the plot."""
    run = Run.of(__file__, __doc__)
    if not run.drawn_only:
        sizes, repeats = ((250, 500, 1000, 2000), 2) if run.quick else (SIZES, REPEATS)
        found = rows(sizes, repeats)
        slopes = {name: log_slope(sizes, [row[name] for row in found]) for name in ("mean", "median", "influence")}
        print(slopes)
        run.record({"rows": found, "slopes": slopes})
    draw(run)


if __name__ == "__main__":
    main()
