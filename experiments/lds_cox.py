"""Linear datamodelling score of the influence function on METABRIC, beside its leave-one-out correlation.

50 random halves of the training patients are left out and the Cox model is minimised without them; the sum of their
leave-one-out predictions is held against what the retraining shows (Park et al. 2023). Intervals are
bootstrapped, over groups and over patients. Writes `experiments/results/lds_cox.json`.
"""

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets, evaluation
from versatile_influence.losses import CoxLoss

GROUPS, QUICK_GROUPS = 50, 8
FRACTIONS = (0.5, 0.1)
COUNTS = (1, 10, 50)


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    torch.manual_seed(run.seed)
    n_groups = QUICK_GROUPS if run.quick else GROUPS
    data = datasets.metabric()
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties="breslow")
    params = vif.minimize(loss, loss.zeros())
    target = loss.relative_risk(data.test)
    estimate = vif.attribute(loss, params, target)
    exact = vif.refit(loss, params, target)
    leave_one_out = evaluation.bootstrap_interval(estimate, exact, n_resamples=200)
    numbers = {"n_objects": loss.n_objects, "n_groups": n_groups, "leave_one_out_pearson": vars(leave_one_out)}

    def fit(presence):
        return vif.minimize(loss, params, presence)

    for fraction in FRACTIONS:
        groups = evaluation.random_groups(loss.n_objects, count=n_groups, fraction=fraction, seed=run.seed)
        truth = vif.leave_one_out(fit, target, n_objects=loss.n_objects, objects=groups)
        sums = evaluation.summed(estimate, truth)
        lds = evaluation.bootstrap_interval(sums, truth, statistic=vif.spearman, n_resamples=500)
        numbers[f"lds_leaving_out_{fraction:g}"] = vars(lds)
        step = vif.newton_step(loss, params, target, objects=groups)
        newton = evaluation.bootstrap_interval(step, truth, statistic=vif.spearman, n_resamples=500)
        numbers[f"lds_newton_leaving_out_{fraction:g}"] = vars(newton)

    top = evaluation.top_groups(estimate, COUNTS)
    random = tuple(evaluation.random_groups(loss.n_objects, count=1, fraction=c / loss.n_objects)[0] for c in COUNTS)
    for name, groups in (("top", top), ("random", random)):
        change = vif.leave_one_out(fit, target, n_objects=loss.n_objects, objects=groups).scores[:, 0]
        numbers[f"brittleness_{name}"] = dict(zip(COUNTS, change.tolist(), strict=True))
    numbers["first_test_patient_now"] = target(params)[0].item()
    print(numbers)
    run.record(numbers)


if __name__ == "__main__":
    main()
