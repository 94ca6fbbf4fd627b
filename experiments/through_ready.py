"""Scores through training of a ranker, a node embedding and a recommender, against retraining by the same steps.

Delicious: ListMLE in the paper's own protocol (`paper_delicious.py`: Adam 1e-3, weight decay 5e-4, batches of 128, 100
epochs), every one of the 100 items removed; the target is each test query's loss among the items that remain, and the
parameter effect is what is not direct.

Karate: skip-gram on walks that are drawn (length 6, window ±3, dimension 2), by SGD over batches of one walk from every
node: of single pairs, as the paper steps, there are too many to replay. Without a node its pairs are absent and it is
no candidate; beside it walks that are drawn anew on the graph without the node, as the paper does. Correlations are
across the nodes that are not of the pair, a pair at a time, then averaged (paper, Table 1: 0.407).

Recommender: matrix factorisation by BPR, fresh negatives in each step, Adam; 120 users with 20 items each of 150, drawn
by the seed. Users are removed one at a time; targets are scores of pairs drawn. A user owns a row of the parameters,
which stays at its start without the user: a large change, of which the scores are the linear part; so pairs of the
removed user stand apart from those of others.

    python experiments/through_ready.py [--quick]
"""

import time

import networkx as nx
import torch
from torch.nn.functional import softplus

import versatile_influence as vif
from experiments.karate import NODES, correlations
from experiments.paper_delicious import BATCH, EPOCHS, LR, N_ITEMS, WEIGHT_DECAY, start
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious
from versatile_influence.losses import ListMLELoss, query_loss

AT_ONCE = 34
LENGTH, WINDOW, WIDTH, WALKS, RATE = 6, 3, 2, 400, 0.5
USERS, ITEMS, LIKED, RANK, NEGATIVES = 120, 150, 20, 8, 40  # NEGATIVES: epochs, each with negatives of its own
PAPER = {"Delicious": 0.906, "Karate": 0.407}


def timed(work):
    """Return what `work` gives, and its seconds on the processor."""
    began = time.process_time()
    return work(), time.process_time() - began


def pooled(scores, truth):
    """Return correlation and slope over all numbers."""
    scores, truth = scores.reshape(-1, 1), truth.reshape(-1, 1)
    return {
        "r, pooled": vif.pearson(scores, truth).item(),
        "slope": ((scores * truth).sum() / scores.square().sum()).item(),
    }


def costs(training, found, seconds, spent):
    """Return the cost of scores and of all retrainings, in trainings."""
    alone = timed(training.run)[1]
    return {
        "steps": len(training),
        "removals": len(found.scores),
        "targets": found.scores.shape[1],
        "seconds of a training": alone,
        "trainings for all scores": seconds / alone,
        "trainings for all retrainings": spent / alone,
    }


def ranker(run):
    """Return the numbers of Delicious."""
    count, epochs = (5, 5) if run.quick else (N_ITEMS, EPOCHS)
    train, test = delicious()
    queries, tests = label_queries(train, test, drawn_labels(train, N_ITEMS, seed=run.seed))
    loss = ListMLELoss(queries.x, queries.lists, n_items=queries.n_items)
    target = query_loss(ListMLELoss(tests.x, tests.lists, n_items=tests.n_items))
    given = {"epochs": epochs, "batch_size": BATCH, "seed": run.seed, "scale": 1 / len(queries.lists)}
    optimizer = vif.Adam(lr=LR, weight_decay=WEIGHT_DECAY)
    training = vif.Training.of(loss, start(loss, seed=run.seed), optimizer=optimizer, **given)
    removed = torch.randperm(queries.n_items, generator=torch.Generator().manual_seed(run.seed))[:count].tolist()
    found, seconds = timed(lambda: vif.unrolled(training, target, objects=removed))
    truth, spent = timed(
        lambda: vif.leave_one_out(training, target, objects=removed, batch_size=AT_ONCE, progress=False)
    )
    measured = truth.scores - found.direct
    return {
        "r, whole change": vif.pearson(found, truth).nanmean().item(),
        "r, parameter effect": vif.pearson(found.parameter, measured).nanmean().item(),
        "slope, parameter effect": pooled(found.parameter, measured)["slope"],
    } | costs(training, found, seconds, spent)


def walks(graph, draw):
    """Return centres and contexts of one walk from each node."""
    paths = torch.arange(NODES)[:, None]
    after = torch.zeros(NODES, NODES)
    for one, other in graph.edges:
        after[one, other] = after[other, one] = 1.0
    alive = after.sum(dim=1) > 0
    after[~alive] = 1.0  # not looked at
    for _ in range(LENGTH - 1):
        paths = torch.cat([paths, torch.multinomial(after[paths[:, -1]], 1, generator=draw)], dim=1)
    paths = paths[alive]
    places = torch.tensor([(i, j) for i in range(LENGTH) for j in range(LENGTH) if 0 < abs(i - j) <= WINDOW])
    return paths[:, places[:, 0]].reshape(-1), paths[:, places[:, 1]].reshape(-1)


def skip_gram(params, batch, presence):
    """Minus log P(context | centre) among the nodes present, a mean over the walks of all."""
    centres, contexts = batch
    scores = params["centre"] @ params["context"].T + torch.where(presence > 0, 0.0, -1e9)
    return -(presence[centres] * presence[contexts] * scores.log_softmax(dim=1)[centres, contexts]).sum() / NODES


def embedding(run):
    """Return the numbers of Karate."""
    graph, draw = nx.karate_club_graph(), torch.Generator().manual_seed(run.seed)
    count = 20 if run.quick else WALKS
    params = {name: torch.randn(NODES, WIDTH, generator=draw).double() / 2 for name in ("centre", "context")}

    def training_on(graph, seed):
        drawn = torch.Generator().manual_seed(seed)
        steps = [(walks(graph, drawn), range(NODES)) for _ in range(count)]
        line = lambda step: 1 - 0.999 * step / count  # noqa: E731
        return vif.Training(skip_gram, steps, start=params, optimizer=vif.SGD(lr=RATE), n_objects=NODES, schedule=line)

    def target(params):
        return -(params["centre"] @ params["context"].T).log_softmax(dim=1).reshape(-1)

    training = training_on(graph, run.seed)
    found, seconds = timed(lambda: vif.unrolled(training, target))
    truth, spent = timed(lambda: vif.leave_one_out(training, target, batch_size=AT_ONCE, progress=False))
    again = torch.zeros_like(truth.scores)
    for node in range(NODES):
        rest = graph.copy()
        rest.remove_edges_from(list(graph.edges(node)))
        absent = torch.ones(NODES).index_fill(0, torch.tensor(node), 0.0)
        again[node] = target(training_on(rest, run.seed).run(absent)) - target(training.run())
    return {
        "same walks": correlations(found.scores, truth.scores),
        "walks drawn anew": correlations(found.scores, again),
        "retraining on walks drawn anew, beside the same walks": correlations(truth.scores, again),
        "paper": PAPER["Karate"],
    } | costs(training, found, seconds, spent)


def bpr(params, batch, presence):
    """Each liked item before one drawn: a mean over the batch."""
    users, liked, other = batch
    ahead = (params["user"][users] * (params["item"][liked] - params["item"][other])).sum(dim=1)
    return (presence * softplus(-ahead)).sum() / len(users)


def recommender(run):
    """Return the numbers of the factorisation."""
    draw = torch.Generator().manual_seed(run.seed)
    tastes, kinds = torch.randn(USERS, 3, generator=draw), torch.randn(ITEMS, 3, generator=draw)
    liking = tastes @ kinds.T + 0.5 * torch.randn(USERS, ITEMS, generator=draw)
    users, liked = torch.arange(USERS).repeat_interleave(LIKED), liking.topk(LIKED).indices.reshape(-1)
    steps = []
    for _ in range(5 if run.quick else NEGATIVES):
        for some in torch.randperm(len(users), generator=draw).split(128):
            other = torch.randint(ITEMS, (len(some),), generator=draw)
            steps.append(((users[some], liked[some], other), users[some]))
    first = {
        name: 0.1 * torch.randn(count, RANK, generator=draw).double()
        for name, count in (("user", USERS), ("item", ITEMS))
    }
    optimizer = vif.Adam(lr=0.01, weight_decay=1e-3)
    training = vif.Training(bpr, steps, start=first, optimizer=optimizer, n_objects=USERS)
    asked, about = torch.randint(USERS, (60,), generator=draw), torch.randint(ITEMS, (60,), generator=draw)
    target = lambda params: (params["user"][asked] * params["item"][about]).sum(dim=1)  # noqa: E731
    found, seconds = timed(lambda: vif.unrolled(training, target))
    truth, spent = timed(lambda: vif.leave_one_out(training, target, batch_size=AT_ONCE, progress=False))
    own = asked == torch.arange(USERS)[:, None]
    smooth = vif.metasmoothness(training, target, pairs=10, batch_size=30)
    return {
        "pairs of others": pooled(found.scores[~own], truth.scores[~own]),
        "pairs of the removed user": pooled(found.scores[own], truth.scores[own]),
        "metasmoothness": [smooth.low, smooth.value, smooth.high],
    } | costs(training, found, seconds, spent)


def main():
    """Run all, and record after each."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    numbers = {"paper": PAPER}
    for name, measured in {"Karate": embedding, "Recommender": recommender, "Delicious": ranker}.items():
        numbers[name] = measured(run)
        print(name, numbers[name], flush=True)
        run.record(numbers)


if __name__ == "__main__":
    main()
