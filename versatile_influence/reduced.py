"""The same attribution in fewer parameters, where outputs and targets are fewer than the parameters.

On a Gauss–Newton matrix G = JᵀBJ + κI nothing leaves the span of the rows of R = [J; ∇f; θ]: neither the gradients of
what is removed or explained, nor a product with G of what lies in it. In an orthonormal basis of that span, R = C Qᵀ,

    G' = C_JᵀBC_J + κI,      ∇f' = C_f,      ∇ΔL' = ∂ΔL/∂o C_J,      x = Q x',

and lengths, scores and residuals are those of x. C is the Cholesky factor of R Rᵀ, which layers in factors give without
a matrix as long as the parameters. So the reduced problem is that of a linear model with the outputs' Jacobian C_J, and
is put as such: a loss, its parameters Qᵀθ, and a linear target.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from versatile_influence._factored import Factored
from versatile_influence._jacobian import factored
from versatile_influence._ravel import ravel
from versatile_influence.gauss_newton import GaussNewton
from versatile_influence.hessian import LARGE, Curvature
from versatile_influence.linearised import NAME, Linearised, LinearTarget
from versatile_influence.loss import Target
from versatile_influence.problem import Problem
from versatile_influence.solvers import Solver
from versatile_influence.targets import checked_target, target_function

# Up to how many outputs and targets together: the reduced problem is dense in them.
REDUCED_PARAMETERS = 4000


@dataclass(frozen=True)
class Reduced:
    """An attribution in coordinates of the span of R.

    Attributes:
        problem: The linearised loss at Qᵀθ.
        hessian: G'.
        target: The linearised target.
        lift: x' ↦ Q x', from columns of coordinates to columns of parameters.
    """

    problem: Problem
    hessian: GaussNewton
    target: Target
    lift: Callable[[Float[Tensor, "r k"]], Float[Tensor, "p k"]]

    @classmethod
    def of(cls, problem: Problem, hessian: Curvature, target: Target, solver: Solver) -> "Reduced | None":
        """Return the reduced attribution, or None where there is none or nothing is won.

        It takes a `GaussNewton` with penalty or damping, a solver that gives the same in any orthonormal basis, and
        outputs and targets of linear layers, row by row, fewer together than the parameters.
        """
        if not (_fits(problem, hessian) and getattr(solver, "any_basis", False)):
            return None
        loss: Any = problem.loss
        values = checked_target(target_function(problem, target)(problem.theta))
        outputs = loss.outputs(problem.unravel(problem.theta))
        m, room = outputs.numel(), min(REDUCED_PARAMETERS, len(problem.theta))
        rows = _rows(problem, target, outputs, values) if m + len(values) < room else None
        if rows is None:
            return None
        size, unit = root(_gram(*rows, problem.theta))
        coordinates = size[:, None] * unit
        at = coordinates[-1]
        linear = Linearised(loss, outputs, coordinates[:m], at)
        _, unravel = ravel({NAME: at[None]})
        gradient = grad(lambda flat: linear(unravel(flat), problem.everyone()))(at)
        smaller = replace(problem, loss=linear, theta=at, unravel=unravel, gradient=gradient)
        matrix = GaussNewton(linear, unravel(at), hessian.presence, hessian.damping, problem.chunk_size)
        changes = LinearTarget(values, coordinates[m:-1], at, getattr(target, "labels", None))

        def lift(columns: Tensor) -> Tensor:
            # The factors of a large network are large: they are made again rather than kept.
            again = _rows(problem, target, outputs, values)
            assert again is not None
            share = torch.linalg.solve_triangular(unit.T, columns, upper=True)
            share = torch.where(size > 0, 1 / size, 0.0)[:, None] * share
            lifted = again[0].transposed(share[:m]).add_(again[1].transposed(share[m:-1]))
            return lifted.add_(problem.theta[:, None] * share[-1])

        return cls(smaller, matrix, changes, lift)


def root(gram: Float[Tensor, "n n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
    """Return s and lower triangular U with diag(s) U Uᵀ diag(s) = K, rows of U of length 1, to rounding.

    A singular K is moved by as little as makes its Cholesky factor exist, a few times its rounding, row by row.

    Example:
        >>> size, unit = root(torch.tensor([[4.0, 4.0], [4.0, 4.0]]).double())
        >>> bool(torch.allclose(size[:, None] * unit @ unit.T * size, torch.full((2, 2), 4.0).double()))
        True
    """
    size = gram.diagonal().clamp_min(0).sqrt()
    inverse = torch.where(size > 0, 1 / size, 0.0)
    unit = inverse[:, None] * gram * inverse
    unit.diagonal().fill_(1.0)
    shift = torch.finfo(gram.dtype).eps
    factor, failed = torch.linalg.cholesky_ex(unit)
    while failed:
        unit.diagonal().fill_(1.0 + (shift := 4 * shift))
        factor, failed = torch.linalg.cholesky_ex(unit)
    return size, factor


def _fits(problem: Problem, hessian: Curvature) -> bool:
    """Return whether loss and curvature are such that they can be reduced."""
    if not (type(hessian) is GaussNewton and hessian.ridge > 0 and hessian.null_space() is None):
        return False
    whole, theta = problem.loss, problem.theta
    composed = hasattr(whole, "outer_differences") and not hasattr(whole, "owned")
    return composed and len(theta) > LARGE and theta.dtype == torch.float64


def _rows(problem: Problem, target: Target, outputs: Tensor, values: Tensor) -> tuple[Factored, Factored] | None:
    """Return the Jacobians of outputs and targets in factors, or None where one has none."""
    params = problem.unravel(problem.theta)
    changes = factored(getattr(target, "by_row", None), values, params)
    jacobian = None if changes is None else factored(getattr(problem.loss, "by_row", None), outputs, params)
    return None if changes is None or jacobian is None else (jacobian, changes)


def _gram(jacobian: Factored, changes: Factored, theta: Float[Tensor, " p"]) -> Float[Tensor, "n n"]:
    """Return R Rᵀ of R = [J; ∇f; θ]."""
    m, n = jacobian.shape[0], jacobian.shape[0] + changes.shape[0] + 1
    result = theta.new_empty(n, n)
    result[:m, :m], result[m:-1, m:-1] = jacobian.gram(), changes.gram()
    result[:m, m:-1] = jacobian.products(changes)
    result[:m, -1:], result[m:-1, -1:] = jacobian @ theta[:, None], changes @ theta[:, None]
    result[-1, -1] = theta @ theta
    result[m:, :m], result[-1, m:-1] = result[:m, m:].T.clone(), result[m:-1, -1].clone()
    return result
