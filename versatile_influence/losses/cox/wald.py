"""How certain a coefficient is, as a function of who is present: covariances, from the information or robust."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.composed import Composed
from versatile_influence.core.curvature import in_units
from versatile_influence.core.derivatives import jacobian_products
from versatile_influence.core.ravel import Params, flat, shaper


def score_residuals(
    loss: Composed, params: Params, presence: Float[Tensor, " n"] | None = None
) -> Float[Tensor, "n p"]:
    """Return the score residual of each object of a Cox loss: minus the derivative of ∇L in its case weight, times it.

    Without penalty they add up to zero at the minimum. Equivalent to R's `residuals(fit, "score", weighted = TRUE)`,
    with `collapse` by subject.
    """
    outer: Any = loss.outer
    theta, unravel = flat(params).double(), shaper(params)
    present = torch.ones_like(outer.weights) if presence is None else presence.index_select(0, outer.object_of_row)
    weights = outer.weights * present

    def value(some: Tensor, point: Tensor) -> Tensor:
        return outer.event_terms(outer.weighted(loss.outputs(unravel(point)), some, present)).sum()

    slopes = jacobian_products(lambda point: torch.func.grad(value)(weights, point), theta)
    rows = -weights[:, None] * slopes
    return rows.new_zeros(loss.n_objects, len(theta)).index_add(0, outer.object_of_row, rows)


def inverse(matrix: Float[Tensor, "*c p p"], units: Float[Tensor, " p"] | None) -> Float[Tensor, "*c p p"]:
    """Return the inverse of a curvature, taken along steps of one unit each.

    It is NaN of a coefficient that was learned from those who are gone, along which there is no curvature. The others
    are as they are without its covariate.
    """
    bent = in_units(matrix, units)
    curvature, ways = torch.linalg.eigh(bent.detach())
    flat = ways * (curvature <= 1e-12 * curvature.amax(-1, keepdim=True))[..., None, :]
    share = flat @ flat.mT
    size = curvature.amax(-1)[..., None, None].clamp_min(1e-300)
    found = torch.linalg.inv(bent + size * share)
    # What rounding lends a flat direction of the other coefficients is nothing.
    return in_units(torch.where(share.abs() > 1e-9, torch.nan, found), units)


def covariance(loss: Any, params: Params, presence: Float[Tensor, " n"], *, robust: bool) -> Float[Tensor, "p p"]:
    """Return H⁻¹, or robust H⁻¹ (Σ uᵢuᵢᵀ) H⁻¹ with the score residuals u of objects or clusters (Lin & Wei 1989)."""
    naive = inverse(loss.hessian(params, presence), loss.units)
    if not robust:
        return naive
    changes, cluster = score_residuals(loss, params, presence) @ naive, loss.cluster
    if cluster is not None:
        changes = changes.new_zeros(int(cluster.max()) + 1, changes.shape[1]).index_add(0, cluster, changes)
    return changes.T @ changes


def normal_tail(z: Tensor) -> Tensor:
    """Return the two-sided p of a z value."""
    return torch.erfc(z.abs() / 2**0.5)
