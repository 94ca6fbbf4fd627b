"""How long ranking attributions on Delicious take: 100 items beside retraining, and all 983 items.

Retraining is App. B's: Adam, learning rate 1e-3, weight decay 5e-4, batches of 128, 100 epochs. It is timed for
`TIMED_EPOCHS` epochs and multiplied: 100 items are 100 such trainings one after the other, in the same process.
"""

import resource
import sys
import time
from pathlib import Path

import torch

import versatile_influence as vif
from versatile_influence.datasets import ranking
from versatile_influence.record import write_record

WEIGHT_DECAY, RANK, N_TEST, SEED, EPOCHS, BATCH = 5e-4, 8, 500, 0, 100, 128
TIMED_EPOCHS = 5
RESULTS = Path(__file__).parent / "results"


def losses(n_items: int) -> tuple[list, list, torch.Tensor, torch.Tensor]:
    """Return training and test lists and features over items drawn with seed 0."""
    train, test = ranking.delicious()
    drawn = torch.randperm(983, generator=torch.Generator().manual_seed(SEED))
    universe = sorted(drawn[:n_items].tolist())
    x, x_test = ranking.truncated_svd(train.x, [test.x], rank=RANK)
    lists, test_lists = train.lists(universe), test.lists(universe)
    rows = [row for row, ranked in enumerate(lists) if len(ranked) >= 2]
    queries = [row for row, ranked in enumerate(test_lists) if ranked][:N_TEST]
    return [lists[row] for row in rows], [test_lists[row] for row in queries], x[rows], x_test[queries]


def attribution_seconds(n_items: int, *, newton_steps: int) -> dict:
    """Train (untimed apart) and attribute all items to all test queries."""
    lists, test_lists, x, x_test = losses(n_items)
    penalty = WEIGHT_DECAY * len(lists)
    loss = vif.losses.ListMLELoss(x, lists, n_items=n_items, penalty=penalty)
    test = vif.losses.ListMLELoss(x_test, test_lists, n_items=n_items)
    start = time.perf_counter()
    params = loss.zeros()
    for _ in range(newton_steps):
        gradient = torch.func.grad(loss)(params, torch.ones(n_items, dtype=torch.float64)).reshape(-1)
        curvature = loss.dense_hessian(params, torch.ones(n_items, dtype=torch.float64))
        step = torch.cholesky_solve(gradient[:, None], torch.linalg.cholesky(curvature))
        params = params - step.reshape(params.shape)
    trained = time.perf_counter()
    del curvature, step
    scores = vif.attribute(loss, params, vif.losses.query_loss(test)).scores
    done = time.perf_counter()
    return {
        "items": n_items,
        "parameters": params.numel(),
        "queries": len(lists),
        "scores": list(scores.shape),
        "training seconds": trained - start,
        "attribution seconds": done - trained,
        "largest memory so far, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def retraining_seconds(n_items: int) -> float:
    """Return the seconds of one training by the paper's protocol."""
    lists, _, x, _ = losses(n_items)
    batches = [
        vif.losses.ListMLELoss(x[start : start + BATCH], lists[start : start + BATCH], n_items=n_items)
        for start in range(0, len(lists), BATCH)
    ]
    params = torch.zeros(n_items, RANK + 1, dtype=torch.float64, requires_grad=True)
    everybody = torch.ones(n_items, dtype=torch.float64)
    optimizer = torch.optim.Adam([params], lr=1e-3, weight_decay=WEIGHT_DECAY)
    start = time.perf_counter()
    for _ in range(TIMED_EPOCHS):
        for batch in batches:
            optimizer.zero_grad()
            (batch(params, everybody) / BATCH).backward()
            optimizer.step()
    return (time.perf_counter() - start) * EPOCHS / TIMED_EPOCHS


def main() -> int:
    """Run and write `results/delicious_scale.json`."""
    numbers: dict = {"100 items": attribution_seconds(100, newton_steps=8)}
    numbers["one retraining, seconds"] = retraining_seconds(100)
    ratio = 100 * numbers["one retraining, seconds"] / numbers["100 items"]["attribution seconds"]
    numbers["100 retrainings over one attribution"] = ratio
    print(numbers, flush=True)
    # The same speed at any parameters: one Newton step leads near enough to the minimum.
    numbers["all items"] = attribution_seconds(983, newton_steps=1)
    print(numbers["all items"])
    write_record(RESULTS / "delicious_scale.json", numbers, seed=SEED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
