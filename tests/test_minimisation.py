"""The minimiser: what it takes of a loss, and how it comes down where the curvature is indefinite."""

import networkx as nx
import pytest
import torch

import versatile_influence as vif
from versatile_influence.core import curvature as hessian
from versatile_influence.losses import WalkEmbeddingLoss
from versatile_influence.training import directions


class Counted(vif.Loss):
    """A quadratic whose Hessian is written out, and which counts where it is asked for it."""

    n_objects = 3
    hessian_written_out = True

    def __init__(self, size):
        self.centre = torch.linspace(1.0, 2.0, size, dtype=torch.float64)
        self.asked = []

    def __call__(self, params, presence):
        return presence.sum() * (params - self.centre).square().sum() / 2

    def hessian(self, params, presence):
        self.asked.append(params.sum().item())
        return presence.sum() * torch.eye(len(params)).to(params)


def test_no_hessian_is_made_only_to_learn_whether_there_is_one(monkeypatch):
    monkeypatch.setattr(hessian, "DENSE_PARAMETERS", 10)
    monkeypatch.setattr(hessian, "WRITTEN_PARAMETERS", 20)
    small, large = Counted(15), Counted(25)
    for loss in (small, large):
        vif.check_loss(loss, 0.5 * loss.centre)
        loss.asked.clear()
        torch.testing.assert_close(vif.minimize(loss, torch.zeros_like(loss.centre)), loss.centre)
    assert small.asked.count(0.0) == 1
    assert large.asked.count(0.0) == 0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_shift_leads_from_a_saddle_to_the_same_minimum_as_eigenvectors(monkeypatch, seed):
    loss = WalkEmbeddingLoss(nx.krackhardt_kite_graph(), length=6, window=3, dim=2, penalty=0.1)
    everyone = torch.ones(10, dtype=torch.float64)
    by_eigenvectors = vif.minimize(loss, loss.start(seed=seed))
    monkeypatch.setattr(directions, "EIGENVECTORS", 0)
    by_shift = vif.minimize(loss, loss.start(seed=seed))
    torch.testing.assert_close(loss(by_shift, everyone), loss(by_eigenvectors, everyone), rtol=1e-12, atol=0.0)


def test_a_shift_is_found_where_lanczos_sees_no_negative_curvature(monkeypatch):
    monkeypatch.setattr(directions, "EIGENVECTORS", 0)
    curvature = torch.diag(torch.cat([torch.full((30,), 2.0), torch.tensor([-1.0, 0.0])])).double()
    gradient = torch.ones(32, dtype=torch.float64)
    gradient[30:] = 0.0
    step = directions.newton_direction(curvature, gradient)
    assert torch.isfinite(step).all()
    assert gradient @ step < 0
