"""The walk embedding as its users meet it: graphs of all kinds, targets, refits and the hub that splits the graph."""

import itertools
import warnings
from functools import partial
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
import torch

import versatile_influence as vif
from versatile_influence.core.ravel import ravel
from versatile_influence.core.removals import Removals
from versatile_influence.losses import NegativeSampling, SkipGramLoss, Softmax, WalkEmbeddingLoss
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.training.minimize import NoMinimumError

WALKS = {"length": 6, "window": 3, "dim": 2}


@pytest.fixture(scope="module")
def karate():
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), **WALKS)
    return loss, vif.minimize(loss, loss.start())


def test_the_gauge_has_six_named_directions_and_the_hessian_no_other(karate):
    loss, params = karate
    everyone = torch.ones(34, dtype=torch.float64)
    names = list(loss.null_directions(params, everyone))
    assert len(names) == 6
    assert "scale of axis 0" in names
    hessian = vif.Hessian(loss, params, everyone)
    curvature = torch.linalg.eigvalsh(hessian.dense())
    assert curvature[:6].abs().max() < 1e-6
    assert curvature[6] > 0.1
    assert (hessian @ hessian.null_space()).abs().max() < 1e-6


def test_refitting_without_the_cut_vertex_is_reported_to_have_no_minimum(karate):
    loss, params = karate
    pairs = loss.pair_losses([(12, 10), (15, 13)])
    measured = vif.refit(loss, params, pairs, objects=[0, 5, 16], gtol=1e-6, max_steps=100)
    assert measured.failed is not None
    assert list(measured.failed) == [0]
    assert "cut vertex" in measured.failed[0]
    assert loss.graph.parts(without=[0]).max() + 1 == 3
    predicted = vif.attribute(loss, params, pairs, objects=[5, 16])
    torch.testing.assert_close(predicted.scores, measured.scores[1:], rtol=0.35, atol=0.02)


def perturbed(params, size):
    draw = torch.Generator().manual_seed(1)
    return {name: v * (1 + size * torch.randn(v.shape, generator=draw).double()) for name, v in params.items()}


@pytest.mark.parametrize(
    ("size", "gtol", "max_steps"),
    [(0.0, 1e-3, 200), (1e-12, 1e-6, 30), (1e-10, 1e-4, 200), (1e-8, 1e-6, 100), (1e-6, 1e-4, 50)],
)
def test_that_there_is_no_minimum_does_not_hang_on_rounding(karate, size, gtol, max_steps):
    loss, params = karate
    presence = torch.ones(34, dtype=torch.float64).index_fill(0, torch.tensor(0), 0.0)
    with pytest.raises(NoMinimumError, match="cut vertex"):
        vif.minimize(loss, perturbed(params, size), presence, gtol=gtol, max_steps=max_steps)


def test_a_penalty_gives_the_graph_without_its_cut_vertex_a_minimum(karate):
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), **WALKS, penalty=1e-4)
    presence = torch.ones(34, dtype=torch.float64).index_fill(0, torch.tensor(0), 0.0)
    found = vif.minimize(loss, karate[1], presence)
    assert (ravel(found)[0] - ravel(karate[1])[0]).norm() > ravel(karate[1])[0].norm()


@pytest.mark.parametrize("node", [24, 31, 33])
def test_a_minimum_far_away_is_no_false_alarm(karate, node):
    loss, params = karate
    presence = torch.ones(34, dtype=torch.float64).index_fill(0, torch.tensor(node), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Stopped short of the goal.
        short = vif.minimize(loss, perturbed(params, 1e-6), presence, max_steps=2)
    assert torch.isfinite(short["embedding"]).all()
    vif.minimize(loss, loss.start(seed=node), presence, gtol=1e-8)


@pytest.mark.parametrize("objects", ["nodes", "edges"])
@pytest.mark.parametrize("how", [{}, {"p": 0.25, "q": 2.0}, {"dead_ends": "stop"}, {"weight": "weight"}])
def test_groups_are_removed_as_by_masks(objects, how):
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), **WALKS, objects=objects, **how)
    groups = [[0, 1], [5, 6, 16], [33]]
    fast = loss.removal_differences(loss.start(), [torch.tensor(group) for group in groups])
    slow = vif.Loss.removal_differences(loss, loss.start(), Removals.of(groups, loss.n_objects))
    torch.testing.assert_close(fast, slow, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", [Softmax(), NegativeSampling(negatives=2.0)])
def test_the_large_graph_path_gives_the_same_loss(monkeypatch, model):
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), **WALKS, penalty=0.1, model=model)
    params, presence = loss.start(), torch.ones(34, dtype=torch.float64)
    presence[[3, 20]] = 0.0
    dense, products = loss(params, presence), loss.removal_products(params, None, torch.tensor([2, 33]))
    monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 0)
    torch.testing.assert_close(loss(params, presence), dense)
    torch.testing.assert_close(loss.at(presence)(params, presence), dense)
    directions = torch.randn(136, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(loss.removal_products(params, directions, torch.tensor([2, 33])), products @ directions)


@pytest.mark.parametrize("setting", [{"negatives": 0.0}, {"power": 2.0}])
def test_impossible_noise_is_refused(setting):
    with pytest.raises(ValueError, match="finite number, more than 0|between 0 and 1|at least 0"):
        NegativeSampling(**setting)


def test_one_share_near_one_loses_no_digits():
    loss = WalkEmbeddingLoss(nx.path_graph(4), length=3, window=1, dim=1)
    params = {"embedding": torch.ones(4, 1).double(), "output": torch.tensor([[60.0], [0.0], [1.0], [2.0]]).double()}
    slow = vif.Loss.removal_differences(loss, params, Removals.of(None, 4))
    torch.testing.assert_close(loss.removal_differences(params), slow, rtol=1e-9, atol=1e-9)


def test_every_way_to_give_a_graph_gives_the_same(tmp_path):
    graph = nx.karate_club_graph()
    path = tmp_path / "edges.txt"
    path.write_text("# Zachary\n" + "\n".join(f"{a},{b}" for a, b in graph.edges))
    arcs = torch.tensor([pair for a, b in graph.edges for pair in ((a, b), (b, a))]).T
    kinds = [
        graph,
        str(path),
        sp.csr_array(nx.to_scipy_sparse_array(graph, weight=None)),
        SimpleNamespace(edge_index=arcs, num_nodes=34),  # stands in for torch_geometric.data.Data
    ]
    values = [WalkEmbeddingLoss(kind, **WALKS) for kind in kinds]
    params, everyone = values[0].start(), torch.ones(34, dtype=torch.float64)
    assert len({round(loss(params, everyone).item(), 8) for loss in values}) == 1


@pytest.mark.parametrize(
    ("graph", "words"),
    [
        (nx.DiGraph([(0, 1), (1, 2)]), "directed=True"),
        (nx.Graph([(0, 1), (1, 1)]), "self-loop"),
        (nx.empty_graph(1), "at least two"),
        (nx.empty_graph(3), "no edges"),
        (nx.MultiGraph([(0, 1), (0, 1)]), "listed 2 times"),
        (sp.csr_array(np.array([[0, 1], [0, 0]])), "not symmetric"),
        (sp.csr_array(np.array([[0.0, -1.0], [-1.0, 0.0]])), "weight -1.0"),
        (sp.csr_array(np.array([[0.0, np.nan], [np.nan, 0.0]])), "not symmetric|weight nan"),
        (sp.csr_array(np.ones((2, 3))), "square"),
    ],
)
def test_wrong_graphs_are_refused(graph, words):
    with pytest.raises(ValueError, match=words):
        WalkEmbeddingLoss(graph, **WALKS)


def test_an_unknown_kind_of_graph_is_refused():
    with pytest.raises(TypeError, match="networkx graph"):
        WalkEmbeddingLoss([[0, 1], [1, 0]], **WALKS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("source target\n", "a header and no edges"),
        ("0 1 1.0\n1 2 -3\n", "Line 2 .* -3"),
        ("0 1 1.0\n1 2 nan\n", "Line 2 .* nan"),
        ("0 1 1.0\n1 2 x\n", "Line 2 .* not a number"),
        ("0 1\n1 2 3.0\n", "Line 2 .* 3 columns"),
        ("0 1\n0 1\n", "Line 2 .* again, after Line 1"),
        ("0 1 1.0\n1 0 2.0\n", "Line 2 .* weights 1 and 2"),
        ("0 1\n1 1\n", "Line 2 .* to itself"),
        ("# nothing\n", "no edges"),
    ],
)
def test_wrong_files_are_refused_with_the_line(tmp_path, text, words):
    path = tmp_path / "edges.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=words):
        Graph.of(path)


def test_a_node_named_twice_is_refused():
    with pytest.raises(ValueError, match="'a' names two"):
        Graph(3, torch.tensor([[0, 1], [1, 2]]), torch.ones(2), labels=["a", "a", "b"])


def test_an_unconnected_graph_needs_a_penalty():
    graph = nx.disjoint_union(nx.path_graph(3), nx.path_graph(3))
    with pytest.warns(UserWarning, match="2 unconnected parts"):
        WalkEmbeddingLoss(graph, length=3, window=1, dim=2)
    WalkEmbeddingLoss(graph, length=3, window=1, dim=2, penalty=0.1)


@pytest.mark.parametrize("pairs", [[(0, 99)], [(0, 1, 2)], []])
def test_wrong_pairs_are_refused(karate, pairs):
    with pytest.raises(ValueError, match="no node|no pair|no pairs"):
        karate[0].pair_losses(pairs)


def test_targets_are_what_they_say(karate):
    loss, params = karate
    e, o = params["embedding"], params["output"]
    scores = e @ o.T
    torch.testing.assert_close(
        loss.pair_losses()(params).reshape(34, 34), -torch.log_softmax(scores, dim=1), rtol=1e-12, atol=1e-12
    )
    presence = torch.ones(34, dtype=torch.float64)
    presence[[3, 10]] = 0.0
    kept = [node for node in range(34) if node not in (3, 10)]
    present = loss.present_pair_losses([(12, 11), (12, 10)])(params, presence)
    torch.testing.assert_close(present[0], torch.logsumexp(scores[12, kept], 0) - scores[12, 11])
    torch.testing.assert_close(present[1], torch.logsumexp(scores[12, [*kept, 10]], 0) - scores[12, 10])
    torch.testing.assert_close(loss.link_scores([(12, 10)])(params)[0], scores[12, 10] - scores[12].mean())
    cosine = torch.nn.functional.cosine_similarity(e[12], e[10], dim=0)
    torch.testing.assert_close(loss.cosine_similarities([(12, 10)])(params)[0], cosine)


def test_class_probabilities_are_those_of_the_fitted_regression(karate):
    loss, params = karate
    classes = {node: int(node < 8) for node in (0, 1, 2, 3, 33, 32, 30, 26)}
    chance = loss.class_probabilities(classes, of=[9, 13], ridge=0.5)
    inputs = torch.cat([params["embedding"], torch.ones(34, 1)], dim=1)

    def objective(beta, presence):
        logits, kinds = inputs[list(classes)] @ beta, torch.tensor(list(classes.values())).double()
        return torch.nn.functional.softplus(logits).sum() - logits @ kinds + 0.25 * beta[:2].square().sum()

    beta = vif.minimize(objective, torch.zeros(3, dtype=torch.float64), n_objects=1)
    torch.testing.assert_close(chance(params), torch.sigmoid(inputs[[9, 13]] @ beta))
    with pytest.raises(ValueError, match="Classes are 0 or 1"):
        loss.class_probabilities({0: 2})


def test_cosine_similarity_without_a_penalty_is_named_undetermined(karate):
    loss, params = karate
    with pytest.warns(UserWarning, match="training does not determine"):
        vif.attribute(loss, params, loss.cosine_similarities([(12, 10)]))


@pytest.mark.filterwarnings("ignore:Without the object, the Hessian is not positive")
@pytest.mark.parametrize("objects", [None, [[3], [5, 6], [3, 7], [1]]])
@pytest.mark.parametrize(
    "verb",
    [vif.attribute, partial(vif.attribute, tolerance=0.1), vif.refit, vif.newton_step],
    ids=["attribute", "attribute with a tolerance", "refit", "newton_step"],
)
def test_without_a_node_whose_embedding_falls_to_zero_there_is_no_cosine_of_it(verb, objects):
    loss = WalkEmbeddingLoss(nx.barabasi_albert_graph(12, 2, seed=0), **WALKS, penalty=0.5)
    params = vif.minimize(loss, loss.start())
    with pytest.warns(UserWarning, match="no number without .*3.*cosine of no vector"):
        cosines = verb(loss, params, loss.cosine_similarities([(3, 7), (1, 2)]), objects=objects)
    groups = [[i] for i in range(12)] if objects is None else objects
    for scores, pair in zip(cosines.scores.T, ({3, 7}, {1, 2}), strict=True):
        assert [bool(score.isnan()) for score in scores] == [bool(pair & {*group}) for group in groups]
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        warnings.filterwarnings("ignore", "Without the object")
        warnings.simplefilter("ignore", vif.UntrustedWarning)
        # What remains a number of zeros is one.
        links = verb(loss, params, loss.link_scores([(3, 7)]), objects=objects)
    assert links.scores.isfinite().all()


def test_given_counts_lose_their_pairs_with_the_object():
    counts = torch.rand(6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss, kept = SkipGramLoss(counts, dim=2, penalty=0.1), [0, 1, 3, 4, 5]
    fewer = SkipGramLoss(counts[kept][:, kept], dim=2, penalty=0.1)
    params, presence = loss.start(), torch.ones(6, dtype=torch.float64)
    presence[2] = 0.0
    shared = 0.05 * sum(value[2].square().sum() for value in params.values())
    smaller = fewer({name: value[kept] for name, value in params.items()}, torch.ones(5, dtype=torch.float64))
    torch.testing.assert_close(loss(params, presence), smaller + shared)


@pytest.mark.filterwarnings("ignore:What is explained is no number")
def test_scores_solved_for_targets_are_those_solved_for_removals(monkeypatch):
    loss = WalkEmbeddingLoss(nx.barabasi_albert_graph(40, 2, seed=0), **WALKS, penalty=0.1)
    params = vif.minimize(loss, loss.start(), gtol=1e-4)
    pairs, groups = loss.cosine_similarities([(3, 7), (7, 20)]), [[0], [3, 7], [20], *([i] for i in range(8, 20))]
    monkeypatch.setattr("versatile_influence.losses.graphs.walk_removals.PAIR_NUMBERS", 3200)

    def products(theta):
        # Unlike a cosine, no constant along what a node owns: what falls to zero counts.
        return (theta["embedding"][[3, 7]] * theta["output"][[7, 20]]).sum(1)

    for target, objects in itertools.product((pairs, products), (None, groups)):
        by_target = vif.attribute(loss, params, target, objects=objects)
        with monkeypatch.context() as patched:
            patched.setattr("versatile_influence.verbs.sides.served_by_target", lambda *_: False)
            by_removal = vif.attribute(loss, params, target, objects=objects)
        # Of a pair's own node there is no cosine.
        torch.testing.assert_close(by_target.scores, by_removal.scores, rtol=1e-8, atol=1e-10, equal_nan=True)
        assert by_target.solution.value.shape[1] < by_removal.solution.value.shape[1]


def test_a_large_graph_is_trained_by_lbfgs_and_newton_steps_with_the_hessian_written_out(monkeypatch):
    loss = WalkEmbeddingLoss(nx.barabasi_albert_graph(30, 2, seed=0), **WALKS, penalty=0.1)
    monkeypatch.setattr("versatile_influence.core.curvature.WRITTEN_PARAMETERS", 50)
    monkeypatch.setattr("versatile_influence.core.curvature.DENSE_PARAMETERS", 50)
    monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 0)
    presence = torch.ones(30, dtype=torch.float64).index_fill(0, torch.tensor([3]), 0.0)
    params = vif.minimize(loss, loss.start(), presence, gtol=1e-10)
    slow = torch.func.grad(loss)(params, presence)
    assert max(part.abs().max() for part in slow.values()) < 30 * 1e-10
    stacked = {name: value[None] for name, value in loss.start().items()}
    by_hand = loss.at(presence).gradients(stacked, presence[None])[0]
    slow = torch.cat([part.reshape(-1) for part in torch.func.grad(loss)(loss.start(), presence).values()])
    torch.testing.assert_close(by_hand, slow, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
@pytest.mark.parametrize(
    "settings", [{}, {"objects": "edges"}, {"p": 0.5, "q": 2.0}, {"window": [-2, 0, 1]}, {"dead_ends": "stop"}]
)
def test_what_is_written_out_for_large_graphs_is_the_automatic_answer(settings, model, monkeypatch):
    monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 2)
    # Several blocks of centres, the last one shorter.
    monkeypatch.setattr("versatile_influence.losses.graphs.large.CENTRE_NUMBERS", 40)
    given = {"length": 5, "window": 2, "dim": 2, "penalty": 0.3, "model": model} | settings
    loss = WalkEmbeddingLoss(nx.krackhardt_kite_graph(), **given)
    params, presence = loss.start(), torch.ones(loss.n_objects, dtype=torch.float64)
    vif.check_loss(loss, params)
    vif.check_loss(SkipGramLoss(loss.walks.counts(), dim=2, penalty=0.3, model=model), params)
    presence[1] = 0.0
    hessian = vif.Hessian(loss.at(presence), params, presence, damping=1e3)
    # Each node's own blocks of the Hessian.
    root = hessian.loss.stand_in.root(hessian)
    right = torch.linalg.inv(root.blocks @ root.blocks.mT)
    own = torch.stack([hessian.dense()[2 * row : 2 * row + 2, 2 * row : 2 * row + 2] for row in range(20)])
    torch.testing.assert_close(own, right, rtol=1e-8, atol=1e-8)
    columns = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)).double()
    whole = torch.block_diag(*root.blocks)
    torch.testing.assert_close(root @ columns, whole @ columns)
    torch.testing.assert_close(root.turned(columns), whole.T @ columns)


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
def test_of_two_nodes_alike_each_pair_names_its_own(model, large, monkeypatch):
    if large:
        monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 2)
    graph = nx.Graph(nx.karate_club_graph().edges)
    # A second node 8: the same neighbours, so that the two trade places in every sum.
    graph.add_edges_from((34, other) for other in list(graph[8]))
    loss = WalkEmbeddingLoss(graph, length=6, window=3, dim=2, penalty=0.1, model=model)
    params, alike = vif.minimize(loss, loss.start()), [list(loss.node_labels).index(node) for node in (8, 34)]
    for layer in params.values():
        torch.testing.assert_close(*layer[alike], rtol=1e-6, atol=1e-8)
    target = loss.pair_losses([(8, 33), (34, 33), (12, 10)])
    measured = vif.refit(loss, params, target, objects=alike)
    predicted = vif.attribute(loss, params, target)
    close = vif.attribute(loss, params, target, objects=alike, tolerance=0.1)
    for found in (measured.scores, predicted.scores[alike], close.scores):
        torch.testing.assert_close(found[0], found[1, [1, 0, 2]], rtol=1e-5, atol=1e-6)
        # What goes with the pair's own node is more than what its double takes with it.
        assert (found[:, :2].diagonal() > 3 * found[:, :2].fliplr().diagonal().abs()).all()
    assert (close.scores - measured.scores).norm() < 0.1 * measured.scores.norm()


@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
def test_hubs_of_a_large_graph_that_end_by_descent_are_where_refits_are(model, monkeypatch):
    monkeypatch.setattr("versatile_influence.core.curvature.WRITTEN_PARAMETERS", 50)
    monkeypatch.setattr("versatile_influence.core.curvature.DENSE_PARAMETERS", 50)
    monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 2)
    graph = nx.barabasi_albert_graph(40, 3, seed=0)
    loss = WalkEmbeddingLoss(graph, length=6, window=3, dim=2, penalty=0.1, model=model)
    params, hubs = vif.minimize(loss, loss.start()), sorted(graph, key=graph.degree)[-2:]
    target = loss.pair_losses(list(graph.edges)[::20])
    close = vif.attribute(loss, params, target, objects=hubs, tolerance=0.1)
    measured, first = (
        vif.refit(loss, params, target, objects=hubs).scores,
        vif.attribute(loss, params, target, objects=hubs, check=False).scores,
    )
    assert "descend" in close.rung
    off = (first - measured).norm(dim=1) / measured.norm(dim=1)
    assert off.max() > 0.2
    assert ((close.scores - measured).norm(dim=1) <= 0.1 * measured.norm(dim=1)).all()


@pytest.mark.parametrize("room", [0, 10**9])
@pytest.mark.parametrize("columns", [1, 4])
@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
def test_steps_in_single_precision_solve_a_large_graph_in_double(model, columns, room, monkeypatch):
    monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 2)
    monkeypatch.setattr("versatile_influence.losses.graphs.large.CENTRE_NUMBERS", 70)
    monkeypatch.setattr("versatile_influence.losses.graphs.at_presence.PAIR_BYTES", room)
    loss = WalkEmbeddingLoss(nx.krackhardt_kite_graph(), length=5, window=2, dim=2, penalty=0.3, model=model)
    params = vif.minimize(loss, loss.start())
    hessian = vif.Hessian(loss, params, torch.ones(10, dtype=torch.float64))
    right = torch.randn(40, columns, generator=torch.Generator().manual_seed(0)).double()
    # A rotation of both layers is no step.
    right -= hessian.null_space() @ (hessian.null_space().T @ right)
    solution = vif.CG(rtol=1e-10).solve(hessian, right)
    assert solution.residual.max() <= 1e-10
    expected = torch.linalg.pinv(hessian.dense(), hermitian=True, rtol=1e-9) @ right
    torch.testing.assert_close(solution.value, expected, rtol=1e-7, atol=1e-9)


def test_scores_of_a_large_graph_that_overflow_as_powers_are_no_less_exact(monkeypatch):
    loss = WalkEmbeddingLoss(nx.krackhardt_kite_graph(), length=5, window=2, dim=2)
    params = {name: 30 * value for name, value in loss.start().items()}
    assert (params["embedding"] @ params["output"].T).max() > 710
    value, gradient = loss(params, torch.ones(10).double()), vif.Loss.gradient(loss, params, torch.ones(10).double())
    monkeypatch.setattr("versatile_influence.losses.graphs.embedding_loss.DENSE_NODES", 2)
    there = loss.at(torch.ones(10).double()).gradient_and_value(params, torch.ones(10).double())
    torch.testing.assert_close(there, (gradient, value))
