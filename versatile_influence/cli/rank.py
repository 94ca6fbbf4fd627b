"""`vif rank`: which documents, items or queries drive a learned ranking."""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.cli.answers import answered, largest_first
from versatile_influence.cli.tables import inert, plain, table
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.result import Attribution
from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target
from versatile_influence.datasets.documents import Documents, read_trec
from versatile_influence.datasets.label_ranking import label_queries
from versatile_influence.datasets.ranking import read_arff
from versatile_influence.datasets.svmlight import read_together
from versatile_influence.losses.softmax.documents import DocumentListMLELoss
from versatile_influence.losses.softmax.listmle import ListMLELoss
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.targets import query_loss
from versatile_influence.reading.detection import suspicious
from versatile_influence.reading.metrics import counted, decimals
from versatile_influence.training.minimize import minimize

ONE = {"documents": "document", "items": "item", "queries": "query"}


def run(args: argparse.Namespace) -> int:
    """Run `vif rank`."""
    runs = [*args.train.split(","), *args.test.split(",")]
    check_out(args.out, [args.train, args.test, *runs, args.qrels, args.test_qrels])
    ranking = read_ranking(args)
    params = ranking.learned()
    target = ranking.target()
    now = ranking.mean_loss(params).item()
    print(f"{counted(ranking.loss.n_terms or 0, 'training list')}, {len(ranking.names):,} {ranking.objects}")
    print(f"mean loss of {counted(ranking.test.n_terms or 0, 'test list')}: {now:.6g}")
    answer = answered(args, ranking.loss, params, target, things=ranking.objects)
    scores = answer.scores
    moved, direct = parts(scores)
    marked = suspicious(moved).tolist()
    order = largest_first(moved)
    one, apart = ONE[ranking.objects], ranking.objects == "items"
    digits = decimals(moved.abs().nan_to_num(0.0).max().item())
    print(f"suspicious: {sum(marked)} of {len(marked):,} {ranking.objects}\n")
    rows = []
    for row in order[: args.top]:
        remark = "suspicious" if marked[row] else "better without" if moved[row] < 0 else ""
        own = [f"{direct[row].item():+.{digits}f}"] if apart else []
        rows.append([str(ranking.names[row]), f"{moved[row].item():+.{digits}f}", *own, remark])
    header = [one, "through parameters" if apart else "change without it", *(["direct"] if apart else []), ""]
    print(table(header, rows))
    print(f"\n{plain(answer)}")
    if args.out:
        names = [inert(name) if args.spreadsheet else name for name in ranking.names]
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow([one, "change", *(["direct"] if apart else []), "suspicious", "estimated error", "verdict"])
        errors, verdicts = scores.error.tolist() if scores.error is not None else [], scores.verdicts()
        for row in order:
            own = [repr(direct[row].item())] if apart else []
            writer.writerow(
                [names[row], repr(moved[row].item()), *own, int(marked[row]), f"{errors[row]:.4g}", verdicts[row]]
            )
        write_text(args.out, text.getvalue())
        print(f"wrote {len(order)} rows to {args.out}", file=sys.stderr)
    return 0


@dataclass(frozen=True)
class Ranking:
    """A loss of training queries with test queries.

    Attributes:
        loss: Of the training queries.
        test: Of the test queries.
        objects: What is removed: "documents", "items" or "queries".
        names: Names of the objects.
    """

    loss: SoftmaxLoss
    test: SoftmaxLoss
    objects: str
    names: Sequence[object]

    def learned(self) -> Any:
        """Return the parameters at the minimum."""
        return minimize(self.loss, self.loss.zeros())

    def mean_loss(self, params: Any) -> Tensor:
        """Return the mean loss of the test queries."""
        return self.test.row_losses(params, torch.ones(self.test.n_objects, dtype=torch.float64)).mean()[None]

    def target(self) -> Target | PresenceTarget:
        """Return it as what is explained: only an item leaves the test queries' lists too."""
        return query_loss(self.test) if self.objects == "items" else LabelledTarget(self.mean_loss)


def parts(scores: Attribution) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return the mean change over targets through the parameters, and the direct one."""
    if scores.parameter is None or scores.direct is None:
        return scores.scores.mean(1), torch.zeros(len(scores.scores), dtype=torch.float64)
    return scores.parameter.mean(1), scores.direct.mean(1)


def read_ranking(args: argparse.Namespace) -> Ranking:
    """Return what the files of the call hold.

    Raises:
        ValueError: If a file cannot be used.
    """
    if args.labels is None:
        return _of_documents(args, args.objects or "documents")
    return _of_labels(args, args.objects or "items")


def _of_labels(args: argparse.Namespace, objects: str) -> Ranking:
    train, test = (read_arff(path, n_labels=args.labels) for path in (args.train, args.test))
    shape: Any = train.x.shape
    rank = min(8, min(shape) - 1)
    queries, tests = label_queries(train, test, range(args.labels), rank=rank)
    loss, test_loss = (
        ListMLELoss(part.x, part.lists, n_items=args.labels, penalty=penalty, objects=kind)  # pyright: ignore[reportArgumentType]
        for part, penalty, kind in ((queries, args.penalty, objects), (tests, 0.0, "items"))
    )
    rows = [f"row {row + 1}" for row, items in enumerate(train.lists()) if len(items) >= 2]
    return Ranking(loss, test_loss, objects, train.label_names if objects == "items" else rows)


def _of_documents(args: argparse.Namespace, objects: str) -> Ranking:
    if args.qrels is not None:
        train, test = read_trec(args.train.split(","), args.qrels), read_trec(args.test.split(","), args.test_qrels)
        if train.x.shape[1] != test.x.shape[1]:
            raise ValueError(f"TRAIN has {train.x.shape[1]} runs and --test {test.x.shape[1]}: give as many to each.")
    else:
        train, test = read_together(args.train, args.test)
    train, test = train.ranked(), test.ranked()
    for said in dict.fromkeys((*train.assumed, *test.assumed)):
        print(f"vif: {plain(said)}", file=sys.stderr)
    # One scale for all features, fitted on the training rows, so that one penalty suits them.
    centre, scale = train.x.mean(0), train.x.std(0, correction=0)
    scale = torch.where(scale > 0, scale, 1.0)
    loss = _loss(train, (train.x - centre) / scale, objects=objects, penalty=args.penalty)
    test_loss = _loss(test, (test.x - centre) / scale, objects="queries", penalty=0.0)
    return Ranking(loss, test_loss, objects, list(loss.object_labels or range(loss.n_objects)))


def _loss(data: Documents, x: Tensor, *, objects: str, penalty: float) -> DocumentListMLELoss:
    """Return the loss of a file; documents that have ids are one object wherever they are."""
    return DocumentListMLELoss(
        x,
        data.relevance,
        data.qid,
        documents=data.names if objects == "documents" else None,
        objects="documents" if objects == "documents" else "queries",
        penalty=penalty,
    )
