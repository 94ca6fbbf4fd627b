"""EK-FAC against dense Gauss–Newton matrices, of losses that couple rows."""

import itertools

import pytest
import torch

import versatile_influence as vif
from versatile_influence.solvers.layers import backpropagated, layers_of, recorded
from versatile_influence.solvers.pseudo_gradients import pseudo_gradients

# Residuals are large by the method's nature; that they are told is tested beside those of other solvers.
pytestmark = pytest.mark.filterwarnings("ignore:EKFAC left")


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def coupled(outputs, presence):
    """Return a softmax over all rows together, and over the outputs of each."""
    flat = outputs.flatten(1) if outputs.dim() > 1 else outputs[:, None]
    weights = presence[:, None] * flat.exp()
    return weights.sum().log() * 3 + (presence * flat.square().sum(1)).sum() / 4 - (presence * flat[:, 0]).sum()


class Flat(torch.nn.Module):
    """Embedding, then a linear layer over all places."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(5, 2, padding_idx=0)
        self.head = torch.nn.Linear(6, 2)

    def forward(self, words):
        return self.head(self.embed(words).flatten(1).tanh())


class Tied(torch.nn.Module):
    """One weight, used by a layer and again beside it."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(3, 3, bias=False)

    def forward(self, x):
        return self.inner(x).tanh() @ self.inner.weight


def sequence(*layers):
    return torch.nn.Sequential(*layers)


MODELS = {
    "linear": (lambda: torch.nn.Linear(3, 1), drawn(8, 3)),
    "two layers": (
        lambda: sequence(torch.nn.Linear(3, 4), torch.nn.ReLU(inplace=True), torch.nn.Linear(4, 2, bias=False)),
        drawn(8, 3),
    ),
    "sequences": (lambda: sequence(torch.nn.Linear(3, 2), torch.nn.Tanh(), torch.nn.Linear(2, 2)), drawn(4, 5, 3)),
    "convolution": (
        lambda: sequence(
            torch.nn.Conv2d(2, 3, (3, 2), stride=2, padding=1),
            torch.nn.Tanh(),
            torch.nn.Flatten(),
            torch.nn.Linear(27, 1),
        ),
        drawn(6, 2, 5, 4),
    ),
    "embedding": (Flat, torch.tensor([[1, 2, 0], [3, 3, 4], [0, 0, 1], [2, 4, 4]])),
}
every_model = pytest.mark.parametrize("name", MODELS)


def problem(name, penalty=0.5, damping=0.0):
    """Return a Gauss–Newton matrix of a network under a loss that couples its rows."""
    build, x = MODELS[name] if isinstance(name, str) else name
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = build().double()
    loss = vif.losses.OutputLoss(model, x, coupled, n_objects=len(x), penalty=penalty)
    return vif.GaussNewton(loss, loss.zeros(), torch.ones(len(x)).double(), damping)


@every_model
def test_the_second_moment_of_the_pseudo_gradients_is_the_gauss_newton_matrix(name):
    G = problem(name)
    leaves = {key: value.clone().requires_grad_() for key, value in G.params.items()}
    layers = layers_of(G.loss.model, set(leaves))
    with recorded(layers):
        outputs = G.loss.outputs(leaves)
    z = pseudo_gradients(G.loss.outer, outputs, G.presence, num_draws=None, generator=torch.Generator())
    parts = {}
    for layer in layers:
        gradients = torch.cat([torch.cat(chunk) for chunk in backpropagated(outputs, layer.outputs, z)])
        totals = layer.totals([gradients])
        torch.testing.assert_close(layer.matrices(layer.parts(totals)), totals)
        parts |= layer.parts(totals)
    flat = torch.cat([parts[key].flatten(1) for key in leaves], dim=1)
    torch.testing.assert_close(flat.T @ flat + 0.5 * torch.eye(flat.shape[1]).double(), G.dense(), rtol=1e-9, atol=1e-9)


def test_one_linear_output_has_exact_factors_though_the_loss_couples_rows():
    G, rhs = problem("linear", damping=0.2), drawn(4, 9, seed=3)
    solution = vif.EKFAC(num_draws=None).solve(G, rhs)
    torch.testing.assert_close(solution.value, torch.linalg.solve(G.dense(), rhs), rtol=1e-9, atol=1e-9)
    assert solution.residual.max() < 1e-10


@every_model
def test_the_factors_are_positive_close_to_the_blocks_and_precondition(name):
    G = problem(name)
    p = len(G.dense())
    stand_in = vif.EKFAC(num_draws=None).inverse(G)(torch.eye(p).double())
    torch.testing.assert_close(stand_in, stand_in.T, rtol=1e-9, atol=1e-12)
    assert torch.linalg.eigvalsh(stand_in).min() > 0
    # Λ is the diagonal of each block in the basis, so that the trace of the curvature is kept.
    torch.testing.assert_close(torch.linalg.inv(stand_in).trace(), G.dense().trace(), rtol=1e-7, atol=0)
    rhs = drawn(p, 3, seed=2)
    solved = vif.CG(preconditioner=vif.EKFAC(num_draws=None)).solve(G, rhs)
    torch.testing.assert_close(solved.value, torch.linalg.solve(G.dense(), rhs), rtol=1e-5, atol=1e-6)


def test_where_rows_do_not_meet_nothing_is_drawn_and_the_factors_are_those_of_all_rows():
    labels, cross_entropy = torch.tensor([0, 2, 1, 1, 0, 2, 2, 0]), torch.nn.functional.cross_entropy
    model = sequence(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3, bias=False)).double()
    outer = lambda o, b: (b * cross_entropy(o, labels, reduction="none")).sum()  # noqa: E731
    loss = vif.losses.OutputLoss(model, drawn(8, 3), outer, n_objects=8, penalty=0.5)
    G, everyone = vif.GaussNewton(loss, loss.zeros(), torch.ones(8).double()), torch.ones(8).double()
    rhs = drawn(len(G.dense()), 3, seed=1)
    # By hand, from all outputs together: any root of B will do.
    jacobian = torch.func.jacrev(lambda some: loss.outputs(some).flatten())(G.params)
    jacobian = {name: value.reshape(24, len(value[0]), -1) for name, value in jacobian.items()}
    bent = torch.func.hessian(lambda o: outer(o.view(8, 3), everyone))(loss.outputs(G.params).flatten())
    size, ways = torch.linalg.eigh(bent)
    root, blocks = ways * size.clamp_min(0).sqrt(), []
    first = torch.cat([jacobian["0.weight"], jacobian["0.bias"]], dim=2)
    right_first = torch.cat([rhs[:12].view(4, 3, 3), rhs[12:16, None]], dim=1)
    for matrix, part in ((first, right_first), (jacobian["2.weight"], rhs[16:].view(3, 4, 3))):
        totals = torch.einsum("mz,moi->zoi", root, matrix)
        left = torch.linalg.eigh((totals @ totals.mT).sum(0))[1]
        right = torch.linalg.eigh((totals.mT @ totals).sum(0))[1]
        curvature = (left.T @ totals @ right).square().sum(0) + 0.5
        solved = torch.einsum("ao,ib,oik->abk", left.T, right, part) / curvature[..., None]
        blocks.append(torch.einsum("oa,bi,abk->oik", left, right.T, solved))
    expected = torch.cat([blocks[0][:, :3].flatten(0, 1), blocks[0][:, 3], blocks[1].flatten(0, 1)])
    for draws in (1, None):
        torch.testing.assert_close(vif.EKFAC(num_draws=draws).solve(G, rhs).value, expected)


@every_model
@pytest.mark.parametrize("passed", [1, 20_000_000])
def test_of_too_many_draws_moments_are_summed_in_two_rounds(name, passed, monkeypatch):
    G = problem(name)
    rhs = drawn(len(G.dense()), 2, seed=4)
    held = vif.EKFAC(num_draws=7).solve(G, rhs).value
    monkeypatch.setattr("versatile_influence.solvers.kronecker.DRAWN_NUMBERS", 0)
    monkeypatch.setattr("versatile_influence.solvers.kronecker.PASS_NUMBERS", passed)
    torch.testing.assert_close(vif.EKFAC(num_draws=7).solve(problem(name), rhs).value, held, rtol=1e-6, atol=1e-9)
    with pytest.raises(MemoryError, match="fewer draws"):
        vif.EKFAC(num_draws=7, rank=2).solve(problem(name), rhs)


class Heads(torch.nn.Module):
    """A trunk, and a head that the batch names."""

    def __init__(self):
        super().__init__()
        self.trunk, self.heads = torch.nn.Linear(3, 4), torch.nn.ModuleList(torch.nn.Linear(4, 2) for _ in range(3))

    def forward(self, x, which):
        """Return the outputs of that head."""
        return self.heads[int(which)](self.trunk(x).tanh())


@pytest.mark.parametrize("order", [(0, 1, 0), (1, 0, 1)])
def test_a_layer_that_some_batches_do_not_pass_keeps_its_factors(order, monkeypatch):
    model, x = Heads().double(), drawn(12, 3)
    batches = [((x[4 * i : 4 * i + 4], torch.tensor(head)), range(4 * i, 4 * i + 4)) for i, head in enumerate(order)]
    outer = lambda o, b: (b * o.square().sum(1)).sum() + (b[:, None] * o.exp()).sum().log()  # noqa: E731
    loss = vif.losses.BatchedLoss(model, batches, outer, penalty=0.5)
    G = vif.GaussNewton(loss, loss.zeros(), torch.ones(12).double())
    p = len(G.dense())
    held = vif.EKFAC(num_draws=None).inverse(G)(torch.eye(p).double())
    # The trace is kept by factors and by a diagonal alike; a block of factors is no diagonal.
    torch.testing.assert_close(torch.linalg.inv(held).trace(), G.dense().trace(), rtol=1e-7, atol=0)
    assert all(held[at : at + 8, at : at + 8].tril(-1).abs().max() > 1e-6 for at in (16, 26))
    assert torch.equal(held[36:, 36:], torch.eye(10).double() / 0.5)
    monkeypatch.setattr("versatile_influence.solvers.kronecker.DRAWN_NUMBERS", 0)
    again = vif.GaussNewton(loss, loss.zeros(), torch.ones(12).double())
    torch.testing.assert_close(vif.EKFAC(num_draws=None).inverse(again)(torch.eye(p).double()), held)


def test_directions_are_kept_of_a_module_in_single_precision_too():
    model, x = sequence(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)), drawn(8, 3).float()
    outer = lambda o, b: (b * o.square().sum(1)).sum() + (b[:, None] * o.exp()).sum().log()  # noqa: E731
    found = []
    for precision in (torch.float32, torch.float64):
        batches = [(x.to(precision), range(8))]
        loss = vif.losses.BatchedLoss(model.to(precision), batches, outer, penalty=0.5)
        G = vif.GaussNewton(loss, loss.zeros(), torch.ones(8).double())
        found.append(vif.EKFAC(num_draws=None, rank=3).solve(G, drawn(26, 2)).value)
    torch.testing.assert_close(*found, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("curvature", [vif.Hessian, vif.GaussNewton])
def test_factors_are_taken_without_gradients_being_recorded_outside(curvature):
    G = problem("two layers")
    found = []
    for context in (torch.enable_grad(), torch.no_grad()):
        with context:
            matrix = curvature(G.loss, G.params, G.presence)
            found.append(vif.EKFAC(num_draws=None).inverse(matrix)(drawn(24, 2)))
    torch.testing.assert_close(*found)


def test_a_layer_that_no_gradient_reaches_has_the_penalty_alone():
    model = sequence(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    for value in model[2].parameters():
        value.data.zero_()
    for outer in (coupled, lambda o, b: (b * o.square().sum(1)).sum()):
        loss = vif.losses.OutputLoss(model, drawn(8, 3), outer, n_objects=8, penalty=0.5)
        G = vif.GaussNewton(loss, loss.zeros(), torch.ones(8).double())
        value = vif.EKFAC().solve(G, torch.eye(26).double()).value
        torch.testing.assert_close(value[:16, :16], torch.eye(16).double() / 0.5)


def test_other_parameters_have_the_diagonal():
    x = drawn(8, 3)
    G = problem((lambda: sequence(torch.nn.LayerNorm(3), torch.nn.Linear(3, 1)), x))
    norm = slice(0, 6)
    solved = vif.EKFAC(num_draws=None).solve(G, torch.eye(10).double()).value
    torch.testing.assert_close(solved[norm, norm], torch.diag(1 / G.dense().diagonal()[norm]), rtol=1e-8, atol=1e-12)


def test_a_weight_that_also_acts_elsewhere_is_named_and_kept_as_a_diagonal():
    G = problem((Tied, drawn(6, 3)))
    with pytest.warns(UserWarning, match=r"`inner.weight`.*tied"):
        solved = vif.EKFAC(num_draws=None).solve(G, torch.eye(9).double()).value
    torch.testing.assert_close(solved, torch.diag(1 / G.dense().diagonal()), rtol=1e-8, atol=1e-12)


def test_draws_by_the_lanczos_root_are_those_by_the_dense_root():
    G = problem("two layers")
    outputs = G.loss.outputs(G.params)
    roots = [
        pseudo_gradients(
            G.loss.outer,
            outputs,
            G.presence,
            num_draws=3,
            generator=torch.Generator().manual_seed(0),
            dense_outputs=limit,
        )
        for limit in (0, 100)
    ]
    torch.testing.assert_close(roots[0], roots[1], rtol=1e-6, atol=1e-8)
    with pytest.raises(ValueError, match=r"16 outputs.*num_draws=64"):
        pseudo_gradients(
            G.loss.outer, outputs, G.presence, num_draws=None, generator=torch.Generator(), dense_outputs=10
        )


def test_more_draws_come_closer_to_exact_factors():
    G, rhs = problem("two layers"), drawn(24, 4, seed=3)
    exact = vif.EKFAC(num_draws=None).solve(G, rhs).value
    errors = [(vif.EKFAC(num_draws=draws).solve(G, rhs).value - exact).norm().item() for draws in (4, 64, 1024)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.2 * exact.norm()


def test_a_loss_without_a_network_is_refused_with_what_to_do():
    loss = vif.losses.PairwiseLoss([0, 1], [1, 2], penalty=1.0)
    curvature = vif.GaussNewton(loss, loss.zeros(), torch.ones(2).double())
    with pytest.raises(TypeError, match=r"EKFAC needs.*OutputLoss.*vif.CG"):
        vif.EKFAC().solve(curvature, torch.ones(3, 1).double())


@every_model
def test_with_strong_directions_kept_the_trace_stays_and_the_whole_matrix_is_reached(name):
    G = problem(name)
    dense, p = G.dense(), len(G.dense())
    rank = int(torch.linalg.matrix_rank(dense - 0.5 * torch.eye(p).double(), hermitian=True))
    errors = []
    for kept in (0, rank // 2, rank - 1, rank + 3):
        inverse = vif.EKFAC(num_draws=None, rank=kept).inverse(G)(torch.eye(p).double())
        torch.testing.assert_close(inverse, inverse.T, rtol=1e-8, atol=1e-10)
        stand_in = torch.linalg.inv(inverse)
        torch.testing.assert_close(stand_in.trace(), dense.trace(), rtol=1e-7, atol=0)
        errors.append((stand_in - dense).norm().item())
    rounding = 1e-9 * dense.norm()
    assert all(later < max(earlier, rounding) for earlier, later in itertools.pairwise(errors))
    assert errors[-1] < rounding


def test_strong_directions_include_parameters_outside_the_layers_and_drawn_gradients():
    G = problem((lambda: sequence(torch.nn.LayerNorm(3), torch.nn.Linear(3, 1)), drawn(8, 3)))
    rhs = drawn(10, 3, seed=4)
    exact = torch.linalg.solve(G.dense(), rhs)
    torch.testing.assert_close(vif.EKFAC(num_draws=None, rank=10).solve(G, rhs).value, exact, rtol=1e-7, atol=1e-9)
    errors = [(vif.EKFAC(num_draws=500, rank=rank).solve(G, rhs).value - exact).norm() for rank in (0, 10)]
    assert errors[1] < 0.5 * errors[0]


def test_strong_directions_without_penalty_or_damping_are_refused():
    with pytest.raises(ValueError, match=r"rank=2.*damping"):
        vif.EKFAC(rank=2).solve(problem("linear", penalty=0.0), torch.ones(4, 1).double())


def test_strong_directions_want_draws_enough():
    G, rhs = problem("two layers"), drawn(24, 4, seed=3)
    exact = torch.linalg.solve(G.dense(), rhs)

    def error(draws, rank):
        return (vif.EKFAC(num_draws=draws, rank=rank).solve(G, rhs).value - exact).norm().item()

    assert error(None, 8) < error(None, 4) < error(None, 0)
    assert error(None, 8) < error(1000, 8) < error(8, 8)
