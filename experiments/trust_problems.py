"""The problems of `trust`: a loss, trained parameters, a target and who is removed, from convex to anything but.

Each is a function that returns a `Trial`. Those with `convex` have one minimum without anybody; in the others a removal
may lead into another valley.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass

import networkx as nx
import numpy as np
import torch
from sklearn.datasets import load_breast_cancer, load_digits

import versatile_influence as vif
from versatile_influence.datasets import metabric
from versatile_influence.losses import (
    CoxLoss,
    Linear,
    ListMLELoss,
    Logistic,
    OutputLoss,
    PairwiseLoss,
    TermLoss,
    WalkEmbeddingLoss,
)

DTYPE = torch.float64


@dataclass(frozen=True)
class Trial:
    """One problem.

    Attributes:
        loss: The loss.
        params: Trained to a minimum.
        target: What is explained.
        convex: Whether it has one minimum.
        objects: Which are removed; None for all.
    """

    loss: vif.Loss
    params: object
    target: object
    convex: bool
    objects: list[int] | None = None


def drawn(seed: int, *shape: int) -> torch.Tensor:
    """Return standard normal numbers."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DTYPE)


def cox(outlier: bool = False) -> Trial:
    """Return the paper's Cox model on METABRIC; with `outlier`, one patient's covariates are ten times as large."""
    data = metabric()
    train = data.train.copy()
    columns = [name for name in train if name not in ("duration", "event")]
    if outlier:
        train.loc[train.index[train["event"] == 1][0], columns] *= 10
    loss = CoxLoss.from_frame(train, duration_col="duration", event_col="event")
    return Trial(loss, vif.minimize(loss, loss.zeros()), loss.relative_risk(data.test[columns]), convex=True)


def logistic() -> Trial:
    """Return logistic regression on breast cancer (569 × 30), predicting 20 held-out rows."""
    x, y = (torch.as_tensor(part, dtype=DTYPE) for part in load_breast_cancer(return_X_y=True))
    x = (x - x.mean(0)) / x.std(0)
    train, test = x[:-20], x[-20:]
    loss = TermLoss(Logistic(y[:-20]), range(len(train)), outputs=Linear(train), penalty=1.0)
    return Trial(loss, vif.minimize(loss, loss.zeros()), lambda theta: test @ theta, convex=True)


def lists() -> Trial:
    """Return listwise ranking of 12 items by 60 queries, items removed, the loss of 20 other queries explained."""
    x, taste, n = drawn(0, 80, 5), drawn(1, 12, 5), 12
    utility = x @ taste.T + drawn(2, 80, n)
    rankings = [utility[query].argsort(descending=True)[:6].tolist() for query in range(80)]
    loss = ListMLELoss(x[:60], rankings[:60], n_items=n, penalty=1.0)
    test = ListMLELoss(x[60:], rankings[60:], n_items=n)
    return Trial(loss, vif.minimize(loss, loss.zeros()), vif.losses.query_loss(test), convex=True)


def area_pairs() -> Trial:
    """Return the logistic surrogate of the area under the curve: 120 rows removed, all pairs of one of each class."""
    x, noise = drawn(0, 120, 5), drawn(1, 120)
    positive = x @ drawn(2, 5) + noise > 0.5
    winners = positive.nonzero()[:, 0].repeat_interleave(int((~positive).sum()))
    losers = (~positive).nonzero()[:, 0].repeat(int(positive.sum()))
    loss = PairwiseLoss(
        winners, losers, x=x, incidence=torch.stack([winners, losers], 1).tolist(), n_objects=120, penalty=1.0
    )
    test = drawn(3, 30, 5)
    return Trial(loss, vif.minimize(loss, loss.zeros()), lambda theta: test @ theta, convex=True)


def graph(which: nx.Graph, *, penalty: float, pairs: list | None = None, **arguments) -> Trial:
    """Return a walk embedding in two dimensions, nodes removed, the losses of 20 pairs of nodes explained."""
    draw, nodes = random.Random(0), list(which)
    pairs = pairs or [tuple(draw.sample(nodes, 2)) for _ in range(20)]
    settings = {"length": 6, "window": 3, "dim": 2, "penalty": penalty} | arguments
    loss = WalkEmbeddingLoss(which, **settings)
    return Trial(loss, vif.minimize(loss, loss.start()), loss.pair_losses(pairs), convex=False)


def digraph() -> Trial:
    """Return a weighted digraph of twelve nodes, with dead ends."""
    arcs = [(1, 2, 1), (2, 3, 1), (3, 4, 2), (4, 5, 1), (5, 6, 1), (1, 7, 1), (7, 8, 1), (8, 9, 4), (9, 10, 1)]
    which = nx.DiGraph()
    which.add_weighted_edges_from([*arcs, (8, 11, 1), (11, 12, 2)])
    return graph(
        which, penalty=0.1, directed=True, weight="weight", length=14, window=2, pairs=[(1, 9), (3, 5), (8, 12)]
    )


def cox_network(activation: Callable[[], torch.nn.Module], seed: int) -> Trial:
    """Return a Cox network of eight units on 150 patients of METABRIC, all removed, 20 test patients explained."""
    data = metabric()
    columns = [name for name in data.train if name not in ("duration", "event")]
    train = data.train.iloc[:150]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = torch.nn.Linear(len(columns), 8), activation(), torch.nn.Linear(8, 1, bias=False)
        model = torch.nn.Sequential(*layers).double()
    loss = CoxLoss.from_frame(train, duration_col="duration", event_col="event", model=model, penalty=1.0)
    return Trial(loss, vif.minimize(loss, loss.zeros()), loss.log_risk(data.test[columns].iloc[:20]), convex=False)


def digits() -> Trial:
    """Return a tanh network on 300 digits (64 → 6 → 10), 60 of them removed, the logits of 10 others explained."""
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.as_tensor(pixels / 16, dtype=DTYPE), torch.as_tensor(labels)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(64, 6), torch.nn.Tanh(), torch.nn.Linear(6, 10)).double()

    def outer(logits: torch.Tensor, presence: torch.Tensor) -> torch.Tensor:
        return presence @ torch.nn.functional.cross_entropy(logits, y[:300], reduction="none")

    loss = OutputLoss(model, x[:300], outer, n_objects=300, penalty=0.5)
    params = vif.minimize(loss, loss.zeros())

    def target(params) -> torch.Tensor:
        logits = torch.func.functional_call(model, params, (x[300:310],))
        return logits.gather(1, y[300:310, None])[:, 0]

    removed = torch.randperm(300, generator=torch.Generator().manual_seed(0))[:60].tolist()
    return Trial(loss, params, target, convex=False, objects=removed)


class Factorisation(vif.Loss):
    """Squared error of a table as users times items, a row of each an object; rotations do nothing."""

    def __init__(self, users: int = 20, items: int = 15, rank: int = 3):
        draw = np.random.default_rng(3)
        table = draw.normal(size=(users, rank)) @ draw.normal(size=(rank, items))
        self.table = torch.tensor(table + 0.3 * draw.normal(size=(users, items)))
        self.seen = torch.tensor(draw.random((users, items)) < 0.6).double()
        self.users, self.rank, self.penalty, self.n_objects = users, rank, 1.0, users + items

    def __call__(self, params, presence):
        """Return the loss."""
        there = self.seen * presence[: self.users, None] * presence[None, self.users :]
        squares = there * (self.table - params["users"] @ params["items"].T) ** 2
        return squares.sum() / 2 + self.penalty / 2 * sum(part.square().sum() for part in params.values())

    def owned(self, i):
        """Return the object's own row."""
        return torch.arange(i * self.rank, (i + 1) * self.rank)

    def null_directions(self, params, presence):  # noqa: ARG002
        """Return the rotations of all rows."""
        found = {}
        for a in range(self.rank):
            for b in range(a + 1, self.rank):
                turn = torch.zeros(self.rank, self.rank, dtype=DTYPE)
                turn[a, b], turn[b, a] = 1.0, -1.0
                found[f"turn {a} {b}"] = {name: part @ turn for name, part in params.items()}
        return found


def factorisation() -> Trial:
    """Return matrix factorisation, users and items removed, three entries of their product explained."""
    loss = Factorisation()
    start = {"users": drawn(0, 20, 3), "items": drawn(1, 15, 3)}
    cells = [(0, 0), (1, 2), (3, 4)]

    def target(params) -> torch.Tensor:
        return torch.stack([params["users"][user] @ params["items"][item] for user, item in cells])

    others = [i for i in range(35) if i not in (0, 1, 3, 20, 22, 24)]
    return Trial(loss, vif.minimize(loss, start), target, convex=False, objects=others)


PROBLEMS: dict[str, Callable[[], Trial]] = {
    "Cox, METABRIC": cox,
    "Cox, METABRIC with an outlier": lambda: cox(outlier=True),
    "logistic regression": logistic,
    "ListMLE": lists,
    "AUC pairs": area_pairs,
    "Karate": lambda: graph(nx.karate_club_graph(), penalty=0.1),
    "Florentine families": lambda: graph(nx.florentine_families_graph(), penalty=0.1),
    "Davis": lambda: graph(nx.davis_southern_women_graph(), penalty=0.1),
    "Les Miserables, weighted": lambda: graph(nx.les_miserables_graph(), penalty=0.1, weight="weight"),
    "weighted digraph": digraph,
    "Cox network, tanh, start 0": lambda: cox_network(torch.nn.Tanh, 0),
    "Cox network, tanh, start 1": lambda: cox_network(torch.nn.Tanh, 1),
    "Cox network, softplus": lambda: cox_network(torch.nn.Softplus, 0),
    "digits network": digits,
    "matrix factorisation": factorisation,
}
