"""Frozen parameters are constants: scores, minimum and training are those of what is trained alone."""

import pytest
import torch
from cases import data
from torch.func import functional_call

import versatile_influence as vif

X, Y = data(1, 20, 3), data(2, 20, 1)[:, 0]
LAMBDA = 0.3


def network(*, frozen=True):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).double()
    model[0].requires_grad_(not frozen)
    return model


def squares(outputs, presence):
    return (presence * (outputs[:, 0] - Y) ** 2).sum() / 2


def of_module(model):
    loss = vif.losses.OutputLoss(model, X, squares, n_objects=20, penalty=LAMBDA)
    return loss, lambda params: loss.outputs(params)[:3, 0]


def of_function(model):
    def loss(params, presence):
        trained = sum(params[name].square().sum() for name in ("2.weight", "2.bias"))
        return squares(functional_call(model, params, (X,)), presence) + LAMBDA / 2 * trained

    loss.n_objects = 20
    return loss, lambda params: functional_call(model, params, (X[:3],))[:, 0]


def retrained(model):
    """Return the first three outputs' changes by ridge regression on the frozen features, without each row."""
    features = torch.cat([model[:2](X), torch.ones(20, 1)], dim=1).detach()

    def outputs(rows):
        hessian = features[rows].T @ features[rows] + LAMBDA * torch.eye(9).double()
        return features[:3] @ torch.linalg.solve(hessian, features[rows].T @ Y[rows])

    everyone = torch.ones(20, dtype=torch.bool)
    return torch.stack([outputs(everyone.index_fill(0, torch.tensor(i), 0)) - outputs(everyone) for i in range(20)])


@pytest.mark.parametrize("make", [of_module, of_function])
@pytest.mark.parametrize("start", ["zeros", "all"])
def test_scores_are_those_of_retraining_what_is_not_frozen(make, start):
    model = network()
    loss, target = make(model)
    given = dict(model.named_parameters())
    init = {name: value for name, value in given.items() if value.requires_grad} if start == "zeros" else given
    params = vif.minimize(loss, init)
    assert list(params) == list(init)
    held = {name: given[name] for name in init if not given[name].requires_grad}
    assert all(torch.equal(params[name], value) for name, value in held.items())
    truth = retrained(model)
    torch.testing.assert_close(vif.refit(loss, params, target).scores, truth, rtol=1e-6, atol=1e-10)
    torch.testing.assert_close(vif.newton_step(loss, params, target).scores, truth, rtol=1e-6, atol=1e-10)
    predicted = vif.attribute(loss, params, target)
    assert vif.metrics.pearson(predicted, vif.refit(loss, params, target)).min() > 0.98
    assert predicted.solution.value.shape[0] == 9


@pytest.mark.parametrize("solver", [vif.CG(), vif.EKFAC(num_draws=None), vif.Woodbury()], ids=repr)
def test_solvers_see_what_is_trained_alone(solver):
    model = network()
    loss, target = of_module(model)
    params = vif.minimize(loss, dict(model.named_parameters()))
    given = {"damping": 1.0, "curvature": vif.GaussNewton}
    exact = vif.attribute(loss, loss.zeros() | {k: params[k] for k in loss.zeros()}, target, **given)
    found = vif.attribute(loss, params, target, solver=solver, **given)
    torch.testing.assert_close(found.scores, exact.scores, rtol=1e-4, atol=1e-8)


def test_a_network_without_frozen_parameters_has_all_of_them():
    loss, _ = of_module(network(frozen=False))
    assert sum(value.numel() for value in loss.zeros().values()) == 41


def test_training_leaves_what_is_frozen_and_many_at_once_have_it_too():
    model = network()
    loss, _ = of_function(model)
    init = dict(model.named_parameters())
    one = vif.train(loss, init, epochs=3, lr=0.01)
    many = vif.train(loss, init, torch.ones(2, 20).double(), epochs=3, lr=0.01)
    assert torch.equal(one["0.weight"], init["0.weight"])
    assert not torch.equal(one["2.weight"], init["2.weight"])
    assert many["0.weight"].shape == (2, 8, 3)
    torch.testing.assert_close(many["2.weight"][1], one["2.weight"])


def test_a_frozen_parameter_of_other_values_than_the_networks_is_held_at_those_given():
    model = network()
    loss, _ = of_module(model)
    other = {name: value.detach().clone() for name, value in network().named_parameters()}
    other["0.weight"] = other["0.weight"] * 2
    params = vif.minimize(loss, other)
    model[0].weight.data.mul_(2)
    own = vif.minimize(loss, loss.zeros())
    torch.testing.assert_close(params["2.weight"], own["2.weight"])


def test_where_objects_own_rows_the_frozen_are_left_out_by_name():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 3)).double()
    model[0].requires_grad_(False)
    loss = vif.losses.ListMLELoss(
        data(1, 4, 2),
        [[0, 1], [1, 2], [2, 0], [0, 2]],
        n_items=3,
        model=model,
        penalty=0.1,
        item_parameters=["1.weight", "1.bias"],
    )
    assert loss.owned(1).tolist() == [2, 3, 7]
    params = vif.minimize(loss, loss.zeros())
    assert vif.attribute(loss, params, lambda p: p["1.bias"][:1]).scores.isfinite().all()
    with pytest.raises(ValueError, match=r"Where objects own parameters, these are those of loss.zeros"):
        loss(dict(model.named_parameters()), torch.ones(3).double())
