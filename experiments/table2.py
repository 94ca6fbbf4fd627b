"""Table 2: seconds of all influence scores, beside those of retraining without each object, three ways.

- *the paper's protocol, one at a time*: its optimiser and epochs, one model after the other, as one writes it with
  torch.optim; on Karate a step of SGD for each pair of 1,000 walks a node;
- *the same, batched*: `vif.train` on many presences at once; on Karate the pairs of a pass of one walk a node are taken
  in expectation, all 918 in a step, 1,000 passes;
- *exact warm refits*: `vif.refit`, to the minimum.

What would take hours is timed on a part and multiplied, and that part stands beside its seconds. Parameters are given:
the training that finds them stands apart. Scores are those of `vif.attribute`, the shortest of three timings. A quick
run takes smaller parts, and Delicious with 20 of the 100 items.

    python experiments/table2.py
"""

import time
import warnings
from dataclasses import dataclass
from functools import partial

import networkx as nx
import torch

import versatile_influence as vif
from experiments import karate, paper_cox, paper_delicious
from experiments.report import Records
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious
from versatile_influence.losses import ListMLELoss, WalkEmbeddingLoss, query_loss

PASSES, PAIRS = karate.PASSES, 918  # Appendix B: walks a node; pairs of one walk a node
WALK_LR = 0.01
PAPER = {"seconds of retraining": "retraining", "seconds of VIF": "vif", "over scores": "ratio"}


@dataclass(frozen=True)
class Parts:
    """What is timed: Cox trainings alone and batched, passes and refits of Karate, steps and refits of Delicious."""

    alone: int = 3
    batched: int = 204  # Whole parts of METABRIC, of 102
    passes: int = 50
    nodes: int = 34
    items: int = 100
    steps: int = 20
    refits: int = 4


QUICK = Parts(alone=1, batched=24, passes=5, nodes=4, items=20, steps=5, refits=2)


def timed(function, *arguments, repeats=1):
    """Return what a call returns, and the shortest time that it took."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        value = function(*arguments)
        times.append(time.perf_counter() - began)
    return value, min(times)


def without(objects, n):
    """Return the presence without each of some objects, a row each."""
    return 1 - torch.eye(n, dtype=torch.float64)[list(objects)]


def row(name, problem, *, alone, batched, refits):
    """Return a row of the table, with the scores and refits timed here.

    Args:
        name: The paper's name of the data.
        problem: Loss, its start, and target.
        alone: Seconds of all retrainings, one at a time, and the part that was timed.
        batched: The same of those in one batch.
        refits: How many refits to time.
    """
    loss, start, target = problem
    n, paper = loss.n_objects, Records.read([]).records["paper"].numbers["table2"][name]
    params, training = timed(vif.minimize, loss, start)
    scores, seconds = timed(partial(vif.attribute, loss, params, target), repeats=3)
    _, some = timed(partial(vif.refit, loss, params, target, objects=range(refits)))
    numbers = {
        "objects": n,
        "targets": scores.scores.shape[1],
        "seconds of all scores": seconds,
        "seconds of the training before": training,
    }
    ways = {
        "the paper's protocol, one at a time": alone,
        "the paper's protocol, batched": batched,
        "exact warm refits": (some / refits * n, f"{refits} of {n} refits"),
    }
    for way, (spent, part) in ways.items():
        numbers |= {f"{way}, seconds": spent, f"{way}, timed": part, f"{way}, over scores": spent / seconds}
    numbers |= {f"paper, {what}": paper[key] for what, key in PAPER.items()}
    print(name, numbers, sep=": ", flush=True)
    return numbers


def cox(name, parts):
    """Time Cox regression."""
    loss, target, settings = paper_cox.problem(name)
    n = loss.n_objects
    fit = partial(paper_cox.fit, seed=0, dtype=torch.float64, **settings)
    one = partial(paper_cox.fit_by_torch, **settings)
    trained = without(range(parts.batched), n)
    # The first calls, which prepare, are not counted.
    one(trained[0], epochs=1)
    fit(trained, epochs=1)
    alone = sum(timed(one, presence)[1] for presence in trained[: parts.alone])
    _, batch = timed(fit, trained)
    return row(
        name,
        (loss, loss.zeros(), target),
        alone=(alone / parts.alone * n, f"{parts.alone} of {n} trainings"),
        batched=(batch / parts.batched * n, f"{parts.batched} of {n} trainings"),
        refits=n,
    )


def embedding(parts, *, seed):
    """Time node embedding on Zachary's karate club."""
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=2)
    n, start = loss.n_objects, loss.start(seed=seed)
    fit = partial(vif.train, loss, start, without(range(loss.n_objects), loss.n_objects), lr=WALK_LR)
    fit(epochs=1)
    _, batch = timed(partial(fit, epochs=parts.passes))
    steps = PASSES * PAIRS * n
    return row(
        "karate",
        (loss, start, loss.pair_losses()),
        alone=(karate.sgd_seconds() * steps, f"{karate.TIMED_PAIRS} of {steps:,} steps"),
        batched=(batch / parts.passes * PASSES, f"{parts.passes} of {PASSES} passes"),
        refits=parts.nodes,
    )


def step_by_torch(loss, presence, terms):
    """Train one ranking model on some mini-batches, as one writes it with torch.optim."""
    theta = paper_delicious.start(loss, seed=0).requires_grad_()
    optimizer = torch.optim.Adam([theta], lr=paper_delicious.LR, weight_decay=paper_delicious.WEIGHT_DECAY)
    for part in terms:
        optimizer.zero_grad()
        (loss.part(part)(theta, presence) / len(part)).backward()
        optimizer.step()


def ranking(parts, *, seed):
    """Time listwise ranking on Delicious."""
    train, test = delicious()
    queries, tests = label_queries(train, test, drawn_labels(train, parts.items, seed=seed))
    size, decay, n, m = paper_delicious.BATCH, paper_delicious.WEIGHT_DECAY, parts.items, len(queries.lists)
    # As many queries as the steps that are timed: one epoch of them.
    timed_steps = min(parts.steps, m // size)
    rows = timed_steps * size
    few = ListMLELoss(queries.x[:rows], queries.lists[:rows], n_items=n)
    settings = {"lr": paper_delicious.LR, "weight_decay": decay, "batch_size": size, "scale": 1 / rows, "epochs": 1}
    fit = partial(vif.train, few, paper_delicious.start(few, seed=seed), **settings)
    presence, batches = without(range(n), n), torch.arange(rows).split(size)
    step_by_torch(few, presence[0], batches[:1])
    fit(presence[:2])
    _, alone = timed(step_by_torch, few, presence[0], batches)
    _, batch = timed(fit, presence)
    steps = -(-m // size) * paper_delicious.EPOCHS
    loss = ListMLELoss(queries.x, queries.lists, n_items=n, penalty=decay * m)
    return row(
        "delicious",
        (loss, loss.zeros(), query_loss(ListMLELoss(tests.x, tests.lists, n_items=n))),
        alone=(alone / timed_steps * steps * n, f"{timed_steps} of {steps * n:,} steps"),
        batched=(batch / timed_steps * steps, f"{timed_steps} of {steps:,} steps"),
        refits=parts.refits,
    )


def main():
    """Measure every scenario, writing after each."""
    run = Run.of(__file__, __doc__)
    warnings.filterwarnings("ignore", message="(The minimiser stopped|Without the object)")
    parts = QUICK if run.quick else Parts()
    numbers = {"parts": vars(parts)}
    for name in ("metabric", "support"):
        numbers[name] = cox(name, parts)
        run.record(numbers)
    numbers["karate"] = embedding(parts, seed=run.seed)
    run.record(numbers)
    numbers["delicious"] = ranking(parts, seed=run.seed)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
