"""The core: any loss in, scores out; bad input named."""

import warnings

import pytest
import torch
from torch import nn

import versatile_influence as vif
from versatile_influence.core.problem import Problem

X = torch.randn(30, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = X @ torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64) + 0.3 * torch.randn(
    30, generator=torch.Generator().manual_seed(1), dtype=torch.float64
)
NEW = torch.randn(50, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


def squares(theta, presence):
    """Least squares with ridge: quadratic, so that everything has a closed form."""
    return (presence * (X @ theta - Y) ** 2).sum() / 2 + 0.05 * theta.square().sum()


def best(presence=None):
    weight = torch.ones(30, dtype=torch.float64) if presence is None else presence
    gram = X.T @ (weight[:, None] * X) + 0.1 * torch.eye(3, dtype=torch.float64)
    return torch.linalg.solve(gram, X.T @ (weight * Y))


def predictions(theta):
    return NEW @ theta


def without(*members):
    presence = torch.ones(30, dtype=torch.float64)
    presence[list(members)] = 0.0
    return presence


def test_theorem_3_1_the_vif_of_an_m_estimator_is_the_classical_influence_function():
    theta = best()
    gram = X.T @ X + 0.1 * torch.eye(3, dtype=torch.float64)
    classical = -30 * torch.linalg.solve(gram, ((X @ theta - Y)[:, None] * X).T).T
    vif_numbers = vif.attribute(squares, theta, lambda params: params, n_objects=30).vif
    torch.testing.assert_close(vif_numbers, classical, rtol=1e-12, atol=1e-12)


def test_theorem_3_1_the_finite_difference_at_minus_one_over_n_minus_one_is_the_influence_function():
    """Eq. 8 on L̃(θ, P) = E_P ℓ, with P the empirical distribution and Q a point mass."""
    n, i = 30, 4
    gram = X.T @ X
    theta = torch.linalg.solve(gram, X.T @ Y)

    def gradient(weights):
        return torch.func.grad(lambda point: (weights * (X @ point - Y) ** 2).sum() / 2)(theta)

    empirical, mass = torch.full((n,), 1 / n, dtype=torch.float64), torch.eye(n, dtype=torch.float64)[i]
    epsilon = -1 / (n - 1)
    moved = (gradient((1 - epsilon) * empirical + epsilon * mass) - gradient(empirical)) / epsilon
    finite = -torch.linalg.solve(gram / n, moved)

    def data_loss(point, presence):
        return (presence * (X @ point - Y) ** 2).sum() / 2

    influence = vif.attribute(data_loss, theta, lambda params: params, n_objects=n).vif[i]
    torch.testing.assert_close(finite, influence, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("solver", [vif.Explicit(), vif.CG(rtol=1e-12)])
@pytest.mark.parametrize("targets", [1, 2, 50])
@pytest.mark.parametrize("objects", [None, [3], [[0, 1], [5], [7, 8, 9]]])
def test_scores_are_the_target_gradients_times_the_parameter_changes(solver, targets, objects):
    theta = best()
    scores = vif.attribute(
        squares, theta, lambda params: NEW[:targets] @ params, n_objects=30, objects=objects, solver=solver
    ).scores
    changes = vif.parameter_changes(squares, theta, n_objects=30, objects=objects)
    torch.testing.assert_close(scores, changes @ NEW[:targets].T, rtol=1e-9, atol=1e-12)


def test_newton_steps_and_refits_of_a_quadratic_are_exact_and_chunks_change_nothing():
    theta = best()
    exact = torch.stack([predictions(best(without(i))) - predictions(theta) for i in range(30)])
    plain = vif.attribute(squares, theta, predictions, n_objects=30).scores
    for gigabytes in (1.0, 1e-6):
        with vif.memory_budget(gigabytes):
            step = vif.newton_step(squares, theta, predictions, n_objects=30)
            truth = vif.refit(squares, theta, predictions, n_objects=30)
            linear = vif.attribute(squares, theta, predictions, n_objects=30)
        torch.testing.assert_close(step.scores, exact, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(truth.scores, exact, rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(linear.scores, plain)
    groups = [[0, 1, 2], [29]]
    exact = torch.stack([predictions(best(without(*group))) - predictions(theta) for group in groups])
    step = vif.newton_step(squares, theta, predictions, n_objects=30, objects=groups)
    torch.testing.assert_close(step.scores, exact, rtol=1e-10, atol=1e-12)


def test_a_module_is_attributed_through_its_named_parameters():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).double()

    def loss(params, presence):
        output = torch.func.functional_call(net, params, (X,)).squeeze(1)
        return (presence * (output - Y) ** 2).sum() + 0.1 * sum(value.square().sum() for value in params.values())

    params = vif.minimize(loss, dict(net.named_parameters()), n_objects=30)

    def target(params):
        return torch.func.functional_call(net, params, (NEW[:4],))

    estimate = vif.attribute(loss, params, target, n_objects=30)
    truth = vif.refit(loss, params, target, n_objects=30)
    assert vif.parameter_changes(loss, params, n_objects=30, objects=[1]).shape == (1, 21)
    correlation = torch.corrcoef(torch.stack([estimate.scores[:, 0], truth.scores[:, 0]]))[0, 1]
    assert correlation > 0.95


def test_direct_and_parameter_effects_add_up():
    target = vif.PresenceTarget(lambda theta, presence: NEW[:5] @ theta + (presence * Y).sum())
    theta = best()
    estimate = vif.attribute(squares, theta, target, n_objects=30)
    torch.testing.assert_close(estimate.direct, -Y[:, None].expand(30, 5))
    plain = vif.attribute(squares, theta, lambda params: NEW[:5] @ params, n_objects=30)
    torch.testing.assert_close(estimate.parameter, plain.scores)
    torch.testing.assert_close(estimate.scores, estimate.direct + estimate.parameter)
    torch.testing.assert_close(estimate.vif, -30 * estimate.parameter)


def test_many_parameters_take_the_same_answers_by_conjugate_gradients():
    wide = torch.randn(12, 500, generator=torch.Generator().manual_seed(5), dtype=torch.float64)

    def loss(theta, presence):
        return (presence * (wide @ theta - Y[:12]) ** 2).sum() + 0.5 * theta.square().sum()

    theta = vif.minimize(loss, torch.zeros(500), n_objects=12)
    gram = 2 * wide.T @ wide + torch.eye(500, dtype=torch.float64)
    torch.testing.assert_close(theta, torch.linalg.solve(gram, 2 * wide.T @ Y[:12]), rtol=0, atol=1e-8)
    step = vif.newton_step(loss, theta, lambda params: params[:2], n_objects=12, objects=[0, 1])
    truth = vif.refit(loss, theta, lambda params: params[:2], n_objects=12, objects=[0, 1])
    torch.testing.assert_close(step.scores, truth.scores, rtol=1e-5, atol=1e-8)


def test_the_loss_runs_in_float64_whatever_the_parameters_are():
    theta = best()
    single = vif.attribute(squares, theta.float(), predictions, n_objects=30).scores
    assert single.dtype == torch.float64
    torch.testing.assert_close(
        single, vif.attribute(squares, theta, predictions, n_objects=30).scores, rtol=1e-4, atol=1e-6
    )


def test_a_loss_with_float32_data_is_served_with_a_warning():
    x, y = X.float(), Y.float()

    def loss(theta, presence):
        return (presence * (x @ theta - y) ** 2).sum() / 2 + 0.05 * theta.square().sum()

    with pytest.warns(UserWarning, match=r"runs only in torch.float32.*float64 for trustworthy"):
        scores = vif.attribute(loss, best().float(), lambda theta: NEW.float() @ theta, n_objects=30).scores
    expected = vif.attribute(squares, best(), predictions, n_objects=30).scores
    torch.testing.assert_close(scores.double(), expected, rtol=1e-2, atol=1e-4)


def test_parameters_that_are_not_at_a_minimum_are_named_with_the_gradient():
    with pytest.warns(UserWarning, match=r"not at a minimum.*gradient's largest entry is .*vif.minimize"):
        vif.attribute(squares, best() + 0.1, predictions, n_objects=30)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vif.attribute(squares, best() + 1e-7, predictions, n_objects=30)


def draws(theta, presence):
    return (presence * torch.rand(30) * (X @ theta - Y) ** 2).sum()


def indexes(theta, presence):
    keep = presence.bool()
    return ((X[keep] @ theta - Y[keep]) ** 2).sum()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"loss": 3}, TypeError, "must be a function, called as loss"),
        ({"loss": lambda theta, presence: presence * (X @ theta - Y)}, TypeError, r"scalar tensor, got shape \(30,\)"),
        ({"loss": lambda theta, presence: 1.0}, TypeError, "scalar tensor, got float"),
        ({"loss": lambda theta, presence: (theta - theta.max()).log().sum()}, ValueError, "loss is -?inf|loss is nan"),
        (
            {"loss": lambda theta, presence: squares(theta, presence) + (theta - theta).sqrt().sum()},
            ValueError,
            "gradient",
        ),
        ({"loss": draws}, ValueError, "loss is random"),
        ({"loss": indexes}, TypeError, "must not depend on who is present"),
        ({"loss": lambda theta: theta.sum()}, TypeError, r"called as loss\(params, presence\): too many"),
        ({"n_objects": None}, ValueError, "How many objects"),
        ({"n_objects": 29}, TypeError, "all 29 objects present"),
        ({"objects": [30]}, ValueError, "Object 30 .* not one of the 30"),
        ({"objects": []}, ValueError, "empty"),
        ({"objects": [[1, 1]]}, ValueError, "twice"),
        ({"objects": [[]]}, ValueError, "Group 0 .* empty"),
        ({"objects": ["a"]}, TypeError, "'a' at position 0"),
        ({"target": 3}, TypeError, "`target` must be a function"),
        ({"target": lambda theta: 3.0}, TypeError, "returned float"),
        ({"target": lambda theta: torch.stack([theta[0], theta[0] / 0])}, ValueError, "Target 1 is"),
        ({"params": "theta"}, TypeError, "floating-point tensor"),
        ({"params": {}}, ValueError, "There are no parameters: `params` is empty"),
        ({"params": torch.zeros(3, dtype=torch.long)}, TypeError, "floating-point"),
        ({"params": torch.tensor([1.0, float("nan"), 0.0])}, ValueError, "`params` has NaN"),
    ],
)
def test_bad_input_is_named(change, error, message, plain_types):
    given = {"loss": squares, "params": best(), "target": predictions, "n_objects": 30} | change
    with pytest.raises(error, match=message):
        vif.attribute(given.pop("loss"), given.pop("params"), given.pop("target"), **given)


def test_a_loss_that_knows_its_objects_is_not_contradicted():
    class Known:
        n_objects = 30

        def __call__(self, theta, presence):
            return squares(theta, presence)

    assert vif.attribute(Known(), best(), predictions).scores.shape == (30, 50)
    with pytest.raises(ValueError, match="`n_objects` is 31, but the loss has 30"):
        vif.attribute(Known(), best(), predictions, n_objects=31)


def test_parameters_of_mixed_kinds_are_refused_by_name():
    with pytest.raises(ValueError, match="share one dtype and device"):
        Problem.of(lambda params, presence: 0, {"a": torch.zeros(1), "b": torch.zeros(1).double()}, n_objects=1)


def test_a_result_has_a_length_its_scores_by_target_and_a_table_in_a_notebook():
    error = torch.tensor([0.01, 0.4, float("nan")], dtype=torch.float64)
    scores = torch.tensor([[0.1, 1e6], [-0.3, 2e6], [0.2, float("nan")]], dtype=torch.float64)
    found = vif.Attribution(
        scores, torch.arange(3), n_objects=3, labels=["a", "<b>", "c"], targets=["age", "dose & age"], error=error
    )
    assert len(found) == 3
    assert torch.equal(found["age"], scores[:, 0])
    assert torch.equal(found[-1].nan_to_num(), scores[:, 1].nan_to_num())
    with pytest.raises(ValueError, match="weight"):
        found["weight"]
    page = found._repr_html_()
    assert page.index("&lt;b&gt;") < page.index(">c<") < page.index(">a<")
    assert "<td>-0.3</td><td>+2e+06</td><td>not trusted</td>" in page
    assert "dose &amp; age" in page
    assert "<b>" not in page
    many = vif.Attribution(torch.ones(40, 9), torch.arange(40), n_objects=40)
    assert "30 more removals; 3 more targets" in many._repr_html_()
