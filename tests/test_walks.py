"""Expected counts of walks, against every walk written out one by one, and against drawn ones."""

import itertools

import networkx as nx
import numpy as np
import pytest
import torch

from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.losses.graphs.walked import Walked
from versatile_influence.losses.graphs.walks import Walks


def enumerated(graph, *, length, offsets, starts, stay, p=1.0, q=1.0):
    """Return the counts by following every walk with its probability; edges is {(u, v): weight}."""
    n, edges = graph
    counts = np.zeros((n, n))

    def follow(walk, chance):
        last = walk[-1]
        steps = {}
        for v in range(n):
            if weight := edges.get((last, v), 0.0):
                bias = 1.0
                if len(walk) > 1:
                    bias = 1 / p if v == walk[-2] else (1.0 if (walk[-2], v) in edges else 1 / q)
                steps[v] = weight * bias
        if len(walk) == length or (not steps and not stay):
            for centre, offset in itertools.product(range(len(walk)), offsets):
                if 0 <= centre + offset < len(walk):
                    counts[walk[centre], walk[centre + offset]] += chance
            return
        if not steps:
            follow([*walk, last], chance)
        for v, weight in steps.items():
            follow([*walk, v], chance * weight / sum(steps.values()))

    for node in range(n):
        if starts[node]:
            follow([node], starts[node])
    return counts


ENDS = [(0, 1), (1, 2), (2, 0), (2, 3), (3, 4)]
WEIGHTS = [1.0, 2.0, 0.5, 1.5, 3.0]


def small(*, directed, missing_nodes=(), missing_edges=()):
    edges = {}
    for number, ((a, b), weight) in enumerate(zip(ENDS, WEIGHTS, strict=True)):
        if number not in missing_edges and not {a, b} & set(missing_nodes):
            edges[a, b] = weight
            if not directed:
                edges[b, a] = weight
    return 6, edges


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("stay", [True, False])
@pytest.mark.parametrize("window", [2, range(-3, 3), [0], [1, 3]])
@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (0.25, 4.0), (1.0, 0.5)])
def test_counts_equal_enumeration(directed, stay, window, p, q):
    graph = Graph(6, torch.tensor(ENDS), torch.tensor(WEIGHTS), directed=directed)  # node 5 is isolated
    starts = torch.tensor([1.0, 0.0, 2.5, 1.0, 1.0, 1.0])
    walks = Walks(graph, 5, window, starts=starts, dead_ends="stay" if stay else "stop", p=p, q=q)
    offsets = [o for o in range(-window, window + 1) if o] if isinstance(window, int) else list(window)
    how = {"length": 5, "offsets": offsets, "stay": stay, "p": p, "q": q}
    oracle = enumerated(small(directed=directed), starts=starts.tolist(), **how)
    np.testing.assert_allclose(walks.counts().numpy(), oracle, atol=1e-10)

    nodes, edges = torch.ones(6), torch.ones(5)
    nodes[3], edges[1] = 0.0, 0.0
    left = starts.clone()
    left[3] = 0.0
    oracle = enumerated(small(directed=directed, missing_nodes=[3], missing_edges=[1]), starts=left.tolist(), **how)
    np.testing.assert_allclose(walks.counts(nodes.double(), edges.double()).numpy(), oracle, atol=1e-10)


@pytest.mark.parametrize(("window", "total"), [(3, 816), (range(-3, 3), 918)])
def test_karate_has_the_known_number_of_pairs(window, total):
    walks = Walks(Graph.of(nx.karate_club_graph()), length=6, window=window)
    assert walks.counts().sum().item() == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(("p", "q"), [(1.0, 1.0), (0.5, 2.0)])
def test_drawn_walks_agree_with_the_expectation(p, q):
    walks = Walks(Graph.of(nx.karate_club_graph()), length=6, window=3, p=p, q=q)
    errors = []
    for passes in (100, 1600):
        gap = walks.drawn_counts(passes, seed=1) / passes - walks.counts()
        errors.append((gap.norm() / walks.counts().norm()).item())
    assert errors[1] < 0.03
    assert 2 < errors[0] / errors[1] < 8  # 1/√passes: 4


def test_walks_without_a_node_are_drawn_with_the_same_numbers():
    walks = Walks(Graph.of(nx.karate_club_graph()), length=6, window=3)
    nodes = torch.ones(34, dtype=torch.float64)
    nodes[11] = 0.0  # a leaf of node 0
    full, without = walks.drawn_counts(20, seed=1), walks.drawn_counts(20, seed=1, nodes=nodes)
    assert without[11].sum() == 0
    other = walks.drawn_counts(20, seed=2)
    assert (full - without)[1:10].abs().sum() < 0.5 * (full - other)[1:10].abs().sum()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"length": 1}, "at least 2"),
        ({"window": 0}, "positive number"),
        ({"window": [1, 1]}, "different offsets"),
        ({"window": 6}, "longer than length=6"),
        ({"p": 0.0}, "`p` must be a finite number, more than 0"),
        ({"starts": -1.0}, "at least 0"),
        ({"starts": torch.ones(3)}, r"`starts` must be of shape .34."),
    ],
)
def test_impossible_walks_are_refused(change, words):
    settings = {"length": 6, "window": 3} | change
    with pytest.raises(ValueError, match=words):
        Walks(Graph.of(nx.karate_club_graph()), **settings)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("how", [{}, {"dead_ends": "stop"}, {"p": 0.25, "q": 4.0}, {"window": [0, 1, -3]}])
def test_sparse_counts_are_the_dense_ones(directed, how):
    graph = Graph(6, torch.tensor(ENDS), torch.tensor(WEIGHTS), directed=directed)
    walks = Walks(graph, **({"length": 5, "window": 2} | how))
    nodes, edges = torch.ones(6).double(), torch.ones(5).double()
    nodes[3], edges[1] = 0.0, 0.0
    met, counts = Walked(walks, nodes, edges * nodes[graph.ends].prod(1)), walks.counts(nodes, edges)
    values = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(met.rows(slice(1, 5), torch.float64), counts[1:5])
    torch.testing.assert_close(met.products(*values), (counts.T @ values[0], counts @ values[1]))
    torch.testing.assert_close((met.centres, met.contexts), (counts.sum(1), counts.sum(0)))
