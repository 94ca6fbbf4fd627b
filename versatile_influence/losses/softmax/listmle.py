"""Listwise ranking: ListMLE, and cross-entropy over the items of a list."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from versatile_influence.core.arguments import module
from versatile_influence.core.checks import listed, numbers, one_of, whole
from versatile_influence.core.labels import names, position
from versatile_influence.core.models import Network
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.tables import features
from versatile_influence.losses.softmax.linear_items import LinearItems
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.nested_rows import NestedRows
from versatile_influence.losses.softmax.owners import Owners
from versatile_influence.losses.softmax.ranking_data import checked_lists, in_list, padded
from versatile_influence.losses.softmax.shared_rows import SharedRows


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
        x, n_items = features(x), whole(n_items, "n_items", least=1)
        lists = checked_lists(rankings, n_queries=len(x), n_items=n_items)
        ranking, weights = padded(lists)
        ranked = in_list(ranking, weights, n_items)
        rows = NestedRows(
            item_owners(objects, len(x), n_items), ranking, weights, ranked=ranked, allowed=torch.ones_like(ranked)
        )
        scores = item_scores(x, n_items, objects, model=model, item_parameters=item_parameters)
        super().__init__(rows, scores, penalty=penalty, labels=labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self.rows.allowed)} queries, {self.n_objects} objects)"


class SoftmaxRankingLoss(SoftmaxLoss):
    """Cross-entropy of each listed item among all items (ListNet's top-one loss with equal or given gains).

        L(θ, b) = Σ_q Σ_{i listed} g_qi b_i (log Σ_l b_l e^{s_l} − s_i) + (λ/2)‖θ‖²

    The order in a list does not matter. Other arguments are those of `ListMLELoss`.

    Args:
        gains: A weight for each entry of `rankings`, or None for 1 each.

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
        x, n_items = features(x), whole(n_items, "n_items", least=1)
        lists = checked_lists(rankings, n_queries=len(x), n_items=n_items)
        ranking, weights = padded(lists)
        if gains is not None:
            rows = zip(names(gains, len(lists), "query", "gains", entry="list") or [], lists, strict=True)
            given = [numbers(row, f"gains[{i}]", shape=[len(own)], least=0) for i, (row, own) in enumerate(rows)]
            weights[weights > 0] = torch.cat(given)
        targets = torch.zeros(len(x), n_items, dtype=torch.float64).scatter_add(1, ranking, weights)[:, None, :]
        rows = SharedRows(item_owners(objects, len(x), n_items), targets, torch.ones(targets.shape, dtype=torch.bool))
        scores = item_scores(x, n_items, objects, model=model, item_parameters=item_parameters)
        super().__init__(rows, scores, penalty=penalty, labels=labels)


def item_owners(objects: str, n_queries: int, n_items: int) -> Owners:
    """Return who owns what where the candidates of every query are all items."""
    if one_of(objects, "objects", ["items", "queries"]) == "items":
        return Owners(n_items, torch.arange(n_items))
    return Owners(n_queries, torch.full((n_queries, n_items), n_queries), torch.arange(n_queries))


def item_scores(
    x: Tensor, n_items: int, objects: str, *, model: torch.nn.Module | None, item_parameters: Sequence[str]
) -> Outputs:
    """Return how parameters score all items: linearly with a bias, or by a network; what is removed owns its own."""
    owning = objects == "items"
    known = [] if model is None else [name for name, _ in module(model).named_parameters()]
    for name in listed(item_parameters, "item_parameters", "names"):
        position(name, known, "parameter of the model (`item_parameters`)")
    if model is None:
        return LinearItems(torch.cat([x, x.new_ones(len(x), 1)], dim=1), n_items, owning)
    return Network(model, x, tuple(item_parameters) if owning else ())
