"""Every solver against the dense answer; what goes wrong is said."""

import pytest
import torch

import versatile_influence as vif


def quadratic(matrix):
    return lambda theta, presence: presence.sum() * theta @ matrix @ theta / 2


def hessian(matrix, damping=0.0):
    return vif.Hessian(quadratic(matrix), torch.zeros(len(matrix)).double(), torch.ones(1).double(), damping)


def spd(p, seed=0):
    root = torch.randn(p, p, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return root @ root.T + torch.eye(p, dtype=torch.float64)


SOLVERS = [vif.Explicit(), vif.CG(rtol=1e-10)]
every_solver = pytest.mark.parametrize("solver", SOLVERS, ids=lambda solver: type(solver).__name__)


@every_solver
@pytest.mark.parametrize("columns", [1, 5, 40])
def test_solutions_are_the_dense_ones_also_for_more_columns_than_parameters(solver, columns):
    matrix = spd(12)
    rhs = torch.randn(12, columns, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rhs[:, 0] = 0.0
    solution = solver.solve(hessian(matrix, 0.5), rhs)
    expected = torch.linalg.solve(matrix + 0.5 * torch.eye(12).double(), rhs)
    torch.testing.assert_close(solution.value, expected, rtol=1e-7, atol=1e-9)
    measured = ((matrix @ solution.value + 0.5 * solution.value) - rhs).norm(dim=0) / rhs.norm(dim=0).clamp_min(1e-300)
    torch.testing.assert_close(solution.residual, measured, rtol=1e-3, atol=1e-13)
    assert solution.residual.max() < 1e-8


def test_flat_directions_are_dropped_and_reported():
    direction = torch.tensor([[3.0], [4.0]]).double() / 5
    with pytest.warns(UserWarning, match=r"singular: 1 of 2 directions.*solution.dropped"):
        solution = vif.Explicit().solve(hessian(direction @ direction.T), torch.ones(2, 1).double())
    assert solution.dropped is not None
    torch.testing.assert_close((solution.dropped.T @ direction).abs(), torch.zeros(1, 1).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(solution.value, direction * (direction.T @ torch.ones(2, 1).double()))


def test_an_indefinite_hessian_is_solved_and_named():
    matrix = torch.diag(torch.tensor([2.0, -0.5]).double())
    with pytest.warns(UserWarning, match=r"indefinite.*-0.5.*vif.minimize"):
        solution = vif.Explicit().solve(hessian(matrix), torch.ones(2, 1).double())
    assert solution.value.squeeze().tolist() == pytest.approx([0.5, -2.0])
    assert solution.smallest_curvature == pytest.approx(-0.5)
    with pytest.warns(UserWarning, match=r"not positive definite.*stopped early on 1 of 1.*damping"):
        vif.CG().solve(hessian(matrix), torch.tensor([[1.0], [5.0]]).double())


def test_cg_that_runs_out_of_steps_says_how_far_it_came():
    with pytest.warns(UserWarning, match=r"CG stopped after 2 steps with 3 of 3 columns.*max_steps"):
        solution = vif.CG(max_steps=2).solve(hessian(spd(12)), torch.eye(12, 3).double())
    assert solution.num_steps == 2
    assert solution.residual.max() > 1e-8


def test_a_hessian_that_is_not_finite_is_refused_with_causes():
    def kinked(theta, presence):
        return presence.sum() * (theta.square().sum() ** 0.75)

    curvature = vif.Hessian(kinked, torch.zeros(2).double(), torch.ones(1).double())
    with pytest.raises(ValueError, match="Hessian has NaN"):
        vif.Explicit().solve(curvature, torch.ones(2, 1).double())
