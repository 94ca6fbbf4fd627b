"""The README's picture: who holds up the treatment effect of a trial, and each patient's prediction beside a refit.

python experiments/first_picture.py
"""

import torch
from matplotlib import pyplot as plt

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets import simulated_trial
from versatile_influence.losses import CoxLoss

EFFECT, LABEL = "treatment", "log hazard ratio of treatment"


def measured(seed: int) -> dict:
    """Return each patient's predicted and refitted change of the treatment effect, and how far each is trusted."""
    trial = simulated_trial(seed=seed)
    loss = CoxLoss.from_frame(trial, duration_col="months", event_col="died", strata_cols="site")
    theta = vif.minimize(loss, loss.zeros())
    effect = loss.coefficients([EFFECT])
    estimate = vif.attribute(loss, theta, effect, check="all")
    truth = vif.refit(loss, theta, effect)
    return {
        "patients": loss.n_objects,
        "effect": theta[loss.columns.index(EFFECT)].item(),
        "predicted": estimate.scores[:, 0].tolist(),
        "refitted": truth.scores[:, 0].tolist(),
        "estimated error": estimate.error.tolist(),
        "names": estimate.names(),
        "r": vif.pearson(estimate, truth).item(),
    }


def draw(run: Run) -> None:
    """Draw the recorded numbers."""
    found = run.numbers()
    named = {"n_objects": found["patients"], "labels": found["names"], "targets": [LABEL]}
    estimate, truth = (
        vif.Attribution(torch.tensor(found[name])[:, None], torch.arange(found["patients"]), **named, **extra)
        for name, extra in (("predicted", {"error": torch.tensor(found["estimated error"])}), ("refitted", {}))
    )
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.4), layout="constrained", width_ratios=(1.3, 1))
    vif.plots.waterfall(estimate, k=12, value=found["effect"], ax=left)
    left.set_title("Who pushed the treatment effect up, and who down: 12 of 400 patients", fontsize=10, pad=20)
    vif.plots.scatter(estimate, truth, ax=right)
    right.set(xlabel="predicted from the one fit", ylabel="really fitted again without the patient")
    run.savefig(figure, ".png", dpi=80)


def main() -> None:
    """Measure, record and draw."""
    run = Run.of(__file__, __doc__)
    if not run.drawn_only:
        run.record(measured(run.seed))
    draw(run)


if __name__ == "__main__":
    main()
