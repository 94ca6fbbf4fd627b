"""Jacobians in factors against automatic ones, and what is solved through them against the dense answer."""

import pytest
import torch
from cases import data
from torch.func import jacrev

import versatile_influence as vif
from versatile_influence.core.factored import factored
from versatile_influence.core.jacobian import Stored
from versatile_influence.core.ravel import ravel
from versatile_influence.solvers.cg import _among_outputs

nn = torch.nn


def network(*layers):
    return nn.Sequential(*layers).double()


def squares(outputs, presence):
    return (presence * (outputs.reshape(len(presence), -1) - 1).square().sum(1)).sum() + (outputs[0] * outputs[1]).sum()


def loss_of(model, x=None):
    x = data(3, 7, 4) if x is None else x
    return vif.losses.OutputLoss(model, x, squares, n_objects=len(x), penalty=0.5)


NETWORKS = {
    "with biases": network(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 5), nn.Softplus(), nn.Linear(5, 1)),
    "several outputs": network(nn.Linear(4, 9, bias=False), nn.ReLU(), nn.Linear(9, 3)),
    "in place": network(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 2, bias=False)),
}


def automatic(loss, params):
    theta, unravel = ravel(params)
    return jacrev(lambda flat: loss.outputs(unravel(flat)).reshape(-1))(theta)


def found(loss, params):
    return factored(loss.outputs.by_row, loss.outputs(params), params)


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("block", [4_000_000, 20])
def test_factors_give_the_automatic_jacobian_its_products_and_its_kernel(model, block, monkeypatch):
    monkeypatch.setattr("versatile_influence.core.factored.FACTOR_BLOCK", block)
    loss = loss_of(model)
    params = loss.zeros()
    matrix, jacobian = automatic(loss, params), found(loss, params)
    assert jacobian is not None
    torch.testing.assert_close(jacobian.dense(), matrix)
    for other in (jacobian, Stored(matrix)):
        for columns in (0, 1, 3):
            right, left = data(1, matrix.shape[1], columns), data(2, len(matrix), columns)
            torch.testing.assert_close(other @ right, matrix @ right)
            torch.testing.assert_close(other.transposed(left), matrix.T @ left)
        torch.testing.assert_close(other.gram(), matrix @ matrix.T)


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(data(1, 4, 4))

    def forward(self, x):
        return nn.functional.linear(torch.tanh(nn.functional.linear(x, self.weight)), self.weight)


class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(0)


@pytest.mark.parametrize(
    "model",
    [
        Tied(),
        network(nn.Linear(4, 3), Centred(), nn.Linear(3, 1)),
        network(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 1)),
        network(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 2), nn.Flatten(), nn.Linear(3, 1)),
    ],
    ids=["tied weight", "rows that are coupled", "another layer", "a convolution"],
)
def test_what_has_no_factors_is_solved_without_them(model):
    loss = loss_of(model)
    params = loss.zeros()
    assert found(loss, params) is None
    rhs = data(5, len(ravel(params)[0]), 3)
    curvature = vif.GaussNewton(loss, params, torch.ones(7).double())
    torch.testing.assert_close(curvature @ rhs, curvature.dense() @ rhs)


@pytest.mark.parametrize("patterns", [["4.*"], ["2.weight"], ["0.bias", "4.weight"]])
def test_with_some_parameters_held_the_factors_are_those_of_the_others(patterns):
    loss = loss_of(NETWORKS["with biases"])
    part, chosen = vif.subset(loss, loss.zeros(), patterns)
    jacobian = found(part, chosen)
    assert jacobian is not None
    torch.testing.assert_close(jacobian.dense(), automatic(part, chosen))


@pytest.mark.parametrize("model", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("solver", [vif.CG(rtol=1e-10), vif.Woodbury()])
def test_a_solution_among_the_outputs_is_the_dense_one_and_its_residuals_are_true(model, solver):
    loss = loss_of(model, data(3, 4, 4))
    params = loss.zeros()
    curvature = vif.GaussNewton(loss, params, torch.ones(4).double(), damping=0.2)
    rhs = data(5, len(ravel(params)[0]), 60)
    rhs[:, 1] = 0.0
    assert _among_outputs(curvature, rhs) is not None
    solution = solver.solve(curvature, rhs)
    torch.testing.assert_close(solution.value, torch.linalg.solve(curvature.dense(), rhs), rtol=1e-7, atol=1e-8)
    assert solution.residual.max() < 1e-9
    assert not solution.value[:, 1].any()


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_stopped_among_the_outputs_cg_reports_its_true_residual_and_least_curvature(steps):
    loss = loss_of(NETWORKS["with biases"])
    params = loss.zeros()
    curvature = vif.GaussNewton(loss, params, torch.ones(7).double())
    rhs, matrix = data(5, len(ravel(params)[0]), 5), curvature.dense()
    with pytest.warns(UserWarning, match="CG left"):
        solution = vif.CG(max_steps=steps).solve(curvature, rhs)
    true = (matrix @ solution.value - rhs).norm(dim=0) / rhs.norm(dim=0)
    torch.testing.assert_close(solution.residual, true, rtol=1e-6, atol=1e-12)
    # It is CG in the space of parameters, started from b/κ.
    value = rhs / 0.5
    residual = rhs - matrix @ value
    direction = residual.clone()
    for _ in range(steps):
        curved = matrix @ direction
        length = residual.square().sum(0) / (direction * curved).sum(0)
        value, new = value + length * direction, residual - length * curved
        direction, residual = new + new.square().sum(0) / residual.square().sum(0) * direction, new
    torch.testing.assert_close(solution.value, value, rtol=1e-6, atol=1e-9)
    assert solution.smallest_curvature >= torch.linalg.eigvalsh(matrix)[0] - 1e-9


def test_cg_among_the_outputs_names_an_outer_loss_that_curves_downward():
    loss = vif.losses.OutputLoss(
        NETWORKS["with biases"], data(3, 5, 4), lambda o, b: -3 * (b * o[:, 0] ** 2).sum(), n_objects=5, penalty=0.1
    )
    curvature = vif.GaussNewton(loss, loss.zeros(), torch.ones(5).double())
    with pytest.warns(UserWarning, match=r"not positive definite: CG met a curvature of -.*damping"):
        vif.CG().solve(curvature, data(5, len(ravel(loss.zeros())[0]), 3))


@pytest.mark.parametrize(
    "solver",
    [
        vif.EKFAC(num_draws=16),
        vif.solvers.Nystrom(rank=2),
        vif.solvers.Projected(rank=5),
        vif.solvers.Arnoldi(num_steps=5),
        vif.LiSSA(batch_size=None, max_steps=20),
    ],
    ids=repr,
)
@pytest.mark.filterwarnings(r"ignore:\w+ left \d+ of")
def test_residuals_of_approximate_solutions_are_true_also_for_more_columns_than_parameters(solver):
    loss = loss_of(NETWORKS["with biases"])
    params = loss.zeros()
    curvature = vif.GaussNewton(loss, params, torch.ones(7).double())
    rhs, matrix = data(5, len(ravel(params)[0]), 90), curvature.dense()
    assert len(rhs) < 90
    solution = solver.solve(curvature, rhs)
    true = (matrix @ solution.value - rhs).norm(dim=0) / rhs.norm(dim=0)
    torch.testing.assert_close(solution.residual, true, rtol=1e-8, atol=1e-12)
    assert true.max() > 1e-3


def test_the_hessian_of_a_relu_network_with_more_live_units_than_data_is_singular_at_its_minimum():
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(2, 6, bias=False), nn.ReLU(), nn.Linear(6, 1, bias=False)).double()
    x = torch.tensor([[1.0, 0.2], [0.2, 1.0]]).double()
    loss = vif.losses.OutputLoss(model, x, lambda o, b: (b * (o[:, 0] - 3) ** 2).sum(), n_objects=2, penalty=0.5)
    start = {name: value.abs() + 0.1 for name, value in loss.zeros().items()}
    params = vif.minimize(loss, start)
    live = ((x @ params["0.weight"].T > 0).all(0) & (params["2.weight"][0] > 0.01)).sum()
    assert live == 6
    curvature = torch.linalg.eigvalsh(vif.Hessian(loss, params, torch.ones(2).double()).dense())
    assert (curvature.abs() < 1e-6).sum() >= live - 2
    assert torch.linalg.eigvalsh(vif.GaussNewton(loss, params, torch.ones(2).double()).dense())[0] >= 0.5 - 1e-9
