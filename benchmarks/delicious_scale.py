"""How long ranking attributions on Delicious take: 100 items beside retraining, and all 983 items.

Retraining is App. B's: Adam, learning rate 1e-3, weight decay 5e-4, batches of 128, 100 epochs, one model after the
other with torch.optim. One such training is timed for `TIMED_EPOCHS` epochs in the same process, and multiplied. The
983 items are attributed at parameters one Newton step from zero: the time does not depend on where they are. Quick runs
leave the 983 items out.
"""

import resource
import time
import warnings

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious
from versatile_influence.losses import ListMLELoss, query_loss

WEIGHT_DECAY, EPOCHS, BATCH, LR = 5e-4, 100, 128, 1e-3  # Appendix B
TIMED_EPOCHS = 2
REQUIRED = {"100 items, seconds": 10, "retraining over attribution": 200, "all items, seconds": 300, "memory, GB": 8}


def near_minimum(loss):
    """Return parameters one Newton step from zero."""
    params, everybody = loss.zeros(), torch.ones(loss.n_objects, dtype=torch.float64)
    gradient = torch.func.grad(loss)(params, everybody).reshape(-1, 1)
    factor = torch.linalg.cholesky(loss.hessian(params, everybody))
    return params - torch.cholesky_solve(gradient, factor).reshape(params.shape)


def attributed(data, items, *, seed):
    """Train, attribute all items to all test queries, and return the queries and what was measured."""
    queries, tests = label_queries(*data, drawn_labels(data[0], items, seed=seed))
    penalty = WEIGHT_DECAY * len(queries.lists)
    loss = ListMLELoss(queries.x, queries.lists, n_items=items, penalty=penalty)
    test = ListMLELoss(tests.x, tests.lists, n_items=items)
    began = time.perf_counter()
    params = near_minimum(loss) if items > 100 else vif.minimize(loss, loss.zeros())
    trained = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The parameters are not at a minimum")
        scores = vif.attribute(loss, params, query_loss(test), check=False).scores
    return queries, {
        "parameters": params.numel(),
        "queries": len(queries.lists),
        "scores": list(scores.shape),
        "training seconds": trained - began,
        "attribution seconds": time.perf_counter() - trained,
        "seconds in all": time.perf_counter() - began,
        "largest memory so far, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }


def retraining_seconds(queries):
    """Return the seconds of one training by the paper's protocol."""
    batches = [
        ListMLELoss(queries.x[rows], queries.lists[rows.start : rows.stop], n_items=queries.n_items)
        for rows in (slice(start, start + BATCH) for start in range(0, len(queries.lists), BATCH))
    ]
    params = torch.zeros(queries.n_items, queries.x.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    everybody = torch.ones(queries.n_items, dtype=torch.float64)
    optimizer = torch.optim.Adam([params], lr=LR, weight_decay=WEIGHT_DECAY)
    began = time.perf_counter()
    for _ in range(TIMED_EPOCHS):
        for batch in batches:
            optimizer.zero_grad()
            (batch(params, everybody) / batch.n_terms).backward()
            optimizer.step()
    return (time.perf_counter() - began) * EPOCHS / TIMED_EPOCHS


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    data = delicious()
    queries, found = attributed(data, 100, seed=run.seed)
    alone = retraining_seconds(queries)
    numbers = {
        "required": REQUIRED,
        "threads": torch.get_num_threads(),
        "100 items": found,
        "one retraining, seconds": alone,
        "100 retrainings over one attribution": 100 * alone / found["attribution seconds"],
    }
    print(numbers, flush=True)
    if not run.quick:
        numbers["983 items"] = attributed(data, 983, seed=run.seed)[1]
        print(numbers["983 items"])
    print(run.record(numbers))


if __name__ == "__main__":
    main()
