"""A graph network on a graph of Cora's size: all 5,429 edges scored for the test loss, some held against refits.

Cora's papers cannot be shipped; the graph is drawn with its sizes: 2,708 nodes in seven classes, 5,429 edges, four in
five within a class, 1,433 words of which a node has 18 on average, its class's own more often. Two graph convolutions
with 16 hidden units and tanh between, 140 labels trained on, as in the usual split. Seconds are of the processor, of
one thread.

    python benchmarks/graph_network_scale.py [--quick]     # quick: a tenth of the nodes, edges and words
"""

import resource
import sys
import time
import warnings
from types import SimpleNamespace

import torch

import versatile_influence as vif
from examples.graph_networks import Convolutions
from experiments.run import Run
from versatile_influence.losses import GraphNetworkLoss

NODES, EDGES, WORDS, CLASSES, EACH, HIDDEN = 2708, 5429, 1433, 7, 20, 16
# Weight decay of the mean over the trained labels, and refits of the edges that move the test loss most, and of others.
DECAY, LARGEST, OTHERS = 0.02, 3, 3
WITHIN, WORDS_EACH, OWN_WORDS = 0.8, 18, 0.7


def drawn(nodes: int, edges: int, words: int, seed: int) -> SimpleNamespace:
    """Return a graph with communities, words and labels, a few of each class for training."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(CLASSES, (nodes,), generator=generator)
    made: set[tuple[int, int]] = set()
    while len(made) < edges:
        a, b = torch.randint(nodes, (2,), generator=generator).tolist()
        wanted = torch.rand((), generator=generator).item() < WITHIN
        if a != b and (y[a] == y[b]).item() == wanted:
            made.add((min(a, b), max(a, b)))
    ends = torch.tensor(sorted(made)).T
    # A class has a share of the words for its own.
    own = torch.randint(CLASSES, (words,), generator=generator) == y[:, None]
    chance = torch.where(own, OWN_WORDS * CLASSES, 1 - OWN_WORDS) * WORDS_EACH / words
    x = (torch.rand(nodes, words, generator=generator) < chance).double()
    order = torch.randperm(nodes, generator=generator)
    train = torch.cat([order[y[order] == c][:EACH] for c in range(CLASSES)])
    test = order[~torch.isin(order, train)][: nodes // 3]
    return SimpleNamespace(x=x, edge_index=torch.cat([ends, ends.flip(0)], dim=1), y=y, train=train, test=test)


def main() -> int:
    """Measure and write the record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    nodes, edges, words = (size // (10 if run.quick else 1) for size in (NODES, EDGES, WORDS))
    data = drawn(nodes, edges, words, run.seed)
    times = [time.process_time()]
    torch.manual_seed(run.seed)
    penalty = DECAY * len(data.train)
    loss = GraphNetworkLoss(Convolutions(words, HIDDEN, CLASSES), data, train=data.train, penalty=penalty)
    params = vif.minimize(loss, loss.zeros(), gtol=1e-6)
    target = loss.test_loss(data.test)
    times.append(time.process_time())
    scores = vif.attribute(loss, params, target, solver=vif.CG(rtol=1e-6), check=False)
    times.append(time.process_time())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    some = [*scores.top(LARGEST).tolist(), *range(0, edges, edges // OTHERS)][: LARGEST + OTHERS]
    truth = vif.refit(loss, params, target, objects=some, gtol=1e-6)
    times.append(time.process_time())
    estimate = scores.scores[some]
    right = (loss.passing(params, torch.ones(edges).double())[data.test].argmax(1) == data.y[data.test]).double()
    numbers = {
        "nodes": nodes,
        "edges": edges,
        "features": words,
        "parameters": sum(value.numel() for value in params.values()),
        "processor seconds": {"training": times[1] - times[0], "all edges": times[2] - times[1]},
        f"processor seconds of {len(some)} refits": times[3] - times[2],
        "peak memory, GB": memory,
        "test accuracy": right.mean().item(),
        "refitted edges: Pearson": torch.corrcoef(torch.stack([estimate[:, 0], truth.scores[:, 0]]))[0, 1].item(),
        "refitted edges: relative error": ((estimate - truth.scores).norm() / truth.scores.norm()).item(),
    }
    run.record(numbers)
    for name, value in numbers.items():
        print(name, value, sep=": ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
