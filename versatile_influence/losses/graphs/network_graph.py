"""The graph that a network passes messages on, and the part of it that a few nodes depend on."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core.checks import numbers
from versatile_influence.core.tables import whole_numbers
from versatile_influence.losses.graphs.chain import Incidence


@runtime_checkable
class NodeData(Protocol):
    """What a graph is handed in as: PyTorch Geometric's `Data`, or anything with these."""

    x: Any
    edge_index: Any


@runtime_checkable
class LabelledData(NodeData, Protocol):
    """The same with a label for each node."""

    y: Any


@dataclass(frozen=True, eq=False)
class Piece:
    """Some nodes of a graph and the arcs among them.

    Attributes:
        nodes: The nodes, in order.
        which: The arcs, as numbers of the whole graph.
        arcs: Their ends, as positions in `nodes`.
    """

    nodes: Int[Tensor, " s"]
    which: Int[Tensor, " a"]
    arcs: Int[Tensor, "2 a"]


@dataclass(frozen=True, eq=False)
class NetworkGraph:
    """Nodes with features, and arcs along which messages go.

    Attributes:
        x: Features of the nodes.
        arcs: From which node to which each message goes.
        weights: Of each arc.
        directed: Whether every arc is an edge of its own; otherwise both directions are one.
        edge: The edge of each arc.
        ends: The two ends of each edge.

    Raises:
        ValueError: If an end is no node, an arc is listed twice or is a loop, or one way is missing.
    """

    x: Float[Tensor, "n d"]
    arcs: Int[Tensor, "2 a"]
    weights: Float[Tensor, " a"]
    directed: bool = False
    edge: Int[Tensor, " a"] = field(init=False)
    ends: Int[Tensor, "m 2"] = field(init=False)

    @classmethod
    def of(cls, data: NodeData, *, weight: str | None, directed: bool) -> "NetworkGraph":
        """Return the graph of `data.x`, `data.edge_index` and, where named, weights of its arcs."""
        x = numbers(data.x, "x", shape=[None, None])
        arcs = whole_numbers(data.edge_index, "edge_index", shape=[2, None], most=len(x) - 1)
        if weight is None:
            weights = torch.ones(arcs.shape[1], dtype=torch.float64)
        elif (given := getattr(data, weight, None)) is not None:
            weights = numbers(given, weight, shape=[arcs.shape[1]])
        else:
            raise ValueError(f"The graph has no attribute {weight!r}. Name the one that holds the weights of edges.")
        return cls(x, arcs, weights, directed)

    def __post_init__(self):
        start, end = self.arcs
        if len(loops := (start == end).nonzero()):
            raise ValueError(
                f"`edge_index` has a self-loop at node {int(start[loops[0, 0]])} ({len(loops)} in all). Layers add "
                "their own: take these out by torch_geometric.utils.remove_self_loops(edge_index)[0]."
            )
        n = len(self.x)
        known, counts = torch.unique(start * n + end, return_counts=True)
        if (counts > 1).any():
            twice = int(known[counts > 1][0])
            raise ValueError(
                f"`edge_index` lists the arc {twice // n}→{twice % n} twice. Use torch_geometric.utils.coalesce first."
            )
        if not self.directed and len(single := (~torch.isin(end * n + start, known)).nonzero()):
            a, b = self.arcs[:, int(single[0, 0])].tolist()
            raise ValueError(
                f"`edge_index` has the arc {a}→{b} and not {b}→{a}. Pass directed=True where each arc is an edge of "
                "its own, or add both ways: torch_geometric.utils.to_undirected(edge_index)."
            )
        low, high = (start, end) if self.directed else (torch.minimum(start, end), torch.maximum(start, end))
        edges, edge = torch.unique(low * n + high, return_inverse=True)
        object.__setattr__(self, "edge", edge)
        object.__setattr__(self, "ends", torch.stack([edges // n, edges % n], dim=1))

    @property
    def whole(self) -> Piece:
        """All of it."""
        return Piece(torch.arange(len(self.x)), torch.arange(self.arcs.shape[1]), self.arcs)

    def ball(self, nodes: Int[Tensor, " k"], hops: int) -> Bool[Tensor, " n"]:
        """Return which nodes are at most so many hops from these, along arcs either way."""
        inside = torch.zeros(len(self.x), dtype=torch.bool)
        inside[nodes] = True
        for _ in range(hops):
            neighbours = self._neighbours.lists(nodes)[1]
            nodes = torch.unique(neighbours[~inside[neighbours]])
            if not len(nodes):
                break
            inside[nodes] = True
        return inside

    def piece(self, inside: Bool[Tensor, " n"]) -> Piece:
        """Return these nodes and all arcs among them."""
        nodes = inside.nonzero()[:, 0]
        which = self._leaving.lists(nodes)[1]
        which = which[inside[self.arcs[1, which]]].sort().values
        return Piece(nodes, which, (inside.long().cumsum(0) - 1)[self.arcs[:, which]])

    @cached_property
    def order(self) -> Int[Tensor, " n"]:
        """The place of each node in an order in which neighbours are near each other (reverse Cuthill–McKee)."""
        n = len(self.x)
        matrix = sp.csr_array((np.ones(self.arcs.shape[1]), tuple(self.arcs.cpu().numpy())), shape=(n, n))
        order = sp.csgraph.reverse_cuthill_mckee(sp.csr_matrix(matrix + matrix.T), symmetric_mode=True)
        return torch.from_numpy(order.astype(np.int64)).argsort().to(self.arcs.device)

    @cached_property
    def _neighbours(self) -> Incidence:
        start, end = self.arcs
        return Incidence.of(torch.cat([start, end]), torch.cat([end, start]), len(self.x))

    @cached_property
    def _leaving(self) -> Incidence:
        return Incidence.of(self.arcs[0], torch.arange(self.arcs.shape[1]), len(self.x))

    def neighbours(self, nodes: Int[Tensor, " k"]) -> Int[Tensor, " l"]:
        """Return the nodes that an arc joins to these."""
        return self._neighbours.lists(nodes)[1]
