"""Zachary's karate club: Table 1 (node embedding), Figures 1a–1c and 2a–2d of the paper, without their noise.

The loss is deterministic: expected counts of walks of length 6, window ±3, one walk a node; dimension 2; no penalty.
Ground truths stand side by side, each without one node after the other: warm refits to a stationary point, refits from
another random start, and refits on walks that are drawn (1,000 a node, as the paper), new ones for each graph with two
seeds, and with common random numbers. Correlations are across the nodes that are not of the pair, a pair at a time,
over all 1,156 pairs.

Without node 0 the club falls into three parts whose nodes never meet, and the loss has no finite minimiser: scores
between the parts go to −∞. The losses of pairs do have limits, taken here along a vanishing penalty
(λ/2)‖θ − θ̂‖², λ → 0: finite within a part (they settle to 1e-3 or better), +∞ across. Correlations with one
infinite entry are limits too: Pearson's depends on the predictions alone, Spearman's on ranks. Nothing depends on
where a minimiser happens to stop; what it would give stopped after some steps is in the record beside it.

    python experiments/karate.py [--quick]     # quick: without the ceilings
"""

import itertools
import sys
import time
import warnings

import matplotlib as mpl

mpl.use("agg")
import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import scipy.stats
import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.core.ravel import flat, ravel
from versatile_influence.losses import SkipGramLoss, WalkEmbeddingLoss, Walks
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading.plots import network
from versatile_influence.training.minimize import few_steps
from versatile_influence.training.objective import Objective

NODES, HUBS = 34, (0, 33)
PASSES = 1000  # walks a node, App. B
CASES = [(12, 10), (15, 13)]  # Figure 1
PAPER = {"VIF": 0.407, "brute force against itself": 0.419}  # Table 1
PENALTIES = [10.0**-k for k in range(9)]  # the path to node 0's limit
# One SGD step is one pair; the paper trains on 1,000 × 918 pairs an epoch. This many are timed.
WARM_UP, TIMED_PAIRS = 300, 3000


def limit_correlations(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return Pearson's and Spearman's correlation, as limits where one entry of y is infinite."""
    ranks = np.corrcoef(scipy.stats.rankdata(x), scipy.stats.rankdata(y))[0, 1]
    infinite = np.flatnonzero(np.isinf(y))
    if not len(infinite):
        return np.corrcoef(x, y)[0, 1], ranks
    i, k, centred = int(infinite[0]), len(x), x - x.mean()
    return np.sign(y[i]) * centred[i] / np.linalg.norm(centred) * np.sqrt(k / (k - 1)), ranks


def correlations(a: torch.Tensor, b: torch.Tensor, without: tuple[int, ...] = ()) -> dict:
    """Return mean and median Pearson, mean Spearman and slope, pair by pair over nodes not of the pair."""
    found, slope = [], []
    for pair in range(NODES * NODES):
        out = {pair // NODES, pair % NODES, *without}
        rows = [i for i in range(NODES) if i not in out and not torch.isnan(a[i, pair] + b[i, pair])]
        x, y = a[rows, pair].numpy(), b[rows, pair].numpy()
        found.append(limit_correlations(x, y))
        finite = np.isfinite(y)
        slope.append(np.polyfit(x[finite], y[finite], 1)[0])
    pearson, spearman = np.array(found).T
    return {
        "mean Pearson": round(float(np.mean(pearson)), 4),
        "median Pearson": round(float(np.median(pearson)), 4),
        "mean Spearman": round(float(np.mean(spearman)), 4),
        "median slope": round(float(np.median(slope)), 4),
    }


class Held(vif.Loss):
    """A loss with (λ/2)‖θ − θ̂‖² added."""

    def __init__(self, loss, centre, penalty):
        self.loss, self.n_objects, self.centre, self.added = loss, loss.n_objects, centre, penalty

    def __call__(self, params, presence):
        """Return its value."""
        return self.loss(params, presence) + 0.5 * self.added * (flat(params) - self.centre).square().sum()

    def hessian(self, params, presence):
        """Return its Hessian."""
        return self.loss.hessian(params, presence) + self.added * torch.eye(len(self.centre)).double()


def limits(loss, params, target) -> tuple[torch.Tensor, torch.Tensor, dict]:
    """Return node 0's change of every pair in the limit, the same at the smallest penalty, and how it settles."""
    presence = torch.ones(NODES, dtype=torch.float64).index_fill(0, torch.tensor(0), 0.0)
    part = torch.full((NODES,), -1)
    split = nx.karate_club_graph()
    split.remove_node(0)
    for number, nodes in enumerate(nx.connected_components(split)):
        part[list(nodes)] = number
    # A pair with node 0 itself is never looked at for node 0's removal.
    within = ((part[:, None] == part) & (part >= 0)).reshape(-1)
    across = (part[:, None] != part).reshape(-1) & ((part[:, None] >= 0) & (part >= 0)).reshape(-1)
    centre, unravel = ravel(params)
    fixed, theta, rows = loss.at(presence), centre, []
    for penalty in PENALTIES:
        objective = Objective.of(Held(fixed, centre, penalty), unravel, presence, 1e-11 / len(presence))
        theta = few_steps(objective, theta, 400)
        rows.append(target(unravel(theta)) - target(params))
    limit = torch.where(within, rows[-1], float("inf"))
    settles = {
        "pairs within a part": int(within.sum()),
        "pairs across": int(across.sum()),
        "largest change within, last two penalties": (rows[-1] - rows[-2])[within].abs().max().item(),
        "smallest growth across, last two penalties": (rows[-1] - rows[-2])[across].min().item(),
        "last penalty": PENALTIES[-1],
    }
    return limit, rows[-1], settles


def hubs(loss, params, target, refitted) -> dict:
    """Return error and cost of each rung for the two hubs, beside their refits; node 0's is about its finite pairs."""
    found = {}
    for node in HUBS:
        finite = torch.isfinite(refitted[node])

        def error(scores, node=node, finite=finite):
            gap = (scores - refitted[node])[finite].norm() / refitted[node][finite].norm()
            return round(gap.item(), 4)

        _, refit_seconds = timed(vif.refit, loss, params, target, objects=[node])
        found[f"node {node}"] = rungs = {"refit, seconds": refit_seconds}
        for name, verb in (("attribute", vif.attribute), ("newton_step", vif.newton_step)):
            one, seconds = timed(verb, loss, params, target, objects=[node])
            rungs[name] = {"relative error": error(one.scores[0]), "seconds": seconds}
        for steps in (2, 4, 5, 6, 8):
            one, seconds = timed(vif.descend, loss, params, target, objects=[node], steps=steps)
            gap = error(one.scores[0])
            closed = round(1 - gap / rungs["attribute"]["relative error"], 3)
            rungs[f"descend, {steps} steps"] = {"relative error": gap, "gap closed": closed, "seconds": seconds}
    return found


def reading(predicted, refitted) -> dict:
    """Return the rank by size, among 32 nodes, of each node on the shortest paths of Figure 1's pairs."""
    graph, found = nx.karate_club_graph(), {}
    for pair in CASES:
        others = [node for node in range(NODES) if node not in pair]
        between = sorted({node for path in nx.all_shortest_paths(graph, *pair) for node in path} - set(pair))
        for name, scores in (("VIF", predicted), ("refit", refitted)):
            sizes = scores[:, pair[0] * NODES + pair[1]].abs()
            order = sorted(others, key=lambda node, sizes=sizes: -sizes[node])
            found[f"pair {pair}, {name}"] = {f"node {node}": 1 + order.index(node) for node in between}
    return found


def table(a: torch.Tensor, b: torch.Tensor) -> dict:
    """Return the correlations with and without the hubs."""
    return {
        "all nodes": correlations(a, b),
        "without node 0": correlations(a, b, (0,)),
        "without nodes 0 and 33": correlations(a, b, HUBS),
    }


def timed(function, *arguments, **keywords):
    """Return what a function returns, and its seconds."""
    begun = time.perf_counter()
    return function(*arguments, **keywords), round(time.perf_counter() - begun, 2)


def changes(fit, target, base) -> torch.Tensor:
    """Return the change of the target at fit(presence) for each node removed, NaN where there is no minimum."""
    rows = []
    for node in range(NODES):
        presence = torch.ones(NODES, dtype=torch.float64)
        presence[node] = 0.0
        try:
            rows.append(target(fit(presence), presence) - base)
        except vif.NoMinimumError:
            rows.append(torch.full_like(base, float("nan")))
    return torch.stack(rows)


def sgd_seconds() -> float:
    """Return the seconds of one SGD step of the paper's protocol: one pair, full softmax, two torch layers."""
    torch.manual_seed(0)
    embedding, output = torch.nn.Embedding(NODES, 2), torch.nn.Linear(2, NODES, bias=False)
    optimiser, begun = torch.optim.SGD([*embedding.parameters(), *output.parameters()], lr=0.025), 0.0
    pairs = torch.randint(NODES, (WARM_UP + TIMED_PAIRS, 2))
    for number, (centre, context) in enumerate(pairs):
        if number == WARM_UP:
            begun = time.perf_counter()
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(output(embedding(centre)), context).backward()
        optimiser.step()
    return (time.perf_counter() - begun) / TIMED_PAIRS


def pictured(predicted, measured) -> dict:
    """Return what the figures show, each node's change of the two pairs' losses."""
    shown = {}
    for pair in CASES:
        x, y = (scores[:, pair[0] * NODES + pair[1]] for scores in (predicted, measured))
        first = "goes to +∞" if torch.isinf(y[0]) else y[0].item()
        shown[str(pair)] = {
            "predicted": x.tolist(),
            "refitted, node 0": first,
            "refitted, nodes 1 to 33": y[1:].tolist(),
        }
    return shown


def figures(run) -> None:
    """Draw the recorded Figures 1a–1c and 2a–2d."""
    record, graph = run.numbers()["figures"], Graph.of(nx.karate_club_graph())
    changes_of = {}
    for pair in CASES:
        found = record[str(pair)]
        first = found["refitted, node 0"]
        first = float("inf") if isinstance(first, str) else first
        measured = [first, *found["refitted, nodes 1 to 33"]]
        changes_of[pair] = torch.tensor([found["predicted"], measured], dtype=torch.float64)
    fig, axes = plt.subplots(1, 3, figsize=(15, 4.6))
    network(graph, ax=axes[0])
    axes[0].set_title("1a  Zachary's karate club")
    for ax, pair, letter in zip(axes[1:], CASES, "bc", strict=True):
        x, y = changes_of[pair]
        keep = [i for i in range(NODES) if i not in pair and torch.isfinite(y[i])]
        ax.axline((0, 0), slope=1, color="0.8", label="prediction = refit")
        ax.scatter(x[keep], y[keep], s=14)
        top, wide = y[keep].abs().max(), x[keep].abs().max()
        for node in keep:
            if y[node].abs() > 0.1 * top or x[node].abs() > 0.1 * wide:
                ax.annotate(str(node), (float(x[node]), float(y[node])), (3, 3), textcoords="offset points", fontsize=7)
        if torch.isinf(y[0]):
            high = 1.2 * float(y[keep].max()) + 0.1 * float(top)
            ax.scatter([x[0]], [high], marker="^", color="firebrick", label="node 0: its refit goes to +∞")
            ax.annotate("0", (float(x[0]), high), (5, 3), textcoords="offset points", fontsize=7)
        ax.set(xlabel="predicted change of the pair's loss", ylabel="change after refit")
        r = np.corrcoef(x[keep], y[keep])[0, 1]
        ax.set_title(f"1{letter}  pair {pair}, r = {r:.2f} over {len(keep)} nodes")
        ax.legend(fontsize=7)
    fig.tight_layout()
    run.savefig(fig, "_figure1.png", dpi=80)
    fig, axes = plt.subplots(2, 2, figsize=(12, 9), layout="constrained")
    for row, pair, letters in zip(axes, CASES, ("ab", "cd"), strict=True):
        shown = changes_of[pair].clone()
        for values in shown:
            values[list(pair)] = float("nan")
        limit = max(float(values[1:].abs().nan_to_num(0).max()) for values in shown)
        for ax, values, letter, kind in zip(row, shown, letters, ("predicted", "after refit"), strict=True):
            network(graph, values.clamp(-limit, limit), limit=limit, mark=pair, ax=ax)
            ax.set_title(f"2{letter}  pair {pair}, {kind}")
        scale = mpl.cm.ScalarMappable(mpl.colors.Normalize(-limit, limit), "RdBu_r")
        fig.colorbar(scale, ax=list(row), shrink=0.8, label="change of the pair's loss; beyond: full colour")
    run.savefig(fig, "_figure2.png", dpi=70)


def ceilings(loss, params, warm, predicted) -> dict:
    """Return how the noisy ground truths agree with each other, with warm refits and with the prediction."""
    present = loss.present_pair_losses()
    everyone = torch.ones(NODES, dtype=torch.float64)
    walks = Walks(loss.graph, length=6, window=3)

    def drawn(seeds) -> torch.Tensor:
        def fit(presence):
            counts = walks.drawn_counts(PASSES, seed=next(seeds), nodes=presence) / PASSES
            return vif.minimize(SkipGramLoss(counts, dim=2), params, presence, gtol=1e-6)

        base = present(fit(everyone), everyone)
        return changes(fit, present, base)

    def cold(presence):
        return vif.minimize(loss, loss.start(seed=1), presence, gtol=1e-6)

    restarted = changes(cold, present, present(params, everyone))
    restarted_both = restarted + present(params, everyone) - present(cold(everyone), everyone)
    first, second = drawn(itertools.count(1000)), drawn(itertools.count(2000))
    common = [drawn(itertools.repeat(seed)) for seed in (1, 2)]
    return {
        "cold restart against warm refit": table(restarted, warm),
        "prediction against cold restart": table(predicted, restarted),
        "prediction against cold restart of both models": table(predicted, restarted_both),
        "drawn walks, seed against seed": table(first, second),
        "drawn walks against warm refit": table(first, warm),
        "prediction against drawn walks": table(predicted, first),
        "drawn walks with common random numbers, seed against seed": table(*common),
        "prediction against drawn walks with common random numbers": table(predicted, common[0]),
    }


def main() -> int:
    """Measure everything and write it down."""
    run = Run.of(__file__, __doc__)
    if run.drawn_only:
        figures(run)
        return 0
    warnings.filterwarnings("ignore", message="(The minimiser stopped|Without the object)")
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=2)
    params, fit_seconds = timed(vif.minimize, loss, loss.start(seed=run.seed))
    target, present = loss.pair_losses(), loss.present_pair_losses()
    predicted, attribute_seconds = timed(vif.attribute, loss, params, target)
    refitted, refit_seconds = timed(vif.refit, loss, params, target)
    descended, descend_seconds = timed(vif.descend, loss, params, target, steps=5)
    limit, held, settles = limits(loss, params, target)

    def with_zero(row) -> torch.Tensor:
        return torch.cat([row.reshape(1, -1), refitted.scores[1:]])

    stopped = {
        f"node 0 stopped after {steps} steps": vif.descend(loss, params, target, objects=[0], steps=steps).scores
        for steps in (10, 15, 20)
    }
    protocol = sgd_seconds() * PASSES * 918 * (NODES + 1)
    numbers = {
        "loss at the minimum": loss(params, torch.ones(NODES, dtype=torch.float64)).item(),
        "pairs of one walk a node, asymmetric window": Walks(loss.graph, length=6, window=range(-3, 3))
        .counts()
        .sum()
        .item(),
        "seconds": {
            "fit": fit_seconds,
            "34 × 1156 scores": attribute_seconds,
            "34 refits": refit_seconds,
            "34 × descend, 5 steps": descend_seconds,
        },
        "removals without a finite minimum": list(refitted.failed or {}),
        "node 0's limit": settles,
        "prediction against warm refits, pair losses over all nodes": {
            "node 0 in the limit": table(predicted.scores, with_zero(limit)),
            f"node 0 at penalty {PENALTIES[-1]:g}": table(predicted.scores, with_zero(held)),
            **{name: table(predicted.scores, with_zero(row)) for name, row in stopped.items()},
        },
        "descend, 5 steps, against warm refits": table(descended.scores, refitted.scores),
        "hubs": hubs(loss, params, target, with_zero(limit)),
        "Figure 1: rank by size of the nodes on shortest paths": reading(predicted.scores, with_zero(limit)),
        "paper": PAPER,
        "the paper's SGD, extrapolated": {
            "pairs timed": TIMED_PAIRS,
            "share of one training": TIMED_PAIRS / (PASSES * 918),
            "seconds of one pass for 35 trainings": round(protocol),
            "ratio to fit and scores here": round(protocol / (fit_seconds + attribute_seconds)),
        },
    }
    numbers["figures"] = pictured(predicted.scores, with_zero(limit))
    ours, warm = (verb(loss, params, present).scores for verb in (vif.attribute, vif.refit))
    numbers["prediction against warm refits, pair losses over those present"] = table(ours, warm)
    if not run.quick:
        numbers["ceilings, pair losses over those present"] = ceilings(loss, params, warm, ours)
    run.record(numbers)
    figures(run)
    for name, value in numbers.items():
        print(name, value, sep=": ")
    return 0


if __name__ == "__main__":
    sys.exit(main())
