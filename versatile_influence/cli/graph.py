"""`vif graph`: which nodes of a graph decide whether two others are close."""

import argparse
import contextlib
import sys
import time
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from versatile_influence.cli.answers import Answer, answered, spoken
from versatile_influence.cli.tables import plain, renamed
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.labels import position
from versatile_influence.core.owned import Shared
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import FINISHED_PARAMETERS, GRADIENTS, SAID_SECONDS
from versatile_influence.losses import WalkEmbeddingLoss
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading.metrics import counted
from versatile_influence.reading.plots import network
from versatile_influence.reading.plots_one import plain as shown
from versatile_influence.reading.spot_check import spot_check
from versatile_influence.solvers.cg import CG
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.attribute import attribute

COARSE = (
    "vif: warning: beyond {:,} parameters a node's own vectors are not left out with it, so that scores are rougher. "
    "A smaller --dim may do."
)
PICTURES = (".png", ".svg", ".pdf")
# What a node that splits the graph does to training without it; with a penalty, and without one.
SPLIT = {
    True: "without it only the penalty, and shared denominators, hold the parts in place",
    False: "retraining may have no finite end",
}


def run(args: argparse.Namespace) -> int:
    """Print the nodes that matter most for each pair."""
    check_out(args.out, [args.edges])
    check_out(args.plot, [args.edges], "--plot")
    if args.plot and Path(args.plot).suffix.lower() not in PICTURES:
        raise ValueError(f"--plot {args.plot} is no picture. Name a file that ends in {' or '.join(PICTURES)}.")
    graph = Graph.of(args.edges, directed=args.directed, weight=args.weight)
    loss = WalkEmbeddingLoss(graph, length=args.length, window=args.window, dim=args.dim, penalty=args.penalty)
    target = loss.pair_losses(args.pairs)
    start = loss.start(seed=args.seed)
    if (seconds := training_seconds(loss, start)) > SAID_SECONDS:
        size = f"{counted(graph.n_nodes, 'node')} in {args.dim} dimensions"
        print(f"vif: training an embedding of {size}: about {spoken(seconds)}", file=sys.stderr, flush=True)
    params = minimize(loss, start)
    # What is said on the way is no part of a table for other programs.
    with contextlib.redirect_stdout(sys.stdout if args.format == "table" else sys.stderr):
        if 2 * args.dim * graph.n_nodes <= FINISHED_PARAMETERS:
            answer = answered(args, loss, params, target, thing="node")
        else:
            # One solution a pair, where striking out each node's own parameters would take one a node.
            scores = attribute(loss.treated(Shared()), params, target, solver=CG(rtol=1e-6))
            check = spot_check(scores, loss, params, target, k=args.check) if args.check else None
            answer = Answer(scores, check, "node")
            if args.penalty:
                print(COARSE.format(FINISHED_PARAMETERS), file=sys.stderr)
    scores = replace(answer.scores, targets=target.labels)
    if args.out:
        write_text(args.out, renamed(scores.to_frame(error=True), args).to_csv())
    if args.plot:
        draw(args.plot, graph, loss, scores, args.pairs)
    if args.format == "table":
        print_tables(args, graph, scores)
        print(f"\n{plain(answer)}")
    else:
        frame = scores.to_frame(error=True)
        print(frame.to_csv() if args.format == "csv" else frame.to_json(orient="index"), end="")
        print(plain(answer), file=sys.stderr)
    for path, what in ((args.out, "All scores are"), (args.plot, "The picture is")):
        if path:
            print(f"\n{what} in {path}.", file=sys.stderr)
    return 0


def training_seconds(loss: WalkEmbeddingLoss, start: dict[str, Tensor]) -> float:
    """Return about how long training takes."""
    everyone = loss.everyone(start)
    there = loss.at(everyone)
    begun = time.process_time()
    there.gradient_and_value(start, everyone)
    return GRADIENTS * (time.process_time() - begun)


def print_tables(args: argparse.Namespace, graph: Graph, scores: Attribution) -> None:
    """Print the strongest nodes of each pair."""
    whole, verdicts = graph.parts(), scores.verdicts()
    size = f"{counted(graph.n_nodes, 'node')}, {counted(len(graph.ends), 'edge')}"
    print(f"{size}; change of the pair's loss without each node")
    for column, (pair, label) in enumerate(zip(args.pairs, scores.targets or [], strict=True)):
        print(f"\npair {plain(label)}")
        first, second = (position(name, list(graph.labels), "node") for name in pair)
        if whole[first] != whole[second]:
            print("  in unconnected parts of the graph: no walk meets both, only denominators tie them")
        others = [
            row for row in scores.top(len(scores.scores), target=column).tolist() if str(graph.labels[row]) not in pair
        ]
        if not others:
            print("  there is no other node")
        for row in others[: args.top]:
            parts = graph.parts(without=[row]).max() - whole.max()
            end = "  not trusted" * (verdicts[row] == "not trusted")
            end += f"  splits the graph: {SPLIT[args.penalty > 0]}" if parts > 0 else ""
            print(f"  {plain(graph.labels[row]):>12} {scores.scores[row, column].item():+10.4f}{end}")


def draw(path: str, graph: Graph, loss: WalkEmbeddingLoss, scores: Attribution, pairs: list[tuple[str, str]]) -> None:
    """Write a picture of the graph for each pair, one below the other."""
    # No window: the figure is made for a file alone.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6.6 * len(pairs)), layout="constrained")
    for column, (ax, pair) in enumerate(zip(figure.subplots(len(pairs), squeeze=False)[:, 0], pairs, strict=True)):
        mark = tuple(position(name, loss.node_labels, "node") for name in pair)
        network(graph, scores.scores[:, column], mark=mark, label="change of the pair's loss without the node", ax=ax)
        ax.set_title(f"pair {', '.join(map(shown, pair))}")
    figure.savefig(path, dpi=150)
