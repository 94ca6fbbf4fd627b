"""Listwise ranking on Delicious: removal of each of 100 items, predicted and refitted (the paper's Table 1, ranking).

ListMLE (Eq. 6) over 100 of the 983 labels, 8 SVD features fitted on the training rows, queries with at least two of
these labels, 500 test queries. Ground truth *stationary*: minimised in float64, refits warm-started. λ is the number of
queries times App. B's weight decay 5e-4.
The first argument, where there is one, is how many of the items are removed. The target is each test query's ListMLE
loss among the items that remain.
"""

import sys
import time
from pathlib import Path

import torch
from torch import Tensor

import versatile_influence as vif
from versatile_influence.datasets import ranking
from versatile_influence.owned import conditioned, marginalised, shared
from versatile_influence.record import write_record

WEIGHT_DECAY, RANK, N_TEST, SEED = 5e-4, 8, 500, 0
RESULTS = Path(__file__).parent / "results"


def delicious_losses(n_items: int) -> tuple[vif.losses.ListMLELoss, vif.losses.ListMLELoss]:
    """Return the training loss and that of the test queries, over items drawn with seed 0."""
    train, test = ranking.delicious()
    drawn = torch.randperm(train.labels.shape[1], generator=torch.Generator().manual_seed(SEED))
    universe = sorted(drawn[:n_items].tolist())
    x, x_test = ranking.truncated_svd(train.x, [test.x], rank=RANK)
    lists, test_lists = train.lists(universe), test.lists(universe)
    rows = [row for row, ranked in enumerate(lists) if len(ranked) >= 2]
    queries = [row for row, ranked in enumerate(test_lists) if ranked][:N_TEST]
    loss = vif.losses.ListMLELoss(
        x[rows], [lists[row] for row in rows], n_items=n_items, penalty=WEIGHT_DECAY * len(rows)
    )
    return loss, vif.losses.ListMLELoss(x_test[queries], [test_lists[row] for row in queries], n_items=n_items)


def mean_pearson(estimate: Tensor, truth: Tensor, used: Tensor) -> tuple[float, int]:
    """Return the mean over targets of Pearson's r across the objects used, and how many targets had none."""
    found = []
    for target in range(truth.shape[1]):
        rows = used[:, target]
        pair = torch.stack([estimate[rows, target], truth[rows, target]])
        found.append(torch.corrcoef(pair)[0, 1])
    values = torch.stack(found)
    defined = torch.isfinite(values)
    return values[defined].mean().item(), int((~defined).sum())


def compare(estimate: vif.Attribution, truth: vif.Attribution, listed: Tensor) -> dict:
    """Return the correlations of total and parameter effect; `listed[i, q]` where query q lists item i."""
    everywhere = torch.ones_like(listed)
    total, undefined = mean_pearson(estimate.scores, truth.scores, ~listed)
    parameter, _ = mean_pearson(estimate.parameter, truth.scores - truth.direct, everywhere)
    pooled = torch.corrcoef(torch.stack([estimate.scores.flatten(), truth.scores.flatten()]))[0, 1].item()
    slope = ((estimate.parameter * truth.parameter).sum() / estimate.parameter.square().sum()).item()
    return {
        "total, queries without the item": total,
        "total, all pairs": mean_pearson(estimate.scores, truth.scores, everywhere)[0],
        "parameter effect": parameter,
        "parameter effect alone against total": mean_pearson(estimate.parameter, truth.scores, ~listed)[0],
        "pooled": pooled,
        "slope of parameter effect": slope,
        "undefined targets": undefined,
    }


def main() -> int:
    """Run and write `results/delicious.json`."""
    removed = list(range(int(sys.argv[1]) if len(sys.argv) > 1 else 100))
    loss, test = delicious_losses(100)
    target = vif.PresenceTarget(test.row_losses, size=test.size)
    params = vif.minimize(loss, loss.zeros())
    start = time.perf_counter()
    truth = vif.refit(loss, params, target, objects=removed)
    seconds = {"refit": time.perf_counter() - start}
    listed = test.rows.ranked.T[removed]
    numbers: dict = {
        "items removed": len(removed),
        "queries": len(loss.rows.ranking),
        "test queries": len(test.rows.ranking),
    }
    for name, treatment in (("marginalised", marginalised), ("conditioned", conditioned), ("shared", shared)):
        start = time.perf_counter()
        estimate = vif.attribute(loss, params, target, objects=removed, owned=treatment)
        seconds[name] = time.perf_counter() - start
        numbers[name] = compare(estimate, truth, listed)
        print(name, numbers[name], f"{seconds[name]:.1f} s", flush=True)
    start = time.perf_counter()
    newton = vif.newton_step(loss, params, target, objects=removed)
    seconds["newton_step"] = time.perf_counter() - start
    numbers["newton_step"] = compare(newton, truth, listed)
    print("newton_step", numbers["newton_step"], seconds)
    write_record(RESULTS / "delicious.json", numbers | {"seconds": seconds}, seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
