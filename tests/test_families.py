"""Generalised linear models, against closed forms and automatic differentiation."""

import pytest
import torch

import versatile_influence as vif
from versatile_influence.losses import Linear, Logistic, Poisson, SquaredError, TermLoss


def rows(n=30, d=3):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -0.5, 0.2]).double() + 0.5 * torch.randn(n, generator=draw, dtype=torch.float64)


X = rows(12)[0]
ANSWERS = {SquaredError: lambda y: y, Logistic: lambda y: (y > 0).double(), Poisson: lambda y: y.exp().floor()}


@pytest.mark.parametrize("kind", ANSWERS)
def test_derivatives_are_those_of_the_terms(kind):
    y = ANSWERS[kind](rows()[1])
    family, outputs = kind(y), torch.linspace(-4, 4, len(y), dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(family(outputs).sum(), outputs, create_graph=True)
    (bends,) = torch.autograd.grad(slopes.sum(), outputs)
    torch.testing.assert_close(family.slopes(outputs), slopes)
    torch.testing.assert_close(family.bends(outputs), bends)


def test_one_newton_step_of_least_squares_is_the_closed_form_of_leaving_a_row_out():
    x, y = rows()
    loss = TermLoss(SquaredError(y), range(len(y)), outputs=Linear(x))
    theta = vif.minimize(loss, loss.zeros())
    torch.testing.assert_close(theta, torch.linalg.lstsq(x, y[:, None]).solution[:, 0])
    inverse, left = torch.linalg.inv(x.T @ x), y - x @ theta
    leverage = ((x @ inverse) * x).sum(1)
    exact = -(x @ inverse) * (left / (1 - leverage))[:, None]
    torch.testing.assert_close(vif.newton_step(loss, theta, lambda params: params).scores, exact)
    torch.testing.assert_close(
        vif.attribute(loss, theta, lambda params: params).scores, exact * (1 - leverage)[:, None]
    )


def test_the_influence_of_a_logistic_regression_is_the_formula_of_the_model():
    x, y = rows()
    y, (x_test, y_test) = ANSWERS[Logistic](y), (x[:7] + 0.1, torch.ones(7).double())
    loss = TermLoss(Logistic(y), range(len(y)), outputs=Linear(x), penalty=0.3)
    theta = vif.minimize(loss, loss.zeros())
    test = vif.losses.term_values(TermLoss(Logistic(y_test), range(7), outputs=Linear(x_test)))
    p, q = (x @ theta).sigmoid(), (x_test @ theta).sigmoid()
    hessian = (x * (p * (1 - p))[:, None]).T @ x + 0.3 * torch.eye(3).double()
    exact = (x * (p - y)[:, None]) @ torch.linalg.solve(hessian, ((q - y_test)[:, None] * x_test).T)
    torch.testing.assert_close(vif.attribute(loss, theta, test).scores, exact)


@pytest.mark.parametrize(
    ("kind", "y", "said"),
    [
        (SquaredError, [0.0, float("nan")], "row 1 is nan"),
        (Logistic, [0.0, 1.0, 2.0], "row 2 is 2, where answers must be from 0 to 1"),
        (Poisson, [3, -1], "row 1 is -1, where answers must be counts"),
        (Poisson, [], "empty"),
        (Poisson, [1, None], "row 1 is nan"),
        (Logistic, ["yes", "no"], "got 'yes' in it. Encode words"),
        (Logistic, [[0.0, 1.0], [1.0, 0.0]], r"one answer a row, got shape \(2, 2\)"),
    ],
)
def test_answers_of_the_wrong_kind_are_named(kind, y, said):
    with pytest.raises((ValueError, TypeError), match=said):
        kind(y)


def test_answers_must_be_as_many_as_the_rows():
    with pytest.raises(ValueError, match="5 rows of features but 4 answers"):
        TermLoss(SquaredError([1.0, 2.0, 3.0, 4.0]), range(5), outputs=Linear(torch.ones(5, 1)))


@pytest.mark.parametrize(
    ("terms", "given"),
    [
        (lambda theta: (X[:4] @ theta) ** 2, r"shape \(4,\)"),
        (lambda theta: ((X @ theta) ** 2).sum(), r"shape \(\)"),
        (lambda theta: ((X @ theta) ** 2)[:, None], r"shape \(12, 1\)"),
        (lambda theta: [1.0] * len(X), "a list"),
    ],
)
def test_terms_of_the_wrong_number_or_shape_are_told_with_what_is_needed(plain_types, terms, given):
    loss = TermLoss(terms, range(len(X)), start=torch.zeros(3).double())
    said = f"`terms` returned .*{given}, and `incidence` has 12 terms: shape .12,. is needed.*one number a term"
    with pytest.raises(ValueError, match=said):
        loss.removal_differences(loss.zeros())
    with pytest.raises(TypeError, match=said):
        vif.minimize(loss, loss.zeros())


def test_a_target_without_numbers_is_refused():
    loss = TermLoss(SquaredError([1.0, 2.0]), range(2), outputs=Linear(torch.ones(2, 1)))
    with pytest.raises(ValueError, match="The target returned no numbers"):
        vif.attribute(loss, loss.zeros(), lambda params: params[:0])
