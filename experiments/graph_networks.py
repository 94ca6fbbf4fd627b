"""Graph networks: removals of edges and of nodes against retraining, for GCN, SAGE and GAT on two graphs.

A planted partition of 1,000 nodes in four blocks, features of 8 dimensions with noise, 200 nodes trained on; and
Zachary's karate club, which ships with networkx, four eigenvectors of its Laplacian as features, two nodes of three
trained on. Each with two penalties, the weaker of which leaves minima that are easily left for others. Two layers of
PyTorch Geometric with tanh between; GAT attends without the kink of its leaky ReLU (negative_slope=1).
Trained to a minimum, the lowest of some starts. Targets: the test loss, on the graph of everybody and on the graph
without the object, and class probabilities of some test nodes. A removal is trusted where its estimated error is small.

The truth is code of its own: the edge or node is deleted from `edge_index`, no presence and no weights, and the network
is trained on from the parameters of everybody by SciPy's L-BFGS to a gradient of 1e-8. Objects are drawn (all edges and
nodes of the karate club). Times are processor seconds of one thread: all scores of all objects on the test loss, and as
many retrainings as there are objects, at the mean of those made.

    python experiments/graph_networks.py [--quick]     # quick: a sixth of the objects
"""

import copy
import sys
import time
import warnings
from dataclasses import dataclass
from functools import partial

import networkx as nx
import numpy as np
import scipy.optimize
import torch
from torch.nn.functional import cross_entropy
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv, SAGEConv

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.losses import GraphNetworkLoss

HIDDEN, STARTS, DRAWN, ASKED = 6, 2, 50, 10
LAYERS = {
    "GCN": GCNConv,
    "SAGE": SAGEConv,
    "GAT": partial(GATConv, negative_slope=1.0),
}


class Net(torch.nn.Module):
    """Two layers with tanh between; weights of edges for those that take them."""

    def __init__(self, layer, inputs: int, classes: int):
        super().__init__()
        self.first, self.second = layer(inputs, HIDDEN), layer(HIDDEN, classes)

    def forward(self, x, edge_index):
        """Return one row of class scores a node."""
        return self.second(torch.tanh(self.first(x, edge_index)), edge_index)


class Weighted(Net):
    """The same for layers that take weights."""

    def forward(self, x, edge_index, edge_weight=None):
        """Return one row of class scores a node."""
        hidden = torch.tanh(self.first(x, edge_index, edge_weight))
        return self.second(hidden, edge_index, edge_weight)


@dataclass(frozen=True)
class Problem:
    """A graph with labels, which nodes are trained on and tested, and the penalty."""

    name: str
    data: Data
    train: torch.Tensor
    test: torch.Tensor
    penalty: float


def planted(penalty: float, seed: int) -> Problem:
    """Return the planted partition."""
    graph = nx.planted_partition_graph(4, 250, 0.02, 0.002, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(1000) // 250
    x = torch.randn(1000, 8, generator=generator, dtype=torch.float64)
    x[torch.arange(1000), y] += 1.0
    order = torch.randperm(1000, generator=generator)
    return Problem(
        f"planted partition, 1,000 nodes, penalty {penalty:g}", data_of(graph, x, y), order[:200], order[200:], penalty
    )


def karate(penalty: float) -> Problem:
    """Return the karate club, its features the eigenvectors of the four smallest eigenvalues but 0 of its Laplacian."""
    graph = nx.karate_club_graph()
    y = torch.tensor([int(graph.nodes[v]["club"] != "Mr. Hi") for v in graph])
    vectors = np.linalg.eigh(nx.normalized_laplacian_matrix(graph, weight=None).toarray())[1][:, 1:5]
    # An eigenvector has no sign of its own.
    x = torch.from_numpy(vectors * np.sign(vectors[np.abs(vectors).argmax(0), range(4)]) * 34**0.5)
    tested = torch.arange(34) % 3 == 0
    return Problem(
        f"karate club, penalty {penalty:g}",
        data_of(graph, x, y),
        (~tested).nonzero()[:, 0],
        tested.nonzero()[:, 0],
        penalty,
    )


def data_of(graph: nx.Graph, x: torch.Tensor, y: torch.Tensor) -> Data:
    """Return PyTorch Geometric's data of a graph."""
    ends = torch.tensor(list(graph.edges)).T
    return Data(x=x, edge_index=torch.cat([ends, ends.flip(0)], dim=1), y=y)


def without_edge(data: Data, a: int, b: int) -> Data:
    """Return the data with both directions of an edge deleted."""
    start, end = data.edge_index
    kept = ~(((start == a) & (end == b)) | ((start == b) & (end == a)))
    return Data(x=data.x, edge_index=data.edge_index[:, kept], y=data.y)


def without_node(data: Data, v: int) -> Data:
    """Return the data with a node's edges deleted; it is left alone, so that numbers stay."""
    return Data(x=data.x, edge_index=data.edge_index[:, (data.edge_index != v).all(0)], y=data.y)


def retrained(net: Net, data: Data, train: torch.Tensor, penalty: float) -> Net:
    """Return the network trained on from where it is, on these data, to a gradient of 1e-8."""
    net = copy.deepcopy(net)
    parameters = list(net.parameters())

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        torch.nn.utils.vector_to_parameters(torch.from_numpy(flat), parameters)
        outputs = net(data.x, data.edge_index)[train]
        value = cross_entropy(outputs, data.y[train], reduction="sum")
        value = value + penalty / 2 * sum(one.square().sum() for one in parameters)
        gradient = torch.autograd.grad(value, parameters)
        return value.item(), torch.cat([one.reshape(-1) for one in gradient]).numpy()

    start = torch.nn.utils.parameters_to_vector(parameters).detach().numpy().copy()
    options = {"maxiter": 5000, "maxfun": 10000, "ftol": 0.0, "gtol": 1e-8, "maxcor": 30}
    found = scipy.optimize.minimize(value_and_gradient, start, jac=True, method="L-BFGS-B", options=options)
    torch.nn.utils.vector_to_parameters(torch.from_numpy(found.x), parameters)
    return net


def read(net: Net, data: Data, test: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Return the test loss and the probabilities of the asked nodes' classes."""
    with torch.no_grad():
        outputs = net(data.x, data.edge_index)
    chances = torch.softmax(outputs[asked], dim=1).gather(1, data.y[asked, None])[:, 0]
    return torch.cat([cross_entropy(outputs[test], data.y[test])[None], chances])


def correlations(estimate: torch.Tensor, truth: torch.Tensor) -> dict:
    """Return how predicted and retrained changes agree: of the test loss, and of probabilities on average."""

    def r(x: torch.Tensor, y: torch.Tensor) -> float:
        return torch.corrcoef(torch.stack([x, y]))[0, 1].item()

    x, y = estimate[:, 0], truth[:, 0]
    each = [r(x, y) for x, y in zip(estimate.T[1:], truth.T[1:], strict=True)]
    return {
        "test loss, r": round(r(x, y), 4),
        "test loss, slope": round(((x @ y) / (y @ y)).item(), 3),
        "class probabilities, mean r": round(float(np.mean(each)), 4),
        "class probabilities, least r": round(float(np.min(each)), 4),
    }


def measured(problem: Problem, name: str, quick: bool, seed: int) -> dict:
    """Return the numbers of one network on one graph."""
    data, layer = problem.data, LAYERS[name]
    kind = Weighted if layer is GCNConv else Net
    fits, scratch = [], []
    for start in range(STARTS):
        torch.manual_seed(start)
        fresh = kind(layer, data.x.shape[1], int(data.y.max()) + 1).double()
        begun = time.process_time()
        net = retrained(fresh, data, problem.train, problem.penalty)
        scratch.append(time.process_time() - begun)
        loss = GraphNetworkLoss(net, data, train=problem.train, penalty=problem.penalty)
        fits.append((loss(params := vif.minimize(loss, loss.zeros()), torch.ones(loss.n_objects)).item(), params))
    _, params = min(fits, key=lambda fit: fit[0])
    net.load_state_dict(params)
    outputs = net(data.x, data.edge_index)[problem.test].argmax(1)
    generator = torch.Generator().manual_seed(seed)
    asked = problem.test[torch.randperm(len(problem.test), generator=generator)[:ASKED]]
    found: dict = {
        "parameters": sum(one.numel() for one in params.values()),
        "minima of the starts": [round(value, 4) for value, _ in fits],
        "test accuracy": round((outputs == data.y[problem.test]).double().mean().item(), 3),
    }
    for objects in ("edges", "nodes"):
        loss = GraphNetworkLoss(net, data, objects=objects, train=problem.train, penalty=problem.penalty)
        begun = time.process_time()
        alone = vif.attribute(loss, params, loss.test_loss(problem.test), check=False)
        seconds = time.process_time() - begun
        fixed = vif.attribute(loss, params, both(loss, problem.test, asked, "fixed"), check=False)
        assert torch.allclose(alone.scores[:, 0], fixed.scores[:, 0], atol=1e-10)
        rows = torch.arange(loss.n_objects)
        if loss.n_objects > DRAWN * 5:
            rows = torch.randperm(loss.n_objects, generator=generator)[:DRAWN]
            # Of nodes those that are trained on have a label to lose: as many of them as of the others.
            if objects == "nodes":
                rows = torch.cat([problem.train[: DRAWN // 2], problem.test[: DRAWN // 2]])
        rows = rows[: max(6, len(rows) // 6)] if quick else rows
        present = vif.attribute(
            loss, params, both(loss, problem.test, asked, "without"), objects=rows.tolist(), check=False
        )
        trusted = vif.attribute(
            loss, params, loss.test_loss(problem.test), objects=rows.tolist(), check="all"
        ).trusted.nonzero()[:, 0]
        before = read(net, data, problem.test, asked)
        truth, there, spent = [], [], 0.0
        for i in rows.tolist():
            less, train = without_node(data, i), problem.train[problem.train != i]
            if objects == "edges":
                less, train = without_edge(data, *loss.passing.graph.ends[i].tolist()), problem.train
            begun = time.process_time()
            other = retrained(net, less, train, problem.penalty)
            spent += time.process_time() - begun
            truth.append(read(other, data, problem.test, asked) - before)
            there.append(read(other, less, problem.test, asked) - before)
        truth, there = torch.stack(truth), torch.stack(there)
        each = spent / len(rows)
        found[objects] = {
            "objects": loss.n_objects,
            "retrained": len(rows),
            "graph of everybody": correlations(fixed.scores[rows], truth),
            "graph without it": correlations(present.scores, there),
            "trusted": len(trusted),
            "test loss, r of the trusted": correlations(fixed.scores[rows[trusted]], truth[trusted])["test loss, r"],
            "seconds of all scores": round(seconds, 3),
            "seconds of a retraining, on from the parameters of everybody": round(each, 4),
            "seconds of a training from scratch": round(float(np.mean(scratch)), 4),
            "all retrainings over all scores": round(each * loss.n_objects / seconds, 1),
            "all trainings from scratch over all scores": round(float(np.mean(scratch)) * loss.n_objects / seconds, 1),
        }
    return found


def both(loss, test: torch.Tensor, asked: torch.Tensor, graph: str):
    """Return the test loss and the probabilities as one target."""
    whole, each = loss.test_loss(test, graph=graph), loss.class_probabilities(asked, graph=graph)
    if graph == "fixed":
        return lambda params: torch.cat([whole(params), each(params)])
    return vif.PresenceTarget(lambda *given: torch.cat([whole(*given), each(*given)]))


def main() -> int:
    """Measure and write the record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", vif.UntrustedWarning)
    numbers: dict = {}
    for problem in (karate(2.5), karate(1.0), planted(5.0, run.seed), planted(2.0, run.seed)):
        numbers[problem.name] = {}
        for name in LAYERS:
            begun = time.perf_counter()
            numbers[problem.name][name] = found = measured(problem, name, run.quick, run.seed)
            print(problem.name, name, f"{time.perf_counter() - begun:.0f} s", found, sep=", ", flush=True)
        run.record(numbers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
