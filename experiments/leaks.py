"""Duplicates, and test queries that leaked into training, planted in a ranking and looked for; with what finds them.

Delicious over 100 labels drawn with the seed, 1,000 training and 300 test queries with two labels or more. Planted in
training: 30 test queries (a leak), and 30 training queries once more (duplicates), as they are, or reworded: each word
stays with probability 0.7, as many others as are gone come in, and each tag stays with probability 0.7, two at least.
ListMLE over 8 singular vectors, λ as in App. B, stationary.

- Leak: a training query is the more suspect, the more the loss of some test query would rise without it: the largest
  predicted change of one, that of their mean, and the largest one over how far the parameters move (as RelatIF).
- Duplicates: the largest predicted change of the loss of another training query, as it is and over how far the
  parameters move. Both of a pair count as planted.

Baselines: exact match of the words; the largest cosine of the words with those of a test query, or of another training
query; the same of the tags, of both (their mean), and of the singular vectors that the model sees; training loss, low
first; length of the list; chance.
Precision among as many as were planted and area under the ROC curve, mean of three seeds. A quick run has 200 training
queries, 60 test queries, 10 of each planted, and one seed.

Found: influence is not the tool. Looking for the nearest by words and tags together has a precision of 0.87 on leaked
queries (0.42 reworded) and 0.83 on duplicates (0.29); the best score of influence 0.19 (0.12) and 0.20 (0.13), as near
as words alone, or tags alone, where they are reworded. Many pages of Delicious share all their few words, so that an
exact match of words is no proof. What a copy does to the model is shared by all that are like it, and its twin holds it
in place: removing one of two moves little.
"""

from dataclasses import replace

import numpy as np
import scipy.sparse as sp
import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import MultiLabel, delicious
from versatile_influence.losses import ListMLELoss
from versatile_influence.reading.detection import area, precision

WEIGHT_DECAY = 5e-4  # Appendix B
N_ITEMS, KEPT = 100, 0.7
SIZES, QUICK = (1000, 300, 30), (200, 60, 10)


def chosen(data, labels, count, draw):
    """Return rows with two of the labels or more, drawn."""
    rows = [row for row, items in enumerate(data.lists(labels)) if len(items) >= 2]
    return [rows[place] for place in torch.randperm(len(rows), generator=draw)[:count].tolist()]


def part(data, rows, labels):
    """Return some rows with some labels."""
    return MultiLabel(data.x[rows], data.labels[rows][:, labels].tocsr(), [data.label_names[one] for one in labels])


def reworded(data, draw):
    """Return the rows with other words and fewer tags."""
    x, tags = data.x.toarray().copy(), data.labels.toarray().copy()
    for words, own in zip(x, tags, strict=True):
        there = np.flatnonzero(words)
        gone = there[torch.rand(len(there), generator=draw).numpy() > KEPT]
        others = np.flatnonzero(words == 0)
        words[others[torch.randperm(len(others), generator=draw)[: len(gone)].numpy()]] = 1.0
        words[gone] = 0.0
        listed = np.flatnonzero(own)
        order = listed[torch.randperm(len(listed), generator=draw).numpy()]
        stay = torch.rand(len(listed), generator=draw).numpy() <= KEPT
        stay[:2] = True
        own[order[~stay]] = 0.0
    return replace(data, x=sp.csr_matrix(x), labels=sp.csr_matrix(tags))


def joined(*parts):
    """Return the rows of several tables."""
    x, labels = (sp.vstack(tables).tocsr() for tables in zip(*((one.x, one.labels) for one in parts), strict=True))
    return replace(parts[0], x=x, labels=labels)


def cosines(x, others, *, itself):
    """Return the cosine of each row with each other; `itself` where these are the same rows, and none is its own."""
    unit, beside = (torch.nn.functional.normalize(torch.as_tensor(rows).double(), dim=1) for rows in (x, others))
    found = unit @ beside.T
    return found.fill_diagonal_(-2.0) if itself else found


def ways(loss, params, lists, *, words, tags, seen, test, itself, draw):
    """Return every way to rank training queries, most suspect first.

    Of words, tags and singular vectors (`seen`) those of the training queries come first, then those of the queries
    that they are held against, whose loss is `test`; `itself` where these are the same queries.
    """
    everything = torch.ones(N_ITEMS, dtype=torch.float64)
    changes = vif.attribute(loss, params, lambda theta: test.row_losses(theta, everything), check=False).scores
    others = changes.clone().fill_diagonal_(-torch.inf) if itself else changes
    moved = vif.parameter_changes(loss, params).norm(dim=1)
    near, alike = cosines(*words, itself=itself), cosines(*tags, itself=itself)
    losses = loss.row_losses(params, torch.ones(loss.n_objects, dtype=torch.float64))
    found = {
        "largest change of one": others.amax(1),
        "largest change of one, over how far parameters move": (others / moved[:, None]).amax(1),
        "exact match of words": (near.amax(1) > 1 - 1e-9).double(),
        "nearest by words": near.amax(1),
        "nearest by tags": alike.amax(1),
        "nearest by words and tags": (near + alike).amax(1),
        "nearest by what the model sees": cosines(*seen, itself=itself).amax(1),
        "training loss, low first": -losses,
        "list length": torch.tensor([float(len(items)) for items in lists]),
        "random": torch.rand(len(lists), generator=draw),
    }
    return found if itself else {"change of the mean": changes.mean(1)} | found


def measured(train, test, *, kind, seed, sizes):
    """Return the numbers of one seed and one kind of copy."""
    draw, labels = torch.Generator().manual_seed(seed), drawn_labels(train, N_ITEMS, seed=seed)
    base = part(train, chosen(train, labels, sizes[0], draw), labels)
    held = part(test, chosen(test, labels, sizes[1], draw), labels)
    copy = (lambda data: data) if kind == "as they are" else lambda data: reworded(data, draw)
    leaked, doubled = (part(one, range(sizes[2]), range(N_ITEMS)) for one in (held, base))
    whole = joined(base, copy(leaked), copy(doubled))
    queries, tests = label_queries(whole, held, range(N_ITEMS), n_test=sizes[1])
    loss = ListMLELoss(
        queries.x,
        queries.lists,
        n_items=N_ITEMS,
        penalty=WEIGHT_DECAY * len(queries.lists),
        objects="queries",
    )
    params = vif.minimize(loss, loss.zeros(), gtol=1e-8)
    place = torch.arange(len(queries.lists))
    is_leak = (place >= sizes[0]) & (place < sizes[0] + sizes[2])
    is_double = (place >= sizes[0] + sizes[2]) | (place < sizes[2])
    x, tags = whole.x.toarray(), whole.labels.toarray()
    given = {"loss": loss, "params": params, "lists": queries.lists, "draw": draw}
    tasks = {
        "leak": (held.x.toarray(), held.labels.toarray(), tests, False, is_leak),
        "duplicates": (x, tags, queries, True, is_double),
    }
    numbers = {}
    for task, (words, own, against, itself, planted) in tasks.items():
        of_rows = ListMLELoss(against.x, against.lists, n_items=N_ITEMS)
        held_against = {"words": (x, words), "tags": (tags, own), "seen": (queries.x, against.x)}
        found = ways(test=of_rows, itself=itself, **held_against, **given)
        for measure in (precision, area):
            numbers |= {f"{task} {kind}, {measure.__name__}: {way}": measure(s, planted) for way, s in found.items()}
    return numbers


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    sizes, seeds = (QUICK, 1) if run.quick else (SIZES, 3)
    train, test = delicious()
    each = []
    for number in range(seeds):
        found = {}
        for kind in ("as they are", "reworded"):
            found |= measured(train, test, kind=kind, seed=run.seed + number, sizes=sizes)
        each.append(found)
    means = {name: sum(found[name] for found in each) / seeds for name in each[0]}
    print("\n".join(f"{value:8.3f}  {name}" for name, value in means.items()))
    settings = {"items": N_ITEMS, "training, test, planted of each": sizes, "words and tags kept": KEPT}
    print(run.record(settings | {"seeds": seeds, "ground truth": "planted", "mean": means, "each seed": each}))


if __name__ == "__main__":
    main()
