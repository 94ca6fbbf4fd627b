"""Every loss of the library, once: the list that the property tests run over.

To add a loss, add one `Case`. `build(kept)` makes the loss from data that hold only the objects `kept`, in that order,
as if the others had never been there; `restrict(params, kept)` gives it the parameters that remain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import versatile_influence as vif


@dataclass(frozen=True)
class Case:
    """One loss on small made-up data.

    Attributes:
        name: For the test's name.
        n_objects: How many objects.
        build: Makes the loss from the data of some objects only.
        restrict: The parameters that remain when only some objects are there.
        point: Parameters at which to look, or None for drawn ones of the shape of `zeros()`.
        decomposable: Whether the loss is one term an object, plus terms without objects.
        unused: An object in no term, or None.
        convex: Whether it has one minimum, so that objects may be permuted or the loss scaled there.
    """

    name: str
    n_objects: int
    build: Callable[[Sequence[int]], object]
    restrict: Callable[[object, Sequence[int]], object] = lambda params, kept: params
    point: Callable[[], object] | None = None
    decomposable: bool = False
    unused: int | None = None
    convex: bool = True

    def loss(self):
        """Return the loss with everybody."""
        return self.build(range(self.n_objects))

    def params(self, seed: int = 0):
        """Return parameters at which nothing is special."""
        if self.point is not None:
            return self.point()
        generator = torch.Generator().manual_seed(seed)

        def drawn(zeros):
            return 0.5 * torch.randn(zeros.shape, generator=generator, dtype=torch.float64)

        zeros = self.loss().zeros()
        return {name: drawn(value) for name, value in zeros.items()} if isinstance(zeros, dict) else drawn(zeros)


def data(seed: int, *shape: int):
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cox(ties: str):
    """Return the maker of a Cox loss with ties."""
    x, durations = data(1, 12, 2), torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
    events = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1])

    def build(kept):
        rows = list(kept)
        return vif.losses.CoxLoss(x[rows], durations[rows], events[rows], ties=ties, penalty=0.3)

    return build


LISTS = [[0, 3], [2, 0, 4], [1, 2], [4, 1, 3, 0], [3, 2]]


def item_lists(kind, **arguments):
    """Return the maker of a loss over items, of which the last is in no list."""

    def build(kept):
        number = {item: place for place, item in enumerate(kept)}
        lists = [[number[item] for item in ranking if item in number] for ranking in LISTS]
        rows = [row for row, ranking in enumerate(lists) if ranking]
        return kind(data(2, 5, 2)[rows], [lists[row] for row in rows], n_items=len(number), penalty=0.4, **arguments)

    return build


def query_lists(kept):
    """Make a ListMLE loss whose objects are queries."""
    lists = [LISTS[query] for query in kept]
    return vif.losses.ListMLELoss(data(2, 5, 2)[list(kept)], lists, n_items=5, penalty=0.4, objects="queries")


def documents(kept):
    """Make a ListMLE loss of two and three documents a query, ranked to the second place."""
    kept = list(kept)
    qid, grades = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([2, 0, 1, 1, 1, 0, 3])
    order = sorted(range(len(kept)), key=lambda place: int(qid[kept[place]]))
    x = data(3, 7, 2)
    rows = [kept[place] for place in order]
    return vif.losses.DocumentListMLELoss(x[rows], grades[rows], qid[rows], documents=order, penalty=0.4)


def rows_of(params, kept):
    """Return the rows of the parameters of those kept."""
    return params[list(kept)]


LOSSES = [
    Case("cox, efron", 12, cox("efron")),
    Case("cox, breslow", 12, cox("breslow")),
    Case("ListMLE, items", 5, item_lists(vif.losses.ListMLELoss), rows_of),
    Case("softmax ranking, items", 5, item_lists(vif.losses.SoftmaxRankingLoss), rows_of),
    Case("ListMLE, queries", 5, query_lists, decomposable=True),
    Case("ListMLE, documents", 7, documents),
]
