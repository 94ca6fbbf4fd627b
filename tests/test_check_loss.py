"""`check_loss` passes on every ready loss and every wrapper of one, and names the method of what is planted wrong."""

import warnings

import pytest
import torch
from cases import LOSSES, data

import versatile_influence as vif
from versatile_influence.core.composed import Composed
from versatile_influence.core.models import Affine
from versatile_influence.core.owned import Conditioned
from versatile_influence.core.ravel import flat

every_loss = pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)
composed = [case for case in LOSSES if isinstance(case.loss(), Composed)]
every_composed = pytest.mark.parametrize("case", composed, ids=lambda case: case.name)


def rebuilt(case, params):
    return lambda kept: (case.build(kept), case.restrict(params, kept))


@every_loss
def test_every_ready_loss_is_what_it_says(case):
    params = case.params()
    vif.check_loss(case.loss(), params, rebuilt=rebuilt(case, params))


@every_loss
def test_every_ready_loss_of_some_parameters_is_what_it_says(case):
    params = case.params()
    if not isinstance(params, dict):
        pytest.skip("the parameters are one tensor")
    whole = case.loss()
    for name in (next(iter(params)), list(params)[-1]):
        part, chosen = vif.subset(whole, params, [name])
        vif.check_loss(part, chosen)
        everyone = whole.everyone(params)
        torch.testing.assert_close(part(chosen, everyone), whole(params, everyone))


@every_loss
def test_every_ready_loss_of_some_terms_and_of_one_presence_is_what_it_says(case):
    loss, params = case.loss(), case.params()
    if loss.n_terms is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            vif.check_loss(loss.part(torch.arange(0, loss.n_terms, 2)), params)
    presence = loss.everyone(params).index_fill(0, torch.tensor([0]), 0.0)
    there = loss.at(presence)
    torch.testing.assert_close(there.gradient(params, presence), loss.gradient(params, presence))
    torch.testing.assert_close(there.hessian(params, presence), loss.hessian(params, presence))


@every_composed
def test_every_ready_loss_with_another_part_is_what_it_says(case):
    loss, params = case.loss(), case.params()
    vif.check_loss(loss.with_parts(loss.outputs, loss.outer, ridge=2.0), params)
    vif.check_loss(loss.treated(Conditioned()), params)
    if isinstance(loss.outputs(params), dict):
        return
    at = data(3, 4)
    linear = Affine(data(2, loss.outputs(params).numel(), 4), at, loss.outputs(params))
    vif.check_loss(loss.with_parts(linear, loss.outer, ridge=loss.ridge), at)


@every_composed
def test_every_outer_loss_is_what_it_says(case):
    loss, params = case.loss(), case.params()
    outputs = loss.outputs(params)
    if isinstance(outputs, dict) or outputs.numel() > 80:
        pytest.skip("its second derivatives would take long")
    vif.check_loss(loss.outer, outputs.detach())


class Rows(vif.Loss):
    """A logistic regression with a penalty, every method of it right."""

    n_objects, n_terms, penalty = 6, 6, 0.5
    x, y = data(1, 6, 3), torch.tensor([0.0, 1.0, 1.0, 0.0, 1.0, 0.0]).double()

    def each(self, params):
        return torch.nn.functional.softplus(self.x @ params) - self.y * (self.x @ params)

    def __call__(self, params, presence):
        return presence @ self.each(params) + self.penalty / 2 * params.square().sum()

    def terms(self, params, presence):
        return presence * self.each(params)


class WrongSign(Rows):
    def removal_differences(self, params, objects=None):
        return -super().removal_differences(params, objects)


class WrongScale(Rows):
    def removal_products(self, params, directions=None, objects=None):
        return 2 * super().removal_products(params, directions, objects)


class ForgottenPenalty(Rows):
    def gradient(self, params, presence):
        return super().gradient(params, presence) - self.penalty * params


class OneObjectOff(Rows):
    def removal_differences(self, params, objects=None):
        return super().removal_differences(params, objects).roll(1)


class Random(Rows):
    def __call__(self, params, presence):
        return super().__call__(params, presence) * (1 + 1e-9 * torch.rand(()).double())


class ClaimedPenalty(Rows):
    penalty = 5.0

    def __call__(self, params, presence):
        return presence @ self.each(params) + 0.25 * params.square().sum()

    def terms(self, params, presence):
        return (presence @ self.each(params) - 2.25 * params.square().sum())[None].expand(6) / 6


class AbsentForgotten(Rows):
    def hessian(self, params, presence):
        return super().hessian(params, torch.ones_like(presence))


class WrongOwner(Rows):
    def owned(self, i):
        return torch.tensor([i]) if i < 3 else torch.arange(0)


class NotConstant(Rows):
    def null_directions(self, params, presence):
        return {"the first": torch.tensor([1.0, 0.0, 0.0]).double()}


class TermTwice(Rows):
    def part(self, terms):
        return super().part(torch.cat([terms, terms[:1]]))


class WrongShape(Rows):
    def gradients(self, params, presence):
        return super().gradients(params, presence).T


class Indexed(Rows):
    def __call__(self, params, presence):
        return self.each(params)[presence > 0.9].sum() + self.penalty / 2 * params.square().sum()


class GroupsAreFirstMembers(Rows):
    def removal_differences(self, params, objects=None):
        if getattr(objects, "grouped", False):
            objects = [int(group[0]) for group in objects.groups()]
        return super().removal_differences(params, objects)


FAULTS = {
    WrongSign: r"WrongSign.removal_differences .* for object \d: .* where .* is right",
    WrongScale: r"WrongScale.removal_products .* for object \d",
    ForgottenPenalty: "ForgottenPenalty.gradient disagrees",
    OneObjectOff: r"OneObjectOff.removal_differences .* for object \d",
    Random: "loss is random",
    ClaimedPenalty: "ClaimedPenalty.penalty is 5",
    AbsentForgotten: r"AbsentForgotten.hessian .* without object 0",
    WrongOwner: r"WrongOwner.owned .*without object 0",
    NotConstant: "NotConstant.null_directions names `the first`",
    TermTwice: "TermTwice.part",
    WrongShape: r"WrongShape.gradients gives \(3, 3\)|WrongShape.gradients disagrees",
    Indexed: r"Indexed.__call__: .*shapes must not depend",
    GroupsAreFirstMembers: r"GroupsAreFirstMembers.removal_differences .* for object \[0, 2, 4\]",
}


def test_a_loss_written_as_a_class_is_what_it_says():
    vif.check_loss(Rows(), data(2, 3))


@pytest.mark.parametrize(("kind", "message"), FAULTS.items(), ids=[kind.__name__ for kind in FAULTS])
def test_what_is_wrong_is_named(kind, message):
    with pytest.raises(ValueError, match=message):
        vif.check_loss(kind(), data(2, 3))


def test_a_method_whose_name_is_nearly_one_of_a_loss_is_told_when_the_class_is_made():
    with pytest.warns(UserWarning, match=r"Typo.removal_product is never looked at.*`removal_products`"):
        type("Typo", (Rows,), {"removal_product": lambda self: None})


class Former:
    """A class that offers what used to be looked for by name."""

    n_objects = 6

    def __call__(self, params, presence):
        return presence @ (params - torch.arange(6.0).double()) ** 2

    def removal_differences(self, params, objects=None):
        raise AssertionError("never called")


def test_a_class_that_is_no_loss_is_told_once_how_to_become_one():
    theta = torch.tensor(2.5).double()
    with pytest.warns(UserWarning, match=r"Former has `removal_differences`, never called.*class Former\(vif.Loss\)"):
        told = vif.attribute(Former(), theta, lambda params: params)
    again = vif.attribute(Former(), theta, lambda params: params)
    plain = vif.attribute(lambda theta, b: Former.__call__(None, theta, b), theta, lambda params: params, n_objects=6)
    assert told.scores.tolist() == again.scores.tolist() == plain.scores.tolist()
    with pytest.raises(ValueError, match=r"Former.removal_differences is never called"):
        vif.check_loss(Former(), theta)


@pytest.mark.parametrize(
    "named",
    [
        {"penalty": 5.0},
        {"penalty": "l2"},
        {"size": (60, 20)},
        {"at": 3},
        {"part": None},
        {"owned": False},
        {"gradients": None},
        {"null_directions": {}},
        {"by_row": True},
        {"outputs": 1, "outer": 2},
        {"dense_hessian": 7},
        {"n_terms": "many"},
        {"removes_groups": True},
        {"object_labels": 3, "parameter_names": 4},
    ],
    ids=str,
)
def test_an_attribute_of_a_users_loss_changes_nothing(named):
    x, y = data(1, 60, 5), (data(2, 60) > 0).double()

    class Plain:
        n_objects = 60

        def __call__(self, w, b):
            fit = torch.nn.functional.binary_cross_entropy_with_logits(x @ w, y, reduction="none")
            return (b * fit).sum() + 0.5 * w.square().sum()

    loss, bare = Plain(), Plain()
    for name, value in named.items():
        setattr(loss, name, value)
    w = vif.minimize(bare, torch.zeros(5).double())
    assert vif.minimize(loss, torch.zeros(5).double()).tolist() == w.tolist()
    for solver in (vif.Explicit(), vif.solvers.Nystrom(rank=5), vif.CG()):
        given = {"solver": solver, "damping": 0.1}
        scores = vif.attribute(loss, w, lambda w: w[:3], **given).scores
        assert scores.tolist() == vif.attribute(bare, w, lambda w: w[:3], **given).scores.tolist()
    assert (
        vif.refit(loss, w, flat, objects=[3]).scores.tolist() == vif.refit(bare, w, flat, objects=[3]).scores.tolist()
    )
