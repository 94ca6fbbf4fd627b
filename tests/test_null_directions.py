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
