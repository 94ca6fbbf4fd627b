"""A graph of 2,000 nodes: training, the removal of every node for the losses of 20 pairs, and a check of some.

And two of 5,000 and 20,000 nodes in 16 dimensions by negative sampling, where a removal is a gradient: of a few.

A power-law graph (Barabási and Albert, three edges a new node), walks of length 6, window ±3, dimension 2, penalty 0.1,
softmax over all nodes; the targets are the losses of 20 links, as `vif graph` has them. A refit starts from the trained
parameters and goes to a stationary point; those that `vif.spot_check` refits are of every size of effect, three more
are drawn. Seconds are of the processor, of one thread.

The larger graphs have triangles too (Holme and Kim, five edges a new node, half of which close one), penalty 1. Of
those the nodes removed are drawn from the neighbours of the 20 links' ends, where removals do something, and from all.
Seconds are of the clock, of two threads, and of the processor.

    python benchmarks/graph_scale.py [--quick]     # quick: 300 nodes
"""

import itertools
import resource
import sys
import time
import warnings

import networkx as nx
import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.losses import NegativeSampling, WalkEmbeddingLoss

ATTACHED, DIM, PENALTY, LINKS, CHECKED = 3, 2, 0.1, 20, 2
THREADS, REMOVED, NEAR, RTOL, GTOL = 2, 6, 4, 1e-2, 1e-7


def main() -> int:
    """Measure and write the record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    n = 300 if run.quick else 2000
    graph = nx.barabasi_albert_graph(n, ATTACHED, seed=run.seed)
    edges, generator = torch.tensor(list(graph.edges)), torch.Generator().manual_seed(run.seed)
    links = edges[torch.randperm(len(edges), generator=generator)[:LINKS]]
    times = [time.process_time()]
    loss = WalkEmbeddingLoss(graph, length=6, window=3, dim=DIM, penalty=PENALTY)
    target = loss.pair_losses(links.tolist())
    params = vif.minimize(loss, loss.start(seed=run.seed))
    times.append(time.process_time())
    predicted = vif.attribute(loss, params, target, check=False)
    times.append(time.process_time())
    checked = vif.spot_check(predicted, loss, params, target, k=CHECKED)
    times.append(time.process_time())
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(checked)
    named = set(links.flatten().tolist())
    free = [node for node in torch.randperm(n, generator=generator).tolist() if node not in named][:3]
    measured = vif.refit(loss, params, target, objects=free)
    times.append(time.process_time())
    estimate, truth = predicted.scores[free], measured.scores
    seconds = dict(
        zip(("training", "all removals", f"spot check of {CHECKED}", "refits of 3"), step(times), strict=True)
    )
    numbers = {
        "nodes": n,
        "edges": len(edges),
        "parameters": 2 * n * DIM,
        "targets": LINKS,
        "processor seconds": seconds,
        "trained, scored and checked": sum(list(seconds.values())[:3]),
        "peak memory, GB": memory,
        "largest entry of the gradient": loss.gradient(params, torch.ones(n).double()).abs().max().item(),
        "drawn nodes: Pearson against refits, pooled": torch.corrcoef(
            torch.stack([estimate.flatten(), truth.flatten()])
        )[0, 1].item(),
        "drawn nodes: relative error": ((estimate - truth).norm() / truth.norm()).item(),
    }
    torch.set_num_threads(THREADS)
    # The largest is not refitted: on two threads one refit takes more than a quarter of an hour.
    for size, refits in ((5000, 6), (20000, 0)):
        name = f"{size:,} nodes"
        numbers[name] = negative_sampling(300 if run.quick else size, refits=refits, seed=run.seed)
        run.record(numbers)
    for name, value in numbers.items():
        print(name, value, sep=": ")
    return 0


def negative_sampling(n: int, *, refits: int, seed: int, device: str = "cpu") -> dict:
    """Return what a larger graph takes with negative sampling: training, scores of some nodes, and refits."""
    graph = nx.powerlaw_cluster_graph(n, 5, 0.5, seed=seed)
    edges, generator = torch.tensor(list(graph.edges)), torch.Generator().manual_seed(seed)
    links = edges[torch.randperm(len(edges), generator=generator)[:LINKS]]
    named = set(links.flatten().tolist())
    near = {other for node in named for other in graph[node]} - named
    far = [node for node in torch.randperm(n, generator=generator).tolist() if node not in near | named]
    order = torch.randperm(len(near), generator=generator).tolist()
    chosen = [sorted(near)[place] for place in order[:NEAR]] + far[: REMOVED - NEAR]
    clock, processor, names = [time.time()], [time.process_time()], []

    def done(name: str) -> None:
        if device != "cpu":
            torch.cuda.synchronize()
        clock.append(time.time())
        processor.append(time.process_time())
        names.append(name)
        print(f"{n:,} nodes, {name}: {clock[-1] - clock[-2]:.3g} s", file=sys.stderr, flush=True)

    loss = WalkEmbeddingLoss(graph, length=6, window=3, dim=16, penalty=1.0, model=NegativeSampling())
    target, start = loss.pair_losses(links.tolist()), loss.start(seed=seed)
    params = vif.minimize(loss, {name: one.to(device) for name, one in start.items()}, gtol=GTOL)
    done("training")
    here, everyone = {name: one.cpu() for name, one in params.items()}, torch.ones(n).double()
    if device == "cpu":
        loss.gradient(params, everyone)
        done("a gradient")
    predicted = vif.attribute(loss, params, target, objects=chosen, solver=vif.CG(rtol=RTOL), check=False)
    done(f"{len(chosen)} nodes scored")
    if device == "cpu":
        loss.removal_products(params, torch.ones(2 * 16 * n, 1).double(), torch.tensor(chosen[:1]))
        done("the gradient without a node")
    against: dict = {}
    if refits:
        refitted = vif.refit(loss, params, target, objects=chosen[:refits], gtol=GTOL)
        measured, scores = refitted.scores.cpu(), predicted.scores.cpu()
        done("refits")
        pairs = list(zip(scores[:refits], measured, strict=True))
        r = lambda *pair: torch.corrcoef(torch.stack([one.flatten() for one in pair]))[0, 1].item()  # noqa: E731
        against["Pearson against refits, pooled"] = r(scores[:refits], measured)
        against["Pearson against refits, of each node"] = [r(*pair) for pair in pairs]
    assert predicted.solution is not None
    return {
        "nodes": n,
        "edges": len(edges),
        "parameters": 32 * n,
        "threads": torch.get_num_threads(),
        "nodes scored": len(chosen),
        "nodes refitted": refits,
        "seconds": dict(zip(names, step(clock), strict=True)),
        "processor seconds": dict(zip(names, step(processor), strict=True)),
        "trained and scored, seconds": clock[1 + names.index(f"{len(chosen)} nodes scored")] - clock[0],
        "largest entry of the gradient": loss.gradient(here, everyone).abs().max().item(),
        "steps of CG": predicted.solution.num_steps,
        "largest residual": predicted.solution.residual.max().item(),
        "peak memory, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    } | against


def step(times: list[float]) -> list[float]:
    """Return how long each part took."""
    return [after - before for before, after in itertools.pairwise(times)]


if __name__ == "__main__":
    sys.exit(main())
