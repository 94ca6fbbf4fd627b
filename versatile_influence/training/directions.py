"""Which way Newton's method goes where the curvature is indefinite: by eigenvectors, or cheaper, by a shift."""

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.solvers.lanczos import lanczos

# Up to this many parameters an indefinite Hessian is taken apart into eigenvectors.
EIGENVECTORS = 2000
# Products with which the most negative curvature is looked for.
LANCZOS_STEPS = 30


def newton_direction(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return −H⁻¹g where H is positive definite, and otherwise a way that leads down all the same."""
    step = _by_cholesky(matrix, gradient)
    if step is not None:
        return step
    return (_saddle_free if len(gradient) <= EIGENVECTORS else _shifted)(matrix, gradient)


def _by_cholesky(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"] | None:
    factor, failed = torch.linalg.cholesky_ex(matrix)
    pivots = factor.diagonal().square()
    if failed == 0 and pivots.min() > 1e-12 * pivots.max():
        return -torch.cholesky_solve(gradient[:, None], factor)[:, 0]
    return None


def _saddle_free(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return −|H|⁻¹g (Dauphin et al. 2014)."""
    curvature, directions = torch.linalg.eigh(matrix)
    size = curvature.abs()
    # Flat directions stay where they are unless the loss still falls along them.
    flat, slope = size <= 1e-12 * size.max(), directions.T @ gradient
    step = torch.where(
        flat, torch.where(slope.abs() > 1e-9 * gradient.abs().max(), slope, 0.0), slope / size.clamp_min(1e-300)
    )
    return -(directions @ step)


def _shifted(matrix: Float[Tensor, "p p"], gradient: Float[Tensor, " p"]) -> Float[Tensor, " p"]:
    """Return −(H + τI)⁻¹g, with τ half again the most negative curvature found, grown until Cholesky succeeds.

    One or two factors, where eigenvectors would take many times as long.
    """
    _, inner = lanczos(lambda columns: matrix @ columns, gradient, LANCZOS_STEPS)
    shift = max(-1.5 * torch.linalg.eigvalsh(inner)[0].item(), 1e-8 * matrix.diagonal().abs().max().item())
    while True:
        moved = matrix.clone()
        moved.diagonal().add_(shift)
        step = _by_cholesky(moved, gradient)
        if step is not None:
            return step
        shift *= 4
