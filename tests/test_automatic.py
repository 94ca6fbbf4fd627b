"""Where no solver is named, one is chosen, and the scores are those of the exact one."""

import pytest
import torch

import versatile_influence as vif

N, P = 8, 5_200
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, P, generator=DRAW, dtype=torch.float64)
Y = torch.randn(N, generator=DRAW, dtype=torch.float64)


def ridge(theta, presence):
    return (presence * (X @ theta - Y) ** 2).sum() / 2 + 50 * theta @ theta / 2


# By the push-through identity: n × n.
THETA = X.T @ torch.linalg.solve(X @ X.T + 50 * torch.eye(N, dtype=torch.float64), Y)
TESTS = torch.randn(60, P, generator=DRAW, dtype=torch.float64) / P**0.5


def exact(count):
    left = X * (X @ THETA - Y)[:, None]
    inverse = (
        TESTS[:count].T - X.T @ torch.linalg.solve(X @ X.T + 50 * torch.eye(N).double(), X @ TESTS[:count].T)
    ) / 50
    return left @ inverse


@pytest.mark.parametrize(("count", "name"), [(1, "CG"), (60, "Explicit")])
def test_few_columns_of_many_parameters_go_by_cg_and_many_by_the_matrix(count, name, monkeypatch):
    # With no more removals than columns, H goes to whichever are fewer.
    monkeypatch.setattr("versatile_influence.solvers.automatic.STEPS_OF_CG", 100 if count == 1 else 1000)
    found = vif.attribute(ridge, THETA, lambda theta: TESTS[:count] @ theta, n_objects=N, check=False)
    torch.testing.assert_close(found.scores, exact(count), rtol=1e-2, atol=1e-3 * exact(count).abs().max().item())
    assert found.made["solver"].startswith(name)
    assert ("by CG" in repr(found)) == (name == "CG")


def test_what_does_not_fit_as_a_matrix_goes_by_cg(monkeypatch):
    def refused(theta):
        raise MemoryError

    monkeypatch.setattr("versatile_influence.solvers.automatic.check_dense", refused)
    hessian = vif.Hessian(lambda theta, presence: presence.sum() * theta @ theta, torch.zeros(2), torch.ones(1))
    assert vif.solvers.Automatic().chosen(hessian, 1) == vif.Explicit()
    hessian = vif.Hessian(ridge, THETA, torch.ones(N).double())
    assert vif.solvers.Automatic().chosen(hessian, 10_000) == vif.CG()
    assert vif.Explicit().chosen(hessian, 1) == vif.Explicit()
