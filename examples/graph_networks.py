"""Three uses of removals from a graph network: unlearning, what made a link prediction, poisoned edges.

python examples/graph_networks.py
"""

from types import SimpleNamespace

import networkx as nx
import torch

import versatile_influence as vif
from versatile_influence.losses import GraphNetworkLoss


class Convolutions(torch.nn.Module):
    """Two graph convolutions with tanh between, in plain torch; `torch_geometric.nn.GCNConv` does the same."""

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        self.first, self.second = torch.nn.Linear(inputs, hidden), torch.nn.Linear(hidden, outputs)

    def forward(self, x, edge_index, edge_weight):
        """Return one row of outputs a node; weight 0 is an absent edge."""
        start, end = edge_index
        degree = torch.ones_like(x[:, 0]).index_add(0, end, edge_weight)
        share = edge_weight / (degree[start] * degree[end]).sqrt()

        def passed(h):
            return (h / degree[:, None]).index_add(0, end, share[:, None] * h[start])

        return passed(self.second(torch.tanh(passed(self.first(x)))))


def communities(*, poisoned: int = 0, seed: int = 0) -> SimpleNamespace:
    """Return a graph of two communities with noisy features, and edges between them that somebody put in."""
    graph = nx.planted_partition_graph(2, 40, 0.12, 0.01, seed=seed)
    generator, classes = torch.Generator().manual_seed(seed), torch.arange(80) // 40
    made = set()
    while len(made) < poisoned:
        a, b = torch.randint(40, (2,), generator=generator).tolist()
        made |= {(a, b + 40)} if not graph.has_edge(a, b + 40) else set()
    graph.add_edges_from(made)
    ends = torch.tensor(list(graph.edges)).T
    x = torch.randn(80, 4, generator=generator, dtype=torch.float64)
    x[:, 0] += 2.0 * classes - 1.0
    both = torch.cat([ends, ends.flip(0)], dim=1)
    order = torch.randperm(80, generator=generator)
    return SimpleNamespace(x=x, edge_index=both, y=classes, made=made, train=order[:40], test=order[40:])


def fitted(objects: str, data: SimpleNamespace) -> tuple[GraphNetworkLoss, dict]:
    """Return the loss of a network on the data and its parameters at a minimum."""
    torch.manual_seed(0)
    loss = GraphNetworkLoss(Convolutions(4, 4, 2), data, objects=objects, train=data.train, penalty=0.5)
    return loss, vif.minimize(loss, loss.zeros())


def unlearning(objects: str) -> float:
    """Return how far from retrained ones the parameters are after unlearning, in units of how far they were before."""
    loss, params = fitted(objects, communities())
    group = [3, 11, 47]
    before = torch.cat([one.reshape(-1) for one in params.values()])
    unlearned = before + vif.parameter_changes(loss, params, objects=[group])[0]
    without = torch.ones(loss.n_objects, dtype=torch.float64).index_fill(0, torch.tensor(group), 0.0)
    retrained = torch.cat([one.reshape(-1) for one in vif.minimize(loss, params, without).values()])
    return ((unlearned - retrained).norm() / (before - retrained).norm()).item()


def behind_a_link(seed: int = 0) -> tuple[vif.Attribution, vif.Attribution]:
    """Return predicted and, for some, refitted changes of the probability of a link without each edge of the graph."""
    data = communities(seed=seed)
    known = {tuple(sorted(pair)) for pair in data.edge_index.T.tolist()}
    generator = torch.Generator().manual_seed(seed)
    none = [pair for pair in torch.randint(80, (400, 2), generator=generator).tolist() if pair[0] < pair[1]]
    none = [pair for pair in map(tuple, none) if pair not in known][: len(known)]
    pairs = torch.tensor([*known, *none]).T
    links = pairs, torch.tensor([1] * len(known) + [0] * len(none))
    torch.manual_seed(0)
    loss = GraphNetworkLoss(Convolutions(4, 4, 3), data, links=links, penalty=2.0)
    params = vif.minimize(loss, loss.zeros())
    target = loss.link_probabilities([(5, 20)], graph="without")
    predicted = vif.attribute(loss, params, target, check=False)
    some = {*predicted.top(6).tolist(), *range(0, loss.n_objects, 30)}
    return predicted, vif.refit(loss, params, target, objects=sorted(some))


def poisoned_edges(count: int = 25) -> tuple[list[bool], torch.Tensor]:
    """Return of each edge whether somebody put it in, and by how much the test loss would fall without it."""
    data = communities(poisoned=count)
    loss, params = fitted("edges", data)
    scores = vif.attribute(loss, params, loss.test_loss(data.test, graph="without"), check=False).scores[:, 0]
    return [tuple(pair) in data.made for pair in loss.passing.graph.ends.tolist()], -scores


if __name__ == "__main__":
    for objects in ("edges", "nodes"):
        print(
            f"{objects}: distance to retrained parameters after unlearning, of that before: {unlearning(objects):.3f}"
        )
    predicted, refitted = behind_a_link()
    print("a link without each edge: r =", round(vif.pearson(predicted.part(refitted.objects), refitted).item(), 4))
    print(predicted.to_frame().sort_values(predicted.to_frame().columns[0]).head(3))
    put_in, gain = poisoned_edges()
    worst = gain.argsort(descending=True)[: sum(put_in)]
    print(f"poisoned among the {len(worst)} worst of {len(put_in)} edges: {sum(put_in[i] for i in worst)}")
