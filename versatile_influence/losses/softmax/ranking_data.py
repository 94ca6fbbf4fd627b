"""Rankings as tensors, checked once: lists of item ids, and documents with `qid`."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor


def checked_lists(rankings: Sequence[Sequence[int]], *, n_queries: int, n_items: int) -> list[list[int]]:
    """Return the lists as whole numbers.

    Raises:
        ValueError: If there is not one list a query, a list is empty or repeats an item, or an item is unknown.
    """
    lists = [[int(item) for item in ranking] for ranking in rankings]
    if len(lists) != n_queries:
        raise ValueError(f"`rankings` must hold one list a query: {n_queries} queries, got {len(lists)} lists.")
    for query, ranking in enumerate(lists):
        if not ranking:
            raise ValueError(f"The list of query {query} is empty. Leave queries without ranked items out.")
        for item in ranking:
            if not 0 <= item < n_items:
                raise ValueError(
                    f"Item {item} in the list of query {query} is not one of the {n_items} items: ids run from 0 to "
                    f"{n_items - 1}."
                )
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


def listed(ranking: Int[Tensor, "R K"], weights: Tensor, n: int) -> Tensor:
    """Return (R, n) True where a candidate is in the row's list."""
    return torch.zeros(len(ranking), n, dtype=torch.float64).scatter_add(1, ranking, (weights > 0).double()) > 0


def grouped_rows(qid: object, n_rows: int) -> tuple[list[list[int]], list[object]]:
    """Return the rows of each query in the order given, and the queries' ids.

    Raises:
        ValueError: If `qid` has not one entry a row, an entry is missing, or the rows of a query are apart.
    """
    if qid is None:
        raise ValueError("`qid` is missing: say of each row which query it belongs to.")
    values = qid.tolist() if isinstance(qid, Tensor) else np.asarray(qid).tolist()
    if len(values) != n_rows:
        raise ValueError(f"`qid` must have one entry a row: {n_rows} rows, got {len(values)}.")
    groups: list[list[int]] = []
    ids: list[object] = []
    seen: set[object] = set()
    for row, value in enumerate(values):
        if value is None or (isinstance(value, float) and np.isnan(value)):
            raise ValueError(f"`qid` of row {row} is missing. Fill it, or drop the row.")
        if not ids or value != ids[-1]:
            if value in seen:
                raise ValueError(f"The rows of query {value!r} are not together (row {row}). Sort the rows by `qid`.")
            groups.append([])
            ids.append(value)
            seen.add(value)
        groups[-1].append(row)
    return groups, ids
