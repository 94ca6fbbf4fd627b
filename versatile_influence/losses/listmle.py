"""Listwise ranking: ListMLE, and cross-entropy over the items of a list."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from versatile_influence.losses.linear_items import LinearItems
from versatile_influence.losses.ranking_data import checked_lists, features, grouped_rows, padded
from versatile_influence.losses.rows import NestedRows, Owners, SharedRows
from versatile_influence.losses.scores import LinearCandidates, ModuleScores
from versatile_influence.losses.softmax import SoftmaxLoss


class ListMLELoss(SoftmaxLoss):
    """ListMLE (Eq. 6): each query's top-k list, drawn item by item by softmax from what is not yet ranked.

        L(θ, b) = Σ_q Σ_j b_{y_j} (log Σ_{l ∉ {y_1…y_{j−1}}} b_l e^{s_l} − s_{y_j}) + (λ/2)‖θ‖²

    A removed item leaves every denominator and every list. The order of a list is the order given, fixed once: where
    relevance is tied (labels without order), whoever makes the lists decides, and `datasets.ranking` uses ascending
    item ids. Scores are linear with a bias, parameters (n_items, d + 1), and each item owns its row.

    Args:
        x: (queries, d) features.
        rankings: One list of item ids a query, best first; items not listed rank below all that are.
        n_items: How many items there are.
        penalty: λ; a mean over m queries with weight decay w has λ = m·w.
        objects: What is removed: "items" or "queries".
        model: A network from x to (queries, n_items) scores in place of the linear one.
        item_parameters: Names of the network's parameters with one row an item, which the item owns.
        labels: Names of the objects.

    Raises:
        ValueError: If a list is empty, repeats an item or names an unknown one, or a feature is missing.

    References:
        Xia et al. (2008), "Listwise approach to learning to rank"; Eq. 6 of the paper. With full lists it equals
        sentence-transformers' and allRank's ListMLE, order fixed.

    Example:
        >>> loss = ListMLELoss([[0.0], [1.0]], [[0, 1], [2]], n_items=3, penalty=1.0)
        >>> loss(loss.zeros(), torch.ones(3).double()).item()  # log 3 + log 2 + log 3
        2.890...
        >>> [round(change, 3) for change in loss.removal_differences(loss.zeros()).tolist()]
        [1.504, 1.504, 2.197]
    """

    def __init__(
        self,
        x: object,
        rankings: Sequence[Sequence[int]],
        *,
        n_items: int,
        penalty: float = 0.0,
        objects: Literal["items", "queries"] = "items",
        model: torch.nn.Module | None = None,
        item_parameters: Sequence[str] = (),
        labels: Sequence[object] | None = None,
    ):
        x = features(x)
        lists = checked_lists(rankings, n_queries=len(x), n_items=n_items)
        ranking, weights = padded(lists)
        ranked = listed(ranking, weights, n_items)
        rows = NestedRows(
            item_owners(objects, len(x), n_items), ranking, weights, ranked=ranked, allowed=torch.ones_like(ranked)
        )
        super().__init__(
            rows,
            item_scores(x, n_items, model=model, item_parameters=item_parameters),
            penalty=penalty,
            labels=labels,
            owned=objects == "items",
        )

    def __repr__(self) -> str:
        """Say what it is of."""
        return f"{type(self).__name__}({len(self.rows.allowed)} queries, {self.n_objects} objects)"


class SoftmaxRankingLoss(SoftmaxLoss):
    """Cross-entropy of each listed item among all items (ListNet's top-one loss with equal or given gains).

        L(θ, b) = Σ_q Σ_{i listed} g_qi b_i (log Σ_l b_l e^{s_l} − s_i) + (λ/2)‖θ‖²

    The order in a list does not matter. Arguments are those of `ListMLELoss`.

    Args:
        x: (queries, d) features.
        rankings: One list of item ids a query.
        n_items: How many items there are.
        gains: A weight for each entry of `rankings`, or None for 1 each.
        penalty: λ.
        objects: What is removed: "items" or "queries".
        model: A network from x to (queries, n_items) scores in place of the linear one.
        item_parameters: Names of the network's parameters with one row an item, which the item owns.
        labels: Names of the objects.

    References:
        Cao et al. (2007), "Learning to rank: from pairwise approach to listwise approach".

    Example:
        >>> loss = SoftmaxRankingLoss([[0.0], [1.0]], [[0, 1], [2]], n_items=3)
        >>> loss(loss.zeros(), torch.ones(3).double()).item()  # 3 log 3
        3.295...
    """

    def __init__(
        self,
        x: object,
        rankings: Sequence[Sequence[int]],
        *,
        n_items: int,
        gains: Sequence[Sequence[float]] | None = None,
        penalty: float = 0.0,
        objects: Literal["items", "queries"] = "items",
        model: torch.nn.Module | None = None,
        item_parameters: Sequence[str] = (),
        labels: Sequence[object] | None = None,
    ):
        x = features(x)
        lists = checked_lists(rankings, n_queries=len(x), n_items=n_items)
        ranking, weights = padded(lists)
        if gains is not None:
            if [len(row) for row in gains] != [len(row) for row in lists]:
                raise ValueError("`gains` must have one number for each entry of `rankings`.")
            weights[weights > 0] = torch.tensor([gain for row in gains for gain in row], dtype=torch.float64)
        targets = torch.zeros(len(x), n_items, dtype=torch.float64).scatter_add(1, ranking, weights)[:, None, :]
        rows = SharedRows(item_owners(objects, len(x), n_items), targets, torch.ones(targets.shape, dtype=torch.bool))
        super().__init__(
            rows,
            item_scores(x, n_items, model=model, item_parameters=item_parameters),
            penalty=penalty,
            labels=labels,
            owned=objects == "items",
        )


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
        x = features(x, rows="row", qid=qid)
        grades = torch.as_tensor(np.asarray(relevance, dtype=np.float64))
        if grades.shape != (len(x),) or not torch.isfinite(grades).all():
            raise ValueError(f"`relevance` must be one number a row: {len(x)} rows, got shape {tuple(grades.shape)}.")
        if top is not None and top < 1:
            raise ValueError(f"`top` must be at least 1, got {top}.")
        groups, ids = grouped_rows(qid, len(x))
        if single := [query for query, rows in zip(ids, groups, strict=True) if len(rows) == 1]:
            raise ValueError(
                f"Query {single[0]!r} has one document, so that nothing is ranked ({len(single)} such). Leave it out."
            )
        table, filled = padded(groups)
        allowed = filled > 0
        orders = [torch.argsort(grades[rows], descending=True, stable=True)[:top].tolist() for rows in groups]
        ranking, weights = padded(orders)
        keys, labels = document_ids(documents, len(x))
        owners = document_owners(objects, keys, table, allowed=allowed, n_documents=len(labels), ids=ids)
        ranked = listed(ranking, weights, table.shape[1])
        rows = NestedRows(owners, ranking, weights, ranked=ranked, allowed=allowed)
        candidates = x[table] * filled[:, :, None]
        scores = LinearCandidates(candidates) if model is None else ModuleScores(model, candidates)
        super().__init__(rows, scores, penalty=penalty, labels=labels if objects == "documents" else ids)


def listed(ranking: Int[Tensor, "R K"], weights: Tensor, n: int) -> Tensor:
    """Return (R, n) True where a candidate is in the row's list."""
    return torch.zeros(len(ranking), n, dtype=torch.float64).scatter_add(1, ranking, (weights > 0).double()) > 0


def item_owners(objects: str, n_queries: int, n_items: int) -> Owners:
    """Return who owns what where the candidates of every query are all items."""
    if objects == "items":
        return Owners(n_items, torch.arange(n_items))
    if objects == "queries":
        return Owners(n_queries, torch.full((n_queries, n_items), n_queries), torch.arange(n_queries))
    raise ValueError(f'`objects` must be "items" or "queries", got {objects!r}.')


def item_scores(x: Tensor, n_items: int, *, model: torch.nn.Module | None, item_parameters: Sequence[str]):
    """Return how parameters score all items: linearly with a bias, or by a network."""
    if model is not None:
        unknown = set(item_parameters) - {name for name, _ in model.named_parameters()}
        if unknown:
            raise ValueError(f"`item_parameters` names {sorted(unknown)}, which the model does not have.")
        return ModuleScores(model, x, tuple(item_parameters))
    return LinearItems(torch.cat([x, x.new_ones(len(x), 1)], dim=1), n_items)


def document_ids(documents: object, n_rows: int) -> tuple[Int[Tensor, " rows"], list[object]]:
    """Return the document number of each row, and the documents' ids."""
    if documents is None:
        return torch.arange(n_rows), list(range(n_rows))
    ids, keys = np.unique(np.asarray(documents), return_inverse=True)
    if len(keys) != n_rows:
        raise ValueError(f"`documents` must have one id a row: {n_rows} rows, got {len(keys)}.")
    return torch.from_numpy(keys.reshape(-1)), ids.tolist()


def document_owners(
    objects: str, keys: Tensor, table: Tensor, *, allowed: Tensor, n_documents: int, ids: list[object]
) -> Owners:
    """Return who owns what where each query has its own documents."""
    if objects == "queries":
        return Owners(len(ids), torch.full(table.shape, len(ids)), torch.arange(len(ids)))
    if objects != "documents":
        raise ValueError(f'`objects` must be "documents" or "queries", got {objects!r}.')
    units = torch.where(allowed, keys[table], n_documents)
    for query, row in enumerate(units.tolist()):
        present = [unit for unit in row if unit < n_documents]
        if len(set(present)) < len(present):
            raise ValueError(f"Query {ids[query]!r} lists a document twice. Keep one row for each document of a query.")
    return Owners(n_documents, units)
