"""The same attribution in fewer parameters, where outputs and targets are fewer than the parameters.

On a Gauss–Newton matrix G = JᵀBJ + κI nothing leaves the span of the rows of R = [J; ∇f; θ]: neither the gradients of
what is removed or explained, nor a product with G of what lies in it. In an orthonormal basis of that span, R = C Qᵀ,

    G' = C_JᵀBC_J + κI,      ∇f' = C_f,      ∇ΔL' = ∂ΔL/∂o C_J,      x = Q x',

and lengths, scores and residuals are those of x. C is the Cholesky factor of R Rᵀ, which layers in factors give without
a matrix as long as the parameters. So the smaller problem is the same outer loss under linear outputs C_J.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.factored import Factored
from versatile_influence.core.gauss_newton import GaussNewton
from versatile_influence.core.models import Affine
from versatile_influence.core.problem import Problem
from versatile_influence.core.sizes import LARGE, SPAN_PARAMETERS
from versatile_influence.core.solver import Solver
from versatile_influence.core.target import LinearTarget, Target, target_values

Lift = Callable[[Float[Tensor, "r k"]], Float[Tensor, "p k"]]


@dataclass(frozen=True)
class Span:
    """An attribution, as it was put or in coordinates of the span of R.

    Attributes:
        problem: The problem.
        hessian: The curvature.
        target: The target.
        lift: x' ↦ Q x', from columns of coordinates to columns of parameters; None where it is as it was put.
    """

    problem: Problem
    hessian: Curvature
    target: Target
    lift: Lift | None = None

    @classmethod
    def of(cls, problem: Problem, hessian: Curvature, target: Target, solver: Solver) -> "Span":
        """Return the attribution in as few coordinates as there are outputs and targets, where that wins something.

        It takes a `GaussNewton` with penalty or damping, a solver that gives the same in any orthonormal basis, and
        outputs and targets of linear layers, row by row, fewer together than the parameters.
        """
        whole, p = cls(problem, hessian, target), len(problem.theta)
        # The Hessian of a network leaves the span; below some size dense matrices cost less than this.
        if not (isinstance(hessian, GaussNewton) and solver.any_basis and p > LARGE):
            return whole
        # A Gram matrix has half the digits: of float32 too few are left. Owned entries are struck in θ's own basis.
        if problem.theta.dtype != torch.float64 or problem.owned().dim():
            return whole
        # Without a ridge G is singular outside the span.
        if not hessian.ridge > 0 or hessian.null_space() is not None:
            return whole
        values = target_values(target, problem.params)
        # What is gained must be worth a Cholesky factor of that size.
        if hessian.outputs.numel() + len(values) >= min(SPAN_PARAMETERS, p):
            return whole
        changes = target.jacobian(problem.params).factors
        if changes is None or (jacobian := hessian.jacobian.factors) is None:
            return whole
        return _spanned(whole, hessian, values, jacobian, changes)


def _spanned(
    whole: Span, hessian: GaussNewton, values: Float[Tensor, " t"], jacobian: Factored, changes: Factored
) -> Span:
    problem, loss = whole.problem, hessian.composed
    size, unit = root(_gram(jacobian, changes, problem.theta))
    coordinates, m = size[:, None] * unit, jacobian.shape[0]
    at, outputs = coordinates[-1], hessian.outputs
    linear = loss.with_parts(Affine(coordinates[:m], at, outputs), loss.outer, ridge=loss.ridge)
    small = replace(Problem.of(linear, at), removals=problem.removals)
    matrix = GaussNewton(linear, at, hessian.presence, hessian.damping)

    def lift(columns: Tensor) -> Tensor:
        # The factors of a large network are large: they are made again rather than kept.
        rows, more = loss.outputs.jacobian(hessian.params).factors, whole.target.jacobian(hessian.params).factors
        assert rows is not None
        assert more is not None
        # x = Q x' = Rᵀ C⁻ᵀ x', for Q = Rᵀ C⁻ᵀ.
        share = torch.linalg.solve_triangular(unit.T, columns, upper=True)
        share = torch.where(size > 0, 1 / size, 0.0)[:, None] * share
        lifted = rows.transposed(share[:m]).add_(more.transposed(share[m:-1]))
        return lifted.add_(problem.theta[:, None] * share[-1])

    return Span(small, matrix, LinearTarget(values, coordinates[m:-1], at, whole.target.labels), lift)


def root(gram: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Return s and lower triangular U with diag(s) U Uᵀ diag(s) = K, rows of U of length 1, to rounding.

    A singular K is moved by as little as makes its Cholesky factor exist, a few times its rounding, row by row.

    Example:
        >>> size, unit = root(torch.tensor([[4.0, 4.0], [4.0, 4.0]]).double())
        >>> bool(torch.allclose(size[:, None] * unit @ unit.T * size, torch.full((2, 2), 4.0).double()))
        True
    """
    size = gram.diagonal().clamp_min(0).sqrt()
    # Rows of length 1 first: gradients of a loss and of a target may differ by many orders of size.
    inverse = torch.where(size > 0, 1 / size, 0.0)
    unit = inverse[:, None] * gram * inverse
    unit.diagonal().fill_(1.0)
    shift = torch.finfo(gram.dtype).eps
    factor, failed = torch.linalg.cholesky_ex(unit)
    while failed:
        unit.diagonal().fill_(1.0 + (shift := 4 * shift))
        factor, failed = torch.linalg.cholesky_ex(unit)
    return size, factor


def _gram(jacobian: Factored, changes: Factored, theta: Float[Tensor, " p"]) -> Float[Tensor, "n n"]:
    """Return R Rᵀ of R = [J; ∇f; θ]."""
    m, n = jacobian.shape[0], jacobian.shape[0] + changes.shape[0] + 1
    result = theta.new_empty(n, n)
    result[:m, :m], result[m:-1, m:-1] = jacobian.gram(), changes.gram()
    result[:m, m:-1] = jacobian.products(changes)
    result[:m, -1:], result[m:-1, -1:] = jacobian @ theta[:, None], changes @ theta[:, None]
    result[-1, -1] = theta @ theta
    # The other half, without a product.
    result[m:, :m], result[-1, m:-1] = result[:m, m:].T.clone(), result[m:-1, -1].clone()
    return result
