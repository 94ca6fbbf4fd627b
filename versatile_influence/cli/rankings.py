"""What `vif rank` learns from its files: a loss, and the test queries' mean loss without each object."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from versatile_influence.datasets.documents import Documents, read_svmlight, read_trec
from versatile_influence.datasets.label_ranking import label_queries
from versatile_influence.datasets.ranking import read_arff
from versatile_influence.losses.softmax.documents import DocumentListMLELoss
from versatile_influence.losses.softmax.listmle import ListMLELoss
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.targets import query_loss
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.attribute import attribute


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

    def changes(self, params: Any) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return how it changes without each object through the parameters, and directly.

        Only an item leaves the test queries' lists too, which is the direct part.
        """
        if self.objects != "items":
            moved = attribute(self.loss, params, self.mean_loss).scores[:, 0]
            return moved, torch.zeros_like(moved)
        effects = attribute(self.loss, params, query_loss(self.test))
        moved, direct = (part.mean(1) for part in (effects.parameter, effects.direct) if part is not None)
        return moved, direct


def read_ranking(args: argparse.Namespace) -> Ranking:
    """Return what the files of the call hold.

    Raises:
        ValueError: If the words of the call do not go together, or a file cannot be used.
    """
    arff = args.train.lower().endswith(".arff")
    if arff and args.labels is None:
        raise ValueError(f"{args.train} is an ARFF file: say with --labels how many of its last columns are the items.")
    if args.labels is not None and not arff:
        raise ValueError(f"--labels is for ARFF files; {args.train} is none. Leave it out.")
    if (args.qrels is None) != (args.test_qrels is None):
        raise ValueError("TREC runs need the judgements of both: give --qrels for TRAIN and --test-qrels for --test.")
    if arff and args.qrels is not None:
        raise ValueError("--qrels goes with TREC runs, and an ARFF file has its own labels. Leave it out.")
    known = ("items", "queries") if arff else ("documents", "queries")
    objects = args.objects or known[0]
    if objects not in known:
        raise ValueError(f"{args.train} has {' and '.join(known)}, and no {objects}. Choose one of them as --objects.")
    return (_of_labels if arff else _of_documents)(args, objects)


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
        train, test = read_svmlight(args.train), read_svmlight(args.test)
        # A feature that is 0 in all lines of a file may be missing from it.
        width = max(train.x.shape[1], test.x.shape[1])
        train, test = (replace(data, x=pad(data.x, (0, width - data.x.shape[1]))) for data in (train, test))
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
