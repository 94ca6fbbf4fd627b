"""`vif rank`: which documents, items or queries drive a learned ranking."""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.cli.answers import answered, largest_first
from versatile_influence.cli.tables import inert, plain, table
from versatile_influence.cli.words import check_out
from versatile_influence.core.composed import Composed
from versatile_influence.core.files import write_text
from versatile_influence.core.result import Attribution
from versatile_influence.core.tables import codes
from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target
from versatile_influence.core.warn import warn
from versatile_influence.datasets.documents import Documents, read_trec
from versatile_influence.datasets.label_ranking import label_queries
from versatile_influence.datasets.ranking import read_arff
from versatile_influence.datasets.svmlight import read_together
from versatile_influence.losses.softmax.document_loss import DocumentLoss
from versatile_influence.losses.softmax.documents import DocumentListMLELoss
from versatile_influence.losses.softmax.listmle import ListMLELoss
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.query_losses import ApproxNDCG, LambdaLoss
from versatile_influence.losses.softmax.targets import query_loss
from versatile_influence.reading.detection import suspicious
from versatile_influence.reading.metrics import counted, decimals
from versatile_influence.training.minimize import minimize

# LambdaLoss is fitted anew in the order that the last fit gives, as training does, until that stays.
ROUNDS = 20
ONE = {"documents": "document", "items": "item", "queries": "query"}


def run(args: argparse.Namespace) -> int:
    """Run `vif rank`."""
    runs = [*args.train.split(","), *args.test.split(",")]
    check_out(args.out, [args.train, args.test, *runs, args.qrels, args.test_qrels])
    ranking = read_ranking(args)
    params = ranking.learned()
    target = ranking.target()
    now = ranking.mean_loss(params).item()
    one, apart = ONE.get(ranking.objects, ranking.objects), ranking.objects == "items"
    things = ranking.objects if ranking.groups is None else f"{one}s"
    print(f"{counted(ranking.lists[0], 'training list')}, {len(ranking.names):,} {things}")
    print(f"mean loss of {counted(ranking.lists[1], 'test list')}: {now:.6g}")
    answer = answered(args, ranking.loss, params, target, thing=one, things=things, groups=ranking.groups)
    scores = answer.scores
    moved, direct = parts(scores)
    marked = suspicious(moved).tolist()
    order = largest_first(moved)
    digits = decimals(moved.abs().nan_to_num(0.0).max().item())
    print(f"suspicious: {sum(marked)} of {len(marked):,} {things}\n")
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
        lists: How many training and test queries there are.
        objects: What is removed: "documents", "items", "queries", or what comments say of documents.
        names: Names of the objects.
        groups: Documents by what comments say of them, where these are removed together.
    """

    loss: Composed
    test: Composed
    lists: tuple[int, int]
    objects: str
    names: Sequence[object]
    groups: dict[str, list[int]] | None = None

    def learned(self) -> Any:
        """Return the parameters at the minimum."""
        return minimize(self.loss, self.loss.zeros())

    def mean_loss(self, params: Any) -> Tensor:
        """Return the mean loss of the test queries."""
        return self.test(params, torch.ones(self.test.n_objects, dtype=torch.float64))[None] / self.lists[1]

    def target(self) -> Target | PresenceTarget:
        """Return it as what is explained: only an item leaves the test queries' lists too."""
        if self.objects != "items":
            return LabelledTarget(self.mean_loss)
        assert isinstance(self.test, SoftmaxLoss)
        return query_loss(self.test)


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
    options = {"--qrels": args.qrels, "--test-qrels": args.test_qrels}
    for option, given in {"TRAIN": args.train, "--test": args.test, **options}.items():
        if nowhere := [path for path in (given or "").split(",") if path and not Path(path).exists()]:
            raise ValueError(f"There is no file {nowhere[0]} ({option}).")
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
    lists = len(queries.lists), len(tests.lists)
    return Ranking(loss, test_loss, lists, objects, train.label_names if objects == "items" else rows)


def _of_documents(args: argparse.Namespace, objects: str) -> Ranking:
    if args.qrels is not None:
        train, test = read_trec(args.train.split(","), args.qrels), read_trec(args.test.split(","), args.test_qrels)
        if train.x.shape[1] != test.x.shape[1]:
            raise ValueError(f"TRAIN has {train.x.shape[1]} runs and --test {test.x.shape[1]}: give as many to each.")
    else:
        train, test = read_together(args.train, args.test)
    train, test = train.ranked(args.train), test.ranked(args.test)
    for said in dict.fromkeys((*train.assumed, *test.assumed)):
        print(f"vif: {plain(said)}", file=sys.stderr)
    # One scale for all features, fitted on the training rows, so that one penalty suits them.
    centre, scale = train.x.mean(0), train.x.std(0, correction=0)
    if not (scale > 0).any():
        raise ValueError(f"Every feature of {args.train} is the same in all lines, so that nothing can be learnt.")
    scale = torch.where(scale > 0, scale, 1.0)
    train, test = (replace(part, x=(part.x - centre) / scale) for part in (train, test))
    held = _settled(train, args.penalty) if args.loss == "lambda" else None
    loss = _loss(args.loss, train, held, objects=objects, penalty=args.penalty)
    test_loss = _loss(args.loss, test, held, objects="queries", penalty=0.0)
    lists = len({*train.qid}), len({*test.qid})
    if objects not in ONE:
        groups: dict[str, list[int]] = {}
        for row, name in enumerate(train.said_of(objects, args.train)):
            groups.setdefault(name, []).append(row)
        return Ranking(loss, test_loss, lists, objects, list(groups), groups)
    return Ranking(loss, test_loss, lists, objects, list(loss.object_labels or range(loss.n_objects)))


def _loss(kind: str, data: Documents, held: Tensor | None, *, objects: str, penalty: float) -> Composed:
    """Return the loss of a file; documents that have ids are one object wherever they are."""
    given: Any = {"objects": "queries" if objects == "queries" else "documents", "penalty": penalty}
    given |= {"documents": data.names if objects == "documents" else None}
    rows = data.x, data.relevance, data.qid
    if kind == "listmle":
        return DocumentListMLELoss(*rows, **given)
    if kind == "approx-ndcg":
        return DocumentLoss(*rows, ApproxNDCG(), **given)
    return DocumentLoss(*rows, LambdaLoss(), order=None if held is None else data.x @ held, **given)


def _settled(data: Documents, penalty: float) -> Tensor:
    """Return the weights of LambdaLoss in whose own order they are the minimum: fit, hold the order, fit again."""
    first = _loss("listmle", data, None, objects="queries", penalty=penalty)
    params, order, query = minimize(first, first.zeros()), None, codes(data.qid, len(data.qid), "row", "qid")[0]
    for _ in range(ROUNDS):
        assert isinstance(params, Tensor)
        now = np.lexsort([-(data.x @ params).numpy(), query.numpy()])
        if order is not None and (now == order).all():
            return params
        loss, order = _loss("lambda", data, params, objects="queries", penalty=penalty), now
        params = minimize(loss, params)
    warn(f"LambdaLoss: after {ROUNDS} fits the order of the documents still changes; the last one is held.")
    assert isinstance(params, Tensor)
    return params
