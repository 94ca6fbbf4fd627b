"""The minimiser: what it takes of a loss, and how it comes down where the curvature is indefinite."""

import torch

import versatile_influence as vif
from versatile_influence import minimisation


class Counted:
    """A quadratic whose Hessian is written out, and which counts where it is asked for it."""

    n_objects = 3

    def __init__(self, size):
        self.centre = torch.linspace(1.0, 2.0, size, dtype=torch.float64)
        self.asked = []

    def __call__(self, params, presence):
        return presence.sum() * (params - self.centre).square().sum() / 2

    def dense_hessian(self, params, presence):
        self.asked.append(params.sum().item())
        return presence.sum() * torch.eye(len(params)).to(params)


def test_no_hessian_is_made_only_to_learn_whether_there_is_one(monkeypatch):
    monkeypatch.setattr(minimisation, "DENSE_PARAMETERS", 10)
    monkeypatch.setattr(minimisation, "BY_HAND_PARAMETERS", 20)
    small, large = Counted(15), Counted(25)
    for loss in (small, large):
        torch.testing.assert_close(vif.minimize(loss, torch.zeros_like(loss.centre)), loss.centre)
    assert small.asked.count(0.0) == 1
    assert large.asked.count(0.0) == 0
