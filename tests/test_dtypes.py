"""Models in single or half precision: scores are those of float64 within the model's rounding."""

import pytest
import torch
from cases import SOLVERS, data

import versatile_influence as vif
from versatile_influence.core.models import Network

DURATIONS, EVENTS = torch.tensor([3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]), torch.arange(12) % 3 > 0
every_solver = pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)


def network(dtype):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1, bias=False)
        return torch.nn.Sequential(*layers).double().to(dtype)


def squares(outputs, presence):
    return (presence * (outputs[:, 0] - 1) ** 2).sum()


def attributed(solver, model, params, *, kind):
    """Return the scores of a Cox loss, or of a sum of squares with its data in the network's dtype."""
    like = next(model.parameters())
    x = data(1, 12, 2).to(like) if kind == "squares" else data(1, 12, 2)
    if kind == "cox":
        loss = vif.losses.CoxLoss(x, DURATIONS, EVENTS, model=model, penalty=0.3)
        target = loss.log_risk(data(2, 4, 2))
    else:
        loss = vif.losses.OutputLoss(model, x, squares, n_objects=12, penalty=0.3)
        target = lambda theta: loss.outputs(theta)[:4, 0]  # noqa: E731
    # Far from a minimum the warning about it would be all that is tested.
    return vif.attribute(loss, params, target, solver=solver, curvature=vif.GaussNewton, damping=1.0)


@pytest.fixture(scope="module")
def trained():
    """Return parameters at a minimum, in float64, by the kind of loss."""
    model = network(torch.float64)
    cox = vif.losses.CoxLoss(data(1, 12, 2), DURATIONS, EVENTS, model=model, penalty=0.3)
    other = vif.losses.OutputLoss(model, data(1, 12, 2), squares, n_objects=12, penalty=0.3)
    return {"cox": vif.minimize(cox, cox.zeros()), "squares": vif.minimize(other, other.zeros())}


@every_solver
@pytest.mark.parametrize("kind", ["cox", "squares"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.2)])
@pytest.mark.filterwarnings("ignore:The parameters are not at a minimum")
def test_scores_of_a_model_in_lower_precision_are_those_of_float64(solver, kind, dtype, tolerance, trained):
    params = trained[kind]
    exact = attributed(solver, network(torch.float64), params, kind=kind).scores
    low = {name: value.to(dtype) for name, value in params.items()}
    rounded = attributed(solver, network(dtype), low, kind=kind)
    assert rounded.scores.dtype == torch.float64
    assert (rounded.scores - exact).norm() < tolerance * exact.norm()
    # All that differs is the rounding of parameters and data: what is done with them is float64.
    again = attributed(solver, network(dtype), {name: value.double() for name, value in low.items()}, kind=kind)
    torch.testing.assert_close(rounded.scores, again.scores, rtol=1e-6, atol=1e-12)


# LiSSA stops by a residual, which the rounding of a loss may not let it reach.
ROUNDED_SOLVERS = SOLVERS | {"lissa": vif.LiSSA(batch_size=None, rtol=0.01, max_steps=1000)}
# How far scores may be from those of float64 where the loss itself is rounded to this.
LOW = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.2}
each_low = pytest.mark.parametrize(("dtype", "tolerance"), LOW.items(), ids=[str(dtype)[6:] for dtype in LOW])


class Only(Network):
    """A network that runs in the precision of its input alone."""

    def __call__(self, params):
        if next(iter(params.values())).dtype != self.x.dtype:
            raise RuntimeError("mat1 and mat2 must have the same dtype")
        return super().__call__(params)


@pytest.mark.parametrize("solver", ROUNDED_SOLVERS.values(), ids=ROUNDED_SOLVERS)
@each_low
@pytest.mark.filterwarnings("ignore:The parameters are not at a min", "ignore:The Hessian is not positive definite")
def test_outputs_that_run_only_in_low_precision_are_solved_in_float64(solver, dtype, tolerance, trained):
    params = trained["squares"]
    exact = attributed(solver, network(torch.float64), params, kind="squares").scores
    model = network(dtype)
    loss = vif.losses.OutputLoss(model, data(1, 12, 2).to(dtype), squares, n_objects=12, penalty=0.3)
    loss.outputs = Only(model, loss.outputs.x)
    target = lambda theta: loss.outputs(theta)[:4, 0]  # noqa: E731
    low = {name: value.to(dtype) for name, value in params.items()}
    with pytest.warns(UserWarning, match=f"runs only in {dtype}"):
        found = vif.attribute(loss, low, target, solver=solver, curvature=vif.GaussNewton, damping=1.0)
    assert found.scores.dtype == torch.float64
    assert (found.scores - exact).norm() < tolerance * exact.norm()


def line(dtype):
    """Return a least-squares loss of 12 rows that runs in one precision alone, a target like it, and the minimum."""
    x, y = data(1, 12, 2), data(2, 12, 1)[:, 0]
    low, y_low = x.to(dtype), y.to(dtype)

    def loss(theta, presence):
        return (presence * (low @ theta - y_low) ** 2).sum() / 2 + theta.square().sum() / 2

    theta = torch.linalg.solve(x.T @ x + torch.eye(2).double(), x.T @ y)
    return loss, lambda theta: low[:3] @ theta, theta


FUNCTION_SOLVERS = {
    name: one for name, one in ROUNDED_SOLVERS.items() if name not in ("ek-fac", "woodbury", "cg, diagonal")
}


@pytest.mark.parametrize("solver", FUNCTION_SOLVERS.values(), ids=FUNCTION_SOLVERS)
@each_low
def test_a_function_that_runs_only_in_low_precision_is_solved_in_float64(solver, dtype, tolerance):
    loss, target, theta = line(torch.float64)
    exact = vif.attribute(loss, theta, target, n_objects=12, solver=solver).scores
    loss, target, _ = line(dtype)
    with pytest.warns(UserWarning, match=f"runs only in {dtype}"):
        found = vif.attribute(loss, theta.to(dtype), target, n_objects=12, solver=solver)
    assert found.scores.dtype == torch.float64
    assert (found.scores - exact).norm() < tolerance * exact.norm()


@pytest.mark.parametrize("verb", [vif.newton_step, vif.descend, vif.refit])
@each_low
@pytest.mark.filterwarnings("ignore:The loss runs only in", "ignore:The minimiser stopped")
def test_retraining_in_low_precision_is_that_of_float64_to_its_rounding(verb, dtype, tolerance):
    loss, target, theta = line(torch.float64)
    exact = verb(loss, theta, target, n_objects=12).scores
    loss, target, _ = line(dtype)
    if verb is vif.refit and dtype != torch.float32:
        with pytest.warns(UserWarning, match=rf"12 of 12 refits are not exact.*evaluated in {dtype}"):
            found = verb(loss, theta.to(dtype), target, n_objects=12)
        assert found.error.isnan().all()
        assert found.trust().startswith(
            "0 of 12 removals are exact: the model was trained without each; the other 12 lack"
        )
    else:
        found = verb(loss, theta.to(dtype), target, n_objects=12)
    # A target's own rounding is not small beside what one row of twelve moves it.
    assert (found.scores - exact).abs().max() < 5 * tolerance * exact.abs().max()


@each_low
@pytest.mark.filterwarnings("ignore:The loss runs only in", "ignore:The minimiser stopped")
def test_minimize_returns_float64_where_the_loss_runs_in_less(dtype, tolerance):
    loss, _, theta = line(dtype)
    found = vif.minimize(loss, torch.zeros(2, dtype=dtype), n_objects=12)
    assert found.dtype == torch.float64
    assert (found - theta).norm() < tolerance * theta.norm()
    # And what it returns is taken again.
    assert vif.attribute(loss, found, lambda theta: theta, n_objects=12).scores.isfinite().all()


def test_mixed_dtypes_and_devices_are_refused_with_the_names():
    params = {"a": torch.zeros(2).double(), "b": torch.zeros(1)}
    loss = lambda theta, presence: presence.sum() * (theta["a"].sum() + theta["b"].sum())  # noqa: E731
    with pytest.raises(ValueError, match=r"share one dtype and device.*a: torch.float64 on cpu, b: torch.float32"):
        vif.attribute(loss, params, lambda theta: theta["b"], n_objects=2)
    elsewhere = {"a": torch.zeros(2), "b": torch.zeros(1, device="meta")}
    with pytest.raises(ValueError, match=r"share one dtype and device.*b: torch.float32 on meta"):
        vif.attribute(loss, elsewhere, lambda theta: theta["b"], n_objects=2)


@every_solver
def test_one_object_and_one_parameter_are_a_problem_too(solver):
    model = torch.nn.Linear(1, 1, bias=False).double()
    loss = vif.losses.OutputLoss(model, torch.ones(1, 1).double(), squares, n_objects=1, penalty=1.0)
    params = vif.minimize(loss, loss.zeros())
    found = vif.attribute(
        loss, params, lambda theta: theta["weight"].flatten(), solver=solver, curvature=vif.GaussNewton
    )
    # (w − 1)² + w²/2 has its minimum at 2/3; with H = 3, its pull of 2/3 on w is worth −2/9.
    torch.testing.assert_close(found.scores, torch.tensor([[-2 / 9]]).double(), rtol=1e-3, atol=1e-9)
