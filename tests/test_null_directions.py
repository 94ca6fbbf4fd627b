"""Directions in which a loss is constant: named by it, left out by solvers, and no false minimum at infinity."""

import warnings

import pytest
import torch

import versatile_influence as vif


class Product(vif.Loss):
    """Fit x_i by a·b: constant along a → a e^s, b → b e^{-s}."""

    n_objects = 3
    x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)

    def __call__(self, params, presence):
        return (presence * (self.x - params[0] * params[1]) ** 2).sum() / 2

    def null_directions(self, params, presence):
        return {"scale": torch.stack([params[0], -params[1]])}


def product(params):
    return (params[0] * params[1]).reshape(1)


MINIMUM = torch.tensor([1.5, 2.0], dtype=torch.float64)


@pytest.mark.parametrize("solver", [vif.Explicit(), vif.CG()])
def test_scores_are_those_of_the_product_itself(solver):
    scores = vif.attribute(Product(), MINIMUM, product, solver=solver)
    mean = vif.attribute(lambda t, b: (b * (Product.x - t) ** 2).sum() / 2, torch.tensor(3.0), lambda t: t, n_objects=3)
    torch.testing.assert_close(scores.scores, mean.scores)
    assert scores.solution is not None
    assert scores.solution.dropped.shape == (2, 1)


def test_refits_and_newton_steps_need_no_penalty():
    exact = torch.tensor([[1.0], [0.5], [-1.5]], dtype=torch.float64)
    torch.testing.assert_close(vif.refit(Product(), MINIMUM, product).scores, exact)
    torch.testing.assert_close(vif.descend(Product(), MINIMUM, product, steps=8).scores, exact)
    assert vif.newton_step(Product(), MINIMUM, product).scores.isfinite().all()


def test_a_target_that_training_does_not_determine_is_named():
    with pytest.warns(UserWarning, match="1 of 2 targets, the first number 1"):
        vif.attribute(Product(), MINIMUM, lambda params: torch.stack([params[0] * params[1], params[0]]))


def test_damping_takes_the_null_directions_away():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = vif.attribute(Product(), MINIMUM, product, damping=1e-9, check=False)
    assert scores.solution is not None
    assert scores.solution.dropped is None


def factorised():
    """Return a table of 120 cells as users times items, its cells the objects, as a plain function; loss, θ, target."""
    draw = torch.Generator().manual_seed(0)
    noise = torch.randn(12, 10, generator=draw, dtype=torch.float64)
    users, items = (torch.randn(size, 2, generator=draw, dtype=torch.float64) for size in (12, 10))
    table = users @ items.T + 0.1 * noise

    def loss(params, presence):
        return presence @ (table - params["users"] @ params["items"].T).reshape(-1) ** 2 / 2

    start = {"users": users, "items": items}
    return loss, vif.minimize(loss, start, n_objects=120), lambda params: (params["users"] @ params["items"].T)[:2, 0]


def test_the_rotations_of_two_factors_are_no_singularity_that_needs_a_penalty():
    loss, theta, target = factorised()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scores = vif.attribute(loss, theta, target, n_objects=120, objects=range(10, 40), check=False)
    # All of GL(2) acts on the factors and does nothing.
    assert scores.solution.dropped.shape[1] == 4
    refits, truth = vif.refit(loss, theta, target, n_objects=120, objects=range(10, 40)), []
    for cell in range(10, 40):
        presence = torch.ones(120).double()
        presence[cell] = 0
        turned = {"users": 2 * theta["users"], "items": theta["items"] / 2}
        truth.append(target(vif.minimize(loss, turned, presence)) - target(theta))
    torch.testing.assert_close(refits.scores, torch.stack(truth), rtol=1e-5, atol=1e-8)
    assert vif.pearson(scores, refits).min() > 0.95
    with pytest.warns(UserWarning, match="2 of 2 targets.*the same for all minimisers"):
        vif.attribute(loss, theta, lambda params: params["users"][:2, 0], n_objects=120, check=False)


def test_collinear_covariates_are_no_harm_to_predictions_that_share_them():
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x, y = torch.cat([x, x.sum(1, keepdim=True)], dim=1), torch.sin(torch.arange(20).double())
    loss = lambda theta, presence: presence @ (y - x @ theta) ** 2 / 2  # noqa: E731
    theta = torch.linalg.lstsq(x, y, driver="gelsd").solution
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = vif.attribute(loss, theta, lambda theta: x[:3] @ theta, n_objects=20, check=False)
    # Of least squares in two of the covariates, by the closed form: x (XᵀX)⁻¹ xᵢ rᵢ.
    small = x[:, :2]
    leverage = small[:3] @ torch.linalg.inv(small.T @ small) @ small.T
    torch.testing.assert_close(found.scores, -(leverage * (y - x @ theta)).T)
    with pytest.warns(UserWarning, match="3 of 3 targets"):
        vif.attribute(loss, theta, lambda theta: theta, n_objects=20, check=False)


@pytest.mark.filterwarnings("ignore:Every score is 0")
@pytest.mark.parametrize("extra", [0, 1], ids=["no curvature at all", "none in some directions"])
def test_a_loss_of_straight_pieces_is_told_with_its_cure_and_trusted_nowhere(extra):
    y = torch.arange(11).double()

    def loss(theta, presence):
        straight = presence @ torch.maximum(0.3 * (y - theta[0]), -0.7 * (y - theta[0]))
        return straight + extra * (theta[-1] - 1) ** 2

    with pytest.warns(UserWarning, match=r"slopes along them without 11 of 11.*Round their corners") as told:
        found = vif.attribute(
            loss, torch.tensor([3.0, 1.0][: 1 + extra]).double(), lambda theta: theta[:1], n_objects=11
        )
    assert not any("target does not depend" in str(one.message) for one in told)
    assert not found.trusted.any()
    # The median of the others moves by whole numbers, where first order says 0.
    assert (found.scores == 0).all()
