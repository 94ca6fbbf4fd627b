"""Any loss of the scores of a query's own documents, summed over queries."""

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from versatile_influence.core.arguments import function, module
from versatile_influence.core.batched_outer import BatchSum, Piece
from versatile_influence.core.boundary import FunctionLoss
from versatile_influence.core.checks import numbers
from versatile_influence.core.composed import Composed
from versatile_influence.core.models import Linear, Network
from versatile_influence.core.ravel import flat
from versatile_influence.losses.softmax.documents import document_ids, document_owners, graded_rows
from versatile_influence.losses.softmax.query_losses import LambdaLoss
from versatile_influence.losses.softmax.ranking_data import padded

OfQuery = Callable[[Tensor, Tensor, Tensor], Tensor]


class DocumentLoss(Composed):
    """A loss of each query's scores over its own documents: L(θ, b) = Σ_q ℓ(s_q, y_q, b_q) + (λ/2)‖θ‖².

    Without a query its term goes; without a document, ℓ says what is lost by those that remain. Scores are x w.

    Args:
        x: (rows, d) features, one row a document of a query.
        relevance: (rows,) relevance grades, 0 to 1000.
        qid: (rows,) the row's query; the rows of a query stand together.
        outer: ℓ: `vif.losses.LambdaLoss(…)`, `vif.losses.ApproxNDCG(…)`, or a function of (scores, grades, presence),
            (d,) each, that returns a sum over a query's documents.
        order: (rows,) scores, such as those trained, at whose ranks the weights of `LambdaLoss` are held; None for the
            ranks of the scores themselves.
        documents: (rows,) ids of documents that several queries share, or None where each row is its own.
        objects: What is removed: "documents" or "queries".
        penalty: λ; a mean over m queries with weight decay w has λ = m·w.
        model: A network from (rows, d) to one score a row.

    Raises:
        TypeError: If there is an `order` for another loss than `LambdaLoss`.
        ValueError: If `qid` is missing or unsorted, a feature is missing, a query has one document only, or the network
            gives another number of scores.

    Example:
        >>> import versatile_influence as vif
        >>> rows = {"relevance": [0, 1, 2], "qid": ["a", "a", "a"]}
        >>> loss = DocumentLoss([[1.0], [0.0], [2.0]], **rows, outer=vif.losses.ApproxNDCG())
        >>> loss(torch.tensor([0.0]).double(), torch.ones(3).double()).item()  # (3 + 1)/log₂ 3 of 3 + 1/log₂ 3
        -0.695...
    """

    def __init__(
        self,
        x: object,
        relevance: object,
        qid: object,
        outer: OfQuery,
        *,
        order: object = None,
        documents: object = None,
        objects: Literal["documents", "queries"] = "documents",
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
    ):
        x, grades, groups, ids = graded_rows(x, relevance, qid, gains=True)
        if isinstance(outer, type):
            raise TypeError(f"`outer` must be a value like vif.losses.LambdaLoss(), got the class {outer.__name__}.")
        outer = function(outer, "outer", "scores", "grades", "presence")
        keys, labels = document_ids(documents, len(x))
        table, filled = padded(groups)
        owners = document_owners(objects, keys, table, allowed=filled > 0, n_documents=len(labels), ids=ids)
        held = None if order is None else numbers(order, "order", shape=[len(x)])
        if held is not None and not isinstance(outer, LambdaLoss):
            raise TypeError(f"`order` holds the ranks in vif.losses.LambdaLoss, and {outer!r} has none. Leave it out.")
        pieces = []
        for query, rows in enumerate(groups):
            of = outer if held is None else partial(outer, order=held[rows])
            lost, owner = partial(of_documents, of, grades[rows]), keys[rows]
            if owners.rows is not None:
                lost, owner = partial(of_query, of, grades[rows]), owners.rows[query : query + 1]
            pieces.append(Piece(FunctionLoss(lost, len(owner)), owner, slice(rows[0], rows[-1] + 1)))
        outputs = Linear(x) if model is None else Network(module(model), x)
        if (number := flat(outputs(outputs.start())).numel()) != len(x):
            raise ValueError(f"The `model` must give one score a row: {len(x)}, got {number}.")
        labels = labels if objects == "documents" else ids
        super().__init__(outputs, BatchSum(pieces, owners.n_objects), penalty=penalty, labels=labels)


def of_documents(outer: OfQuery, grades: Tensor, scores: Any, presence: Tensor) -> Tensor:
    """Return what is lost by a query's documents that are present."""
    return outer(scores, grades.to(scores), presence)


def of_query(outer: OfQuery, grades: Tensor, scores: Any, presence: Tensor) -> Tensor:
    """Return what is lost by a query with all its documents, where it is present."""
    return presence[0] * outer(scores, grades.to(scores), torch.ones_like(scores))
