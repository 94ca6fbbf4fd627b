"""Conjugate gradients, many right-hand sides at once."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.gauss_newton import GaussNewton, OutputSpace
from versatile_influence.core.preconditioner import Coordinates, Preconditioner, Rooted
from versatile_influence.core.settings import setting
from versatile_influence.core.sizes import KERNEL_OUTPUTS, ROW_NUMBERS
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver, finite, relative_residual, true_residual

Product = Callable[[Tensor], Tensor]
# Singular values below it times the largest are those of columns that others make up.
DEPENDENT = 1e-13
# The rounding of a product in single precision.
ROUNDED = 1e-6


@dataclass(frozen=True)
class CG(Solver):
    """Solve by conjugate gradients (Hestenes & Stiefel 1952; Appendix C of the paper), one product H V a step.

    Several columns are one block (O'Leary 1980): a step seeks the solution of each along the directions of all, so that
    k columns take about a k-th of the steps. Where H curves downward, or with a preconditioner, they advance side by
    side, each as by `scipy.sparse.linalg.cg`; a column that has converged stays as it is, and one along which H curves
    downward stops and is named. Directions that the loss names as constant (`null_directions`) are left out, and
    reported in `Solution.dropped`.

    On a `GaussNewton` matrix JᵀBJ + κI whose Jacobian is known in factors, with fewer outputs than parameters, it
    starts from b/κ: all later residuals are then of the form Jᵀu, and the same steps are taken on u, in the inner
    product of Jᵀu (`OutputSpace`). A step then costs no more for more parameters.

    Attributes:
        rtol: A column is done when ‖H x − b‖ ≤ rtol ‖b‖.
        max_steps: Largest number of steps; None for ten times the number of parameters.
        preconditioner: A stand-in for H⁻¹ that makes the steps fewer, such as `solvers.Nystrom(rank=50)` or
            `solvers.Diagonal()`; None for the loss's own, where it has one, and else none.

    References:
        O'Leary (1980), "The block conjugate gradient algorithm and related methods"; Dubrulle (2001), "Retooling the
        method of block conjugate gradients", whose BCGrQ this is.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> vif.CG().solve(vif.Hessian(loss, torch.zeros(2), torch.ones(1)), torch.ones(2, 1)).num_steps
        1
    """

    rtol: float = setting(1e-8, least=0)
    max_steps: int | None = setting(None, least=1)
    preconditioner: Preconditioner | None = setting(None, example="vif.solvers.Nystrom()")
    advice: ClassVar[str] = (
        "Raise max_steps, add damping=…, give a preconditioner, or accept the residuals, which are in the solution."
    )

    @property
    def tolerated(self) -> float:
        """Ten times `rtol`: the residual that is carried along drifts from the true one."""
        return 10 * self.rtol

    @property
    def any_basis(self) -> bool:
        """Whether it gives the same in any orthonormal basis: where the preconditioner does."""
        return self.preconditioner is None or self.preconditioner.any_basis

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with H X ≈ B."""
        if (
            self.preconditioner is None
            and (space := hessian.once("outputs", lambda: _among_outputs(hessian, rhs))) is not None
        ):
            return self._in_outputs(space, rhs)
        null = hessian.null_space()
        rhs = without(null, rhs)
        stand_in = hessian.loss.stand_in if self.preconditioner is None else self.preconditioner
        if isinstance(stand_in, Rooted):
            return self._in_coordinates(hessian, stand_in.coordinates(hessian.rough), rhs, null)
        inverse = None if stand_in is None else stand_in.inverse(hessian)

        def product(rows: Tensor) -> Tensor:
            return without(null, finite(hessian @ rows.T)).T

        def towards(rows: Tensor) -> Tensor:
            return rows if inverse is None else without(null, inverse(rows.T)).T

        # Of more columns than parameters a block has no more directions.
        width = max(1, min(ROW_NUMBERS // len(rhs), len(rhs)))
        # Columns are kept as rows, so that those which go on lie together.
        rows, parts, measured = torch.empty_like(rhs.T, memory_format=torch.contiguous_format), [], []
        for into, part in zip(rows.split(width), rhs.T.split(width), strict=True):
            block = self._block(product, part) if inverse is None and len(part) > 1 else None
            found, *rest = block or self._rows(product, towards, part, self.rtol * part.norm(dim=1))
            into.copy_(found)
            measured.append(true_residual(hessian, into.T, part.T, null))
            parts.append(rest)
        value, measured, curved_down = rows.T, torch.cat(measured), torch.cat([part[0] for part in parts])
        smallest, step = min(part[1] for part in parts), max(part[2] for part in parts)
        smallest_met = smallest if step else None
        return Solution(value, measured, step, smallest_met, dropped=null, bent_down=int(curved_down.sum()))

    def _in_coordinates(
        self, hessian: Curvature, there: Coordinates, rhs: Float[Tensor, "p k"], null: Tensor | None
    ) -> Solution:
        """Return the solution by steps in other coordinates and single precision, again of what they leave to do."""
        level, exact = there.level(null), hessian if self.rtol < 100 * ROUNDED else there.hessian
        limit = self.max_steps if self.max_steps is not None else 10 * len(rhs)
        value, left, bent_down = torch.zeros_like(rhs), rhs, torch.zeros(rhs.shape[1], dtype=torch.bool)
        residual, smallest, steps = relative_residual(value, rhs), float("inf"), 0
        while (short := (residual > self.rtol) & ~bent_down).any() and steps < limit:
            within = max(0.5 * self.rtol / residual[short].max().item(), 10 * ROUNDED)
            solver, right = replace(self, rtol=within, max_steps=limit - steps), there.right(left[:, short])
            given = (lambda rows: without(level, finite(there.product(rows.T))).T), without(level, right).T.contiguous()
            block = solver._block(*given) if right.shape[1] > 1 else None
            found, bent, curvature, taken = block or solver._rows(
                given[0], lambda rows: rows, given[1], within * right.norm(dim=0)
            )
            value[:, short] += without(null, there.back(found.T, left[:, short]))
            bent_down[short] |= bent
            smallest, steps, last = min(smallest, curvature), steps + taken, residual
            product = without(null, finite(exact @ value))
            left, residual = rhs - product, relative_residual(product, rhs)
            if not (residual < 0.5 * last).any():
                break
        smallest_met = smallest if steps else None
        return Solution(value, residual, steps, smallest_met, dropped=null, bent_down=int(bent_down.sum()))

    def _in_outputs(self, space: OutputSpace, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return the solution by steps in the space of the outputs."""
        right = space.outer @ (space.jacobian @ rhs)
        m = len(right)

        def carried(rows: Tensor) -> Tensor:
            # Each vector u takes K u along, which makes inner products cheap.
            return torch.cat([rows, rows @ space.kernel], dim=1)

        def product(rows: Tensor) -> Tensor:
            return carried(finite(rows[:, m:] @ space.outer + space.ridge * rows[:, :m]))

        goal = self.rtol * space.ridge * rhs.norm(dim=0)
        found, curved_down, smallest, step = self._rows(
            product, lambda rows: rows, carried(right.T), goal, inner=lambda one, two: (one[:, :m] * two[:, m:]).sum(1)
        )
        solution = space.solution(rhs, right, found[:, :m].T)
        smallest_met = smallest if step else None
        return replace(solution, num_steps=step, smallest_curvature=smallest_met, bent_down=int(curved_down.sum()))

    def _block(
        self, product: Product, rhs: Float[Tensor, "k p"]
    ) -> tuple[Float[Tensor, "k p"], Tensor, float, int] | None:
        """Return what `_rows` does, by steps of all rows as one block; None where H curves downward.

        The residuals are Q S with QᵀQ = 1. What is done is not taken out: QR puts other directions in its place.
        """
        length = rhs.norm(dim=1)
        unit = (rhs / torch.where(length > 0, length, 1.0)[:, None]).T
        residual, size, turned = torch.linalg.svd(unit, full_matrices=False)
        kept = size > DEPENDENT * size.max()
        residual, coefficients = residual[:, kept], size[kept, None] * turned[kept]
        direction, value = residual, torch.zeros_like(unit)
        limit = self.max_steps if self.max_steps is not None else 10 * len(unit)
        smallest, step = float("inf"), 0
        while (coefficients.norm(dim=0) > self.rtol).any() and step < limit:
            bent = product(direction.T).T
            curvature = direction.T @ bent
            factor, failed = torch.linalg.cholesky_ex((curvature + curvature.T) / 2)
            if failed.item():
                return None
            smallest = min(smallest, (curvature.diagonal() / direction.square().sum(0)).min().item())
            value += direction @ torch.cholesky_solve(coefficients, factor)
            residual, left = torch.linalg.qr(residual - bent @ torch.cholesky_inverse(factor))
            coefficients = left @ coefficients
            direction = residual + direction @ left.T
            step += 1
        return value.T * length[:, None], torch.zeros_like(length, dtype=torch.bool), smallest, step

    def _rows(
        self,
        product: Product,
        stand_in: Product,
        rhs: Float[Tensor, "k p"],
        goal: Float[Tensor, " k"],
        inner: Callable[[Tensor, Tensor], Tensor] = torch.linalg.vecdot,
    ) -> tuple[Float[Tensor, "k p"], Tensor, float, int]:
        """Return the solution of some rows, which of them met a downward curve, the least curvature, and steps.

        A row is done when its residual is no longer than its `goal`; lengths are those of the inner product, in which
        the product is self-adjoint.
        """
        value, residual = torch.zeros_like(rhs, memory_format=torch.contiguous_format), rhs.clone()
        direction = stand_in(residual).clone()
        # r·r says when to stop, r·M⁻¹r how far to go; without preconditioner they are one.
        squared, weighted = inner(residual, residual), inner(residual, direction)
        goal = goal.square()
        limit = self.max_steps if self.max_steps is not None else 10 * rhs.shape[1]
        active, curved_down = squared > goal, torch.zeros_like(squared, dtype=torch.bool)
        smallest, step = float("inf"), 0
        while active.any() and step < limit:
            rows = active.nonzero().squeeze(1)
            # Of millions of parameters each copy of all rows counts.
            everything = len(rows) == len(active)
            along = direction if everything else direction[rows]
            turned = product(along)
            curvature = inner(along, turned)
            smallest = min(smallest, (curvature / inner(along, along)).min().item())
            downward = curvature <= 0
            curved_down[rows[downward]] = True
            length = torch.where(downward, 0.0, weighted[rows] / torch.where(downward, 1.0, curvature))[:, None]
            if everything:
                value.addcmul_(length, along)
                residual.addcmul_(length, turned, value=-1)
            else:
                value[rows] += length * along
                residual[rows] -= length * turned
            left = residual if everything else residual[rows]
            towards = stand_in(left)
            new = inner(left, towards)
            ratio = (new / weighted[rows])[:, None]
            if everything:
                direction.mul_(ratio).add_(towards)
            else:
                direction[rows] = towards + ratio * along
            squared[rows], weighted[rows] = inner(left, left), new
            active = (squared > goal) & ~curved_down
            step += 1
        return value, curved_down, smallest, step


def _among_outputs(hessian: Curvature, rhs: Float[Tensor, "p k"]) -> OutputSpace | None:
    """Return the system in the space of the outputs, where there is one and it is the smaller."""
    if not (isinstance(hessian, GaussNewton) and hessian.ridge > 0 and hessian.null_space() is None):
        return None
    held = hessian.jacobian.held
    if held is None or held.shape[0] > min(KERNEL_OUTPUTS, len(rhs) - 1):
        return None
    return OutputSpace.of(hessian, rhs, single=0)
