"""Ranking made of multi-label data, as in the paper's experiments: rows are queries, and rank their labels."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import instance, whole
from versatile_influence.core.tables import whole_numbers
from versatile_influence.datasets.ranking import MultiLabel, truncated_svd


@dataclass(frozen=True)
class Queries:
    """Queries with features and a list of items each.

    Attributes:
        x: (queries, d) features.
        lists: Item ids of each query, best first.
        n_items: How many items there are.
    """

    x: Float[Tensor, "queries d"]
    lists: list[list[int]]
    n_items: int

    def listed(self) -> Bool[Tensor, "n queries"]:
        """Return which items each query lists.

        Example:
            >>> Queries(torch.zeros(2, 1), [[0, 2], [1]], n_items=3).listed().int().tolist()
            [[1, 0], [0, 1], [1, 0]]
        """
        table = torch.zeros(self.n_items, len(self.lists), dtype=torch.bool)
        for query, items in enumerate(self.lists):
            table[items, query] = True
        return table


def drawn_labels(data: MultiLabel, count: int, *, seed: int = 0) -> list[int]:
    """Return the numbers of some labels drawn at random, in ascending order."""
    n = len(instance(data, "data", MultiLabel, "what datasets.ranking.read_arff returns").label_names)
    order = torch.randperm(n, generator=torch.Generator().manual_seed(whole(seed, "seed")))
    return sorted(order[: whole(count, "count", least=1, most=n)].tolist())


def label_queries(
    train: MultiLabel, test: MultiLabel, labels: Sequence[int], *, rank: int = 8, n_test: int = 500
) -> tuple[Queries, Queries]:
    """Return training and test queries over some of the labels, with features from a truncated SVD of training rows.

    Training queries are the rows with at least two of the labels, test queries the first `n_test` with at least one.
    A list is in ascending order of the labels' numbers.

    Args:
        train: Training rows; the singular vectors come from all of them.
        test: Test rows.
        labels: Numbers of the labels that are items.
        rank: How many features.
        n_test: How many test queries.

    Raises:
        ValueError: If no row has enough of the labels.

    Example:
        >>> import numpy as np, scipy.sparse
        >>> x = scipy.sparse.csr_matrix(np.arange(12.0).reshape(4, 3) ** 1.5)
        >>> labels = scipy.sparse.csr_matrix([[1, 1, 0], [0, 1, 1], [1, 0, 0], [1, 0, 1]])
        >>> data = MultiLabel(x, labels, ["a", "b", "c"])
        >>> queries, tests = label_queries(data, data, [0, 2], rank=2)
        >>> queries.lists, len(tests.lists)
        ([[0, 1]], 4)
    """
    for name, data in (("train", train), ("test", test)):
        instance(data, name, MultiLabel, "what datasets.ranking.read_arff returns")
    labels = whole_numbers(labels, "labels", shape=[None], most=len(train.label_names) - 1).tolist()
    n_test = whole(n_test, "n_test", least=1)
    x, x_test = truncated_svd(train.x, [test.x], rank=rank)
    lists, test_lists = train.lists(labels), test.lists(labels)
    rows = [row for row, items in enumerate(lists) if len(items) >= 2]
    test_rows = [row for row, items in enumerate(test_lists) if items][:n_test]
    if not rows or not test_rows:
        raise ValueError(
            f"{len(rows)} training rows have two of the {len(labels)} labels and {len(test_rows)} test rows one: there "
            "is nothing to rank. Choose more labels."
        )
    return (
        Queries(x[rows], [lists[row] for row in rows], len(labels)),
        Queries(x_test[test_rows], [test_lists[row] for row in test_rows], len(labels)),
    )
