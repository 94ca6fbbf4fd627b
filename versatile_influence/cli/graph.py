"""`vif graph`: which nodes of a graph decide whether two others are close."""

import argparse
import sys
from dataclasses import replace

from versatile_influence.cli.answers import Answer, answered
from versatile_influence.cli.tables import plain, renamed
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.owned import Shared
from versatile_influence.core.sizes import FINISHED_PARAMETERS
from versatile_influence.losses import WalkEmbeddingLoss
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading.metrics import counted
from versatile_influence.reading.spot_check import spot_check
from versatile_influence.solvers.cg import CG
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.attribute import attribute

COARSE = (
    "vif: warning: beyond {:,} parameters a node's own vectors are not left out with it, so that scores are rougher. "
    "A smaller --dim may do."
)


def run(args: argparse.Namespace) -> int:
    """Print the nodes that matter most for each pair."""
    check_out(args.out, [args.edges])
    graph = Graph.of(args.edges, directed=args.directed)
    loss = WalkEmbeddingLoss(graph, length=args.length, window=args.window, dim=args.dim, penalty=args.penalty)
    target = loss.pair_losses(args.pairs)
    params = minimize(loss, loss.start())
    if 2 * args.dim * graph.n_nodes <= FINISHED_PARAMETERS:
        answer = answered(args, loss, params, target, things="nodes")
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
    size = f"{counted(graph.n_nodes, 'node')}, {counted(len(graph.ends), 'edge')}"
    print(f"{size}; change of the pair's loss without each node")
    for column, (pair, label) in enumerate(zip(args.pairs, target.labels or [], strict=True)):
        print(f"\npair {plain(label)}")
        others = [
            row for row in scores.top(len(scores.scores), target=column).tolist() if str(graph.labels[row]) not in pair
        ]
        if not others:
            print("  there is no other node")
        for row in others[: args.top]:
            splits = graph.components(without=[row]) > graph.components()
            note = "  splits the graph: retraining may have no finite end" if splits and not args.penalty else ""
            print(f"  {plain(graph.labels[row]):>12} {scores.scores[row, column].item():+10.4f}{note}")
    print(f"\n{plain(answer)}")
    if args.out:
        print(f"\nAll scores are in {args.out}.", file=sys.stderr)
    return 0
