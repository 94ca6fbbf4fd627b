"""What makes graphs of thousands of nodes affordable: threads, sparse counts, where training starts and how it ends."""

import networkx as nx
import numpy as np
import pytest
import torch

import versatile_influence as vif
from versatile_influence.core.curvature import spanned
from versatile_influence.losses import NegativeSampling, SkipGramLoss, Softmax, WalkEmbeddingLoss
from versatile_influence.losses.graphs.large import Large
from versatile_influence.losses.graphs.leading import leading
from versatile_influence.losses.graphs.together import together

GRAPHS = "versatile_influence.losses.graphs."


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(GRAPHS + "embedding_loss.DENSE_NODES", 2)
    for name in ("WRITTEN_PARAMETERS", "DENSE_PARAMETERS"):
        monkeypatch.setattr("versatile_influence.core.curvature." + name, 50)


def walked(graph, *, dim=2, penalty=0.5, model=Softmax(), **settings):
    return WalkEmbeddingLoss(
        graph, **{"length": 6, "window": 3, "dim": dim, "penalty": penalty, "model": model} | settings
    )


@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
def test_blocks_in_several_threads_add_up_to_the_same(model, large, monkeypatch):
    monkeypatch.setattr(GRAPHS + "large.CENTRE_NUMBERS", 100)
    loss, everyone, threads = walked(nx.karate_club_graph(), model=model), torch.ones(34).double(), 3
    params, columns = loss.start(), torch.randn(136, 2, generator=torch.Generator().manual_seed(0)).double()
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            there = WalkEmbeddingLoss.at(loss, everyone).there
            gradient, value = there.gradient_and_value(params)
            across = there.across(there.pairs(params), params, columns[:68], outward=True)
            found.append([*gradient.values(), value, there.hessian_products(params, columns), across])
            found[-1].append(there.roots(params, 0.5) @ there.roots(params, 0.5).mT)
            assert torch.get_num_threads() == count
    finally:
        torch.set_num_threads(before)
    torch.testing.assert_close(*found, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
def test_parameters_that_ask_for_a_gradient_and_every_mode_give_the_same(model, threads, mode, large, monkeypatch):
    monkeypatch.setattr(GRAPHS + "large.CENTRE_NUMBERS", 100)
    graph, everyone = nx.karate_club_graph(), torch.ones(34).double()
    losses = walked(graph, model=model), SkipGramLoss(walked(graph).walks.counts(), dim=2, penalty=0.5, model=model)
    columns, before = torch.eye(136).double()[:, :3], torch.get_num_threads()
    for loss in losses:
        start = loss.start()
        expected = loss(start, everyone), loss.gradient(start, everyone), vif.Hessian(loss, start, everyone) @ columns
        asking = {name: layer.clone().requires_grad_() for name, layer in start.items()}
        try:
            torch.set_num_threads(threads)
            with mode():
                found = loss.gradient(asking, everyone), loss.at(everyone).hessian_products(asking, everyone, columns)
                value = loss(start, everyone)
        finally:
            torch.set_num_threads(before)
        torch.testing.assert_close((value, *found), expected)


def test_what_goes_wrong_in_a_thread_is_raised_and_leaves_the_number_of_threads():
    def work(chosen):
        if chosen.step:
            raise ValueError("in a thread")
        return torch.zeros(())

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        with pytest.raises(ValueError, match="in a thread"):
            together(work, 5, 2)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(
    "settings",
    [
        *({"window": window} for window in (3, [0, 1, 3], [-2, 1], [0], [-3])),
        {"p": 0.5, "q": 2.0},
        {"window": [0, -1, 2], "dead_ends": "stop"},
    ],
)
def test_sparse_counts_and_products_with_them_are_those_of_the_table(settings):
    graph = nx.karate_club_graph()
    graph.add_edge(40, 41)
    loss = walked(graph, **settings)
    presence = torch.ones(36).double().index_fill(0, torch.tensor([0, 34]), 0.0)
    expected = loss.walks.counts(presence)
    there = loss.meetings(presence)[1]
    for precision, digits in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        rows = there.rows(slice(3, 30), precision)
        torch.testing.assert_close(rows.double(), expected[3:30], rtol=digits, atol=digits)
    left, right = torch.randn(2, 36, 3, generator=torch.Generator().manual_seed(0)).double()
    back, ahead = there.products(left, right[:, :1])
    torch.testing.assert_close(back, expected.T @ left)
    torch.testing.assert_close(ahead, expected @ right[:, :1])


def test_training_starts_from_the_best_scores_of_low_rank_that_a_newton_step_gives(large):
    loss = walked(nx.karate_club_graph(), dim=3, model=NegativeSampling(negatives=2.0, power=1.0))
    nodes, there = loss.meetings(torch.ones(34).double())
    start = torch.randn(34, 3, generator=torch.Generator().manual_seed(0)).double()
    for _ in range(40):
        found = leading(loss.model, there, nodes, start)
        start = found["embedding"] * there.centres.sqrt()[:, None]
    # By hand: −slope ½ (C − c rᵀ) over curvature ¼ (1 + 1/k) c rᵀ, in weights of that curvature.
    counts = loss.walks.counts().numpy()
    centres, noise = counts.sum(1), 2.0 * counts.sum(0) / counts.sum()
    weighted = 2 / (1 + 1 / 2) * (counts - np.outer(centres, noise)) / np.sqrt(np.outer(centres, noise))
    u, size, v = np.linalg.svd(weighted)
    best = (u[:, :3] * size[:3]) @ v[:3] / np.sqrt(np.outer(centres, noise))
    np.testing.assert_allclose(found["embedding"] @ found["output"].T, best, rtol=1e-6, atol=1e-8)
    assert found["embedding"].norm().item() == pytest.approx(found["output"].norm().item())
    at_random = {name: 0.5 * torch.randn(34, 3).double() for name in found}
    everyone = torch.ones(34).double()
    assert loss(loss.start(), everyone) < loss(at_random, everyone)


def test_training_in_single_precision_ends_where_rounding_begins(large, monkeypatch):
    graph = nx.powerlaw_cluster_graph(400, 4, 0.5, seed=0)
    loss, evaluated, done = walked(graph, dim=16, model=NegativeSampling()), [], Large.gradient_and_value

    def counted(self, params):
        gradient, value = done(self, params)
        if self.precision == torch.float32:
            evaluated.append(value.item() + 0.25 * sum(layer.square().sum().item() for layer in params.values()))
        return gradient, value

    monkeypatch.setattr(Large, "gradient_and_value", counted)
    params = vif.minimize(loss, loss.start())
    assert loss.gradient(params, torch.ones(400).double()).abs().max() < 400 * 1e-10
    lowest = np.minimum.accumulate(evaluated)
    # Not a third of it is spent on the last hundred-millionth.
    assert (lowest > lowest[-1] * (1 + 1e-8)).sum() > 2 / 3 * len(evaluated)


@pytest.mark.parametrize("model", [Softmax(), NegativeSampling()])
def test_a_saddle_of_a_large_graph_is_left(model, large):
    loss = walked(nx.karate_club_graph(), penalty=0.1, model=model)
    params = vif.minimize(loss, loss.start())
    flat = {name: layer * torch.tensor([1.0, 0.0]).double() for name, layer in loss.start(seed=1).items()}
    # No gradient leads out of rank 1.
    assert torch.equal(loss.gradient(flat, torch.ones(34).double())[1::2], torch.zeros(68).double())
    beyond, everyone = vif.minimize(loss, flat), torch.ones(34).double()
    assert beyond["embedding"][:, 1].norm() > 0.1
    assert loss(beyond, everyone).item() == pytest.approx(loss(params, everyone).item(), rel=0.01)


def test_directions_are_spanned_once_however_nearly_parallel():
    columns = torch.randn(50, 4, generator=torch.Generator().manual_seed(0)).double() * torch.tensor([1, 1e-4, 1e4, 1])
    basis = spanned(columns.double())
    torch.testing.assert_close(basis.T @ basis, torch.eye(4).double(), rtol=0, atol=1e-14)
    unit = torch.nn.functional.normalize(columns.double(), dim=0)
    torch.testing.assert_close(basis @ (basis.T @ unit), unit)
    # A rotation among axes that have fallen to nothing is none.
    assert spanned(unit * torch.tensor([1, 1e-12, 0, 1])).shape[1] == 2
    assert spanned(0 * unit).shape == (50, 0)
    near = unit.clone()
    near[:, 3] = unit[:, 0] + 1e-6 * unit[:, 3]
    assert spanned(near).shape[1] == 4
    near[:, 3] = unit[:, 0] + 1e-13 * unit[:, 3]
    basis = spanned(near)
    assert basis.shape[1] == 3
    torch.testing.assert_close(basis.T @ basis, torch.eye(3).double(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("numbers", [7, 10**6])
def test_residuals_of_a_factorisation_are_those_of_the_matrix(numbers, monkeypatch):
    monkeypatch.setattr("versatile_influence.solvers.explicit.at_once", lambda p: max(1, numbers // p))
    root = torch.randn(9, 9, generator=torch.Generator().manual_seed(0)).double()
    matrix = root @ root.T + torch.eye(9)
    loss = lambda theta, presence: presence.sum() * theta @ matrix @ theta / 2  # noqa: E731
    hessian = vif.Hessian(loss, torch.zeros(9).double(), torch.ones(1).double())
    right = torch.randn(9, 2, generator=torch.Generator().manual_seed(1)).double()
    kept, solver = matrix.clone(), vif.Explicit()
    solution = solver.solve(hessian, right)
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, right))
    expected = (matrix @ solution.value - right).norm(dim=0) / right.norm(dim=0)
    torch.testing.assert_close(solution.residual, expected, rtol=0, atol=1e-14)
    again = solver.solve(hessian, 2 * right)
    torch.testing.assert_close(again.value, 2 * solution.value)
    assert torch.equal(matrix, kept)


def test_many_dimensions_of_few_nodes_are_trained_without_a_table_of_all_curvatures():
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=31, penalty=2.0)
    assert loss.large
    params, everyone = vif.minimize(loss, loss.start()), torch.ones(34).double()
    assert loss.gradient(params, everyone).abs().max() < 34e-10
    few = WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=2, penalty=2.0)
    assert not few.large
    with pytest.raises(MemoryError, match="Take a smaller dim: 34 nodes fill no more than 34 dimensions"):
        WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=900, penalty=1.0).null_directions(
            {"embedding": torch.zeros(34, 900).double(), "output": torch.zeros(34, 900).double()}, everyone
        )
