"""What must hold of every loss, whatever it is: one parametrised test a property."""

import pytest
import torch
from cases import LOSSES, data
from torch.func import grad, hessian, jacfwd, jacrev, vmap

import versatile_influence as vif
from versatile_influence._gradients import gradients
from versatile_influence._ravel import ravel
from versatile_influence.loss import has_fast_differences, masked_differences, removal_differences
from versatile_influence.removals import Removals

every_loss = pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)


def ones(case):
    return torch.ones(case.n_objects, dtype=torch.float64)


def owned(loss, i):
    return loss.owned(i) if hasattr(loss, "owned") else torch.arange(0)


def invariant(params):
    """Numbers that do not change when parameters are listed in another order."""
    vector = ravel_any(params)
    return torch.stack([vector.square().sum(), vector.sin().sum()])


def ravel_any(params):
    parts = params.values() if isinstance(params, dict) else [params]
    return torch.cat([part.reshape(-1) for part in parts])


def trained(case):
    return vif.minimize(case.loss(), case.params())


@every_loss
def test_masking_an_object_is_deleting_it_from_the_data(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    for i in range(case.n_objects):
        presence = ones(case)
        presence[i] = 0.0
        kept = [j for j in range(case.n_objects) if j != i]
        # The penalty holds on to the parameters of whoever is gone; at zero they add nothing.
        rest = unravel(flat.index_fill(0, owned(loss, i), 0.0))
        without = case.build(kept)
        deleted = without(case.restrict(rest, kept), torch.ones(len(kept), dtype=torch.float64))
        torch.testing.assert_close(loss(rest, presence), deleted, rtol=1e-12, atol=1e-12)


@every_loss
def test_parameters_an_object_owns_are_held_by_nothing_else(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    for i in range(case.n_objects):
        presence = ones(case)
        presence[i] = 0.0
        gradient = grad(lambda theta: loss(unravel(theta), presence))(flat)
        positions = owned(loss, i)
        torch.testing.assert_close(gradient[positions], loss.penalty * flat[positions])


@every_loss
def test_fast_differences_are_the_generic_ones_with_first_and_second_derivatives(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    removals = Removals.of(None, case.n_objects)
    if not has_fast_differences(loss, removals):
        pytest.skip("the loss has no removal differences of its own")

    def fast(theta):
        return removal_differences(loss, unravel(theta), removals)

    def generic(theta):
        return masked_differences(loss, unravel(theta), removals)

    torch.testing.assert_close(fast(flat), generic(flat), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(jacfwd(fast)(flat), jacrev(generic)(flat), rtol=1e-10, atol=1e-10)
    # Reverse over reverse for the reference: forward over reverse is wrong for some operations (pytorch#196705).
    torch.testing.assert_close(jacfwd(jacfwd(fast))(flat), jacrev(jacrev(generic))(flat), rtol=1e-10, atol=1e-9)
    some = torch.tensor([case.n_objects - 1, 0])
    torch.testing.assert_close(loss.removal_differences(params, some), fast(flat)[some])


@every_loss
def test_fast_differences_of_groups_are_the_generic_ones(case):
    loss, params = case.loss(), case.params()
    removals = Removals.of([[0, 1, 2], [3], [1, case.n_objects - 1]], case.n_objects)
    if not has_fast_differences(loss, removals):
        pytest.skip("the loss leaves groups to the generic differences")
    fast, generic = removal_differences(loss, params, removals), masked_differences(loss, params, removals)
    torch.testing.assert_close(fast, generic, rtol=1e-10, atol=1e-10)


@every_loss
def test_own_derivatives_are_the_automatic_ones(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    if hasattr(loss, "removal_products") and (by_hand := loss.removal_products(params)) is not None:
        automatic = jacfwd(lambda theta: loss.removal_differences(unravel(theta)))(flat)
        torch.testing.assert_close(by_hand, automatic, rtol=1e-10, atol=1e-10)
        directions = data(9, len(flat), 3)
        torch.testing.assert_close(loss.removal_products(params, directions), automatic @ directions)
        some = torch.tensor([case.n_objects - 1, 0])
        torch.testing.assert_close(loss.removal_products(params, directions, some), automatic[some] @ directions)
        torch.testing.assert_close(loss.removal_products(params, None, some), automatic[some])
    if hasattr(loss, "gradients"):
        points, presence = torch.stack([flat, flat + 0.1, flat]), torch.stack([ones(case)] * 3)
        presence[0, 0] = presence[1, 1] = presence[1, -1] = 0.0
        automatic = vmap(grad(lambda theta, present: loss(unravel(theta), present)))(points, presence)
        torch.testing.assert_close(gradients(loss, unravel, points, presence), automatic, rtol=1e-10, atol=1e-10)
    for presence in (ones(case), ones(case).index_fill(0, torch.tensor([1]), 0.0)):
        if hasattr(loss, "dense_hessian") and (by_hand := loss.dense_hessian(params, presence)) is not None:
            automatic = jacrev(grad(lambda theta: loss(unravel(theta), presence)))(flat)
            torch.testing.assert_close(by_hand, automatic, rtol=1e-10, atol=1e-10)


@every_loss
def test_mini_batches_of_terms_add_up_to_the_loss(case):
    loss, params = case.loss(), case.params()
    if not hasattr(loss, "n_terms"):
        pytest.skip("the loss has no mini-batches")
    presence = ones(case).index_fill(0, torch.tensor([1]), 0.0)
    parts = torch.randperm(loss.n_terms, generator=torch.Generator().manual_seed(0)).split(2)
    total = sum(loss.on_terms(params, presence, part) for part in parts)
    torch.testing.assert_close(total, loss(params, presence), rtol=1e-12, atol=1e-12)


@every_loss
def test_forward_over_reverse_curvature_is_reverse_over_reverse_with_someone_absent(case):
    loss, params = case.loss(), case.params()
    flat, unravel = ravel(params)
    for i in (0, case.n_objects - 1):
        presence = ones(case)
        presence[i] = 0.0
        forward = hessian(lambda theta: loss(unravel(theta), presence))(flat)
        reverse = jacrev(grad(lambda theta: loss(unravel(theta), presence)))(flat)
        torch.testing.assert_close(forward, reverse, rtol=1e-10, atol=1e-10)


@every_loss
def test_permuting_objects_permutes_scores(case):
    if not case.convex:
        pytest.skip("the loss has several minima")
    params = trained(case)
    order = torch.randperm(case.n_objects, generator=torch.Generator().manual_seed(3)).tolist()
    scores = vif.attribute(case.loss(), params, invariant).scores
    permuted = vif.attribute(case.build(order), case.restrict(params, order), invariant).scores
    torch.testing.assert_close(permuted, scores[order], rtol=1e-6, atol=1e-9)


@every_loss
def test_scaling_the_loss_leaves_scores(case):
    if not case.convex:
        pytest.skip("the loss has several minima")
    loss, params = case.loss(), trained(case)
    plain = vif.attribute(lambda theta, b: 1 * loss(theta, b), params, invariant, n_objects=case.n_objects).scores
    scaled = vif.attribute(lambda theta, b: 7 * loss(theta, b), params, invariant, n_objects=case.n_objects).scores
    torch.testing.assert_close(scaled, plain, rtol=1e-8, atol=1e-12)


@every_loss
def test_an_object_in_no_term_scores_zero(case):
    if case.unused is None:
        pytest.skip("every object is in a term")
    scores = vif.attribute(case.loss(), trained(case), invariant).scores
    assert scores[case.unused].abs().max() == 0
    assert scores.abs().max() > 0


@every_loss
def test_a_sum_over_objects_gives_the_classical_influence(case):
    """Theorem 3.1: Δθᵢ = H⁻¹ ∇ℓᵢ, with ℓᵢ the term of object i."""
    if not case.decomposable:
        pytest.skip("the loss is no sum over objects")
    loss, params = case.loss(), trained(case)
    flat, unravel = ravel(params)
    curvature = hessian(lambda theta: loss(unravel(theta), ones(case)))(flat)
    nobody = torch.zeros(case.n_objects, dtype=torch.float64)
    alone = torch.func.vmap(grad(lambda theta, b: loss(unravel(theta), b)), in_dims=(None, 0))
    terms = alone(flat, torch.diag(ones(case))) - alone(flat, nobody[None])
    classical = terms @ torch.linalg.inv(curvature)
    torch.testing.assert_close(vif.parameter_changes(loss, params), classical, rtol=1e-8, atol=1e-12)
