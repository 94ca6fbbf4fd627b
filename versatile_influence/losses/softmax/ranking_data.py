"""Rankings as tensors, checked once: lists of item ids, and documents with `qid`."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import listed
from versatile_influence.core.labels import names
from versatile_influence.core.tables import codes, whole_numbers


def checked_lists(rankings: object, *, n_queries: int, n_items: int) -> list[list[int]]:
    """Return the lists as whole numbers.

    Raises:
        ValueError: If there is not one list a query, a list is empty or repeats an item, or an item is unknown.
    """
    given = names(rankings, n_queries, "query", "rankings", entry="list") or []
    lists = [
        whole_numbers(ranking, f"rankings[{query}]", shape=[None], most=n_items - 1).tolist()
        for query, ranking in enumerate(given)
    ]
    for query, ranking in enumerate(lists):
        if not ranking:
            raise ValueError(f"The list of query {query} is empty. Leave queries without ranked items out.")
        if len(set(ranking)) < len(ranking):
            twice = next(item for item in ranking if ranking.count(item) > 1)
            raise ValueError(f"The list of query {query} names item {twice} twice. List each item once.")
    return lists


def padded(lists: list[list[int]]) -> tuple[Int[Tensor, "R K"], Float[Tensor, "R K"]]:
    """Return lists as one table, and 1 where there is an entry and 0 past a list's end."""
    width = max(map(len, lists))
    table = torch.tensor([entries + [0] * (width - len(entries)) for entries in lists])
    lengths = torch.tensor([len(entries) for entries in lists])
    return table, (torch.arange(width) < lengths[:, None]).double()


def in_list(ranking: Int[Tensor, "R K"], weights: Tensor, n: int) -> Tensor:
    """Return (R, n) True where a candidate is in the row's list."""
    return torch.zeros(len(ranking), n, dtype=torch.float64).scatter_add(1, ranking, (weights > 0).double()) > 0


def grouped_rows(qid: object) -> tuple[list[list[int]], list[object]]:
    """Return the rows of each query in the order given, and the queries' ids.

    Raises:
        ValueError: If an entry is missing, or the rows of a query are apart.
    """
    if qid is None:
        raise ValueError("`qid` is missing: say of each row which query it belongs to.")
    n_rows = len(given := listed(qid, "qid", "names"))
    query, ids = codes(given, n_rows, "row", "qid")
    # Codes are in order of appearance: those of sorted rows never fall.
    if len(apart := (query.diff() < 0).nonzero()):
        row = int(apart[0]) + 1
        raise ValueError(f"The rows of query {ids[query[row]]!r} are not together (row {row}). Sort the rows by `qid`.")
    return [rows.tolist() for rows in torch.arange(n_rows).split(torch.bincount(query).tolist())], ids
