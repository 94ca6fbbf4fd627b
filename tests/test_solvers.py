"""Every solver against the dense answer, on every kind of curvature; what goes wrong is said."""

import warnings

import pytest
import torch

import versatile_influence as vif
from versatile_influence.solvers import Arnoldi, Diagonal, Nystrom, Projected
from versatile_influence.solvers.lanczos import lanczos


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def spd(p, seed=0):
    root = drawn(p, p, seed=seed)
    return root @ root.T + torch.eye(p, dtype=torch.float64)


class Quadratic(vif.Loss):
    """θᵀ M θ / 2, as a sum of `n_terms` different terms where the matrix is positive."""

    n_objects = 1

    def __init__(self, matrix, null=None, n_terms=4):
        self.matrix, self.n_terms, self.null = matrix, n_terms, null

    def null_directions(self, params, presence):
        return {} if self.null is None else {"flat": self.null}

    def __call__(self, theta, presence):
        return presence.sum() * theta @ self.matrix @ theta / 2

    def terms(self, theta, presence):
        """Return the terms: each has an equal share, up to something that adds up to nothing."""
        shares = (1 + torch.linspace(-0.5, 0.5, self.n_terms, dtype=torch.float64)) / self.n_terms
        return shares * self(theta, presence)


def test_the_quadratic_is_what_it_says():
    vif.check_loss(Quadratic(spd(3)), drawn(3))


def hessian(matrix, damping=0.0, null=None):
    zeros = torch.zeros(len(matrix), dtype=torch.float64)
    return vif.Hessian(Quadratic(matrix, null), zeros, torch.ones(1).double(), damping)


# Each with what it states of itself: the relative residual it reaches on a small, well-conditioned problem.
SOLVERS = {
    "explicit": (vif.Explicit(), 1e-12),
    "cg": (vif.CG(rtol=1e-10), 1e-9),
    "cg, diagonal": (vif.CG(rtol=1e-10, preconditioner=Diagonal()), 1e-9),
    "cg, few probes": (vif.CG(rtol=1e-10, preconditioner=Diagonal(num_probes=5)), 1e-9),
    "cg, nystrom": (vif.CG(rtol=1e-10, preconditioner=Nystrom(rank=4)), 1e-9),
    "nystrom": (Nystrom(), 1e-10),
    "arnoldi": (Arnoldi(), 1e-10),
    "projected": (Projected(), 1e-10),
}
every_solver = pytest.mark.parametrize(("solver", "tolerance"), SOLVERS.values(), ids=SOLVERS)


def checked(solver, tolerance, curvature, matrix, rhs):
    """Return the solution, after comparing its reported residuals with those of the dense matrix."""
    solution = solver.solve(curvature, rhs)
    measured = (matrix @ solution.value - rhs).norm(dim=0) / rhs.norm(dim=0).clamp_min(1e-300)
    torch.testing.assert_close(solution.residual, measured, rtol=1e-3, atol=1e-12)
    assert solution.residual.max() <= tolerance
    return solution.value


@every_solver
@pytest.mark.parametrize("columns", [1, 5, 40])
def test_solutions_are_the_dense_ones_also_for_more_columns_than_parameters(solver, tolerance, columns):
    matrix = spd(12) + 0.5 * torch.eye(12).double()
    rhs = drawn(12, columns, seed=1)
    value = checked(solver, tolerance, hessian(spd(12), 0.5), matrix, rhs)
    torch.testing.assert_close(value, torch.linalg.solve(matrix, rhs), rtol=1e2 * tolerance, atol=1e2 * tolerance)


@every_solver
def test_a_right_hand_side_of_zeros_has_the_solution_zero_beside_others(solver, tolerance):
    rhs = drawn(6, 3, seed=1)
    rhs[:, 1] = 0.0
    solution = solver.solve(hessian(spd(6)), rhs)
    assert not solution.value[:, 1].any()
    assert solution.residual[1] == 0
    nothing = solver.solve(hessian(spd(6)), torch.zeros(6, 2).double())
    assert not nothing.value.any()


@every_solver
def test_one_parameter_is_enough(solver, tolerance):
    rhs = torch.tensor([[1.0, -3.0]]).double()
    value = checked(solver, tolerance, hessian(torch.tensor([[4.0]]).double()), 4.0 * torch.eye(1).double(), rhs)
    torch.testing.assert_close(value, rhs / 4, rtol=1e-7, atol=0)


@every_solver
def test_directions_that_the_loss_names_are_left_out_of_a_singular_hessian(solver, tolerance):
    null = torch.zeros(6, dtype=torch.float64)
    null[:2] = 1.0
    outside = torch.eye(6).double() - torch.outer(null, null) / 2
    matrix = outside @ spd(6) @ outside
    rhs = drawn(6, 4, seed=1)
    solution = solver.solve(hessian(matrix, null=null), rhs)
    torch.testing.assert_close(solution.value, torch.linalg.pinv(matrix, hermitian=True) @ rhs, rtol=1e-6, atol=1e-7)
    assert solution.residual.max() <= 10 * tolerance
    torch.testing.assert_close(solution.dropped.abs()[:, 0], null / 2**0.5)


@every_solver
@pytest.mark.filterwarnings("ignore:Nystrom left")
def test_an_indefinite_hessian_is_named_with_what_to_do(solver, tolerance):
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, -0.5]).double())
    said = r"(indefinite|not positive definite).*-0\.[1-5]"
    with pytest.warns(UserWarning, match=said):
        solver.solve(hessian(matrix), torch.tensor([[1.0], [1.0], [1.0], [9.0]]).double())


@every_solver
def test_a_hessian_that_is_not_finite_is_refused_with_causes(solver, tolerance):
    def kinked(theta, presence):
        return presence.sum() * (theta.square().sum() ** 0.75)

    curvature = vif.Hessian(kinked, torch.zeros(2).double(), torch.ones(1).double())
    with pytest.raises(ValueError, match="Hessian has NaN"):
        solver.solve(curvature, torch.ones(2, 1).double())


def test_cg_on_an_indefinite_hessian_names_gauss_newton_and_damping_and_reports_true_residuals():
    matrix, rhs = torch.diag(torch.tensor([3.0, 2.0, 1.0, -0.5]).double()), drawn(4, 9, seed=1)
    with pytest.warns(
        UserWarning, match=r"CG met a curvature of -0\.\d.*curvature=vif.GaussNewton.*damping=….*minimum"
    ):
        solution = vif.CG().solve(hessian(matrix), rhs)
    measured = (matrix @ solution.value - rhs).norm(dim=0) / rhs.norm(dim=0)
    torch.testing.assert_close(solution.residual, measured)
    assert torch.isfinite(solution.value).all()


def test_flat_directions_are_dropped_and_reported():
    direction = torch.tensor([[3.0], [4.0]]).double() / 5
    with pytest.warns(UserWarning, match=r"singular: 1 of 2 directions.*solution.dropped"):
        solution = vif.Explicit().solve(hessian(direction @ direction.T), torch.ones(2, 1).double())
    assert solution.dropped is not None
    torch.testing.assert_close((solution.dropped.T @ direction).abs(), torch.zeros(1, 1).double(), atol=1e-12, rtol=0)
    torch.testing.assert_close(solution.value, direction * (direction.T @ torch.ones(2, 1).double()))


def test_an_indefinite_hessian_is_solved_exactly_by_the_dense_solver():
    matrix = torch.diag(torch.tensor([2.0, -0.5]).double())
    with pytest.warns(UserWarning, match=r"indefinite.*-0.5"):
        solution = vif.Explicit().solve(hessian(matrix), torch.ones(2, 1).double())
    assert solution.value.squeeze().tolist() == pytest.approx([0.5, -2.0])
    assert solution.smallest_curvature == pytest.approx(-0.5)


LOW_RANK = pytest.mark.parametrize("solver", [vif.Explicit(), Arnoldi(), Nystrom(), Projected()])


@LOW_RANK
def test_flat_directions_are_told_of_where_a_column_asks_for_them_and_only_there(solver):
    direction = torch.ones(3, 1).double()
    matrix = hessian(direction @ direction.T)
    # A warning is an error here.
    solution = solver.solve(matrix, direction)
    torch.testing.assert_close(solution.value, direction / 3)
    assert solution.dropped.shape == (3, 2)
    torch.testing.assert_close(solution.dropped.T @ direction, torch.zeros(2, 1).double(), atol=1e-12, rtol=0)
    with pytest.warns(UserWarning, match=r"singular: 2 of 3 directions.*1 of 2 columns ask.*damping"):
        solution = solver.solve(matrix, torch.cat([direction, torch.eye(3, 1).double()], dim=1))
    torch.testing.assert_close(solution.value, torch.cat([direction / 3, direction / 9], dim=1))


@LOW_RANK
def test_a_verb_says_the_same_of_harmless_flat_directions_with_every_solver(solver):
    x = drawn(20)
    # Two parameters of which the loss knows the sum: the scores of it are exact, those of one are not.
    loss = lambda theta, presence: (presence * (x - theta.sum()) ** 2).sum()  # noqa: E731
    theta = torch.full((2,), x.mean().item() / 2, dtype=torch.float64)
    asked = {"n_objects": 20, "solver": solver, "check": False}
    scores = vif.attribute(loss, theta, lambda some: some.sum(), **asked).scores
    torch.testing.assert_close(scores[:, 0], (x.mean() - x) / 20)
    with pytest.warns(UserWarning, match="directions in which the loss is constant"):
        vif.attribute(loss, theta, lambda some: some[0], **asked)


def test_cg_that_runs_out_of_steps_says_how_far_it_came():
    with pytest.warns(UserWarning, match=r"CG left 3 of 3 columns .* after 2 steps .*max_steps"):
        solution = vif.CG(max_steps=2).solve(hessian(spd(12)), torch.eye(12, 3).double())
    assert solution.num_steps == 2
    assert solution.residual.max() > 1e-8


def test_cg_solves_columns_in_blocks_as_it_does_together(monkeypatch):
    rhs = drawn(12, 7, seed=1)
    together = vif.CG().solve(hessian(spd(12)), rhs)
    monkeypatch.setattr("versatile_influence.solvers.cg.ROW_NUMBERS", 30)
    torch.testing.assert_close(vif.CG().solve(hessian(spd(12)), rhs).value, together.value)


def test_a_block_of_columns_takes_a_fraction_of_the_steps_of_one_and_gives_the_same():
    matrix, rhs = spd(60), drawn(60, 20, seed=1)
    # A zero column, one that others make up, and columns of other sizes.
    rhs[:, 3], rhs[:, 5], rhs[:, 7] = 0.0, rhs[:, 0] - rhs[:, 1], 1e9 * rhs[:, 7]
    together, alone = vif.CG().solve(hessian(matrix), rhs), vif.CG().solve(hessian(matrix), rhs[:, :1])
    torch.testing.assert_close(together.value, torch.linalg.solve(matrix, rhs), rtol=1e-6, atol=1e-9)
    assert together.residual.max() < 1e-7
    assert not together.value[:, 3].any()
    assert together.num_steps <= 5 < alone.num_steps / 4


def test_preconditioners_make_the_steps_fewer():
    uneven = torch.diag(torch.logspace(0, 4, 60, dtype=torch.float64)) + 0.01 * spd(60)
    turned = torch.linalg.qr(drawn(60, 60))[0]
    low_rank = turned @ torch.diag(torch.logspace(5, -5, 60, dtype=torch.float64) + 1) @ turned.T
    rhs = drawn(60, 1, seed=1)
    for matrix, preconditioner in [(uneven, Diagonal()), (low_rank, Nystrom(rank=30))]:
        plain = vif.CG().solve(hessian(matrix), rhs)
        helped = vif.CG(preconditioner=preconditioner).solve(hessian(matrix), rhs)
        torch.testing.assert_close(helped.value, plain.value, rtol=1e-5, atol=1e-7)
        assert helped.num_steps < plain.num_steps / 2


def test_the_diagonal_is_exact_with_enough_probes_and_unbiased_with_fewer():
    matrix = spd(12)
    torch.testing.assert_close(Diagonal(num_probes=12).entries(hessian(matrix)), matrix.diagonal())
    estimates = torch.stack([Diagonal(num_probes=6, seed=seed).entries(hessian(matrix)) for seed in range(100)])
    error = (estimates.mean(0) - matrix.diagonal()) / (estimates.std(0) / 10)
    assert error.abs().max() < 4


@pytest.mark.filterwarnings(r"ignore:\w+ left \d+ of")
def test_nystrom_is_exact_once_the_rank_holds_what_is_above_the_damping():
    matrix, rhs = drawn(40, 5) @ drawn(40, 5).T, drawn(40, 3, seed=1)
    damped = matrix + 0.1 * torch.eye(40).double()
    checked(Nystrom(rank=5), 1e-8, hessian(matrix, 0.1), damped, rhs)
    error = [Nystrom(rank=rank).solve(hessian(spd(40), 5.0), rhs).residual.max() for rank in (5, 20, 35, 40)]
    assert error[0] > error[1] > error[2] > error[3]
    with pytest.raises(ValueError, match=r"rank 5 says nothing of the other 35.*damping"):
        Nystrom(rank=5).solve(hessian(spd(40)), rhs)


def test_arnoldi_keeps_its_basis_orthogonal_on_a_hessian_near_a_multiple_of_the_identity():
    noise, generator = drawn(80, 80), torch.Generator().manual_seed(5)
    matrix = torch.eye(80).double() + 1e-7 * (noise + noise.T)
    for dtype, tolerance in [(torch.float64, 1e-13), (torch.float32, 1e-5)]:
        near = matrix.to(dtype)
        basis, projected = lanczos(
            lambda columns, near=near: near @ columns,
            drawn(80).to(dtype),
            80,
            restart=lambda dtype=dtype: torch.rand(80, generator=generator, dtype=dtype),
        )
        torch.testing.assert_close(basis.T @ basis, torch.eye(80, dtype=dtype), atol=tolerance, rtol=0)
        assert torch.linalg.eigvalsh(projected).min() > 0.99
    checked(Arnoldi(num_steps=80), 1e-10, hessian(matrix), matrix, drawn(80, 3, seed=1))
    checked(Arnoldi(num_steps=80), 1e-10, hessian(2 * torch.eye(80).double()), 2 * torch.eye(80).double(), drawn(80, 3))


def test_arnoldi_finds_the_largest_curvatures_first():
    matrix = torch.diag(torch.tensor([100.0, 50.0, *torch.linspace(1, 2, 38).tolist()]).double())
    rhs = torch.eye(40, 2).double()
    value = Arnoldi(num_steps=15, rank=2).solve(hessian(matrix), rhs).value
    torch.testing.assert_close(value, rhs / matrix.diagonal()[:2], rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings(r"ignore:\w+ left \d+ of")
def test_a_projection_is_exact_where_removals_move_no_more_directions_than_its_rank():
    x, y = drawn(30, 4) @ drawn(4, 25, seed=1), drawn(30, seed=2)
    loss = vif.losses.TermLoss(lambda theta: (x @ theta - y) ** 2 / 2, range(30), penalty=0.5)
    theta = torch.linalg.solve(x.T @ x + 0.5 * torch.eye(25).double(), x.T @ y)
    target = lambda params: params[:3]  # noqa: E731
    exact = vif.attribute(loss, theta, target).scores
    found = vif.attribute(loss, theta, target, solver=Projected(rank=4)).scores
    torch.testing.assert_close(found, exact, rtol=1e-7, atol=1e-9)
    errors = [
        (vif.attribute(loss, theta, target, solver=Projected(rank=rank, unstructured=True)).scores - exact).norm()
        for rank in (4, 12, 25)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-8 * exact.norm()


def test_lissa_is_the_dense_answer_up_to_the_noise_it_states_and_repeats_its_draws_by_seed():
    matrix, rhs = torch.diag(torch.tensor([2.0, 1.5, 1.0]).double()), drawn(3, 3, seed=1)
    solved = [vif.LiSSA(batch_size=2, max_steps=40, repeats=repeats).solve(hessian(matrix), rhs) for repeats in (1, 4)]
    exact = torch.linalg.solve(matrix, rhs)
    error = [((solution.value - exact).norm() / exact.norm()).item() for solution in solved]
    assert max(error) < 0.05
    assert vif.LiSSA(batch_size=2, max_steps=40).solve(hessian(matrix), rhs).value.tolist() == solved[0].value.tolist()
    assert (
        vif.LiSSA(batch_size=2, max_steps=40, seed=1).solve(hessian(matrix), rhs).value.tolist()
        != solved[0].value.tolist()
    )


def test_lissa_on_the_whole_loss_is_the_neumann_series_and_names_a_downward_curve():
    matrix, rhs = torch.diag(torch.tensor([3.0, 2.0, 1.0]).double()), torch.ones(3, 2).double()
    solution = vif.LiSSA(batch_size=None, rtol=1e-6).solve(hessian(matrix), rhs)
    torch.testing.assert_close(solution.value, torch.linalg.solve(matrix, rhs), rtol=1e-5, atol=0)
    assert solution.residual.max() <= 1e-6
    matrix[0, 0] = -0.5
    with pytest.raises(ValueError, match=r"diverged.*not positive definite.*-0\.5"):
        vif.LiSSA(batch_size=None).solve(hessian(matrix), rhs)


def test_lissa_says_what_to_change_when_it_diverges_stops_short_or_has_no_terms():
    with pytest.raises(ValueError, match=r"diverged at step.*scale 1.*larger curvatures.*Raise scale"):
        vif.LiSSA(scale=1.0).solve(hessian(spd(12)), torch.ones(12, 1).double())
    with pytest.warns(
        UserWarning, match=r"1 of 1 columns short of a relative residual of 0.1 after 3 steps.*max_steps.*vif.CG"
    ):
        vif.LiSSA(batch_size=2, max_steps=3).solve(hessian(spd(12)), torch.ones(12, 1).double())
    plain = vif.Hessian(lambda theta, presence: theta @ theta, torch.zeros(2).double(), torch.ones(1).double())
    with pytest.raises(TypeError, match=r"Sampling terms.*sample none"):
        vif.LiSSA().solve(plain, torch.ones(2, 1).double())


SHORT = {
    "CG": vif.CG(max_steps=2),
    "LiSSA": vif.LiSSA(batch_size=None, max_steps=3),
    "Nystrom": Nystrom(rank=5),
    "Arnoldi": Arnoldi(num_steps=5),
    "Projected": Projected(rank=2, unstructured=True),
}


@pytest.mark.parametrize("name", SHORT)
def test_every_solver_that_falls_short_says_so_by_one_rule(name):
    matrix = torch.diag(torch.logspace(0, 3, 40, dtype=torch.float64))
    said = rf"{name} left [12] of 2 columns short of a relative residual of .*worst relative residual"
    with pytest.warns(UserWarning, match=said):
        solution = SHORT[name].solve(hessian(matrix, 0.1), torch.ones(40, 2).double())
    assert solution.residual.max() > SHORT[name].tolerated


@pytest.mark.filterwarnings("ignore:Removal 0 of")  # the only object
def test_a_solver_of_ones_own_is_held_to_the_rule_and_something_else_is_refused(plain_types):
    class Half(vif.solvers.Solver):
        tolerated, advice = 0.1, "Ask another."

        def solved(self, hessian, rhs):
            exact = vif.Explicit().solved(hessian, rhs)
            return vif.solvers.Solution(exact.value / 2, torch.full((rhs.shape[1],), 0.5).double())

    with pytest.warns(UserWarning, match=r"Half left 1 of 1 columns .*Ask another"):
        Half().solve(hessian(spd(3)), torch.ones(3, 1).double())
    loss = Quadratic(spd(3))
    for wrong in ("cg", vif.CG, 3):
        with pytest.raises(TypeError, match=r"`solver` must be a value like vif.CG\(\)"):
            vif.attribute(loss, torch.zeros(3).double(), lambda theta: theta, solver=wrong)


def test_solvers_are_values_that_say_themselves():
    for solver, _ in SOLVERS.values():
        assert isinstance(solver, vif.solvers.Solver)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert repr(solver).startswith(type(solver).__name__)


def test_a_hessian_written_out_that_does_not_fit_is_refused_too():
    class Written(vif.Loss):
        n_objects = 2

        def __call__(self, theta, presence):
            return presence.sum() * theta @ theta

        def hessian(self, params, presence):
            raise AssertionError("not to be reached")

    with pytest.raises(MemoryError, match="CG"):
        vif.Hessian(Written(), torch.zeros(1_000_000).double(), torch.ones(2).double()).dense()


EACH_SOLVER = pytest.mark.parametrize("solver", [solver for solver, _ in SOLVERS.values()], ids=SOLVERS)


@EACH_SOLVER
@pytest.mark.parametrize("size", [1e200, 1e-200, 1e-310, 1.0])
def test_columns_of_any_size_and_kind_of_number_are_solved(solver, size):
    matrix = spd(3)
    column = torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64)
    expected = torch.linalg.solve(matrix, column)
    found = solver.solve(hessian(matrix), torch.stack([size * column, column], dim=1)).value
    # 1e-310 has half the digits.
    torch.testing.assert_close(found[:, 0] / size, expected, rtol=1e-8, atol=0)
    torch.testing.assert_close(found[:, 1], expected, rtol=1e-8, atol=0)
    for kind in (torch.int64, torch.float32):
        of_kind = solver.solve(hessian(matrix), column[:, None].to(kind)).value[:, 0]
        torch.testing.assert_close(of_kind, expected, rtol=1e-8, atol=0)


@EACH_SOLVER
def test_columns_that_are_none_are_refused_with_what_to_do(solver):
    matrix = hessian(spd(2))
    for rhs, error, told in (
        (torch.tensor([[1.0, 0.0], [float("nan"), 1.0]]), ValueError, "`rhs` is nan in row 1 of column 0"),
        (torch.tensor([[float("inf")], [1.0]]), ValueError, "`rhs` is inf in row 0 of column 0"),
        (torch.ones(2), ValueError, r"write rhs\[:, None\]"),
        (torch.ones(3, 1), ValueError, r"must be \(2, columns\), a row a parameter, got \(3, 1\)"),
        ([[1.0], [2.0]], TypeError, "a tensor of real numbers"),
        (torch.ones(2, 1).cdouble(), TypeError, "got torch.complex128"),
    ):
        with pytest.raises(error, match=told):
            solver.solve(matrix, rhs)
