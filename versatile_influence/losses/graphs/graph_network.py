"""Graph neural networks: what a trained one would be without an edge, a node, a node's features or its label."""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from versatile_influence.core.arguments import flag, function
from versatile_influence.core.checks import instance, one_of, told, whole
from versatile_influence.core.composed import Composed
from versatile_influence.core.labels import names
from versatile_influence.core.outputs import Parameters
from versatile_influence.core.tables import flags, whole_numbers
from versatile_influence.losses.graphs.messages import MessageNetwork
from versatile_influence.losses.graphs.network_graph import LabelledData, NetworkGraph, NodeData
from versatile_influence.losses.graphs.network_probes import check_masks, check_weights, measured
from versatile_influence.losses.graphs.network_targets import (
    NetworkTargets,
    class_losses,
    class_numbers,
    link_losses,
    node_numbers,
)
from versatile_influence.losses.graphs.network_terms import Criterion, GraphTerms, Kind, Passing, Reading


class GraphNetworkLoss(Composed, NetworkTargets):
    """A loss of a graph network at nodes with a label, or at links; objects are removed from graph and labels.

        L(θ, b) = Σ_v ℓ(z_v(θ, b), y_v) b_v + (λ/2)‖θ‖²

    with z the outputs on the graph of those present. Without an edge its messages are gone, and its share of every
    degree in a normalisation. Without a node so are all its edges, and its label. Without features a node's are zeros.
    Without a label the node stays. A link that is both an edge and a term of the loss goes as both.

    Only what lies within reach of a removal is evaluated anew: two evaluations and a gradient there for each.

    Args:
        module: The network: a torch module called as `module(x, edge_index, edge_weight)`, weight 0 for an absent edge,
            or one of PyTorch Geometric's layers called as `module(x, edge_index)` where they take no weights
            (`SAGEConv`, `GATConv`, `GATv2Conv`). In eval mode.
        data: PyTorch Geometric's `Data`, or anything with `x` (n, d), `edge_index` (2, a) and, for nodes, `y` (n,).
        objects: What can be removed: "edges", "nodes", "features" (of a node, all of them) or "labels" (those of
            `train`, in its order).
        train: Numbers of the nodes whose labels are trained on, or a mask; None for all.
        links: For link prediction, (pairs (2, T), whether each is linked (T,)) in place of labels of nodes.
        criterion: From outputs at the nodes, (T, c), and their `y` to one number each; of links from (T, 2, c). None
            for the cross-entropy of classes, and of links by ⟨z_u, z_v⟩.
        penalty: λ. Weight decay w of a mean over T terms is λ = w T.
        hops: From how far away messages reach a node, where that is farther than is measured at some nodes.
        weight: The attribute of the data that holds weights of arcs, such as `edge_weight`; None for 1.
        directed: Whether each arc is an edge of its own. Otherwise both directions are one edge.
        labels: Names of the nodes.

    Raises:
        TypeError: If the module takes no weights, or the data have no such form.
        ValueError: If weights of 0 do not do what leaving nodes and edges out does, as with a maximum over neighbours,
            a mean over all nodes, or normalised attention that the library does not know.

    References:
        Chen et al. (2023), "Characterizing the influence of graph elements". Wu et al. (2023), "GIF: a general strategy
        towards graph unlearning via influence function", for the three kinds of removals.

    Example:
        >>> from types import SimpleNamespace
        >>> class Mean(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.out = torch.nn.Linear(1, 2)
        ...     def forward(self, x, edge_index, edge_weight):
        ...         start, end = edge_index
        ...         return self.out(x + torch.zeros_like(x).index_add(0, end, edge_weight[:, None] * x[start]))
        >>> path = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
        >>> data = SimpleNamespace(x=torch.eye(3)[:, :1], edge_index=path, y=torch.tensor([0, 0, 1]))
        >>> loss = GraphNetworkLoss(Mean(), data, penalty=0.1)
        >>> loss.object_labels
        ['0–1', '1–2']
    """

    def __init__(
        self,
        module: torch.nn.Module,
        data: NodeData,
        *,
        objects: Kind = "edges",
        train: object = None,
        links: tuple[object, object] | None = None,
        criterion: Criterion | None = None,
        penalty: float = 0.0,
        hops: int | None = None,
        weight: str | None = None,
        directed: bool = False,
        labels: Sequence[Hashable] | None = None,
    ):
        one_of(objects, "objects", ["edges", "nodes", "features", "labels"])
        graph = NetworkGraph.of(
            instance(data, "data", NodeData, "torch_geometric.data.Data(x=…, edge_index=…, y=…)"),
            weight=weight,
            directed=flag(directed, "directed"),
        )
        network = MessageNetwork(instance(module, "module", torch.nn.Module, "Net()"))
        n = len(graph.x)
        self.node_labels = names(labels, n, "node", unique=True) or list(range(n))
        self.classes = _classes(data, n) if links is None else None
        if links is not None and train is not None:
            raise ValueError("`train` says which labels of nodes are trained on, and `links` which links. Pass one.")
        start = network.probed
        if weight is not None:
            check_weights(network, graph, start, weight)
        reach = measured(network, graph, start)
        if hops is not None and (hops := whole(hops, "hops")) < reach:
            raise ValueError(
                f"hops={hops}, but outputs depend on features from {reach} hops away: removals would be evaluated on "
                f"too small a part of the graph. Pass hops={reach}, or leave it out."
            )
        reach = reach if hops is None else hops
        self.passing = Passing(network, graph, objects, reach)
        if links is None:
            assert self.classes is not None
            asked = torch.arange(n) if train is None else node_numbers(train, n, "train")
            known = class_numbers(self.classes, asked, self.passing.width) if criterion is None else self.classes[asked]
            self.reading = Reading(asked[:, None], known, _given(criterion) or class_losses)
        else:
            self.reading = _links(links, n, _given(criterion) or link_losses)
        check_masks(self.passing, start)
        members, count = _members(self.passing, self.reading)
        outer = GraphTerms(self.passing, self.reading, members, count)
        super().__init__(Parameters(network.start()), outer, penalty=penalty, labels=self._names(count))

    def _names(self, count: int) -> list[object]:
        name, graph = self.node_labels, self.passing.graph
        if self.passing.objects == "edges":
            joint = "→" if graph.directed else "–"
            return [f"{name[a]}{joint}{name[b]}" for a, b in graph.ends.tolist()]
        if self.passing.objects == "labels":
            return [", ".join(str(name[v]) for v in nodes) for nodes in self.reading.nodes.tolist()]
        return list(name[:count])


def _given(criterion: Criterion | None) -> Criterion | None:
    return None if criterion is None else function(criterion, "criterion", "outputs", "y")


def _classes(data: NodeData, n: int) -> Tensor:
    """Return what the data say of each node.

    Raises:
        ValueError: If they say nothing, or not of each.
    """
    if not isinstance(data, LabelledData) or data.y is None:
        raise ValueError("The data have no labels `y` of nodes. Add them, or pass links=… for link prediction.")
    try:
        y = torch.as_tensor(data.y).detach().clone()
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"`y` must hold a number a node, got {told(data.y)}.") from error
    if not y.dim() or len(y) != n:
        raise ValueError(f"`y` must hold one label a node: {n}, got shape {tuple(y.shape)}.")
    return y


def _links(links: tuple[object, object], n: int, criterion: Criterion) -> Reading:
    if not isinstance(links, tuple | list) or len(links) != 2:
        raise TypeError("`links` must be (pairs, linked), as in (data.edge_label_index, data.edge_label).")
    pairs = whole_numbers(links[0], "links[0]", shape=[2, None], most=n - 1).T
    if not len(pairs):
        raise ValueError("`links` names no pair. Give the pairs to train on, linked or not.")
    return Reading(pairs, flags(links[1], "links[1]", len(pairs)).double(), criterion)


def _members(passing: Passing, reading: Reading) -> tuple[Int[Tensor, "T m"], int]:
    """Return the objects that each term dies with, n past the end of a row, and n."""
    graph, terms = passing.graph, len(reading.nodes)
    if passing.objects == "nodes":
        return reading.nodes, len(graph.x)
    if passing.objects == "labels":
        return torch.arange(terms)[:, None], terms
    if passing.objects == "features":
        return torch.full((terms, 1), len(graph.x)), len(graph.x)
    count = len(graph.ends)
    if reading.nodes.shape[1] == 1:
        return torch.full((terms, 1), count), count
    pairs = reading.nodes if graph.directed else reading.nodes.sort(dim=1).values
    keys, wanted = (ends[:, 0] * len(graph.x) + ends[:, 1] for ends in (graph.ends, pairs))
    place = torch.searchsorted(keys, wanted).clamp_max(count - 1)
    return torch.where(keys[place] == wanted, place, count)[:, None], count
