"""What is tried on a graph network before it is believed: how far features reach, that weights count, that masks do."""

import numpy as np
import torch
from jaxtyping import Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components, dijkstra
from torch import Tensor
from torch.func import grad

from versatile_influence.core.ravel import Params
from versatile_influence.losses.graphs.messages import MessageNetwork
from versatile_influence.losses.graphs.network_graph import NetworkGraph
from versatile_influence.losses.graphs.network_terms import Passing

# Nodes from which it is measured how far features reach, and the share of nodes left out to see whether masks do it.
PROBED, LEFT_OUT = 8, 0.1


def measured(network: MessageNetwork, graph: NetworkGraph, params: Params) -> int:
    """Return from how many hops away features reach the outputs of a node, by derivatives at a few nodes."""
    drawn = torch.Generator().manual_seed(0)
    there = jittered(params, drawn)
    ones = torch.ones(graph.arcs.shape[1], dtype=torch.float64)
    outputs = lambda x: network(there, x, graph.arcs, ones, graph.weights)  # noqa: E731
    way = torch.randn(outputs(graph.x).shape[1], generator=drawn, dtype=torch.float64)
    most = 0
    for v in torch.cat([torch.randperm(len(graph.x), generator=drawn)[:PROBED], deepest(graph, PROBED)]).unique():
        slope = grad(lambda x, v=v: outputs(x)[v] @ way)(graph.x + 0.1)
        felt = slope.abs().amax(1) > 0
        while (felt & ~graph.ball(v[None], most)).any() and most < len(graph.x):
            most += 1
    return most


def deepest(graph: NetworkGraph, count: int) -> Int[Tensor, " k"]:
    """Return nodes at an end of the longest ways in their parts of the graph, of the deepest parts.

    At drawn nodes alone that have no neighbours, or few, messages would seem to reach no further.
    """
    n, (start, end) = len(graph.x), graph.arcs.numpy()
    links = coo_array((np.ones(len(start)), (start, end)), shape=(n, n)).tocsr()
    _, part = connected_components(links, directed=False)
    ends, far = np.unique(part, return_index=True)[1], np.zeros(n)
    for _ in range(2):
        far = dijkstra(links, directed=False, indices=ends, unweighted=True, min_only=True)
        order = np.lexsort((far, part))
        # The last of each part is the farthest from where it began.
        ends = order[np.append(np.flatnonzero(np.diff(part[order])), n - 1)]
    return torch.from_numpy(ends[np.argsort(-far[ends], kind="stable")][:count].copy())


def jittered(params: Params, generator: torch.Generator) -> dict[str, Tensor]:
    """Return parameters at which nothing is special."""
    assert isinstance(params, dict)
    return {
        name: one + 0.1 * torch.randn(one.shape, generator=generator, dtype=one.dtype) for name, one in params.items()
    }


def check_weights(network: MessageNetwork, graph: NetworkGraph, params: Params, weight: str) -> None:
    """Raise a ValueError where no output of the network depends on the weights of edges that were read."""
    drawn = torch.Generator().manual_seed(0)
    there, ones = jittered(params, drawn), torch.ones(len(graph.weights), dtype=torch.float64)
    others = graph.weights * (0.5 + torch.rand(ones.shape, generator=drawn, dtype=torch.float64))
    first, second = (network(there, graph.x, graph.arcs, ones, weights) for weights in (graph.weights, others))
    if torch.equal(first, second):
        raise ValueError(
            f"The weights `{weight}` of edges are read, but no output of {type(network.module).__name__} depends on "
            "them: its layers (SAGEConv, GATConv) take none, or are not given `edge_weight`. Leave weight= out, or use "
            "layers that take it, such as GCNConv or GraphConv: forward(self, x, edge_index, edge_weight)."
        )


def check_masks(passing: Passing, params: Params) -> None:
    """Raise a ValueError unless weights of 0 do what leaving some nodes out of the graph does."""
    graph, drawn = passing.graph, torch.Generator().manual_seed(0)
    there, n = jittered(params, drawn), len(graph.x)
    gone = torch.randperm(n, generator=drawn)[: max(1, int(LEFT_OUT * n))]
    kept = torch.ones(n, dtype=torch.bool).index_fill(0, gone, False)
    piece, here = graph.piece(kept), kept[graph.arcs].all(0).double()
    masked = passing.network(there, graph.x, graph.arcs, here, graph.weights)[kept]
    ones = torch.ones(len(piece.which), dtype=torch.float64)
    name = type(passing.network.module).__name__
    try:
        right = passing.network(there, graph.x[kept], piece.arcs, ones, graph.weights[piece.which])
    except (IndexError, RuntimeError) as error:
        raise ValueError(
            f"{name} cannot be evaluated on a part of its graph: {error} Removals are evaluated where they matter. A "
            "layer that keeps the normalisation of the first graph it saw needs cached=False."
        ) from error
    if not torch.allclose(masked, right, rtol=1e-6, atol=1e-9):
        raise ValueError(
            f"Weight 0 on the edges of a node is not the same as the graph without it: outputs of "
            f"{name} differ by {(masked - right).abs().max().item():.2g}. (a) A layer is not given `edge_weight`; (b) "
            "it takes a maximum over neighbours, or an attention of its own; (c) something couples all nodes, such as "
            "a graph norm; (d) something is drawn, as by dropout: call .eval()."
        )
