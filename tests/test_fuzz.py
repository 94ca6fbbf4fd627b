"""Seven properties that no problem may break, held of problems drawn at random (fuzz_cases.py).

As part of the suite a few problems a property and family, always the same. `make fuzz`, which is VIF_FUZZ=long, draws
500, new ones each time, makes what fails smaller, and keeps it in `.hypothesis/` to be tried first the next time.

What is compared with is written anew from automatic differentiation, backwards twice, and NumPy. Where a drawn problem
has no minimum, or only a singular one, the library has to say so in the words below; hypothesis counts those
(`pytest --hypothesis-show-statistics`), and one that says nothing must be right.
"""

import os
import re
import warnings
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from fuzz_cases import FAMILIES, removals
from hypothesis import HealthCheck, Phase, assume, event, given, settings
from hypothesis import strategies as st

import versatile_influence as vif
from versatile_influence.core.ravel import flat, ravel, shaper
from versatile_influence.core.removals import Removals
from versatile_influence.core.scale_free import NoMinimumError

# Examples of each property and family; the dearest properties draw a share of them.
EXAMPLES = {"ci": 6, "long": 500}
PROFILE = os.environ.get("VIF_FUZZ", "ci")
common = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
}
# The same problems each time, and no search for a smaller one that fails: so that it keeps to its time.
once = {"derandomize": True, "database": None, "phases": [Phase.explicit, Phase.generate]}
settings.register_profile("ci", **common, **once)
settings.register_profile("long", **common)
settings.load_profile(PROFILE)

# What the library says of a problem that has no influence function, or none of its own.
WORDS = {
    "keep falling|keeps falling|no finite minimum|reached a loss|not finite everywhere": "no minimum",
    "The minimiser stopped": "the minimiser stopped short",
    "The Hessian is singular": "singular",
    "The Hessian is indefinite|not positive definite": "indefinite",
    "change in directions in which the loss is constant": "undetermined target",
    "Nothing determines": "undetermined without an object",
    "H is nearly singular": "nearly singular",
    "nothing is left to train on": "nothing is left",
    "not at a minimum": "not at a minimum",
    "are in no (term|batch)|Every score is 0": "idle objects",
    "are trusted to": "untrusted",
    "only through their direction": "free scale",
}


# A cosine's scale is flat at a minimum alone, and these are looked at elsewhere.
STATIONARY = tuple(family for family in FAMILIES if family not in ("contrastive", "networks"))


def property_of(families=tuple(FAMILIES), share=1.0):
    """Decorate a property of (case, data): drawn for each family, with a share of the examples."""

    def decorate(held):
        @pytest.mark.parametrize("family", families)
        @settings(max_examples=max(2, round(share * EXAMPLES[PROFILE])))
        @given(data=st.data())
        def test(family, data):
            held(data.draw(FAMILIES[family]), data)

        test.__doc__ = held.__doc__
        return test

    return decorate


@contextmanager
def told(*allowed):
    """Count what the library says in its words of a problem; reject the example if it is none of those allowed."""
    with warnings.catch_warnings(record=True) as caught:
        # PyTorch's own are none of the library's words.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("always", UserWarning)
        try:
            yield
            said = [str(warning.message) for warning in caught]
        except NoMinimumError as error:
            said = [str(error)]
    meant = {sentence: [name for words, name in WORDS.items() if re.search(words, sentence)] for sentence in said}
    assert all(meant.values()), f"unknown words: {[sentence for sentence, names in meant.items() if not names]}"
    for name in {name for names in meant.values() for name in names}:
        event(name)
        # Neither says that something is not as it should be for these properties.
        assume(name in (*allowed, "untrusted", "free scale"))


def whole(case):
    """Return the loss of all, and parameters at which nothing is special."""
    with told("idle objects"):
        try:
            loss = case.loss()
        except ValueError as error:
            # Of a Cox loss without penalty a constant or a collinear covariate.
            event(f"refused: {str(error)[:40]}")
            loss = None
        assume(loss is not None)
        return loss, case.params()


def trained(case):
    """Return the loss and parameters at its minimum."""
    loss, params = whole(case)
    if isinstance(loss, vif.losses.InfoNCELoss):
        # Cosines do not change with the size of the embeddings: there is no one minimum to train to.
        return loss, params
    with told():
        return loss, vif.minimize(loss, params)


def close(ours, right, *, rtol=1e-7, atol=1e-8):
    """Assert that two are equal, beside the largest number there is."""
    size = max(1.0, right.abs().max().item()) if right.numel() else 1.0
    torch.testing.assert_close(ours, right, rtol=rtol, atol=atol * size)


def groups_of(objects):
    """Return removals as lists of objects."""
    return [list(entry) if isinstance(entry, list) else [entry] for entry in objects]


def without(n, group):
    presence = torch.ones(n, dtype=torch.float64)
    presence[group] = 0.0
    return presence


class Dense:
    """A loss as a function of the flat parameters, differentiated backwards."""

    def __init__(self, loss, params):
        self.loss, self.theta, self.unravel = loss, *ravel(params)

    def value(self, presence, theta=None):
        return self.loss(self.unravel(self.theta if theta is None else theta), presence)

    def gradient(self, presence, theta=None):
        there = (self.theta if theta is None else theta).clone().requires_grad_()
        return torch.autograd.grad(self.value(presence, there), there)[0]

    def hessian(self, presence):
        return torch.autograd.functional.hessian(lambda theta: self.value(presence, theta), self.theta)

    def jacobian(self, target):
        return torch.autograd.functional.jacobian(lambda theta: target(self.unravel(theta)).reshape(-1), self.theta)


def solved(matrix, columns):
    """Return H⁻¹ B by NumPy, or the solution of least norm; no example is made of what is nearly singular."""
    size = np.abs(np.linalg.eigvalsh(matrix.numpy()))
    cut = 1e-12 * size.max()
    assume(not ((size > 1e-14 * size.max()) & (size < 1e-7 * size.max())).any())
    if (size > cut).all():
        return torch.from_numpy(np.linalg.solve(matrix.numpy(), columns.numpy()))
    event("singular, by the dense matrix")
    return torch.from_numpy(np.linalg.pinv(matrix.numpy(), rcond=1e-10, hermitian=True) @ columns.numpy())


def a_target(case, data):
    """Draw a target: few numbers or many, that rotations of an embedding and constants of softmax scores leave."""
    many = data.draw(st.booleans(), label="many targets")

    def invariant(params):
        if isinstance(params, dict) and "embedding" in params:
            scores = params["embedding"] @ params["output"].T
            values = torch.softmax(scores, dim=1).reshape(-1)
        else:
            vector = flat(params)
            values = torch.cat([vector.sin(), vector.square().sum()[None]])
        return values.repeat(4) if many else values[:2]

    return invariant


@property_of()
def test_a_removal_is_what_a_mask_makes_of_the_loss_and_what_the_data_without_the_object_do(case, data):
    loss, params = whole(case)
    n, dense = loss.n_objects, Dense(loss, params)
    objects = data.draw(removals(n), label="removals")
    groups, ones = groups_of(objects), torch.ones(n, dtype=torch.float64)
    asked, presences = Removals.of(objects, n), [without(n, group) for group in groups]
    values = torch.stack([dense.value(ones) - dense.value(presence) for presence in presences])
    close(loss.removal_differences(params, objects), values)
    slopes = torch.stack([dense.gradient(ones) - dense.gradient(presence) for presence in presences])
    close(loss.removal_products(params, None, asked), slopes)
    directions = torch.randn(len(dense.theta), 2, generator=torch.Generator().manual_seed(1)).double()
    close(loss.removal_products(params, directions, asked), slopes @ directions)
    close(loss.gradients_without(params, asked), dense.gradient(ones) - slopes)
    for group, presence in zip(groups, presences, strict=True):
        kept = [number for number in range(n) if number not in group]
        squared = dense.theta.square().sum()
        try:
            with told("idle objects"):
                rest = case.build(kept)
        except ValueError as error:
            event(f"without: {str(error)[:40]}")
            continue
        if rest is None:
            event("nothing is left")
            close(dense.value(presence), loss.penalty / 2 * squared)
            continue
        some = case.restrict(params, kept)
        fallen = loss.penalty / 2 * (squared - flat(some).square().sum())
        close(rest(some, torch.ones(rest.n_objects, dtype=torch.float64)) + fallen, dense.value(presence))


@property_of(STATIONARY, share=0.75)
def test_scores_are_the_dense_formula(case, data):
    loss, params = trained(case)
    n, dense = loss.n_objects, Dense(loss, params)
    objects, target = data.draw(removals(n), label="removals"), a_target(case, data)
    ones, groups = torch.ones(n, dtype=torch.float64), groups_of(objects)
    differences = dense.gradient(ones) - torch.stack([dense.gradient(without(n, group)) for group in groups])
    damping = data.draw(st.sampled_from([0.0, 0.7]), label="damping")
    hessian = dense.hessian(ones) + damping * torch.eye(len(dense.theta))
    slopes = dense.jacobian(target)
    with told("singular", "indefinite", "undetermined target", "not at a minimum"):
        shared = vif.attribute(
            loss.treated(vif.owned.Shared()), params, target, objects=objects, damping=damping
        ).scores
        ours = vif.attribute(loss, params, target, objects=objects, damping=damping).scores
    close(shared, differences @ solved(hessian, slopes.T), rtol=1e-5, atol=1e-6)
    owned = torch.zeros(len(groups), len(dense.theta), dtype=torch.bool)
    for row, group in enumerate(groups):
        for member in group:
            owned[row, loss.owned(member)] = True
    changes = torch.where(owned, -dense.theta, solved(hessian, differences.masked_fill(owned, 0.0).T).T)
    close(ours, changes @ slopes.T, rtol=1e-5, atol=1e-6)


@property_of([family for family in FAMILIES if family != "contrastive"], share=0.5)
def test_a_refit_is_the_minimum_of_the_loss_without_the_object(case, data):
    loss, params = trained(case)
    assume(not isinstance(loss, vif.losses.InfoNCELoss))
    n, dense = loss.n_objects, Dense(loss, params)
    objects = data.draw(removals(n), label="removals")
    with told("no minimum"):
        found = vif.refit(loss, params, lambda some: flat(some), objects=objects)
    for row, group in enumerate(groups_of(objects)):
        if row in (found.failed or {}):
            event("no minimum without it")
            continue
        presence, moved = without(n, group), dense.theta + found.scores[row]
        close(dense.gradient(presence, moved), torch.zeros_like(moved), atol=1e-7)
        kept = [number for number in range(n) if number not in group]
        if not case.convex or (rest := case.build(kept)) is None:
            continue
        with told():
            again = vif.minimize(rest, rest.zeros() if hasattr(rest, "zeros") else case.params())
        # What the removed objects alone had is not in a loss without them.
        close(flat(case.restrict(shaper(params)(moved), kept)), flat(again), rtol=1e-5, atol=1e-6)


@property_of(STATIONARY, share=0.5)
def test_a_newton_step_is_the_dense_one(case, data):
    loss, params = trained(case)
    n, dense, target = loss.n_objects, Dense(loss, params), a_target(case, data)
    objects = data.draw(removals(n), label="removals")
    damping = data.draw(st.sampled_from([0.0, 0.7]), label="damping")
    right = []
    for group in groups_of(objects):
        presence = without(n, group)
        curvature = dense.hessian(presence) + damping * torch.eye(len(dense.theta))
        step = solved(curvature, dense.gradient(presence)[:, None])[:, 0]
        # A step that leads uphill is shortened, or taken another way.
        falls = dense.unravel(dense.theta - step), presence
        if not loss(*falls) <= dense.value(presence) + 1e-9:
            event("the dense step leads uphill")
            assume(False)
        right.append(target(dense.unravel(dense.theta - step)) - target(params))
    with told("indefinite"):
        ours = vif.newton_step(loss, params, target, objects=objects, damping=damping).scores
    close(ours, torch.stack(right), rtol=1e-5, atol=1e-6)


@property_of(share=0.5)
def test_a_group_of_one_is_the_object_and_a_group_is_its_members_in_any_order(case, data):
    loss, params = trained(case)
    n, target = loss.n_objects, a_target(case, data)
    group = data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=max(1, n - 1), unique=True), label="group")
    turned = data.draw(st.permutations(group), label="turned")
    words = "singular", "indefinite", "undetermined target", "not at a minimum"
    for verb in (vif.attribute, vif.newton_step):
        with told(*words):
            single = verb(loss, params, target, objects=group).scores
            as_groups = verb(loss, params, target, objects=[[number] for number in group]).scores
            together, again = (verb(loss, params, target, objects=[some]).scores for some in (group, turned))
        close(as_groups, single)
        close(again, together)
    each = [loss.removal_differences(params, [number]) for number in group]
    close(loss.removal_differences(params, group), torch.cat(each))
    close(loss.removal_differences(params, [[number] for number in group]), torch.cat(each))


@property_of(("networks", "walks"))
def test_a_loss_of_some_parameters_is_the_function_of_them_with_the_others_constant(case, data):
    loss, params = whole(case)
    names = data.draw(st.sets(st.sampled_from(list(params)), min_size=1), label="free")
    n, objects = loss.n_objects, data.draw(removals(loss.n_objects), label="removals")
    part, chosen = vif.subset(loss, params, sorted(names))
    assert set(chosen) == names
    dense = Dense(lambda some, presence: loss(params | some, presence), chosen)
    ones, groups = torch.ones(n, dtype=torch.float64), groups_of(objects)
    close(part(chosen, ones), dense.value(ones))
    close(part.gradient(chosen, ones), dense.gradient(ones))
    hessian = dense.hessian(ones)
    close(part.hessian(chosen, ones), hessian)
    differences = dense.gradient(ones) - torch.stack([dense.gradient(without(n, group)) for group in groups])
    close(part.removal_products(chosen, None, Removals.of(objects, n)), differences)
    steep = hessian + 3.0 * torch.eye(len(hessian))
    with told("indefinite", "not at a minimum"):
        shared = part.treated(vif.owned.Shared())
        ours = vif.attribute(shared, chosen, part.target(flat), objects=objects, damping=3.0).scores
    slopes = dense.jacobian(lambda some: flat(params | some))
    close(ours, differences @ solved(steep, slopes.T), rtol=1e-5, atol=1e-6)


@property_of(share=0.25)
def test_the_number_of_threads_changes_rounding_alone(case, data):
    (loss, params), threads, found = trained(case), torch.get_num_threads(), []
    target, verbs = a_target(case, data), (vif.attribute, vif.newton_step)
    try:
        for count in (1, 2):
            torch.set_num_threads(count)
            with told("singular", "indefinite", "undetermined target", "not at a minimum"):
                found.append(torch.cat([verb(loss, params, target).scores for verb in verbs]))
    finally:
        torch.set_num_threads(threads)
    close(found[1], found[0])
