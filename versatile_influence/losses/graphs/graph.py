"""Graphs as the walk losses need them: each edge once, with a weight, checked at the door."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import array, numbers, whole
from versatile_influence.core.labels import names
from versatile_influence.core.sizes import DEAD_END, LARGEST_WEIGHT
from versatile_influence.core.tables import whole_numbers
from versatile_influence.losses.graphs.edge_list import listed


@dataclass(frozen=True)
class Graph:
    """Nodes 0…n−1 and weighted edges between them.

    Attributes:
        n_nodes: How many nodes there are.
        ends: The two ends of each edge, each edge once; from ends[:, 0] to ends[:, 1] where directed.
        weights: Positive weight of each edge; a walk follows an edge with probability proportional to it.
        directed: Whether an edge is walked in one direction only.
        labels: The user's names of the nodes.

    Raises:
        ValueError: If there are fewer than two nodes, an end is no node, an edge is a self-loop or listed twice, a
            weight is not positive and finite, or two nodes share a label.

    Example:
        >>> Graph(3, torch.tensor([[0, 1], [1, 2]]), torch.ones(2)).degrees().tolist()
        [1.0, 2.0, 1.0]
    """

    n_nodes: int
    ends: Int[Tensor, "m 2"]
    weights: Float[Tensor, " m"]
    directed: bool = False
    labels: Sequence[Hashable] = field(default=())

    def __post_init__(self):
        n = whole(self.n_nodes, "n_nodes")
        if n < 2:
            raise ValueError(f"A walk needs at least two nodes, joined by an edge. This graph has {n}.")
        ends = whole_numbers(self.ends, "ends", shape=[None, 2], most=n - 1)
        if not len(ends):
            raise ValueError("The graph has no edges, so that no walk leaves its start. Pass at least one edge.")
        weights = numbers(self.weights, "weights", shape=[len(ends)], finite=False)
        given = self.labels if isinstance(self.labels, str) or len(self.labels) else range(n)
        labels = names(given, n, "node", unique=True) or []
        for name, value in (("n_nodes", n), ("ends", ends), ("weights", weights), ("labels", labels)):
            object.__setattr__(self, name, value)
        self._check_edges(labels)

    def _check_edges(self, labels: list) -> None:
        names = [f"{labels[a]!r}–{labels[b]!r}" for a, b in self.ends.tolist()]
        if (loops := (self.ends[:, 0] == self.ends[:, 1]).nonzero().flatten()).numel():
            raise ValueError(
                f"Node {labels[int(self.ends[loops[0], 0])]!r} has a self-loop ({len(loops)} in all). Walks with "
                "self-loops count a node as its own context: remove them, as in "
                "graph.remove_edges_from(nx.selfloop_edges(graph))."
            )
        if (bad := (~(self.weights > 0) | ~torch.isfinite(self.weights)).nonzero().flatten()).numel():
            first = int(bad[0])
            raise ValueError(
                f"Edge {names[first]} has weight {self.weights[first].item()} ({len(bad)} such edges). Weights are "
                "proportional to the probability of a step: they must be positive and finite. Leave absent edges out."
            )
        # Of the weights of a node all but these are rounding.
        most = torch.zeros(self.n_nodes, dtype=self.weights.dtype)
        for side in self.ends.T:
            most = most.scatter_reduce(0, side, self.weights, "amax")
        share = self.weights / most[self.ends].amax(dim=1)
        if (bad := (share < DEAD_END).nonzero().flatten()).numel() or most.max() > LARGEST_WEIGHT:
            first = int(self.weights.argmax()) if most.max() > LARGEST_WEIGHT else int(bad[0])
            raise ValueError(
                f"Edge {names[first]} has weight {self.weights[first].item():g}, out of range: beside other edges of "
                f"its nodes a weight must be at least {DEAD_END:g} of theirs, and {LARGEST_WEIGHT:g} at most. Leave "
                "edges out that are never walked, or measure weights in another unit."
            )
        ends = self.ends if self.directed else self.ends.sort(dim=1).values
        _, inverse, counts = ends.unique(dim=0, return_inverse=True, return_counts=True)
        if (counts > 1).any():
            first = int((counts[inverse] > 1).nonzero()[0])
            raise ValueError(
                f"Edge {names[first]} is listed {int(counts[inverse][first])} times. List each edge once, with the "
                "sum of its weights; where a graph is directed say so: directed=True."
            )

    @classmethod
    def of(cls, graph: Any, *, directed: bool = False, weight: str | None = None) -> "Graph":
        """Return the graph of whatever holds one.

        Args:
            graph: A networkx graph; a scipy sparse adjacency matrix; PyG `Data`, or an `edge_index` (2, arcs); the
                path of a file with an edge a line (`source target [weight]`; CSV, TSV and what networkx writes too); a
                pandas frame with columns `source` and `target`; a list of tuples (source, target), perhaps
                with a weight; or already a `Graph`. An undirected edge may be listed both ways.
            directed: Whether edges are walked in one direction only.
            weight: The attribute or column that holds weights; None for weight 1, and in files, frames and lists for
                `weight` or a third column where there is one. Matrices say their weights themselves.

        Raises:
            TypeError: If it is none of those.
            ValueError: If the graph is directed where `directed` is False, or not a valid graph.
        """
        if isinstance(graph, Graph):
            return graph
        if (edges := listed(graph, weight=weight)) is not None:
            labels, ends, weights = edges.graph(directed=directed)
            return cls(len(labels), ends, weights, directed=directed, labels=labels)
        if isinstance(graph, Tensor | np.ndarray) and graph.ndim == 2 and len(graph) == 2:
            return _from_index(whole_numbers(graph, "edge_index", shape=[2, None]), directed=directed)
        if hasattr(graph, "edge_index"):
            return _from_data(graph, directed=directed, weight=weight)
        if sp.issparse(graph):
            return _from_sparse(graph, directed=directed)
        if hasattr(graph, "is_directed") and hasattr(graph, "edges"):
            return _from_networkx(graph, directed=directed, weight=weight)
        raise TypeError(
            "A graph is a networkx graph, a scipy sparse adjacency matrix, the path of an edge list, a pandas frame or "
            f"a list of edges, an edge_index (2, arcs), or an object with `edge_index` and `num_nodes`, got "
            f"{type(graph).__name__}. Wrap a dense matrix: scipy.sparse.csr_array(a)."
        )

    def arcs(self) -> tuple[Int[Tensor, " a"], Int[Tensor, " a"], Int[Tensor, " a"]]:
        """Return start, end and edge number of each way an edge can be walked."""
        start, end = self.ends.T
        number = torch.arange(len(self.ends))
        if self.directed:
            return start, end, number
        return torch.cat([start, end]), torch.cat([end, start]), torch.cat([number, number])

    def degrees(self) -> Float[Tensor, " n"]:
        """Return the summed weight of the edges that leave each node."""
        start, _, edge = self.arcs()
        return self.weights.new_zeros(self.n_nodes).index_add(0, start, self.weights[edge])

    def parts(self, *, without: Sequence[int] = ()) -> Int[np.ndarray, " n"]:
        """Return the number of the (weakly) connected component of each node, some nodes left out: −1."""
        kept = np.setdiff1d(np.arange(self.n_nodes), np.asarray(without, dtype=int))
        matrix = sp.coo_array((np.ones(len(self.ends)), tuple(self.ends.T.numpy())), shape=(self.n_nodes,) * 2).tocsr()
        found = np.full(self.n_nodes, -1)
        found[kept] = sp.csgraph.connected_components(matrix[kept][:, kept], directed=False)[1]
        return found


def _from_networkx(graph: Any, *, directed: bool, weight: str | None) -> Graph:
    if graph.is_directed() and not directed:
        raise ValueError(
            "The graph is directed. Pass directed=True to walk along its arrows, or graph.to_undirected() to walk both "
            "ways."
        )
    if directed and not graph.is_directed():
        raise ValueError("The graph is undirected, but directed=True was asked for. Pass graph.to_directed().")
    labels = list(graph.nodes())
    number = {label: position for position, label in enumerate(labels)}
    edges = list(graph.edges(data=True))
    if weight is not None and (missing := [edge for edge in edges if weight not in edge[2]]):
        raise ValueError(f"Edge {missing[0][:2]} has no attribute {weight!r} ({len(missing)} such edges).")
    ends = torch.tensor([[number[a], number[b]] for a, b, _ in edges], dtype=torch.long).reshape(-1, 2)
    weights = array([1.0 if weight is None else data[weight] for *_, data in edges], weight or "weights")
    return Graph(len(labels), ends, weights, directed=directed, labels=labels)


def _from_sparse(matrix: Any, *, directed: bool, labels: Sequence[Hashable] = ()) -> Graph:
    if matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"An adjacency matrix is square, got {matrix.shape[0]} × {matrix.shape[1]}.")
    matrix = matrix.tocsr()
    if not directed:
        gap = abs(matrix - matrix.T).tocoo()
        if (uneven := np.flatnonzero(~(gap.data == 0))).size:
            a, b = int(gap.row[uneven[0]]), int(gap.col[uneven[0]])
            raise ValueError(
                f"The adjacency matrix is not symmetric: entry ({a}, {b}) is {matrix[a, b]} and ({b}, {a}) is "
                f"{matrix[b, a]}. Pass directed=True, or make it undirected: a.maximum(a.T)."
            )
    entries = matrix.tocoo()
    kept = entries.data != 0 if directed else (entries.data != 0) & (entries.row <= entries.col)
    ends = torch.from_numpy(np.stack([entries.row[kept], entries.col[kept]], axis=1).astype(np.int64))
    weights = torch.from_numpy(entries.data[kept].astype(np.float64))
    return Graph(matrix.shape[0], ends, weights, directed=directed, labels=labels)


def _from_data(data: Any, *, directed: bool, weight: str | None) -> Graph:
    """Return the graph of anything with PyG's `edge_index`, (2, arcs), and `num_nodes`."""
    start, end = whole_numbers(data.edge_index, "edge_index", shape=[2, None], most=int(data.num_nodes) - 1).numpy()
    n = int(data.num_nodes)
    if weight is not None and not hasattr(data, weight):
        raise ValueError(f"The graph has no attribute {weight!r}. Name the one that holds the weights of edges.")
    if (np.unique(np.stack([start, end]), axis=1).shape[1]) < len(start):
        raise ValueError("`edge_index` lists an edge twice. Use torch_geometric.utils.coalesce first.")
    given = np.ones(len(start)) if weight is None else array(getattr(data, weight), weight).numpy().reshape(-1)
    return _from_sparse(sp.coo_array((given, (start, end)), shape=(n, n)), directed=directed)


def _from_index(index: Int[Tensor, "2 a"], *, directed: bool) -> Graph:
    """Return the graph of an `edge_index`; of an undirected one both ways of an edge, or one of them."""
    pairs = (index.T if directed else index.T.sort(dim=1).values).unique(dim=0)
    n = int(index.max()) + 1 if index.numel() else 0
    return Graph(n, pairs, torch.ones(len(pairs)), directed=directed)
