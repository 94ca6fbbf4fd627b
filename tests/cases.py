"""Every loss of the library, once: the list that the property tests run over.

To add a loss, add one `Case`. `build(kept)` makes the loss from data that hold only the objects `kept`, in that order,
as if the others had never been there; `restrict(params, kept)` gives it the parameters that remain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

import versatile_influence as vif
from versatile_influence.losses.graph import Graph


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


def cox(ties: str, *, entry: bool = False, strata: bool = False, weights: bool = False, network: bool = False):
    """Return the maker of a Cox loss with ties."""
    x, durations = data(1, 12, 2), torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8])
    events = torch.tensor([1, 1, 0, 1, 1, 0, 1, 1, 1, 1, 0, 1])
    start, stratum = torch.arange(12) % 4 - 2.5, torch.arange(12) % 2
    weight, model = 0.5 + torch.arange(12) % 5, mlp(2, 1) if network else None

    def build(kept):
        rows = list(kept)
        return vif.losses.CoxLoss(
            x[rows],
            durations[rows],
            events[rows],
            ties=ties,
            entry=start[rows] if entry else None,
            strata=stratum[rows] if strata else None,
            weights=weight[rows] if weights else None,
            penalty=0.3,
            model=model,
        )

    return build


def mlp(inputs: int, outputs: int) -> torch.nn.Module:
    """Return a small smooth network in float64, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Linear(inputs, 3), torch.nn.Tanh(), torch.nn.Linear(3, outputs, bias=False)
        return torch.nn.Sequential(*layers).double()


def start_stop(ties: str):
    """Return the maker of a Cox loss whose objects are subjects with several rows; those of one subject overlap."""
    x, subject = data(2, 16, 2), torch.arange(16) // 2
    start = torch.tensor([0.0, 2.0] * 8)
    stop = torch.tensor([2, 5, 2, 7, 2, 6, 2, 9, 2, 5, 2, 8, 2, 6, 3, 5])
    event = torch.tensor([0, 1, 1, 1, 0, 0, 0, 1, 0, 1, 1, 0, 0, 1, 0, 1])

    def build(kept):
        rows = torch.cat([torch.nonzero(subject == i).squeeze(1) for i in kept])
        return vif.losses.CoxLoss(
            x[rows], stop[rows], event[rows], ties=ties, entry=start[rows], subjects=subject[rows], penalty=0.3
        )

    return build


def walk_embedding(*, penalty: float, p: float = 1.0, q: float = 1.0):
    """Return the maker of a walk embedding of a small weighted graph that stays whole without any one node."""
    ends = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0], [0, 2], [1, 4], [3, 5], [2, 5]])

    def build(kept):
        place = {node: position for position, node in enumerate(kept)}
        left = [number for number, pair in enumerate(ends.tolist()) if all(node in place for node in pair)]
        moved = torch.tensor([[place[a], place[b]] for a, b in ends[left].tolist()])
        graph = Graph(len(place), moved, 1.0 + torch.tensor(left) % 3)
        return vif.losses.WalkEmbeddingLoss(graph, length=5, window=2, dim=2, penalty=penalty, p=p, q=q)

    return build


def walk_point():
    """Return parameters of the walk embedding."""
    return {"embedding": data(3, 6, 2), "output": data(4, 6, 2)}


def rows(params, kept):
    """Return the rows of those kept, in every tensor."""
    return {name: value[list(kept)] for name, value in params.items()}


LOSSES = [
    Case("cox, efron", 12, cox("efron")),
    Case("cox, breslow", 12, cox("breslow")),
    Case("cox, efron, entry", 12, cox("efron", entry=True)),
    Case("cox, breslow, weights", 12, cox("breslow", weights=True)),
    Case("cox, efron, strata, weights", 12, cox("efron", strata=True, weights=True)),
    Case("cox, efron, everything", 12, cox("efron", entry=True, strata=True, weights=True)),
    Case("cox, breslow, everything", 12, cox("breslow", entry=True, strata=True, weights=True)),
    Case("cox, efron, subjects", 8, start_stop("efron")),
    Case("cox, breslow, subjects", 8, start_stop("breslow")),
    Case("cox, efron, network", 12, cox("efron", network=True), convex=False),
    Case("walks", 6, walk_embedding(penalty=0.3), rows, walk_point, convex=False),
    Case("walks, node2vec", 6, walk_embedding(penalty=0.3, p=0.5, q=3.0), rows, walk_point, convex=False),
]
