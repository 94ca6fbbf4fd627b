"""Graph networks: removals against graphs that really lack the object, and against networks trained on them."""

import json
import re
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import scipy.optimize
import torch
from torch.nn.functional import cross_entropy

import versatile_influence as vif
from versatile_influence.losses import GraphNetworkLoss

sys.path.append(str(Path(__file__).parent.parent))
from examples import graph_networks as uses

KINDS = ["edges", "nodes", "features", "labels"]
PYG = ["GCN", "SAGE", "GAT", "GATv2"]


def arcs(graph: nx.Graph) -> torch.Tensor:
    ends = torch.tensor(list(graph.edges)).T
    return torch.cat([ends, ends.flip(0)], dim=1)


def karate(**more) -> SimpleNamespace:
    """The club, with four eigenvectors of its Laplacian as features."""
    graph = nx.karate_club_graph()
    y = torch.tensor([int(graph.nodes[v]["club"] != "Mr. Hi") for v in graph])
    vectors = np.linalg.eigh(nx.normalized_laplacian_matrix(graph, weight=None).toarray())[1][:, 1:5]
    x = torch.from_numpy(vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(4)]) * 34**0.5)
    return SimpleNamespace(x=x, edge_index=arcs(graph), y=y, **more)


def small(**more) -> SimpleNamespace:
    """Eight nodes."""
    graph = nx.Graph([(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 0), (0, 2), (1, 4), (5, 6), (6, 7)])
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(8, 2, generator=generator, dtype=torch.float64)
    return SimpleNamespace(x=x, edge_index=arcs(graph), y=torch.arange(8) % 2, **more)


def layer_of(name: str):
    nn = pytest.importorskip("torch_geometric.nn")
    attention = {"negative_slope": 1.0}
    return {
        "GCN": nn.GCNConv,
        "SAGE": nn.SAGEConv,
        "GAT": partial(nn.GATConv, **attention),
        "GATv2": partial(nn.GATv2Conv, **attention),
    }[name]


class Bare(torch.nn.Module):
    def __init__(self, layer, inputs: int, hidden: int):
        super().__init__()
        self.first, self.second = layer(inputs, hidden), layer(hidden, 2)

    def forward(self, x, edge_index):
        return self.second(torch.tanh(self.first(x, edge_index)), edge_index)


class Weighted(Bare):
    def forward(self, x, edge_index, edge_weight=None):
        hidden = torch.tanh(self.first(x, edge_index, edge_weight))
        return self.second(hidden, edge_index, edge_weight)


def network(name: str, inputs: int, hidden: int = 3) -> torch.nn.Module:
    torch.manual_seed(0)
    if name == "plain torch":
        return uses.Convolutions(inputs, hidden, 2)
    return (Weighted if name == "GCN" else Bare)(layer_of(name), inputs, hidden)


def jittered(loss) -> dict:
    generator = torch.Generator().manual_seed(1)
    return {
        name: one + 0.1 * torch.randn(one.shape, generator=generator).double() for name, one in loss.zeros().items()
    }


@pytest.mark.parametrize("objects", KINDS)
@pytest.mark.parametrize("name", ["plain torch", *PYG])
def test_every_method_is_the_automatic_one(name, objects):
    loss = GraphNetworkLoss(network(name, 2), small(), objects=objects, train=[0, 1, 3, 4, 7], penalty=0.3)
    vif.check_loss(loss, jittered(loss))


@pytest.mark.parametrize("name", ["plain torch", *PYG])
def test_masked_edges_are_deleted_edges(name):
    data, module = small(), network(name, 2)
    loss = GraphNetworkLoss(module, data, penalty=0.3)
    params = jittered(loss)
    for edge, (a, b) in enumerate(loss.passing.graph.ends.tolist()):
        start, end = data.edge_index
        kept = ~((start == a) & (end == b) | (start == b) & (end == a))
        less = SimpleNamespace(x=data.x, edge_index=data.edge_index[:, kept], y=data.y)
        without = GraphNetworkLoss(module, less, penalty=0.3)
        masked = loss(params, torch.ones(loss.n_objects).double().index_fill(0, torch.tensor(edge), 0.0))
        torch.testing.assert_close(masked, without(params, without.everyone(params)))


def test_masked_nodes_features_and_labels_are_deleted_ones():
    data, module, train = small(), network("plain torch", 2), torch.tensor([0, 1, 3, 4, 7])
    params = jittered(GraphNetworkLoss(module, data))
    for v in range(8):
        node = torch.tensor(v)
        others = train[train != v]
        x = data.x.index_fill(0, node, 0.0)
        gone = SimpleNamespace(x=data.x, edge_index=data.edge_index[:, (data.edge_index != v).all(0)], y=data.y)
        blank = SimpleNamespace(x=x, edge_index=data.edge_index, y=data.y)
        for objects, less, left in (("nodes", gone, others), ("features", blank, train), ("labels", data, others)):
            loss = GraphNetworkLoss(module, data, objects=objects, train=train)
            if objects == "labels" and v not in train:
                continue
            row = train.tolist().index(v) if objects == "labels" else v
            masked = loss(params, loss.everyone(params).index_fill(0, torch.tensor(row), 0.0))
            without = GraphNetworkLoss(module, less, train=left)
            torch.testing.assert_close(masked, without(params, without.everyone(params)))


def retrained(module, params, data, train, penalty):
    """Parameters by SciPy's L-BFGS on data from which something is really gone, with no masks."""
    module = module.double()
    module.load_state_dict(params)
    parameters = list(module.parameters())

    def value_and_gradient(flat):
        torch.nn.utils.vector_to_parameters(torch.from_numpy(flat), parameters)
        ones = (torch.ones(data.edge_index.shape[1]).double(),) if isinstance(module, uses.Convolutions) else ()
        value = cross_entropy(module(data.x, data.edge_index, *ones)[train], data.y[train], reduction="sum")
        value = value + penalty / 2 * sum(one.square().sum() for one in parameters)
        return value.item(), torch.cat([one.reshape(-1) for one in torch.autograd.grad(value, parameters)]).numpy()

    start = torch.nn.utils.parameters_to_vector(parameters).detach().numpy().copy()
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 0.0, "gtol": 1e-9, "maxcor": 30}
    found = scipy.optimize.minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(found.x), parameters)
    return {name: value.detach().clone() for name, value in module.named_parameters()}


@pytest.mark.parametrize("objects", ["edges", "nodes"])
@pytest.mark.parametrize("name", ["plain torch", "GCN", "SAGE", "GAT"])
def test_scores_agree_with_networks_trained_without_the_object(name, objects):
    data, module = karate(), network(name, 4, 6)
    train = torch.tensor([v for v in range(34) if v % 3])
    loss = GraphNetworkLoss(module, data, objects=objects, train=train, penalty=2.5)
    params = vif.minimize(loss, loss.zeros())
    target = loss.test_loss([v for v in range(34) if not v % 3])
    rows = list(range(0, loss.n_objects, 3))
    predicted = vif.attribute(loss, params, target, objects=rows, check=False)
    truth = []
    for i in rows:
        start, end = data.edge_index
        a, b = loss.passing.graph.ends[i].tolist() if objects == "edges" else (i, i)
        gone = (start == a) & (end == b) | (start == b) & (end == a) if a != b else (data.edge_index == i).any(0)
        less = SimpleNamespace(x=data.x, edge_index=data.edge_index[:, ~gone], y=data.y)
        labelled = train if objects == "edges" else train[train != i]
        truth.append(target(retrained(module, params, less, labelled, 2.5)) - target(params))
    truth = torch.stack(truth)
    r = torch.corrcoef(torch.stack([predicted.scores[:, 0], truth[:, 0]]))[0, 1]
    assert r > (0.95 if objects == "edges" else 0.9)
    refitted = vif.refit(loss, params, target, objects=rows[:3])
    torch.testing.assert_close(refitted.scores, truth[:3], rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore:The parameters are not at a minimum")
@pytest.mark.parametrize("objects", ["edges", "nodes", "features"])
def test_a_target_on_the_graph_that_is_left_sees_it(objects):
    data, module = small(), network("plain torch", 2)
    loss = GraphNetworkLoss(module, data, objects=objects, penalty=1.0)
    params = jittered(loss)
    asked = [0, 3, 7]
    scores = vif.attribute(loss, params, loss.class_probabilities(asked, graph="without"), damping=5.0, check=False)
    now = loss.class_probabilities(asked)(params)
    for i in range(loss.n_objects):
        x, kept = data.x, torch.ones(data.edge_index.shape[1], dtype=torch.bool)
        if objects == "features":
            x = x.index_fill(0, torch.tensor(i), 0.0)
        else:
            gone = {i} if objects == "nodes" else set(loss.passing.graph.ends[i].tolist())
            for place, pair in enumerate(data.edge_index.T.tolist()):
                kept[place] = not (set(pair) == gone if objects == "edges" else gone & set(pair))
        less = SimpleNamespace(x=x, edge_index=data.edge_index[:, kept], y=data.y)
        there = GraphNetworkLoss(module, less, penalty=1.0).class_probabilities(asked)(params)
        torch.testing.assert_close(scores.direct[i], there - now)
    assert scores.targets == ["0: class 0", "3: class 1", "7: class 1"]


def test_only_what_is_within_reach_is_evaluated_anew():
    n, seen = 200, []

    class Watched(uses.Convolutions):
        def forward(self, x, edge_index, edge_weight):
            seen.append(len(x))
            return super().forward(x, edge_index, edge_weight)

    torch.manual_seed(0)
    x = torch.randn(n, 2, dtype=torch.float64)
    data = SimpleNamespace(x=x, edge_index=arcs(nx.path_graph(n)), y=torch.arange(n) % 2)
    loss = GraphNetworkLoss(Watched(2, 3, 2), data, penalty=0.3)
    assert loss.passing.hops == 2
    params = jittered(loss)
    right = vif.Loss.removal_products(loss, params, objects=[[100], [0, 1]])
    seen.clear()
    found = loss.removal_products(params, objects=[[100], [0, 1]])
    torch.testing.assert_close(found, right)
    # Two hops away outputs change, which depend on three more on either side; the whole graph only to be measured.
    assert sorted(set(seen)) in ([13, n], [12, n], [11, n], [21, n]) or max(set(seen) - {n}) <= 26


def test_links_that_are_edges_go_as_both():
    data = small()
    pairs = torch.tensor([[0, 1, 0, 2], [1, 3, 4, 7]])
    loss = GraphNetworkLoss(network("plain torch", 2), data, links=(pairs, [1, 0, 0, 0]), penalty=0.1)
    vif.check_loss(loss, jittered(loss))
    assert loss.outer.members.flatten().tolist() == [loss.object_labels.index("0–1"), *[loss.n_objects] * 3]


def test_a_directed_graph_has_an_object_for_each_arc():
    data = SimpleNamespace(x=torch.eye(3), edge_index=torch.tensor([[0, 1], [1, 2]]), y=torch.tensor([0, 1, 0]))
    loss = GraphNetworkLoss(network("plain torch", 3), data, directed=True, labels=["a", "b", "c"], penalty=0.1)
    assert loss.object_labels == ["a→b", "b→c"]
    vif.check_loss(loss, jittered(loss))


def test_weights_of_arcs_are_handed_on():
    data = small(edge_weight=None)
    data.edge_weight = 1.0 + data.edge_index.sum(0) % 3
    module = network("plain torch", 2)
    plain, weighted = GraphNetworkLoss(module, data), GraphNetworkLoss(module, data, weight="edge_weight")
    params = jittered(plain)
    outputs = torch.func.functional_call(module.double(), params, (data.x, data.edge_index, data.edge_weight.double()))
    right = cross_entropy(outputs, data.y, reduction="sum")
    torch.testing.assert_close(weighted(params, weighted.everyone(params)), right)
    assert plain(params, plain.everyone(params)) != right


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("max", "not the same as the graph without it"),
        ("cached", "needs cached=False"),
        ("transformer", "not the same as the graph without it"),
        ("unweighted", "must take the weights of edges"),
    ],
)
def test_layers_whose_weights_are_no_removals_are_named(layer, says):
    nn = pytest.importorskip("torch_geometric.nn")
    torch.manual_seed(0)
    module = {
        "max": lambda: Bare(partial(nn.SAGEConv, aggr="max"), 2, 3),
        "cached": lambda: Weighted(partial(nn.GCNConv, cached=True), 2, 3),
        "transformer": lambda: Bare(nn.TransformerConv, 2, 3),
        "unweighted": lambda: Bare(nn.GCNConv, 2, 3),
    }[layer]()
    with pytest.raises((TypeError, ValueError), match=says):
        GraphNetworkLoss(module, small())


def test_a_gauss_newton_matrix_is_refused():
    loss = GraphNetworkLoss(network("plain torch", 2), small(), penalty=0.1)
    with pytest.raises(TypeError, match="Leave `curvature` out"):
        vif.GaussNewton(loss, jittered(loss), torch.ones(loss.n_objects).double())


def test_a_network_that_couples_all_nodes_is_named():
    class Centred(uses.Convolutions):
        def forward(self, x, edge_index, edge_weight):
            return super().forward(x - x.mean(0), edge_index, edge_weight)

    with pytest.raises(ValueError, match="couples all nodes"):
        GraphNetworkLoss(Centred(2, 3, 2), small())


def test_data_of_pytorch_geometric_are_read_as_they_are():
    data = pytest.importorskip("torch_geometric.data").Data(**vars(small()))
    ours, theirs = (GraphNetworkLoss(network("plain torch", 2), some, penalty=0.1) for some in (small(), data))
    params = jittered(ours)
    torch.testing.assert_close(theirs.removal_differences(params), ours.removal_differences(params))
    mask = torch.arange(8) < 3
    masked = GraphNetworkLoss(network("plain torch", 2), data, train=mask)
    assert masked.reading.nodes.flatten().tolist() == [0, 1, 2]


@pytest.mark.parametrize("objects", ["edges", "nodes"])
def test_unlearning_is_near_retraining(objects):
    assert uses.unlearning(objects) < 0.1


def test_edges_behind_a_link_are_those_of_refits():
    predicted, refitted = uses.behind_a_link()
    estimate = predicted.part(refitted.objects)
    assert vif.pearson(estimate, refitted).item() > 0.95
    assert set(estimate.top(3).tolist()) & set(refitted.top(3).tolist())
    assert predicted.names()[int(predicted.scores[:, 0].argmin())] == "13–20"


def test_poisoned_edges_come_first():
    put_in, gain = uses.poisoned_edges()
    bad = torch.tensor(put_in)
    chance = (gain[bad][:, None] > gain[~bad]).double().mean()
    assert chance > 0.7
    assert bad[gain.argsort(descending=True)[: int(bad.sum())]].double().mean() > 3 * bad.double().mean()


def test_the_page_on_graphs_runs(capsys):
    pytest.importorskip("pandas")
    page = (Path(__file__).parent.parent / "docs" / "graphs.md").read_text()
    named: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, flags=re.S):
        exec(compile(block, "docs/graphs.md", "exec"), named)
    assert capsys.readouterr().out.count("5–20") == 1


def test_the_record_holds_what_is_asked_of_it():
    record = json.loads((Path(__file__).parent.parent / "experiments/results/graph_networks.json").read_text())
    for graph in ("karate club, penalty 2.5", "planted partition, 1,000 nodes, penalty 5"):
        for found in record["numbers"][graph].values():
            for which in ("graph of everybody", "graph without it"):
                assert found["edges"][which]["test loss, r"] >= 0.95
                assert found["nodes"][which]["test loss, r"] >= 0.9


class Layers(torch.nn.Module):
    """Sums over neighbours, some times."""

    def __init__(self, depth):
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.Linear(3, 3) for _ in range(depth)])

    def forward(self, x, edge_index, edge_weight):
        """Return the logits."""
        for layer in self.layers:
            y = layer(x)
            x = torch.tanh(y + torch.zeros_like(y).index_add(0, edge_index[1], y[edge_index[0]] * edge_weight[:, None]))
        return x


@pytest.mark.parametrize("depth", [2, 3])
def test_reach_is_measured_where_messages_go_far_and_not_at_nodes_by_themselves(depth):
    torch.manual_seed(0)
    path = torch.stack([torch.arange(20), torch.arange(1, 21)])
    data = SimpleNamespace(
        x=torch.randn(300, 3), edge_index=torch.cat([path, path.flip(0)], 1), y=torch.randint(3, (300,))
    )
    loss = vif.losses.GraphNetworkLoss(Layers(depth), data, penalty=0.5)
    params, everyone = {name: torch.randn_like(one) for name, one in loss.zeros().items()}, torch.ones(20).double()
    assert loss.passing.hops == depth
    found = torch.cat([loss.removal_differences(params, objects=[i]) for i in range(20)])
    whole = [loss(params, everyone) - loss(params, everyone.index_fill(0, torch.tensor(i), 0.0)) for i in range(20)]
    torch.testing.assert_close(found, torch.stack(whole))


@pytest.mark.parametrize("takes", [2, 3])
@pytest.mark.parametrize("name", ["SAGE", "GAT"])
def test_weights_that_no_layer_takes_are_refused(name, takes):
    class Deaf(Bare):
        def forward(self, x, edge_index, edge_weight):
            return super().forward(x, edge_index)

    data, module = small(), (Bare if takes == 2 else Deaf)(layer_of(name), 2, 3)
    GraphNetworkLoss(module, data)
    # Equal weights too: another time they are not.
    data.ew = torch.ones(data.edge_index.shape[1])
    with pytest.raises(ValueError, match="weights `ew` of edges are read, but no output of .* depends on them"):
        GraphNetworkLoss(module, data, weight="ew")


def test_hops_that_are_too_few_are_refused():
    module = network("plain torch", 2)
    assert GraphNetworkLoss(module, small(), hops=4).passing.hops == 4
    with pytest.raises(ValueError, match="hops=1, but outputs depend on features from 2 hops away"):
        GraphNetworkLoss(module, small(), hops=1)


def test_labels_that_are_no_classes_are_refused_where_they_are_asked_for():
    module, data = network("plain torch", 2), small()
    n = len(data.x)
    data.y = torch.tensor([0, 1] * n)[:n]
    data.y[5] = -1
    with pytest.raises(ValueError, match="`y` of node 5 is -1, and the network has 2 outputs: classes are 0 to 1"):
        GraphNetworkLoss(module, data)
    # An unknown label of a node that nobody asks about is none of the loss's business.
    loss = GraphNetworkLoss(module, data, train=[0, 1, 2])
    for wrong in (loss.class_probabilities, loss.node_losses, loss.test_loss):
        with pytest.raises(ValueError, match="`y` of node 5 is -1"):
            wrong([0, 5])
    assert loss.class_probabilities([5], of=1)(loss.zeros()).shape == (1,)
    squares = GraphNetworkLoss(module, data, criterion=lambda z, y: (z[:, 0] - y) ** 2)
    assert squares.node_losses([5])(squares.zeros()).shape == (1,)
