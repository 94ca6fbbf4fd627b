"""Attribution in coordinates of the span of all gradients, against the dense Gauss–Newton matrix of all parameters."""

import warnings

import pytest
import torch
from cases import data
from torch.func import jacrev

import versatile_influence as vif
from versatile_influence.core import span
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import ravel
from versatile_influence.core.target import LabelledTarget

nn = torch.nn
X, TEST = data(3, 6, 4), data(4, 2, 4)
PRECISE = {"rtol": 1e-8, "atol": 1e-12}


def network(*layers):
    torch.manual_seed(0)
    return nn.Sequential(*layers).double()


def softmax(outputs, presence):
    return -(presence * outputs.log_softmax(1)[:, 0]).sum()


def coupled(outputs, presence):
    """Every object is compared with all that are there, as in a contrastive loss."""
    gaps = outputs[:, 0] - outputs[:, :1] + 0.3 * outputs[:, 1]
    return presence @ (gaps.exp() @ presence).log1p() + (presence @ outputs.square()).sum() / 5


def squares(outputs, presence):
    return (presence * (outputs[:, 0] - 1).square()).sum() + (presence * outputs[:, 0]).sum().square() / 4


DEAD = network(nn.Linear(4, 40), nn.ReLU(), nn.Linear(40, 2))
with torch.no_grad():
    DEAD[0].bias -= 0.3  # Some units are dead at every row, and a row may have none alive.
CASES = {
    "tanh under softmax": (network(nn.Linear(4, 20), nn.Tanh(), nn.Linear(20, 3)), X, softmax),
    "three layers, coupled": (
        network(nn.Linear(4, 12, bias=False), nn.Tanh(), nn.Linear(12, 9), nn.Tanh(), nn.Linear(9, 2)),
        X,
        coupled,
    ),
    "dead units": (DEAD, X, softmax),
    "repeated rows": (network(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 1)), X[[0, 0, 1, 1, 1, 2]], squares),
    "a row of zeros": (
        network(nn.Linear(4, 60, bias=False), nn.ReLU(), nn.Linear(60, 1, bias=False)),
        torch.cat([X, 0 * X[:1]]),
        squares,
    ),
}
SOLVERS = {
    "CG": vif.CG(rtol=1e-12),
    "Woodbury": vif.Woodbury(),
    "Explicit": vif.Explicit(),
    "Lanczos to the end": vif.solvers.Arnoldi(num_steps=500),
    "Nystrom of full rank": vif.solvers.Nystrom(rank=500),
    "CG on a sketch": vif.CG(rtol=1e-12, preconditioner=vif.solvers.Nystrom(rank=4)),
}


@pytest.fixture(autouse=True)
def _small_problems_too(monkeypatch):
    monkeypatch.setattr(span, "LARGE", 0)


@pytest.fixture(autouse=True)
def _untrained():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The parameters are not at a minimum")
        yield


def loss_of(case, penalty=0.5):
    model, x, outer = CASES[case]
    loss = vif.losses.OutputLoss(model, x, outer, n_objects=len(x), penalty=penalty)
    return loss, loss.zeros(), explained(loss)


def explained(loss):
    function = lambda params, rows: torch.tanh(loss.outputs.by_row[0](params, rows))  # noqa: E731
    return LabelledTarget(lambda params: function(params, TEST), None, (function, TEST))


def dense(loss, params, target, ridge):
    """Return G, ∇f and ∇L by plain automatic differentiation."""
    theta, unravel = ravel(params)
    everyone = theta.new_ones(loss.n_objects)
    outputs = loss.outputs(params)
    jacobian = jacrev(lambda flat: loss.outputs(unravel(flat)).reshape(-1))(theta)
    bent = torch.func.hessian(lambda flat: loss.outer(flat.reshape(outputs.shape), everyone))(outputs.reshape(-1))
    matrix = jacobian.T @ bent @ jacobian + ridge * torch.eye(len(theta)).double()
    return matrix, jacrev(lambda flat: target(unravel(flat)).reshape(-1))(theta)


def differences(loss, params, groups):
    """Return ∇ΔL of each group."""
    theta, unravel = ravel(params)
    rows = []
    for group in groups:
        everyone, without = theta.new_ones(loss.n_objects), theta.new_ones(loss.n_objects)
        without[group] = 0.0
        rows.append(
            jacrev(lambda flat, b=(everyone, without): loss(unravel(flat), b[0]) - loss(unravel(flat), b[1]))(theta)
        )
    return torch.stack(rows)


def attributed(loss, params, target, **given):
    """Return scores that were computed in coordinates."""
    found = vif.attribute(loss, params, target, curvature=vif.GaussNewton, **given)
    assert found.solution is not None
    assert found.solution.lift is not None
    return found


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_scores_solutions_and_residuals_are_those_of_the_dense_matrix(case, solver):
    loss, params, target = loss_of(case)
    matrix, gradients = dense(loss, params, target, 0.5)
    found = attributed(loss, params, target, solver=solver)
    expected = differences(loss, params, range(loss.n_objects)) @ torch.linalg.solve(matrix, gradients.T)
    torch.testing.assert_close(found.scores, expected, rtol=1e-7, atol=1e-9 * expected.abs().max().item())
    lifted = found.solution.lift(found.solution.value)
    torch.testing.assert_close(lifted, torch.linalg.solve(matrix, gradients.T), rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("solver", [vif.CG(max_steps=2), vif.solvers.Nystrom(rank=3), vif.solvers.Projected(rank=3)])
@pytest.mark.filterwarnings(r"ignore:\w+ left \d+ of")
def test_residuals_are_true_ones_of_all_parameters(solver):
    loss, params, target = loss_of("tanh under softmax")
    matrix, gradients = dense(loss, params, target, 0.7)
    solution = attributed(loss, params, target, solver=solver, damping=0.2).solution
    true = (matrix @ solution.lift(solution.value) - gradients.T).norm(dim=0) / gradients.norm(dim=1)
    assert true.max() > 1e-3
    torch.testing.assert_close(solution.residual, true, **PRECISE)


@pytest.mark.parametrize("objects", [[4, 1], [[0, 2], [5]], [[0, 1, 2, 3]]])
def test_some_objects_and_groups_without_penalty_but_with_damping(objects):
    loss, params, target = loss_of("three layers, coupled", penalty=0.0)
    matrix, gradients = dense(loss, params, target, 0.3)
    found = attributed(loss, params, target, solver=vif.Woodbury(), damping=0.3, objects=objects)
    expected = differences(loss, params, objects) @ torch.linalg.solve(matrix, gradients.T)
    torch.testing.assert_close(found.scores, expected, rtol=1e-8, atol=1e-11)


def test_projected_spans_what_it_spans_in_all_parameters(monkeypatch):
    loss, params, target = loss_of("three layers, coupled")
    solver = vif.solvers.Projected(rank=3)
    found = attributed(loss, params, target, solver=solver)
    monkeypatch.setattr(span, "LARGE", 10**9)
    plain = vif.attribute(loss, params, target, solver=solver, curvature=vif.GaussNewton)
    assert plain.solution is not None
    assert plain.solution.lift is None
    torch.testing.assert_close(found.scores, plain.scores, **PRECISE)
    torch.testing.assert_close(found.solution.residual, plain.solution.residual, **PRECISE)


def test_sampled_terms_are_those_of_the_whole_loss(monkeypatch):
    model = network(nn.Linear(4, 30), nn.Tanh(), nn.Linear(30, 1))
    loss = vif.losses.CoxLoss(X, [5, 3, 8, 1, 9, 4], [1, 1, 0, 1, 1, 0], model=model, penalty=2.0)
    solver, target = vif.LiSSA(batch_size=2, max_steps=40, scale=40.0, rtol=10.0), loss.relative_risk(TEST)
    found = attributed(loss, loss.zeros(), target, solver=solver)
    monkeypatch.setattr(span, "LARGE", 10**9)
    plain = vif.attribute(loss, loss.zeros(), target, solver=solver, curvature=vif.GaussNewton)
    torch.testing.assert_close(found.scores, plain.scores, **PRECISE)


def test_unfinished_training_is_named_with_the_gradient_of_all_parameters():
    loss, params, target = loss_of("repeated rows")
    theta, unravel = ravel(params)
    slope = jacrev(lambda flat: loss(unravel(flat), theta.new_ones(6)))(theta).abs().max().item()
    with pytest.warns(UserWarning, match=f"gradient's largest entry is {slope:.3g},"):
        attributed(loss, params, target, solver=vif.Woodbury())


def test_scores_written_to_disk_are_the_same(tmp_path):
    loss, params, target = loss_of("dead units")
    given = {"solver": vif.Woodbury(), "curvature": vif.GaussNewton}
    written = vif.write_scores(loss, params, target, tmp_path / "scores", **given)
    torch.testing.assert_close(
        torch.as_tensor(written.scores[:]), attributed(loss, params, target, solver=vif.Woodbury()).scores, **PRECISE
    )


class Unknown(vif.solvers.Solver):
    tolerated = 1.0

    def solved(self, hessian, rhs):
        return vif.CG(rtol=1e-12).solved(hessian, rhs)


@pytest.mark.parametrize(
    ("change", "solver"),
    [
        ({}, Unknown()),
        ({}, vif.CG(preconditioner=vif.solvers.Diagonal())),
        ({}, vif.solvers.Projected(rank=3, unstructured=True)),
        ({"curvature": vif.Hessian}, vif.CG()),
        ({"ridge": 0.0}, vif.CG()),
        ({"target": LabelledTarget(lambda params: params["0.weight"][0])}, vif.CG()),
    ],
    ids=["a solver not known", "another basis", "random parameters", "the Hessian", "no ridge", "a target not by row"],
)
def test_elsewhere_the_parameters_stay_as_they_are(change, solver):
    loss, params, target = loss_of("tanh under softmax")
    given = {"curvature": vif.GaussNewton, "ridge": loss.ridge, "target": target} | change
    problem = Problem.of(loss, params, n_objects=None)
    other = Problem.of(loss.with_parts(loss.outputs, loss.outer, ridge=given["ridge"]), params)
    assert span.Span.of(other, other.curvature(given["curvature"], 0.0, solver), given["target"], solver).lift is None
    assert span.Span.of(problem, problem.curvature(vif.GaussNewton, 0.0, vif.CG()), target, vif.CG()).lift is not None


def test_parameters_in_single_precision_are_reduced_where_the_loss_takes_double():
    loss, params, target = loss_of("tanh under softmax")
    single = {name: value.float() for name, value in params.items()}
    double = {name: value.double() for name, value in single.items()}
    scores = attributed(loss, single, target, solver=vif.Woodbury()).scores
    torch.testing.assert_close(scores, attributed(loss, double, target, solver=vif.Woodbury()).scores)


def test_a_singular_gram_matrix_has_a_root_to_rounding_row_by_row():
    rows = data(1, 5, 3)
    rows = torch.cat([rows, rows[:2], 0 * rows[:1], 1e-9 * rows[2:4]])
    gram = rows @ rows.T
    size, unit = span.root(gram)
    again, scale = size[:, None] * unit, torch.where(size > 0, 1 / size, 0.0)
    error = scale[:, None] * (again @ again.T - gram) * scale
    assert error.abs().max() < 1e-13
    assert not again[7].any()
