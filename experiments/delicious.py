"""Listwise ranking on Delicious, and on Mediamill where its files are: removal of each item, predicted and refitted.

The paper's Table 1, ranking.

ListMLE (Eq. 6) over 100 of the 983 labels drawn with the seed, 8 SVD features fitted on the training rows, queries with
at least two of these labels, 500 test queries. Ground truth *stationary*: minimised in float64, refits warm-started. λ
is the number of queries times App. B's weight decay 5e-4. The target is each test query's ListMLE loss among the items
that remain; correlations are across items, per query, then averaged. The parameter effect is held against the refit
less the direct effect. Mediamill has 101 labels, all of them items; it goes to a record of its own. A quick run has 20
items.
"""

import time
from dataclasses import replace

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious, mediamill
from versatile_influence.losses import ListMLELoss, query_loss
from versatile_influence.reading.evaluation import pearson_where

WEIGHT_DECAY = 5e-4  # Appendix B
TREATMENTS = {
    "marginalised": vif.owned.Marginalised(),
    "conditioned": vif.owned.Conditioned(),
    "shared": vif.owned.Shared(),
}
REQUIRED = {"direct + parameter": 0.995, "parameter effect": 0.99, "newton_step, pooled": 0.9999}


def compared(estimate, truth, listed):
    """Return the correlations of an estimate with the refits; `listed[i, q]` where query q lists item i."""
    measured = truth.scores - truth.direct
    total, parameter = vif.pearson(estimate, truth), vif.pearson(estimate.parameter, measured)
    both = torch.stack([estimate.scores.flatten(), truth.scores.flatten()])
    return {
        "direct + parameter": total.nanmean().item(),
        "parameter effect": parameter.nanmean().item(),
        "direct + parameter, queries without the item": pearson_where(estimate.scores, truth.scores, ~listed)
        .nanmean()
        .item(),
        "parameter effect, queries without the item": pearson_where(estimate.parameter, measured, ~listed)
        .nanmean()
        .item(),
        "parameter effect with the whole change": vif.pearson(estimate.parameter, truth.scores).nanmean().item(),
        "pooled": torch.corrcoef(both)[0, 1].item(),
        "slope of the parameter effect": (
            (estimate.parameter * measured).sum() / estimate.parameter.square().sum()
        ).item(),
        "undefined queries": int((~torch.isfinite(total) | ~torch.isfinite(parameter)).sum()),
    }


def measure(run, train, test, *, n_items):
    """Measure one data set, and write its record."""
    queries, tests = label_queries(train, test, drawn_labels(train, 20 if run.quick else n_items, seed=run.seed))
    loss = ListMLELoss(queries.x, queries.lists, n_items=queries.n_items, penalty=WEIGHT_DECAY * len(queries.lists))
    target = query_loss(ListMLELoss(tests.x, tests.lists, n_items=tests.n_items))
    seconds, began = {}, time.perf_counter()

    def timed(name, value):
        nonlocal began
        seconds[name], began = time.perf_counter() - began, time.perf_counter()
        return value

    params = timed("minimize", vif.minimize(loss, loss.zeros()))
    truth = timed("refit", vif.refit(loss, params, target))
    numbers = {
        "ground truth": "stationary",
        "items": loss.n_objects,
        "queries": len(queries.lists),
        "test queries": len(tests.lists),
        "parameters": params.numel(),
        "failed refits": len(truth.failed or {}),
        "required": REQUIRED,
        "direct effect alone": vif.pearson(truth.direct, truth.scores).nanmean().item(),
    }
    for name, treatment in TREATMENTS.items():
        estimate = timed(name, vif.attribute(loss.treated(treatment), params, target, check=False))
        numbers[name] = compared(estimate, truth, tests.listed())
        print(name, numbers[name], flush=True)
    newton = timed("newton_step", vif.newton_step(loss, params, target))
    numbers["newton_step"] = compared(newton, truth, tests.listed())
    print("newton_step", numbers["newton_step"])
    print(run.record(numbers | {"seconds": seconds}))


def main():
    """Measure Delicious, and Mediamill unless its files are missing."""
    run = Run.of(__file__, __doc__)
    measure(run, *delicious(), n_items=100)
    try:
        found = mediamill()
    except FileNotFoundError as error:
        print(f"Mediamill is not measured: {error}")
        return
    measure(replace(run, name="mediamill", started=time.perf_counter()), *found, n_items=101)


if __name__ == "__main__":
    main()
