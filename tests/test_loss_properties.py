"""What must hold of every loss beside its methods (test_check_loss.py): one parametrised test a property."""

import pytest
import torch
from cases import LOSSES
from torch.func import grad, hessian, jacrev

import versatile_influence as vif
from versatile_influence.core.ravel import ravel

every_loss = pytest.mark.parametrize("case", LOSSES, ids=lambda case: case.name)


def ones(case):
    return torch.ones(case.n_objects, dtype=torch.float64)


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
