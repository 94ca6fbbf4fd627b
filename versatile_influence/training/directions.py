"""Which way Newton's method goes where the curvature is indefinite: by eigenvectors, or cheaper, by a shift."""

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import in_units
from versatile_influence.core.sizes import DOWNWARD_STEPS, EIGENVECTORS, SINGULAR
from versatile_influence.solvers.lanczos import lanczos


def newton_direction(
    matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"], units: Float[Tensor, " p"] | None = None
) -> Float[Tensor, " p"]:
    """Return −H⁻¹g where H is positive definite, and otherwise a way that leads down all the same."""
    if units is not None:
        return units * newton_direction(in_units(matrix, units), units * gradient)
    if (step := _by_cholesky(matrix, gradient)) is not None:
        return step
    return (_saddle_free if len(gradient) <= EIGENVECTORS else _shifted)(matrix, gradient)


def _by_cholesky(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"] | None:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal().square()
    solved = failed == 0 and pivots.min() > SINGULAR * pivots.max()
    return -torch.cholesky_solve(gradient[:, None], factor)[:, 0] if solved else None


def _saddle_free(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return −|H|⁻¹g (Dauphin et al. 2014)."""
    curvature, directions = torch.linalg.eigh(matrix)
    size = curvature.abs()
    # Flat directions stay where they are unless the loss still falls along them.
    flat, slope = size <= SINGULAR * size.max(), directions.T @ gradient
    falling = torch.where(slope.abs() > 1e-9 * gradient.abs().max(), slope, 0.0)
    return -(directions @ torch.where(flat, falling, slope / size.clamp_min(1e-300)))


def _shifted(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return −(H + τI)⁻¹g, with τ half again the most negative curvature found, grown until Cholesky succeeds.

    One or two factors, where eigenvectors would take many times as long.
    """
    _, inner = lanczos(lambda columns: matrix @ columns, gradient, DOWNWARD_STEPS)
    shift = max(-1.5 * torch.linalg.eigvalsh(inner)[0].item(), 1e-8 * matrix.diagonal().abs().max().item())
    while True:
        moved = matrix.clone()
        moved.diagonal().add_(shift)
        if (step := _by_cholesky(moved, gradient)) is not None:
            return step
        shift *= 4
