"""Search-engine spam, planted in a ranking and found: issue 4, item 7; a use that the paper names.

Delicious over 100 labels as in `delicious.py`, 2,000 training queries drawn with the seed. An attacker promotes 10
items drawn at random: in one query in ten, also drawn at random, one of them that the query does not list is put at
the top of its list. So do bought clicks in a log, and tags stuffed into pages: the entry is there whatever the query is
about, nothing in its features warrants it, and the attacker cannot touch all queries. Which items, and which queries?

All scores are the predicted change of the mean loss of 500 clean validation queries, from one model fitted to what was
tampered with (ListMLE, λ as in App. B, stationary); the most negative are looked at first.

- Queries: what the change is without the query. No direct effect: a query is in no validation loss.
- Items: without an item, its own terms leave the validation loss, the direct effect, which is large for every item that
  validation queries list. So the whole change, either effect, and the whole change over validation queries that do not
  list the item stand apart; and the sum of query scores over the lists that the item heads.

Baselines: length of the list, training loss of the query, that loss per entry, and the loss of its first entry, which
knows the attack; how often training lists hold the item, how often they are headed by it, the mean loss of these lists,
and how many times as often training lists hold it as validation lists (clean ones, as trusted as ours). Precision among
as many as were planted and area under the ROC curve, mean of three seeds; and the rule of `vif rank` (`suspicious`),
on tampered data and on the same data before the attack. A quick run has 300
queries and one seed.

Found: length and training loss find tampered queries better than influence (a promoted list is one entry longer), and
the rule marks none, as before the attack: by distance alone it would mark 36, and 33 before. Among items, the sum over
the lists that an item heads has the best precision; how many lists it heads has the larger area. Removing the item
itself finds little, as its direct effect hides the rest.
"""

from dataclasses import replace

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious
from versatile_influence.losses import ListMLELoss, query_loss
from versatile_influence.reading.detection import area, precision, suspicious

WEIGHT_DECAY = 5e-4  # Appendix B
N_ITEMS, N_SPAM, SHARE = 100, 10, 0.1


def attacked(lists, draw):
    """Return the lists after the attack, which items are spam, and which queries were tampered with."""
    spam = torch.randperm(N_ITEMS, generator=draw)[:N_SPAM].tolist()
    chosen = torch.randperm(len(lists), generator=draw)[: round(SHARE * len(lists))].tolist()
    lists, tampered = list(lists), torch.zeros(len(lists), dtype=torch.bool)
    for query in chosen:
        if free := [item for item in spam if item not in lists[query]]:
            item = free[int(torch.randint(len(free), (1,), generator=draw))]
            lists[query], tampered[query] = [item, *lists[query]], True
    return lists, torch.isin(torch.arange(N_ITEMS), torch.tensor(spam)), tampered


def fitted(x, lists, *, start=None):
    """Return the loss with queries as objects, the one with items, and their one minimum."""
    by_query, by_item = (
        ListMLELoss(x, lists, n_items=N_ITEMS, penalty=WEIGHT_DECAY * len(lists), objects=objects)
        for objects in ("queries", "items")
    )
    return by_query, by_item, vif.minimize(by_item, by_item.zeros() if start is None else start, gtol=1e-8)


def query_changes(loss, params, validation):
    """Return the change of the mean validation loss without each query."""
    everything = torch.ones(N_ITEMS, dtype=torch.float64)
    return vif.attribute(loss, params, lambda theta: validation.row_losses(theta, everything).mean()[None]).scores[:, 0]


def query_scores(loss, params, lists, changes, *, draw):
    """Return every way to rank queries, worst first."""
    everyone = torch.ones(loss.n_objects, dtype=torch.float64)
    losses, lengths = loss.row_losses(params, everyone), torch.tensor([float(len(items)) for items in lists])
    first = torch.tensor([items[0] for items in lists])
    return {
        "validation loss without it": -changes,
        "list length": lengths,
        "training loss": losses,
        "training loss per entry": losses / lengths,
        "loss of the first entry": torch.nn.functional.cross_entropy(loss.scores(params), first, reduction="none"),
        "random": torch.rand(len(lists), generator=draw),
    }


def item_scores(estimate, lists, tests, *, changes, losses, draw):
    """Return every way to rank items, worst first; `changes` and `losses` are those of the training queries."""
    elsewhere = ~tests.listed()
    train, trusted = replace(tests, lists=lists).listed().double(), tests.listed().double()
    heads = torch.nn.functional.one_hot(torch.tensor([items[0] for items in lists]), N_ITEMS).T.double()
    return {
        "validation loss without it": -estimate.scores.mean(1),
        "parameter effect": -estimate.parameter.mean(1),
        "direct effect": -estimate.direct.mean(1),
        "validation loss without it, where not listed": -(estimate.scores * elsewhere).sum(1) / elsewhere.sum(1),
        "validation loss without the lists it heads": -(heads @ changes),
        "training frequency": train.sum(1),
        "lists headed": heads.sum(1),
        "mean training loss of its lists": (train @ losses) / train.sum(1).clamp_min(1),
        "training over validation frequency": (train.mean(1) + 1 / len(lists)) / (trusted.mean(1) + 1 / len(lists)),
        "random": torch.rand(N_ITEMS, generator=draw),
    }


def ruled(changes, planted, clean):
    """Return what the rule of `vif rank` marks, and what it marks before the attack."""
    marked = suspicious(changes)
    return {
        "marked": marked.sum().item(),
        "planted": planted.sum().item(),
        "precision": (planted & marked).sum().item() / max(1, marked.sum().item()),
        "recall": (planted & marked).sum().item() / planted.sum().item(),
        "marked before the attack": suspicious(clean).sum().item(),
    }


def measured(train, test, *, seed, n_queries):
    """Return the numbers of one seed."""
    draw = torch.Generator().manual_seed(seed)
    queries, tests = label_queries(train, test, drawn_labels(train, N_ITEMS, seed=seed))
    rows = torch.randperm(len(queries.lists), generator=draw)[:n_queries].tolist()
    x, clean_lists = queries.x[rows], [queries.lists[row] for row in rows]
    lists, spam, tampered = attacked(clean_lists, draw)
    validation = ListMLELoss(tests.x, tests.lists, n_items=N_ITEMS)
    by_query, by_item, params = fitted(x, lists)
    changes = query_changes(by_query, params, validation)
    of_queries = query_scores(by_query, params, lists, changes, draw=draw)
    of_items = item_scores(
        vif.attribute(by_item, params, query_loss(validation)),
        lists,
        tests,
        changes=changes,
        losses=of_queries["training loss"],
        draw=draw,
    )
    before, _, clean = fitted(x, clean_lists, start=params)
    rule = ruled(changes, tampered, query_changes(before, clean, validation))
    ranked = {"queries": (of_queries, tampered), "items": (of_items, spam)}
    return {f"rule of vif rank, queries: {name}": value for name, value in rule.items()} | {
        f"{kind}, {measure.__name__}: {name}": measure(score, planted)
        for kind, (scores, planted) in ranked.items()
        for measure in (area, precision)
        for name, score in scores.items()
    }


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    n_queries, seeds = (300, 1) if run.quick else (2000, 3)
    data = delicious()
    each = [measured(*data, seed=run.seed + number, n_queries=n_queries) for number in range(seeds)]
    means = {name: sum(found[name] for found in each) / seeds for name in each[0]}
    print("\n".join(f"{value:8.3f}  {name}" for name, value in means.items()))
    settings = {"items": N_ITEMS, "spam items": N_SPAM, "training queries": n_queries, "share tampered with": SHARE}
    print(run.record(settings | {"seeds": seeds, "ground truth": "planted", "mean": means, "each seed": each}))


if __name__ == "__main__":
    main()
