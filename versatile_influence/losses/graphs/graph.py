"""Graphs as the walk losses need them: each edge once, with a weight, checked at the door."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import array, numbers, whole
from versatile_influence.core.labels import names
from versatile_influence.core.tables import file, whole_numbers

HEADER_WORDS = {"source", "target", "from", "to", "src", "dst", "node1", "node2", "u", "v", "start", "end", "weight"}


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
        """Return the graph of a networkx graph, scipy sparse adjacency, edge-list file or PyG `Data`.

        Args:
            graph: One of those, or already a `Graph`. A file has one edge a line, `source target` or
                `source target weight`, separated by blanks, tabs or commas; lines that start with # are skipped.
            directed: Whether edges are walked in one direction only.
            weight: The edge attribute that holds weights: of networkx edges, or of the `Data` (such as `edge_weight`);
                None for weight 1. Matrices and files say their weights themselves.

        Raises:
            TypeError: If it is none of those.
            ValueError: If the graph is directed where `directed` is False, or not a valid graph.
        """
        if isinstance(graph, Graph):
            return graph
        if isinstance(graph, str | PathLike):
            return read_edges(graph, directed=directed)
        if hasattr(graph, "edge_index"):
            return _from_data(graph, directed=directed, weight=weight)
        if sp.issparse(graph):
            return _from_sparse(graph, directed=directed)
        if hasattr(graph, "is_directed") and hasattr(graph, "edges"):
            return _from_networkx(graph, directed=directed, weight=weight)
        raise TypeError(
            f"A graph is a networkx graph, a scipy sparse adjacency matrix, the path of an edge list or an object with "
            f"`edge_index` and `num_nodes`, got {type(graph).__name__}. Wrap a dense matrix: scipy.sparse.csr_array(a)."
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

    def components(self, *, without: Sequence[int] = ()) -> int:
        """Return the number of (weakly) connected components, some nodes left out."""
        kept = np.setdiff1d(np.arange(self.n_nodes), np.asarray(without, dtype=int))
        matrix = sp.coo_array((np.ones(len(self.ends)), tuple(self.ends.T.numpy())), shape=(self.n_nodes,) * 2).tocsr()
        return int(sp.csgraph.connected_components(matrix[kept][:, kept], directed=False)[0])


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


def read_edges(path: str | PathLike, *, directed: bool = False) -> Graph:
    """Return the graph of an edge-list file; see `Graph.of`.

    Raises:
        ValueError: If a line is no edge, with its number.
    """
    rows: list[tuple[int, list[str]]] = []
    with open(file(path, "graph"), encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            words = line.replace(",", " ").split()
            if words and not words[0].startswith(("#", "%")):
                rows.append((number, words))
    if not rows:
        raise ValueError(f"{path} holds no edges. Give one edge a line: source target [weight].")
    _check_header(path, rows)
    width = len(rows[0][1])
    for number, words in rows:
        if len(words) not in (2, 3) or len(words) != width:
            raise ValueError(f"Line {number} of {path} has {len(words)} columns: {' '.join(words)!r}. {FORM}")
    names = [name for _, words in rows for name in words[:2]]
    labels: list = list(dict.fromkeys(names))
    whole = all(map(_is_integer, labels))
    labels = sorted(set(map(int, labels))) if whole else labels
    position = {label: place for place, label in enumerate(labels)}
    ends = [[position[int(word) if whole else word] for word in words[:2]] for _, words in rows]
    weights = [_weight(path, number, words) for number, words in rows]
    return Graph(len(labels), torch.tensor(ends), torch.tensor(weights), directed=directed, labels=labels)


FORM = "An edge is `source target` or `source target weight`, the same number of columns on every line."


def _check_header(path: str | PathLike, rows: list[tuple[int, list[str]]]) -> None:
    number, first = rows[0]
    others = rows[1:]
    worded = all(word.lower() in HEADER_WORDS for word in first)
    alone = (
        bool(others)
        and not any(map(_is_integer, first[:2]))
        and all(_is_integer(word) for _, words in others for word in words[:2])
    )
    if worded or alone:
        raise ValueError(
            f"Line {number} of {path} looks like a header: {' '.join(first)!r}. Delete it or start it with #."
        )


def _weight(path: str | PathLike, number: int, words: list[str]) -> float:
    if len(words) < 3:
        return 1.0
    try:
        weight = float(words[2])
    except ValueError as error:
        raise ValueError(f"Line {number} of {path}: the weight {words[2]!r} is not a number. {FORM}") from error
    if not 0 < weight < float("inf"):
        raise ValueError(f"Line {number} of {path}: the weight is {words[2]}; weights must be positive and finite.")
    return weight


def _is_integer(word: str) -> bool:
    return word.lstrip("-").isdigit()
