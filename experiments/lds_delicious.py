"""Linear datamodelling score of the influence function on Delicious, beside its leave-one-out correlation.

ListMLE over 100 labels as in `delicious.py`. Random groups of items are left out together and the model is minimised
without them; the sum of their leave-one-out predictions is held against what that refit shows (Park et al. 2023). The
target is each test query's loss among the items that remain, whose direct effect is no sum over items: predictions are
of the whole change, the parameter effect, and the direct effect of the group itself plus the summed parameter effects.
Intervals are bootstrapped over groups and over items. Ground truth *stationary*. Groups are a tenth of the items; a
quick run has 20 items and 10 groups of half of them.
"""

import time
from dataclasses import replace

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import evaluation
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious
from versatile_influence.losses import ListMLELoss, query_loss

WEIGHT_DECAY = 5e-4  # Appendix B


def interval(estimate, truth, statistic):
    """Return a statistic's mean over test queries with its interval, as a dict."""
    return vars(evaluation.bootstrap_interval(estimate, truth, statistic=statistic, n_resamples=100))


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    items, count, fractions = (20, 10, (0.5,)) if run.quick else (100, 50, (0.1,))
    train, test = delicious()
    queries, tests = label_queries(train, test, drawn_labels(train, items, seed=run.seed))
    loss = ListMLELoss(queries.x, queries.lists, n_items=items, penalty=WEIGHT_DECAY * len(queries.lists))
    target = query_loss(ListMLELoss(tests.x, tests.lists, n_items=items))
    params = vif.minimize(loss, loss.zeros())
    estimate = vif.attribute(loss, params, target)
    parameter = replace(estimate, scores=estimate.parameter, direct=None, parameter=None)
    numbers = {"ground truth": "stationary", "items": items, "groups": count}
    for fraction in fractions:
        groups = evaluation.random_groups(items, count=count, fraction=fraction, seed=run.seed)
        began = time.perf_counter()
        truth = vif.refit(loss, params, target, objects=groups, gtol=1e-8)
        measured = replace(truth, scores=truth.scores - truth.direct, direct=None, parameter=None)
        summed = evaluation.summed(parameter, measured)
        numbers[f"leaving out {fraction:g}"] = {
            "LDS, summed scores": interval(evaluation.summed(estimate, truth), truth, vif.spearman),
            "LDS, summed parameter effects": interval(summed, measured, vif.spearman),
            "LDS, direct effect of the group + summed parameter effects": interval(
                truth.direct + summed.scores, truth.scores, vif.spearman
            ),
            "failed": len(truth.failed or {}),
            "refit seconds": time.perf_counter() - began,
        }
        print(fraction, numbers[f"leaving out {fraction:g}"], flush=True)
    truth = vif.refit(loss, params, target)
    numbers["leave-one-out Pearson, direct + parameter"] = interval(estimate, truth, vif.pearson)
    measured = replace(truth, scores=truth.scores - truth.direct, direct=None, parameter=None)
    numbers["leave-one-out Pearson, parameter effect"] = interval(parameter, measured, vif.pearson)
    print(run.record(numbers))


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
