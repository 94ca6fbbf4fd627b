"""Losses of one's own through the verbs: what once went wrong in silence, or ended inside PyTorch."""

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import versatile_influence as vif


def numbers(params):
    return torch.cat([value.reshape(-1) for value in params.values()])


def network(layer, n=60):
    torch.manual_seed(0)
    x, y = torch.randn(n, 2).double(), torch.randn(n).double()
    model = nn.Sequential(nn.Linear(2, 3), layer, nn.Linear(3, 1)).double()
    return vif.losses.OutputLoss(
        model, x, lambda outputs, b: (b * (outputs[:, 0] - y) ** 2).sum(), n_objects=n, penalty=1.0
    )


@pytest.mark.filterwarnings("ignore:Without the object")  # not at a minimum: the step is what is asked about
@pytest.mark.parametrize("layer", [nn.LayerNorm(3), nn.PReLU(), nn.Tanh()], ids=str)
def test_a_newton_step_of_many_is_that_of_one_through_any_layer(layer):
    # Forward over forward through layer_norm is wrong in PyTorch, and nn.PReLU has no batched derivative by rows.
    loss = network(layer)
    many = vif.newton_step(loss, loss.zeros(), numbers).scores
    one = vif.newton_step(loss, loss.zeros(), numbers, objects=[7]).scores
    torch.testing.assert_close(many[7], one[0], rtol=1e-8, atol=1e-10)


class Kept(vif.Loss):
    """A quadratic loss that gives the Hessian it keeps."""

    n_objects = 3

    def __init__(self):
        self.matrix = torch.tensor([[3.0, 1.0], [1.0, 2.0]]).double()

    def __call__(self, params, presence):
        slopes = torch.arange(6.0).double().view(3, 2)
        return params @ self.matrix @ params / 2 - presence @ slopes @ params

    def hessian(self, params, presence):
        return self.matrix


def test_a_matrix_that_a_loss_keeps_is_left_as_it_is():
    loss, start = Kept(), torch.zeros(2).double()
    before = loss.matrix.clone()
    theta = vif.minimize(loss, start)
    vif.attribute(loss, theta, lambda params: params, damping=5.0)
    vif.newton_step(loss, theta, lambda params: params, damping=5.0)
    vif.minimize(vif.Composed(lambda params: params, loss, penalty=1.0), start)
    assert torch.equal(loss.matrix, before)


class Owns:
    def owned(self, i):
        return torch.tensor([i])


class Mixed(Owns, vif.Loss):
    n_objects, penalty = 3, 1.0

    def __call__(self, params, presence):
        return (presence * (params - torch.arange(3.0).double()) ** 2).sum() / 2 + params @ params / 2


def test_what_a_mixin_says_is_owned_counts():
    scores = vif.attribute(Mixed(), torch.arange(3.0).double() / 2, lambda params: params).scores
    assert scores.diagonal().tolist() == [0.0, -0.5, -1.0]


def test_numbers_of_no_dimension_among_the_parameters_are_refitted():
    torch.manual_seed(0)
    x, y = torch.randn(8, 2).double(), torch.randn(8).double()
    start = {"w": torch.zeros(2).double(), "b": torch.zeros(()).double()}
    loss = vif.losses.TermLoss(lambda p: (x @ p["w"] + p["b"] - y) ** 2 / 2, range(8), start=start, penalty=0.1)
    vif.check_loss(loss, {"w": torch.tensor([0.3, -0.2]).double(), "b": torch.tensor(0.1).double()})
    # The exact answer, by least squares without the row.
    full = torch.cat([x, torch.ones(8, 1)], dim=1)

    def fitted(rows):
        return torch.linalg.solve(full[rows].T @ full[rows] + 0.1 * torch.eye(3).double(), full[rows].T @ y[rows])

    expected = fitted(list(range(1, 8))) - fitted(list(range(8)))
    found = vif.refit(loss, start, lambda p: torch.cat([p["w"], p["b"][None]]), objects=[0]).scores[0]
    torch.testing.assert_close(found, expected)


def test_a_network_takes_its_own_parameters_and_no_others():
    loss = network(nn.Tanh())
    params = loss.zeros()
    with pytest.raises(ValueError, match=r"not those of the network: 0\.bias is"):
        loss({name: value for name, value in params.items() if name != "0.bias"}, torch.ones(60).double())
    with pytest.raises(ValueError, match="not those of the network: typo is"):
        loss({**params, "typo": torch.zeros(1).double()}, torch.ones(60).double())


def test_owned_rows_are_counted_in_the_order_of_the_network():
    class Items(nn.Module):
        def __init__(self):
            super().__init__()
            self.items, self.shared = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(2, 2))

        def forward(self, x):
            return x @ self.shared @ self.items.T

    x, lists = torch.randn(5, 2).double(), [[0, 1, 2], [3, 1, 0], [2, 3, 1], [0, 2, 3], [1, 0, 3]]
    loss = vif.losses.ListMLELoss(x, lists, n_items=4, model=Items().double(), item_parameters=["items"], penalty=1.0)
    with pytest.raises(ValueError, match="these are those of loss.zeros"):
        loss(dict(reversed(loss.zeros().items())), torch.ones(4).double())


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: vif.Composed(nn.Linear(1, 1), Kept()), "A network goes into vif.losses.OutputLoss"),
        (lambda: vif.attribute(Kept, torch.zeros(2), lambda t: t), "`loss` must be a function"),
        (lambda: type("Other", (vif.losses.OutputLoss,), {"__call__": None}), "Other is its parts"),
    ],
)
def test_what_is_nothing_of_the_kind_is_told_at_the_boundary(make, words):
    with pytest.raises(TypeError, match=words):
        make()


class Deaf(Kept):
    """A loss whose differences take no notice of what is asked for."""

    def removal_products(self, params, directions=None, objects=None):
        return super().removal_products(params, directions, None)


def test_a_method_that_takes_no_notice_of_the_objects_is_told():
    with pytest.raises(ValueError, match="takes no notice of `objects`"):
        vif.attribute(Deaf(), torch.zeros(2).double(), lambda t: t, objects=[[0, 1], [2]])


class Bent(vif.Loss):
    """An outer loss with a wrong product of its Hessian."""

    n_objects = 4

    def __call__(self, params, presence):
        return (presence * (params - 1.0) ** 4).sum()

    def hessian_products(self, params, presence, vectors):
        return 1.5 * super().hessian_products(params, presence, vectors)


class Detached(Bent):
    """An outer loss whose differences have no derivative."""

    def removal_differences(self, params, objects=None):
        return super().removal_differences(params.detach(), objects)

    def hessian_products(self, params, presence, vectors):
        return vif.Loss.hessian_products(self, params, presence, vectors)


@pytest.mark.parametrize(("outer", "method"), [(Bent(), "Bent.hessian_products"), (Detached(), "Detached.removal_dif")])
def test_the_outer_loss_is_checked_with_the_whole(outer, method):
    x = torch.randn(4, 2, generator=torch.Generator().manual_seed(0)).double()
    with pytest.raises(ValueError, match=method):
        vif.check_loss(vif.Composed(vif.losses.Linear(x), outer), torch.tensor([0.3, -0.2]).double())


def test_numpys_whole_numbers_count():
    def loss(theta, presence):
        return (presence * (theta - torch.arange(3.0).double()) ** 2).sum()

    loss.n_objects = np.int64(3)
    assert len(vif.attribute(loss, torch.tensor(1.0).double(), lambda theta: theta).scores) == 3


def test_the_row_of_a_word_among_numbers_is_named():
    frame = pd.DataFrame(
        {"age": [50.0, "old", 61.0], "time": [1.0, 2.0, 3.0], "event": [1, 1, 0]}, index=["a", "b", "c"]
    )
    with pytest.raises(TypeError, match="Column `age` is not numeric \\(row 'b' holds 'old'\\)"):
        vif.losses.CoxLoss.from_frame(frame, duration_col="time", event_col="event")
