"""Removals under a function of outputs: by one gradient where objects do not meet, by one each where they do."""

import itertools

import pytest
import torch
from cases import data

import versatile_influence as vif
from versatile_influence.core.apart import changes_apart, halves
from versatile_influence.core.boundary import FunctionLoss
from versatile_influence.core.loss import by_gradients
from versatile_influence.core.removals import Removals

N = 17
LABELS = torch.arange(N) % 3
cross_entropy = torch.nn.functional.cross_entropy


def each(outputs):
    return cross_entropy(outputs, LABELS, reduction="none")


APART = {
    "a sum": lambda o, b: (b * each(o)).sum(),
    "not linear in presence": lambda o, b: (b**3 * each(o) + o.square().sum(1)).sum(),
    "an absent row counts half": lambda o, b: ((1 + b) / 2 * each(o)).sum(),
}
# One of them alone keeps the others below a limit, which no half of them reaches.
START, SHARES = data(0, N, 3)[:, 0], torch.where(torch.arange(N) == 4, -1.5, 1.0).double()


def limited(o, b):
    over = (b * (o[:, 0] - START + SHARES)).sum() - SHARES.sum() - 0.5
    return (b * each(o)).sum() + over.relu() ** 2


MEETING = {
    "a limit that one keeps": limited,
    "a mean": lambda o, b: (b * each(o)).sum() / b.sum(),
    "one neighbour": lambda o, b: (b * each(o)).sum() + b[3] * b[11] * (o[3] @ o[11]),
    "a neighbour's presence alone": lambda o, b: (b * each(o)).sum() + b[4] * o[5, 0],
    "the worst": lambda o, b: (b * each(o)).amax(),
    "the worst three": lambda o, b: (b * each(o)).topk(3).values.sum(),
    "a softmax over all": lambda o, b: (b * o[:, 0].exp()).sum().log() - (b * o[:, 0]).sum(),
    "rows in another order": lambda o, b: (b.flip(0) * each(o)).sum(),
}


@pytest.mark.parametrize("outer", APART | MEETING)
def test_removal_products_are_those_by_a_gradient_each(outer):
    loss, outputs, directions = FunctionLoss((APART | MEETING)[outer], N), data(0, N, 3), data(1, 3 * N, 4)
    assert (changes_apart(loss, outputs) is not None) == (outer in APART)
    for objects in (None, [*range(1, N)][::-1], [[0, 5], *([one] for one in range(15)), [2, 3, 4]]):
        removals = Removals.of(objects, N)
        for along in (None, directions):
            expected = by_gradients(loss, outputs, along, removals, 1)
            torch.testing.assert_close(loss.removal_products(outputs, along, removals), expected)


@pytest.mark.parametrize("shape", [(), (1,), (5,)])
def test_parameters_that_are_no_rows_are_left_to_a_gradient_each(shape):
    loss, theta = FunctionLoss(lambda theta, b: (b.sum() * theta**2).sum(), 4), torch.full(shape, 2.0).double()
    assert changes_apart(loss, theta) is None
    assert changes_apart(FunctionLoss(lambda theta, b: b.sum() * (theta**2).sum(), 1), torch.tensor(2.0)) is None


def test_any_two_objects_are_told_apart_by_some_half():
    for n in (2, 3, 8, 9, 100):
        pairs = torch.tensor([*itertools.combinations(range(n), 2)])
        digits = halves(n)
        assert (digits[:, pairs[:, 0]] != digits[:, pairs[:, 1]]).any(0).all()


def test_scores_of_many_rows_under_a_function_take_no_gradient_each(monkeypatch):
    n, target = 300, lambda some: some["weight"].sum()
    model, x = torch.nn.Linear(4, 2).double(), data(0, n, 4)
    row = lambda outputs: (outputs - 1).square().sum(1)  # noqa: E731
    loss = vif.losses.OutputLoss(model, x, lambda o, b: (b * row(o)).sum(), n_objects=n, penalty=1.0)
    params = vif.minimize(loss, loss.zeros())
    terms = vif.losses.OutputLoss(model, x, vif.losses.TermLoss(row, range(n)), penalty=1.0)
    expected = vif.attribute(terms, params, target, check=False).scores
    monkeypatch.setattr("versatile_influence.core.loss.by_gradients", None)
    torch.testing.assert_close(vif.attribute(loss, params, target, check=False).scores, expected)
