"""Terms of a graph network, each of the outputs at one node or at the two ends of a link, and who takes part in them.

    L(θ, b) = Σ_t ℓ(z(θ, b) at t, y_t) Π_{objects of t} b

The outputs z depend on who is present. A removal changes them within reach only: `hops` messages away from where an
edge, a degree or a feature changes; and what is computed there depends on as many hops again, and on degrees one
further. Differences are computed on that part of the graph, exactly, for some removals near each other at once.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad
from tqdm.auto import tqdm

from versatile_influence.core.derivatives import by_masks, jacobian_products, numbers_held
from versatile_influence.core.loss import Loss, Objects
from versatile_influence.core.ravel import Params, first, flat, shaper
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import PATIENCE, at_once
from versatile_influence.losses.graphs.chain import Incidence
from versatile_influence.losses.graphs.messages import MessageNetwork
from versatile_influence.losses.graphs.network_graph import NetworkGraph, Piece

Kind = Literal["edges", "nodes", "features", "labels"]
# From outputs at the nodes of each term, (T, c) or (T, 2, c), and what is known of them, to one number a term.
Criterion = Callable[[Tensor, Tensor], Tensor]
# Directions up to which all removals are derived together: each takes as long as half a gradient of every removal.
ALONG = 2


@dataclass(frozen=True, eq=False)
class Passing:
    """A network on a graph from which objects can be removed.

    Attributes:
        network: The network.
        graph: The graph.
        objects: What can be removed.
        hops: How many messages away an output still depends on a feature.
    """

    network: MessageNetwork
    graph: NetworkGraph
    objects: Kind
    hops: int

    def __call__(self, params: Params, presence: Float[Tensor, " k"], piece: Piece | None = None) -> Tensor:
        """Return the outputs at the nodes of a piece; None for all."""
        graph = self.graph
        # Of the whole graph the features are no copy.
        x, piece = (graph.x, graph.whole) if piece is None else (graph.x[piece.nodes], piece)
        x, here = x.to(first(params)), torch.ones(len(piece.which)).to(presence)
        if self.objects == "edges":
            here = presence[graph.edge[piece.which]]
        elif self.objects == "nodes":
            start, end = piece.nodes[piece.arcs]
            here = presence[start] * presence[end]
        elif self.objects == "features":
            x = x * presence[piece.nodes].to(x)[:, None]
        return self.network(params, x, piece.arcs, here, graph.weights[piece.which])

    @cached_property
    def width(self) -> int:
        """How many outputs a node has."""
        present = torch.ones(len(self.graph.x) if self.objects != "edges" else len(self.graph.ends))
        with torch.no_grad():
            return self(self.network.probed, present.double()).shape[1]

    @cached_property
    def order(self) -> Int[Tensor, " o"]:
        """A place for each object, so that neighbours are near each other."""
        place = self.graph.order
        if self.objects == "edges":
            return place[self.graph.ends].amin(1)
        return place if self.objects != "labels" else torch.arange(len(place))

    def changed(self, members: Int[Tensor, " m"]) -> Int[Tensor, " s"]:
        """Return the nodes whose outputs may change without these objects."""
        if self.objects == "labels":
            return members[:0]
        touched = self.graph.ends[members].reshape(-1) if self.objects == "edges" else members
        if self.objects == "nodes":
            # Their neighbours lose a message, and a degree that weighs other messages.
            touched = torch.cat([touched, self.graph.neighbours(members)])
        return self.graph.ball(touched, self.hops).nonzero()[:, 0]

    def around(self, nodes: Int[Tensor, " s"]) -> tuple[Piece, Int[Tensor, " v"]]:
        """Return the piece that the outputs at these nodes depend on, and the place of each node in it."""
        inside = self.graph.ball(torch.unique(nodes), self.hops + 1)
        return self.graph.piece(inside), inside.long().cumsum(0) - 1


@dataclass(frozen=True, eq=False)
class Reading:
    """Numbers that are read off the outputs.

    Attributes:
        nodes: (T, m) the nodes whose outputs each is made of.
        known: (T, …) what is known of each: a class, whether a link is there.
        criterion: From outputs at the nodes and what is known to one number a term.
    """

    nodes: Int[Tensor, "T m"]
    known: Tensor
    criterion: Criterion

    def __call__(self, outputs: Tensor, which: Int[Tensor, " s"], place: Int[Tensor, " v"] | None = None) -> Tensor:
        """Return those numbered `which`, of outputs in whose rows node v is at `place[v]`; None for row v."""
        nodes, known = self.nodes[which], self.known[which]
        rows = outputs[nodes if place is None else place[nodes]]
        rows = rows[:, 0] if nodes.shape[1] == 1 else rows
        values = self.criterion(rows, known.to(rows) if known.is_floating_point() else known)
        if not isinstance(values, Tensor) or values.shape != which.shape:
            given = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(f"`criterion` must return one number a row, shape {tuple(which.shape)}, got {given}.")
        return values

    @property
    def every(self) -> Int[Tensor, " T"]:
        """The numbers of all."""
        return torch.arange(len(self.nodes))

    @cached_property
    def _of_node(self) -> Incidence:
        count = int(self.nodes.max()) + 1
        terms = self.every.repeat_interleave(self.nodes.shape[1])
        return Incidence.of(self.nodes.reshape(-1), terms, count)

    def at(self, nodes: Int[Tensor, " s"]) -> Int[Tensor, " r"]:
        """Return which are read off any of these nodes."""
        return torch.unique(self._of_node.lists(nodes[nodes < len(self._of_node.first) - 1])[1])


class GraphTerms(Loss):
    """Terms read off the outputs of a network on a graph, as a loss of its parameters.

    Args:
        passing: The network on its graph.
        reading: The terms.
        members: (T, m) the objects that each term dies with, n past the end of a row.
        n_objects: n.
    """

    def __init__(self, passing: Passing, reading: Reading, members: Int[Tensor, "T m"], n_objects: int):
        self.passing, self.reading, self.members, self.n_objects = passing, reading, members, n_objects
        self.n_terms = len(members)
        terms = torch.arange(len(members)).repeat_interleave(members.shape[1])
        self._dying = Incidence.of(members.reshape(-1), terms, n_objects + 1)

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return self.terms(params, presence).sum()

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        values = self.reading(self.passing(params, presence), self.reading.every)
        return self._alive(presence, self.reading.every) * values

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        return self._each(params, objects, lambda some: self._differences(params, some))

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of the removal differences, or its product with directions.

        Along a few directions by derivatives of all differences together, where what the removals share, such as the
        first product with the features, is had once; otherwise by a gradient each.
        """
        theta, unravel = flat(params), shaper(params)

        def products(some: "Nearby") -> Tensor:
            if directions is not None and directions.shape[1] <= ALONG:
                return jacobian_products(lambda vector: self._differences(unravel(vector), some), theta, directions)
            slope = grad(lambda vector, presence: self._without(unravel(vector), presence, some))
            rows = slope(theta, self.everyone(params)) - by_masks(lambda presence: slope(theta, presence), some.masks)
            return rows if directions is None else rows @ directions

        return self._each(params, objects, products)

    def gradients_without(self, params: Params, removals: Removals) -> Float[Tensor, "k p"]:
        return self.gradient(params, self.everyone(params)) - self.removal_products(params, None, removals)

    def _each(self, params: Params, objects: Objects, function: Callable[["Nearby"], Tensor]) -> Tensor:
        """Return `function` of all removals, some neighbours at a time."""
        removals = Removals.of(objects, self.n_objects)
        groups, masks = removals.groups(), removals.presences(first(params))
        places = self.passing.order[torch.stack([members[0] for members in groups])].argsort()
        size = at_once(numbers_held(self, params, self.everyone(params)))
        shown = tqdm(places.split(size), desc="removing", unit=f" × {size} removals", delay=PATIENCE, leave=False)
        found = [function(self._nearby(torch.cat([groups[i] for i in rows]), masks[rows])) for rows in shown]
        return torch.cat(found)[places.argsort()]

    def _nearby(self, members: Int[Tensor, " m"], masks: Float[Tensor, "k n"]) -> "Nearby":
        dying = self._dying.lists(members)[1]
        which = torch.unique(torch.cat([self.reading.at(self.passing.changed(members)), dying]))
        return Nearby(masks, which, *self.passing.around(self.reading.nodes[which].reshape(-1)))

    def _differences(self, params: Params, some: "Nearby") -> Float[Tensor, " k"]:
        without = by_masks(lambda presence: self._without(params, presence, some), some.masks)
        return self._without(params, self.everyone(params), some) - without

    def _without(self, params: Params, presence: Float[Tensor, " n"], some: "Nearby") -> Float[Tensor, ""]:
        """Return the sum of the terms within reach."""
        if not len(some.which):
            return 0.0 * (flat(params).sum() + presence.sum())
        values = self.reading(self.passing(params, presence, some.piece), some.which, some.place)
        return (self._alive(presence, some.which) * values).sum()

    def _alive(self, presence: Float[Tensor, " n"], which: Int[Tensor, " s"]) -> Float[Tensor, " s"]:
        return torch.cat([presence, presence.new_ones(1)])[self.members[which]].prod(dim=1)


@dataclass(frozen=True, eq=False)
class Nearby:
    """Removals near each other, and all that changes without any of them.

    Attributes:
        masks: Presence without each.
        which: The terms within reach.
        piece: The part of the graph that these depend on.
        place: The place of each node in it.
    """

    masks: Float[Tensor, "k n"]
    which: Int[Tensor, " s"]
    piece: Piece
    place: Int[Tensor, " v"]
