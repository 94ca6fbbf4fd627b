"""The removal of every node of a graph of 2,000 nodes in one run, and a check of some against exact refits.

A power-law graph (Barabási and Albert, three edges a new node), walks of length 6, window ±3, dimension 2, penalty 0.1,
softmax over all nodes; the targets are the cosine similarities of 20 links. A refit starts from the trained parameters
and goes to a stationary point; the nodes checked are drawn, and the hub of largest degree is added. Issue 5, scale.

    python benchmarks/graph_scale.py [--quick]     # quick: 300 nodes
"""

import resource
import sys
import time
import warnings

import networkx as nx
import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.losses import WalkEmbeddingLoss

ATTACHED, DIM, PENALTY, LINKS = 3, 2, 0.1, 20


def main() -> int:
    """Measure and write the record."""
    run = Run.of(__file__, __doc__)
    n, checked = (300, 4) if run.quick else (2000, 6)
    graph = nx.barabasi_albert_graph(n, ATTACHED, seed=run.seed)
    loss = WalkEmbeddingLoss(graph, length=6, window=3, dim=DIM, penalty=PENALTY)
    generator = torch.Generator().manual_seed(run.seed)
    edges = torch.tensor(list(graph.edges))
    links = edges[torch.randperm(len(edges), generator=generator)[:LINKS]]
    target = loss.cosine_similarities(links.tolist())
    warnings.filterwarnings("ignore", message="The minimiser stopped")
    begun = time.perf_counter()
    params = vif.minimize(loss, loss.start(seed=run.seed), gtol=1e-9)
    trained = time.perf_counter()
    predicted = vif.attribute(loss, params, target, check=False)
    done = time.perf_counter()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    hub = max(graph.degree, key=lambda pair: pair[1])[0]
    drawn = [node for node in torch.randperm(n, generator=generator).tolist() if node != hub]
    free = [node for node in drawn if node not in links.flatten().tolist()][:checked]
    refitting = time.perf_counter()
    measured = vif.refit(loss, params, target, objects=[*free, hub], gtol=1e-9)
    refitted = time.perf_counter()
    estimate = predicted.scores[[*free, hub]]
    pooled = torch.corrcoef(torch.stack([estimate[:-1].flatten(), measured.scores[:-1].flatten()]))[0, 1]
    numbers = {
        "nodes": n,
        "edges": len(edges),
        "parameters": 2 * n * DIM,
        "targets": LINKS,
        "training seconds": trained - begun,
        "seconds of all removals": done - trained,
        "peak memory, GB": memory,
        "nodes refitted": len(free) + 1,
        "seconds a refit": (refitted - refitting) / (len(free) + 1),
        "all refits over all removals, extrapolated": n * (refitted - refitting) / (len(free) + 1) / (done - trained),
        "drawn nodes: pooled Pearson against warm refits": pooled.item(),
        "drawn nodes: relative error": ((estimate - measured.scores)[:-1].norm() / measured.scores[:-1].norm()).item(),
        "hub: degree": graph.degree[hub],
        "hub: Pearson over targets": torch.corrcoef(torch.stack([estimate[-1], measured.scores[-1]]))[0, 1].item(),
        "hub: relative error": ((estimate - measured.scores)[-1].norm() / measured.scores[-1].norm()).item(),
    }
    run.record(numbers)
    for name, value in numbers.items():
        print(name, value, sep=": ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
