"""`vif graph`: which nodes of a graph decide whether two others are close."""

import argparse
import sys
from dataclasses import replace

from versatile_influence.cli.words import check_out, count
from versatile_influence.core.files import write_text
from versatile_influence.core.owned import Shared
from versatile_influence.core.sizes import FINISHED_PARAMETERS
from versatile_influence.losses import WalkEmbeddingLoss
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading.metrics import counted
from versatile_influence.solvers.cg import CG
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.attribute import attribute

COARSE = (
    "vif: warning: beyond {:,} parameters a node's own vectors are not left out with it, so that scores are rougher. "
    "A smaller --dim may do."
)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add `vif graph`."""
    parser = subparsers.add_parser(
        "graph",
        help="nodes of a graph: what their removal does to the embedding's loss on pairs of nodes",
        description="Train a node embedding on expected walk counts, and predict how the contrastive loss of pairs of "
        "nodes changes without each other node. Positive: without it, the pair is further apart.",
    )
    parser.add_argument("edges", help="edge list, one `source target [weight]` a line")
    parser.add_argument("--pairs", nargs="+", required=True, metavar="U,V", help="pairs of nodes by name")
    parser.add_argument("--length", type=int, default=6, help="nodes of a walk (6)")
    parser.add_argument("--window", type=int, default=3, help="how far context reaches (3)")
    parser.add_argument("--dim", type=int, default=2, help="length of an embedding (2)")
    parser.add_argument("--penalty", type=float, default=0.0, help="λ of (λ/2)‖θ‖² on the summed loss (0)")
    parser.add_argument("--directed", action="store_true", help="walk edges from source to target only")
    parser.add_argument("--top", type=count, default=5, help="nodes listed for each pair (5)")
    parser.add_argument("--out", help="CSV file for all scores")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the nodes that matter most for each pair."""
    check_out(args.out, [args.edges])
    pairs = [tuple(word.strip() for word in pair.split(",")) for pair in args.pairs]
    for pair, given in zip(pairs, args.pairs, strict=True):
        if len(pair) != 2:
            raise ValueError(f"{given!r} is no pair of nodes. Write two names joined by a comma, as in 12,10.")
    graph = Graph.of(args.edges, directed=args.directed)
    loss = WalkEmbeddingLoss(graph, length=args.length, window=args.window, dim=args.dim, penalty=args.penalty)
    target = loss.pair_losses(pairs)
    params = minimize(loss, loss.start())
    if 2 * args.dim * graph.n_nodes <= FINISHED_PARAMETERS:
        scores = attribute(loss, params, target)
    else:
        # One solution a pair, where striking out each node's own parameters would take one a node.
        scores = attribute(loss.treated(Shared()), params, target, solver=CG(rtol=1e-6))
        if args.penalty:
            print(COARSE.format(FINISHED_PARAMETERS), file=sys.stderr)
    scores = replace(scores, targets=target.labels)
    size = f"{counted(graph.n_nodes, 'node')}, {counted(len(graph.ends), 'edge')}"
    print(f"{size}; change of the pair's loss without each node")
    for column, (pair, label) in enumerate(zip(pairs, target.labels or [], strict=True)):
        print(f"\npair {label}")
        others = [
            row for row in scores.top(len(scores.scores), target=column).tolist() if str(graph.labels[row]) not in pair
        ]
        if not others:
            print("  there is no other node")
        for row in others[: args.top]:
            splits = graph.components(without=[row]) > graph.components()
            note = "  splits the graph: retraining may have no finite end" if splits and not args.penalty else ""
            print(f"  {graph.labels[row]!s:>12} {scores.scores[row, column].item():+10.4f}{note}")
    if args.out:
        write_text(args.out, scores.to_frame().to_csv())
        print(f"\nAll scores are in {args.out}.", file=sys.stderr)
    return 0
