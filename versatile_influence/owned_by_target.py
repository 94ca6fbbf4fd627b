"""Owned parameters, marginalised, with H⁻¹ on the side of the targets: one column a target, not one a removal.

With g a target's gradient, o what object i owns and r the rest, the score is

    g_rᵀ (H⁻¹)_rr ∇_r ΔL_i − g_oᵀ o = sᵀ∇ΔL_i − s_oᵀ ∇_o ΔL_i − g_oᵀ o,      s = H⁻¹ (g with g_o struck).

A target has g_o = 0 for nearly every object, so s is nearly always H⁻¹g, and only where it is not is a column of its
own solved. Without i only the penalty holds what i owned, so that ∇_o ΔL_i = ∇_o L(θ, 1) − λo.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.func import grad

from versatile_influence.hessian import Curvature
from versatile_influence.problem import Problem
from versatile_influence.removals import Removals
from versatile_influence.solvers import Solution, Solver


def scores_by_target(
    problem: Problem, hessian: Curvature, solver: Solver, gradients: Float[Tensor, "t p"]
) -> tuple[Float[Tensor, "k t"], Float[Tensor, " p"], Solution] | None:
    """Return the scores with owned parameters marginalised, H⁻¹∇L(θ, 1), and the solution that they come from.

    None where this would solve more columns than there are removals or parameters, or where something besides the
    penalty holds what an object owned.
    """
    mask = problem.owned()
    assert mask is not None
    touched = ((mask.to(gradients) @ (gradients != 0).to(gradients).T) > 0).nonzero()
    count = len(gradients)
    if count + len(touched) >= min(problem.removals.count, len(problem.theta)):
        return None
    own = _own_differences(problem, mask)
    if own is None:
        return None
    struck = gradients[touched[:, 1]].masked_fill(mask[touched[:, 0]], 0.0)
    solution = solver.solve(hessian, torch.cat([gradients, struck, problem.gradient[None]]).T)
    solved, special = solution.value[:, :count], solution.value[:, count:-1]
    scores = problem.gradient_differences(solved) - own @ solved
    if len(touched):
        rows, place = touched[:, 0].unique(return_inverse=True)
        mended = _of(problem, rows).gradient_differences(special) - own[rows] @ special
        scores[touched[:, 0], touched[:, 1]] = mended[place, torch.arange(len(touched))]
    return scores - (mask * problem.theta) @ gradients.T, solution.value[:, -1], solution


def _own_differences(problem: Problem, mask: Bool[Tensor, "k p"]) -> Float[Tensor, "k p"] | None:
    """Return ∇_o ΔL_i, or None where the first removal shows that it is not ∇_o L(θ, 1) − λo."""
    held = float(getattr(problem.loss, "penalty", 0.0)) * problem.theta
    without = grad(problem.value)(problem.theta, _of(problem, torch.tensor([0])).removals.presences(problem.theta)[0])
    if not torch.allclose(without[mask[0]], held[mask[0]], rtol=1e-8, atol=1e-10):
        return None
    return mask * (problem.gradient - held)


def _of(problem: Problem, rows: Int[Tensor, " m"]) -> Problem:
    """Return the problem of some of its removals."""
    objects = problem.removals.objects()
    chosen = [objects[row] if isinstance(objects, tuple) else int(objects[row]) for row in rows.tolist()]
    return replace(problem, removals=Removals.of(chosen, problem.removals.n_objects))
