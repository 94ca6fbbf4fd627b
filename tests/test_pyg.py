"""A graph of PyTorch Geometric is the same graph."""

import networkx as nx
import pytest
import torch

from versatile_influence.losses import WalkEmbeddingLoss

WALKS = {"length": 6, "window": 3, "dim": 2}


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_pyg_data_object_gives_the_loss_and_differences_of_its_networkx_graph():
    utils = pytest.importorskip("torch_geometric.utils")
    graph = nx.karate_club_graph()
    weighted = nx.Graph()
    weighted.add_nodes_from(range(34))
    weighted.add_weighted_edges_from((a, b, 1.0 + (a + b) % 3) for a, b in graph.edges)
    data = utils.from_networkx(weighted)
    data.edge_weight = data.weight
    for kind, given in (({}, {}), ({"weight": "weight"}, {"weight": "edge_weight"})):
        ours, theirs = WalkEmbeddingLoss(weighted, **WALKS, **kind), WalkEmbeddingLoss(data, **WALKS, **given)
        params = ours.start()
        everyone = torch.ones(34, dtype=torch.float64)
        torch.testing.assert_close(theirs(params, everyone), ours(params, everyone))
        torch.testing.assert_close(theirs.removal_differences(params), ours.removal_differences(params))


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_one_way_arcs_of_a_pyg_data_object_are_refused():
    data = pytest.importorskip("torch_geometric.data").Data(edge_index=torch.tensor([[0, 1], [1, 2]]), num_nodes=3)
    with pytest.raises(ValueError, match="not symmetric"):
        WalkEmbeddingLoss(data, **WALKS)
