"""The curvature of the loss without each removal, and steps with it."""

from collections.abc import Iterator

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.curvature import deflated, in_units
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.problem import Problem
from versatile_influence.core.removals import Removals
from versatile_influence.core.warn import warn


def hessians_without(problem: Problem) -> Iterator[tuple[Removals, Float[Tensor, "c p p"]]]:
    """Yield the removals part by part, with H₋ᵢ = ∇²L(θ, 1₋ᵢ) of each."""
    p, loss, params = len(problem.theta), problem.loss, problem.params
    # A matrix each, or the second derivatives of a masked loss, which hold n numbers a column.
    for part in problem.removals.parts(p * (p if loss.differences_together else max(p, loss.n_objects))):
        curvatures = loss.hessians_without(params, part)
        if not loss.hessian_written_out and loss.null_directions(params, problem.everyone()):
            nulls = [Hessian(loss, params, presence).null_space() for presence in part.presences(problem.theta)]
            curvatures = torch.stack(list(map(deflated, curvatures, nulls)))
        yield part, curvatures


def solve_each(
    matrices: Float[Tensor, "c p p"],
    rhs: Float[Tensor, "c p"],
    *,
    units: Float[Tensor, " p"] | None = None,
    telling: bool = False,
) -> Float[Tensor, "c p"]:
    """Return H₋ᵢ⁻¹ bᵢ of each, by Cholesky, or by the least-norm solution where H₋ᵢ is not positive definite."""
    if units is not None:
        return units * solve_each(in_units(matrices, units), units * rhs, telling=telling)
    factors, failed = torch.linalg.cholesky_ex(matrices)
    pivots = factors.diagonal(dim1=-2, dim2=-1).square()
    # A factor may exist by rounding alone: a last pivot of 1e-16 is a singular matrix.
    bad = (failed != 0) | (pivots.amin(-1) <= 1e-12 * pivots.amax(-1)) | ~torch.isfinite(pivots).all(-1)
    # What failed is solved below; here it must only do no harm.
    safe = torch.where(bad[:, None, None], torch.eye(rhs.shape[1], dtype=rhs.dtype, device=rhs.device), factors)
    value = torch.cholesky_solve(rhs[..., None], safe)[..., 0]
    if bad.any():
        value[bad], lost = _flat_step(matrices[bad], rhs[bad])
        if telling and lost.any():
            warn(
                f"Without the object, the Hessian is not positive definite for {int(lost.sum())} of {len(bad)} "
                "removals, in directions in which the loss is not flat; their step is not to a minimum. Add a penalty "
                "or damping=….",
            )
    return value


def _flat_step(
    matrices: Float[Tensor, "c p p"], rhs: Float[Tensor, "c p"]
) -> tuple[Float[Tensor, "c p"], Bool[Tensor, " c"]]:
    """Return the least-norm steps, and whether one leaves out a slope or follows a negative curvature.

    Parameters that the removed object alone had are flat without a slope: nothing is lost.
    """
    curvature, directions = torch.linalg.eigh(matrices)
    flat = curvature.abs() <= 1e-12 * curvature.abs().amax(-1, keepdim=True)
    slope = (directions.mT @ rhs[..., None])[..., 0]
    value = (directions @ torch.where(flat, 0.0, slope / torch.where(flat, 1.0, curvature))[..., None])[..., 0]
    # A slope along a flat direction would carry the step to infinity.
    left_out = (torch.where(flat, slope, 0.0).abs() > 1e-6 * rhs.abs().amax(-1, keepdim=True)).any(-1)
    return value, left_out | ((curvature < 0) & ~flat).any(-1)
