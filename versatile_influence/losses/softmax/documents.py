"""Listwise ranking of each query's own documents."""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.arguments import module
from versatile_influence.core.checks import numbers, one_of, whole
from versatile_influence.core.models import Linear, Network
from versatile_influence.core.ravel import Params
from versatile_influence.core.tables import codes, features
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.nested_rows import NestedRows
from versatile_influence.losses.softmax.owners import Owners
from versatile_influence.losses.softmax.ranking_data import grouped_rows, in_list, padded


class DocumentListMLELoss(SoftmaxLoss):
    """ListMLE over each query's own documents, as in LETOR files: a table of rows with `qid` and relevance.

    Documents are ranked by relevance, largest first, ties in the order of the rows. Scores are x w.

    Args:
        x: (rows, d) features, one row a document of a query.
        relevance: (rows,) relevance grades.
        qid: (rows,) the row's query; the rows of a query stand together.
        top: Length of the ranked list, or None for all documents; the others rank below it.
        documents: (rows,) ids of documents that several queries share, or None where each row is its own.
        objects: What is removed: "documents" or "queries".
        penalty: λ.
        model: A network from (queries, documents, d) to one score a document.

    Raises:
        ValueError: If `qid` is missing or unsorted, a feature is missing, or a query has one document only.

    Example:
        >>> loss = DocumentListMLELoss([[1.0], [0.0], [2.0]], relevance=[0, 1, 2], qid=["a", "a", "a"])
        >>> loss(loss.zeros(), torch.ones(3).double()).item()  # log 3 + log 2 + log 1
        1.791...
    """

    def __init__(
        self,
        x: object,
        relevance: object,
        qid: object,
        *,
        top: int | None = None,
        documents: object = None,
        objects: Literal["documents", "queries"] = "documents",
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
    ):
        x, grades, groups, ids = graded_rows(x, relevance, qid)
        top = None if top is None else whole(top, "top", least=1)
        table, filled = padded(groups)
        allowed = filled > 0
        orders = [torch.argsort(grades[rows], descending=True, stable=True)[:top].tolist() for rows in groups]
        ranking, weights = padded(orders)
        keys, labels = document_ids(documents, len(x))
        owners = document_owners(objects, keys, table, allowed=allowed, n_documents=len(labels), ids=ids)
        ranked = in_list(ranking, weights, table.shape[1])
        rows = NestedRows(owners, ranking, weights, ranked=ranked, allowed=allowed)
        candidates = x[table] * filled[:, :, None]
        linear = LinearCandidates(candidates.flatten(0, 1), table.shape[1])
        scores = linear if model is None else Network(module(model), candidates)
        super().__init__(rows, scores, penalty=penalty, labels=labels if objects == "documents" else ids)


@dataclass(frozen=True, eq=False)
class LinearCandidates(Linear):
    """Scores x w of the documents of each query; a bias would cancel.

    Attributes:
        x: (R·D, d) features of each query's documents, zeros where there is none.
        width: D.
    """

    width: int

    def __call__(self, params: Params) -> Float[Tensor, "R D"]:
        return super().__call__(params).view(-1, self.width)

    def rows(self, chosen: Int[Tensor, " r"]) -> "LinearCandidates":
        return LinearCandidates(self.x.unflatten(0, (-1, self.width))[chosen].flatten(0, 1), self.width)


def graded_rows(
    x: object, relevance: object, qid: object, *, gains: bool = False
) -> tuple[Float[Tensor, "rows d"], Float[Tensor, " rows"], list[list[int]], list[object]]:
    """Return the features and grades of rows, the rows of each query and the queries' ids, checked."""
    groups, ids = grouped_rows(qid)
    x = features(x, rows="row", qid=[ids[query] for query, rows in enumerate(groups) for _ in rows])
    if len(x) != (n := sum(map(len, groups))):
        raise ValueError(f"`qid` must hold one label a row: {len(x)}, got {n}.")
    grades = relevance_grades(relevance, n, gains=gains)
    if single := [query for query, rows in zip(ids, groups, strict=True) if len(rows) == 1]:
        raise ValueError(
            f"Query {single[0]!r} has one document, so that nothing is ranked ({len(single)} such). Leave it out."
        )
    return x, grades, groups, ids


def relevance_grades(relevance: object, n_rows: int, *, gains: bool = True) -> Float[Tensor, " rows"]:
    """Return grades, one a row; where gains 2^grade − 1 are made of them, from 0 to 1000."""
    grades = numbers(relevance, "relevance", shape=[n_rows], least=0 if gains else -math.inf)
    if gains and len(grades) and grades.max() > 1000:
        raise ValueError(
            f"`relevance` is {grades.max():g} at most; a gain of 2^grade has grades up to 1000. Use 0 to 4."
        )
    return grades


def document_ids(documents: object, n_rows: int) -> tuple[Int[Tensor, " rows"], list[object]]:
    """Return the document number of each row, and the documents' ids."""
    if documents is None:
        return torch.arange(n_rows), list(range(n_rows))
    keys, ids = codes(documents, n_rows, "row", "documents")
    # Objects stand in the order of their ids, where these have one.
    order = sorted(range(len(ids)), key=lambda code: (str(type(ids[code])), ids[code]))
    return torch.argsort(torch.tensor(order))[keys], [ids[code] for code in order]


def document_owners(
    objects: str, keys: Tensor, table: Tensor, *, allowed: Tensor, n_documents: int, ids: list[object]
) -> Owners:
    """Return who owns what where each query has its own documents."""
    if one_of(objects, "objects", ["documents", "queries"]) == "queries":
        return Owners(len(ids), torch.full(table.shape, len(ids)), torch.arange(len(ids)))
    units = torch.where(allowed, keys[table], n_documents)
    for query, row in enumerate(units.tolist()):
        present = [unit for unit in row if unit < n_documents]
        if len(set(present)) < len(present):
            raise ValueError(f"Query {ids[query]!r} lists a document twice. Keep one row for each document of a query.")
    return Owners(n_documents, units)
