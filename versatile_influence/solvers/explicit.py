"""Direct solution with the dense Hessian."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, deflated, in_units, without
from versatile_influence.core.settings import setting
from versatile_influence.core.sizes import CHUNK_NUMBERS, at_once, slices
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver, finite, relative_residual
from versatile_influence.core.warn import warn


@dataclass(frozen=True)
class Explicit(Solver):
    """Solve with the dense Hessian: Cholesky, or an eigendecomposition where that fails.

    For up to some thousands of parameters; memory p², time p³. Equivalent to `torch.linalg.solve` for a positive
    definite H. A flat direction has no influence function: where H is singular the solution is the one of least norm,
    and the directions dropped are reported in `Solution.dropped`. Where neither removals nor targets know of them, as
    of the rotations of an embedding, no score depends on them, and the verbs say nothing. Where H is indefinite the
    parameters are at no minimum: the solution is exact, and a warning says so. Directions that the loss itself names as
    constant (`null_directions`) are left out and reported too.

    Attributes:
        rtol: Eigenvalues below rtol times the largest, in absolute value, count as zero.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> vif.Explicit().solve(vif.Hessian(loss, torch.zeros(2), torch.ones(1)), torch.ones(2, 1)).value
        tensor([[0.5000],
                [0.5000]])
    """

    rtol: float = setting(1e-12, least=0)
    tolerated: ClassVar[float] = 1e-6
    any_basis: ClassVar[bool] = True
    advice: ClassVar[str] = "H is nearly singular: add a penalty or damping=…, or drop redundant parameters."

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return H⁻¹ B, or H⁺ B where H is singular."""
        return hessian.once(self, lambda: self._factorised(hessian))(rhs)

    def _factorised(self, hessian: Curvature) -> Callable[[Float[Tensor, "p k"]], Solution]:
        null = hessian.null_space()
        units = hessian.units
        matrix = in_units(deflated(finite(hessian.dense()), null), units)
        factor, failed = torch.linalg.cholesky_ex(matrix)
        smallest, largest = (pivot.item() ** 2 for pivot in torch.aminmax(factor.diagonal()))
        if failed.item() or not smallest > self.rtol * largest:
            return _measured(units, self._by_eigenvalues(matrix, null))

        product = _beside(factor, matrix)
        del matrix

        def by_cholesky(rhs: Tensor) -> Solution:
            value, residual = torch.empty_like(rhs), []
            # Some columns at a time: of many, each of several copies is as large as the matrix.
            width = max(1, CHUNK_NUMBERS // (4 * len(rhs)))
            for into, columns in zip(value.split(width, dim=1), rhs.split(width, dim=1), strict=True):
                part = without(null, columns)
                # Two triangles, as `torch.cholesky_solve` copies the factor.
                half = torch.linalg.solve_triangular(factor, part, upper=False)
                into.copy_(without(null, torch.linalg.solve_triangular(factor.mT, half, upper=True)))
                residual.append(relative_residual(product(into), part))
            return Solution(value, torch.cat(residual), smallest_curvature=smallest, dropped=null)

        return _measured(units, by_cholesky)

    def _by_eigenvalues(
        self, matrix: Float[Tensor, "p p"], null: Tensor | None
    ) -> Callable[[Float[Tensor, "p k"]], Solution]:
        curvature, directions = torch.linalg.eigh(matrix)
        smallest, cut = curvature.min().item(), self.rtol * curvature.abs().max()
        kept = curvature.abs() > cut
        inverse = torch.where(kept, 1 / torch.where(kept, curvature, 1.0), 0.0)
        dropped = directions[:, ~kept]
        if smallest < -cut:
            warn(
                f"The Hessian is indefinite: its smallest eigenvalue is {smallest:.3g}, so the parameters are not at a "
                "minimum. Train further (vif.minimize), add damping=…, or read the scores with care.",
            )
        dropped = dropped if null is None else torch.cat([null, dropped], dim=1)

        def by_eigenvalues(rhs: Tensor) -> Solution:
            rhs = without(null, rhs)
            value = directions @ (inverse[:, None] * (directions.T @ rhs))
            return Solution(value, relative_residual(matrix @ value, rhs), smallest_curvature=smallest, dropped=dropped)

        return by_eigenvalues


def _beside(factor: Float[Tensor, "p p"], matrix: Float[Tensor, "p p"]) -> Callable[[Tensor], Tensor]:
    """Write the matrix above the diagonal of its lower factor, where nobody looks, and return products with it.

    One array of p² numbers for both.
    """
    diagonal, parts = matrix.diagonal().clone(), slices(len(matrix), at_once(len(matrix)))
    for part in parts:
        factor[part].add_(matrix[part].triu(1 + part.start))

    def product(columns: Tensor) -> Tensor:
        found = diagonal[:, None] * columns
        for part in parts:
            above = factor[part, part.start :].triu(1)
            found[part] += above @ columns[part.start :]
            found[part.start :] += above.mT @ columns[part]
        return found

    return product


def _measured(units: Float[Tensor, " p"] | None, solve: Callable[[Tensor], Solution]) -> Callable[[Tensor], Solution]:
    """Return a solution by parameters in their units as one in those of the user."""
    if units is None:
        return solve

    def solved(rhs: Float[Tensor, "p k"]) -> Solution:
        solution = solve(units[:, None] * rhs)
        dropped = solution.dropped
        dropped = None if dropped is None else torch.linalg.qr(units[:, None] * dropped)[0]
        return replace(solution, value=units[:, None] * solution.value, dropped=dropped)

    return solved
