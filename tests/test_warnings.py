"""Warnings point at the line of the user, whatever stands between it and the library."""

import pytest
import torch

import versatile_influence as vif

X = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
OFF = torch.tensor([2.0], dtype=torch.float64)


def quadratic(theta, presence):
    return (presence * (X - theta) ** 2).sum() / 2


def value(theta):
    return theta


def nearly_a_loss():
    class Near(vif.Loss):
        n_objects = 2

        def __call__(self, params, presence):
            return presence.sum() * params.sum()

        def removal_diferences(self, params):
            return params


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: vif.attribute(quadratic, OFF, value, n_objects=3), "not at a minimum"),
        (lambda: vif.attribute(quadratic, X.mean(), value, n_objects=3, objects=[[0, 1, 2]]), "takes all 3"),
        (lambda: vif.attribute(lambda t, b: -quadratic(t, b), X.mean(), value, n_objects=3), "indefinite"),
        (
            lambda: vif.minimize(lambda t, b: (b * (X - t).cosh()).sum(), OFF, n_objects=3, max_steps=1),
            "minimiser stopped",
        ),
        (lambda: vif.leave_one_out(lambda b: X, value, n_objects=3, progress=False), "Does `fit` use `presence`"),
        (lambda: vif.losses.PairwiseLoss([0], [1], incidence=[[0]], n_objects=3), "in no term"),
        (nearly_a_loss, "never looked at"),
    ],
)
def test_a_warning_points_at_the_line_of_the_user(call, words):
    with pytest.warns(UserWarning, match=words) as told:
        call()
    assert {warning.filename for warning in told} == {__file__}
