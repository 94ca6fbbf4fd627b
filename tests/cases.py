"""Every loss of the library, once: the list that the property tests run over.

To add a loss, add one `Case`. `build(kept)` makes the loss from data that hold only the objects `kept`, in that order,
as if the others had never been there; `restrict(params, kept)` gives it the parameters that remain.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace

import torch

import versatile_influence as vif
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.solvers import Arnoldi, Diagonal, Nystrom, Projected

# Where data and networks are: tests/devices runs this file with another.
DEVICE = globals().get("DEVICE", "cpu")


# Every solver, such that it goes as far as it can.
SOLVERS = {
    "explicit": vif.Explicit(),
    "cg": vif.CG(),
    "cg, diagonal": vif.CG(preconditioner=Diagonal()),
    "cg, nystrom": vif.CG(preconditioner=Nystrom()),
    "woodbury": vif.Woodbury(),
    "nystrom": Nystrom(),
    "arnoldi": Arnoldi(),
    "projected": Projected(),
    "ek-fac": vif.EKFAC(num_draws=None),
    "lissa": vif.LiSSA(batch_size=None, rtol=1e-4, max_steps=20_000),
}


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
            return 0.5 * torch.randn(zeros.shape, generator=generator, dtype=torch.float64).to(zeros)

        zeros = self.loss().zeros()
        return {name: drawn(value) for name, value in zeros.items()} if isinstance(zeros, dict) else drawn(zeros)


def data(seed: int, *shape: int):
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(DEVICE)


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
        return torch.nn.Sequential(*layers).double().to(DEVICE)


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


LISTS = [[0, 3], [2, 0, 4], [1, 2], [4, 1, 3, 0], [3, 2]]


def item_lists(kind, **arguments):
    """Return the maker of a loss over items."""

    def build(kept):
        number = {item: place for place, item in enumerate(kept)}
        lists = [[number[item] for item in ranking if item in number] for ranking in LISTS]
        rows = [row for row, ranking in enumerate(lists) if ranking]
        return kind(data(2, 5, 2)[rows], [lists[row] for row in rows], n_items=len(number), penalty=0.4, **arguments)

    return build


def item_network(kept):
    """Make a ListMLE loss whose scores are a network's, with a row of its last layer for each item."""
    layers = torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, len(list(kept)))
    model = torch.nn.Sequential(*layers).double().to(DEVICE)
    names = ("2.weight", "2.bias")
    return item_lists(vif.losses.ListMLELoss, model=model, item_parameters=names)(kept)


def last_rows(params, kept):
    """Return a network's parameters with the last layer's rows of those kept."""
    return {name: value[list(kept)] if name.startswith("2.") else value for name, value in params.items()}


def query_lists(kept):
    """Make a ListMLE loss whose objects are queries."""
    lists = [LISTS[query] for query in kept]
    return vif.losses.ListMLELoss(data(2, 5, 2)[list(kept)], lists, n_items=5, penalty=0.4, objects="queries")


def graded_queries(kept):
    """Make a cross-entropy loss with gains whose objects are queries."""
    lists = [LISTS[query] for query in kept]
    gains = [[1.0 + item for item in ranking] for ranking in lists]
    x = data(2, 5, 2)[list(kept)]
    return vif.losses.SoftmaxRankingLoss(x, lists, n_items=5, gains=gains, penalty=0.4, objects="queries")


def network_of_rows(kept):
    """Make a network's squared error of rows, its outer loss a function."""
    rows = list(kept)
    x, y = data(3, 7, 2)[rows], data(4, 7)[rows]
    outer = lambda outputs, presence: (presence * (outputs[:, 0] - y) ** 2).sum()  # noqa: E731
    return vif.losses.OutputLoss(mlp(2, 1), x, outer, n_objects=len(rows), penalty=0.4)


def documents(kept, kind=vif.losses.DocumentListMLELoss, **arguments):
    """Make a loss of three and four documents a query."""
    kept = list(kept)
    qid, grades = torch.tensor([0, 0, 0, 1, 1, 1, 1]), torch.tensor([2, 0, 1, 1, 1, 0, 3])
    order = sorted(range(len(kept)), key=lambda place: int(qid[kept[place]]))
    x = data(3, 7, 2)
    rows = [kept[place] for place in order]
    return kind(x[rows], grades[rows], qid[rows], documents=order, penalty=0.4, **arguments)


def of_documents(outer, **arguments):
    """Return the maker of a loss of each query's scores."""
    return partial(documents, kind=vif.losses.DocumentLoss, outer=outer, **arguments)


def rows_of(params, kept):
    """Return the rows of the parameters of those kept."""
    return params[list(kept)]


def logistic(kept, *, outputs=False):
    """Make a logistic regression of rows in groups; the last group has no row."""
    kept, group = list(kept), torch.tensor([0, 0, 1, 2, 3, 3, 4, 2])
    rows = [row for row in range(8) if int(group[row]) in kept]
    x, sign = data(4, 8, 2)[rows], torch.sign(data(5, 8))[rows]
    place = torch.tensor([kept.index(int(group[row])) for row in rows])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return vif.losses.TermLoss(
            lambda given: torch.nn.functional.softplus(-sign * (given if outputs else x @ given)),
            place,
            outputs=vif.losses.Linear(x) if outputs else None,
            n_objects=len(kept),
            penalty=0.5,
            start=torch.zeros(2, dtype=torch.float64),
        )


def linear(kept):
    """Make the same logistic regression with its outputs named."""
    return logistic(kept, outputs=True)


def generalised(kind, answers):
    """Return the maker of a generalised linear model, one row an object."""

    def build(kept):
        rows = list(kept)
        x, y = data(4, 8, 2)[rows], torch.tensor(answers)[rows]
        return vif.losses.TermLoss(kind(y), range(len(rows)), outputs=vif.losses.Linear(x), penalty=0.5)

    return build


PAIRS = [(0, 1), (1, 2), (2, 0), (3, 1), (2, 3), (4, 0), (1, 4)]


def pairwise(kind, **arguments):
    """Return the maker of a loss of pairs of items with features; a pair dies with either item."""

    def build(kept):
        place = {item: number for number, item in enumerate(kept)}
        pairs = torch.tensor([[place[a], place[b]] for a, b in PAIRS if a in place and b in place])
        return kind(
            pairs[:, 0],
            pairs[:, 1],
            x=data(6, 5, 2)[list(kept)],
            incidence=pairs,
            n_objects=len(place),
            penalty=0.5,
            **arguments,
        )

    return build


def triplets(kept, **arguments):
    """Make a triplet loss of six points."""
    place = {item: number for number, item in enumerate(kept)}
    every = [(0, 1, 2), (3, 2, 4), (5, 1, 0), (4, 5, 3), (1, 2, 5)]
    rows = [[place[i] for i in triplet] for triplet in every if all(i in place for i in triplet)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return vif.losses.TripletLoss(rows, x=data(7, 6, 3)[list(kept)], dim=2, penalty=3.0, **arguments)


BATCHES = [[0, 1, 2], [3, 4, 5, 6]]


def contrastive(*, classes=None, **arguments):
    """Return the maker of a contrastive loss over two batches of unequal size."""
    classes = None if classes is None else torch.tensor(classes)
    counts = None
    if classes is not None:
        counts = torch.zeros(7, dtype=torch.float64)
        for batch in BATCHES:
            for i in batch:
                counts[i] = 2 * sum(int(classes[j] == classes[i]) for j in batch) - 1

    def build(kept):
        kept, place = list(kept), {item: number for number, item in enumerate(kept)}
        batches = [[place[item] for item in batch if item in place] for batch in BATCHES]
        return vif.losses.InfoNCELoss(
            data(8, 2, 7, 3)[:, kept],
            batches=batches,
            temperature=0.7,
            penalty=0.5,
            classes=None if classes is None else classes[kept],
            positive_counts=None if counts is None else counts[kept],
            **arguments,
        )

    return build


def walk_embedding(**arguments):
    """Return the maker of a walk embedding of a small weighted graph that stays whole without any one node."""
    ends = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0], [0, 2], [1, 4], [3, 5], [2, 5]])

    def build(kept):
        place = {node: position for position, node in enumerate(kept)}
        left = [number for number, pair in enumerate(ends.tolist()) if all(node in place for node in pair)]
        moved = torch.tensor([[place[a], place[b]] for a, b in ends[left].tolist()])
        graph = Graph(len(place), moved, 1.0 + torch.tensor(left) % 3)
        return vif.losses.WalkEmbeddingLoss(graph, length=5, window=2, dim=2, penalty=0.3, **arguments)

    return build


class Convolution(torch.nn.Module):
    """Two graph convolutions with tanh between."""

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)

    def forward(self, x, edge_index, edge_weight):
        """Return a row a node."""
        start, end = edge_index
        degree = torch.ones_like(x[:, 0]).index_add(0, end, edge_weight)
        share = edge_weight / (degree[start] * degree[end]).sqrt()
        for layer in (self.first, self.second):
            x = layer(x / degree[:, None]).index_add(0, end, share[:, None] * layer(x)[start]).tanh()
        return x


def graph_network(kept):
    """Make a loss of a graph network whose objects are nodes."""
    ends = torch.tensor([[0, 1], [1, 2], [2, 3], [3, 4], [4, 5], [5, 0], [0, 2], [1, 4], [3, 5], [2, 5]])
    place = {node: position for position, node in enumerate(kept)}
    left = torch.tensor([[place[a], place[b]] for a, b in ends.tolist() if a in place and b in place]).T
    rows = list(kept)
    arcs = torch.cat([left, left.flip(0)], dim=1)
    some = SimpleNamespace(x=data(7, 6, 2)[rows], edge_index=arcs, y=(torch.arange(6) % 2)[rows])
    return vif.losses.GraphNetworkLoss(Convolution().to(DEVICE), some, objects="nodes", penalty=0.3)


def skip_gram(**arguments):
    """Return the maker of a skip-gram loss for given counts."""
    counts = data(9, 6, 6).square()

    def build(kept):
        rows = torch.tensor(list(kept))
        return vif.losses.SkipGramLoss(counts[rows][:, rows], dim=2, penalty=0.3, **arguments)

    return build


def walk_point():
    """Return parameters of the walk embedding."""
    return {"embedding": data(3, 6, 2), "output": data(4, 6, 2)}


def rows(params, kept):
    """Return the rows of those kept, in every tensor."""
    return {name: value[list(kept)] for name, value in params.items()}


NEGATIVES = {"model": vif.losses.NegativeSampling(negatives=3.0)}

SEEN = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 0], [2, 3], [2, 1], [3, 4], [3, 2]])
BESIDE = torch.tensor([[2, 4], [3, 4], [1, 3], [3, 4], [0, 2], [2, 4], [0, 1], [1, 3]])


def factorisation(kind, objects):
    """Return the maker of a matrix factorisation of four users, five items and eight interactions."""

    def build(kept):
        kept, rows = list(kept), list(range(8))
        users, items = SEEN.unbind(1)
        if objects == "users":
            rows = [row for row in rows if int(users[row]) in kept]
            users = torch.tensor([kept.index(int(user)) if int(user) in kept else -1 for user in users])
        else:
            rows = kept
        ratings = data(5, 8)[rows] if kind == "squared" else None
        return vif.losses.MatrixFactorisationLoss(
            users[rows],
            items[rows],
            kind=kind,
            ratings=ratings,
            negatives=None if kind == "squared" else BESIDE[rows],
            dim=2,
            objects=objects,
            n_users=len(kept) if objects == "users" else 4,
            n_items=5,
            penalty=0.6,
        )

    return build


def users_of(params, kept):
    """Return the parameters with the rows of users kept."""
    return {name: value[list(kept)] if name.startswith("user") else value for name, value in params.items()}


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
    Case("ListMLE, items", 5, item_lists(vif.losses.ListMLELoss), rows_of),
    Case("softmax ranking, items", 5, item_lists(vif.losses.SoftmaxRankingLoss), rows_of),
    Case("ListMLE, queries", 5, query_lists, decomposable=True),
    Case("ListMLE, documents", 7, documents),
    Case("ListMLE, items, network", 5, item_network, last_rows, convex=False),
    Case("ListMLE, documents, network", 7, partial(documents, model=mlp(2, 1)), convex=False),
    Case("LambdaLoss, documents", 7, of_documents(vif.losses.LambdaLoss()), convex=False),
    Case("LambdaLoss 2@2, documents", 7, of_documents(vif.losses.LambdaLoss(mu=None, k=2)), convex=False),
    Case("ApproxNDCG, documents", 7, of_documents(vif.losses.ApproxNDCG()), convex=False),
    Case("ApproxNDCG, network", 7, of_documents(vif.losses.ApproxNDCG(), model=mlp(2, 1)), convex=False),
    Case("softmax ranking with gains, queries", 5, graded_queries, decomposable=True),
    Case("any network", 7, network_of_rows, decomposable=True, convex=False),
    Case("logistic regression of groups", 6, logistic, decomposable=True, unused=5),
    Case("logistic regression of groups, linear outputs", 6, linear, decomposable=True, unused=5),
    Case(
        "least squares",
        8,
        generalised(vif.losses.SquaredError, [0.3, -1.0, 2.0, 0.0, 1.0, 4.0, -2.0, 0.5]),
        decomposable=True,
    ),
    Case(
        "logistic regression",
        8,
        generalised(vif.losses.Logistic, [0.0, 1.0, 1.0, 0.0, 0.25, 1.0, 0.0, 1.0]),
        decomposable=True,
    ),
    Case(
        "Poisson regression",
        8,
        generalised(vif.losses.Poisson, [0.0, 1.0, 3.0, 0.0, 1.0, 2.0, 5.0, 0.0]),
        decomposable=True,
    ),
    Case("RankNet", 5, pairwise(vif.losses.PairwiseLoss)),
    Case("RankNet, network", 5, pairwise(vif.losses.PairwiseLoss, model=mlp(2, 1)), convex=False),
    Case("hinge of pairs", 5, pairwise(vif.losses.PairwiseLoss, margin=1.0), convex=False),
    *(
        Case(f"factors, {kind}, {objects}", n, factorisation(kind, objects), restrict, convex=False)
        for kind in ("bpr", "squared", "logistic", "softmax")
        for objects, n, restrict in (("interactions", 8, lambda params, kept: params), ("users", 4, users_of))
    ),
    Case("triplets", 6, triplets, convex=False),
    Case("triplets, network", 6, partial(triplets, model=mlp(3, 2)), convex=False),
    Case("SimCLR", 7, contrastive(), convex=False),
    Case("SimCLR, network", 7, contrastive(model=mlp(3, 2)), convex=False),
    Case("CLIP", 7, contrastive(across=True), convex=False),
    Case("queries and documents", 7, contrastive(one_way=True), convex=False),
    Case("SupCon", 7, contrastive(classes=[0, 0, 1, 1, 0, 1, 0]), convex=False),
    Case("walks", 6, walk_embedding(), rows, walk_point, convex=False),
    Case("walks, node2vec", 6, walk_embedding(p=0.5, q=3.0), rows, walk_point, convex=False),
    Case(
        "walks, negative sampling",
        6,
        walk_embedding(**NEGATIVES),
        rows,
        walk_point,
        convex=False,
    ),
    Case("graph network", 6, graph_network, convex=False),
    Case("skip-gram", 6, skip_gram(), rows, walk_point, convex=False),
    Case(
        "skip-gram, negative sampling",
        6,
        skip_gram(**NEGATIVES),
        rows,
        walk_point,
        convex=False,
    ),
]
