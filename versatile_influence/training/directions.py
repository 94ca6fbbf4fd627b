"""Which way Newton's method goes where the curvature is indefinite, and which way leads on from a saddle."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, deflated, in_units, without
from versatile_influence.core.draws import normal
from versatile_influence.core.preconditioner import Coordinates, Rooted
from versatile_influence.core.sizes import DOWNWARD_STEPS, EIGENVECTORS, FLATS, LEVEL, NEGATIVE, SINGULAR
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


def beyond_saddle(
    value: Callable[[Tensor], float],
    hessian: Curvature,
    init: Float[Tensor, " p"],
    theta: Float[Tensor, " p"],
    *,
    dense: bool,
) -> Float[Tensor, " p"] | None:
    """Return parameters at which the loss is lower, along a direction in which it curves down; None where it has none.

    The loss has that value, and at θ that Hessian. Dense curvatures are searched through; of many parameters some
    products with the Hessian look for the most negative. Where a curvature is zero, as at 0 of x³ − x⁴, a minimum is
    told from a saddle by the loss itself nearby; the way from `init`, slow where a curvature vanishes, is looked along
    too.
    """
    down, flats = _ways(hessian, theta, dense=dense)
    now, start, size = value(theta), value(init), 1 + theta.norm()
    rounding = 4 * torch.finfo(theta.dtype).eps * abs(now)
    if down is not None:
        for step in (sign * 0.5**halved * size * down for halved in range(30) for sign in (1.0, -1.0)):
            if value(theta + step) < now - rounding:
                return theta + step
    rounding, came = 10 * max(rounding, 4 * torch.finfo(theta.dtype).eps * abs(start)), theta - init
    for way in ([came / came.norm()] if came.any() else []) + flats:
        for step in (size * way, -size * way):
            for length in (1e-4, 1e-3, 1e-2):
                near = now - value(theta + length * step)
                if near < -rounding:
                    break
                far = now - value(theta + 2 * length * step)
                # Faster than a square, where a slope that is left falls like a line: no minimum that was not reached.
                if far > rounding and far > 5 * near:
                    return theta + 2 * length * step
    return None


def _ways(
    hessian: Curvature, theta: Float[Tensor, " p"], *, dense: bool
) -> tuple[Float[Tensor, " p"] | None, list[Float[Tensor, " p"]]]:
    """Return the direction in which the loss curves down most, or None, and some without curvature."""
    null = hessian.null_space()
    there: Coordinates | None = None
    if dense:
        matrix = deflated(hessian.dense(), null)
        shifted = matrix.clone()
        shifted.diagonal().sub_(LEVEL * matrix.diagonal().abs().max())
        # Where Cholesky shows that everything curves up, no eigenvectors are needed.
        if not matrix.isfinite().all() or torch.linalg.cholesky_ex(shifted)[1] == 0:
            return None, []
        basis, inner = torch.eye(len(theta)).to(theta), matrix
    else:
        generator, stand_in, rough = torch.Generator().manual_seed(0), hessian.loss.stand_in, hessian.rough
        begin = normal(generator, len(theta), 1, like=theta)
        level, product = null, rough.__matmul__
        if isinstance(stand_in, Rooted):
            # In coordinates of near unit curvature: which way the loss curves is the same in all.
            there = stand_in.coordinates(rough)
            begin, level, product = there.right(begin), there.level(null), there.product
        basis, inner = lanczos(lambda some: without(level, product(some)), without(level, begin)[:, 0], DOWNWARD_STEPS)
        if not inner.isfinite().all():
            return None, []
    curvature, directions = torch.linalg.eigh(inner)
    largest = curvature.abs().max()
    down, flat = curvature[0] < -NEGATIVE * largest, (curvature.abs() <= LEVEL * largest).nonzero()[:, 0]
    # At most minima there are none, and nothing is brought back.
    wanted = torch.cat([flat.new_zeros(int(down)), flat])
    if not len(wanted):
        return None, []
    found = basis @ directions[:, wanted]
    if there is not None:
        found = there.back(found, torch.zeros(len(theta), len(wanted)).to(theta))
    ways = torch.nn.functional.normalize(found, dim=0)
    flats = ways[:, int(down) :]
    # Several at once too: the loss may fall between them.
    both = [torch.nn.functional.normalize(flats.sum(1), dim=0)] if len(flat) > 1 else []
    return (ways[:, 0] if down else None), [*flats[:, :FLATS].T, *both]
