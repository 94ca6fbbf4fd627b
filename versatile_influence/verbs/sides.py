"""On which side H⁻¹ is applied: that of the targets or that of the removals, whichever has fewer columns.

score = ∇fᵀ H⁻¹ ∇ΔL_i = (H⁻¹∇f)ᵀ ∇ΔL_i

Owned parameters, marginalised, with H⁻¹ on the side of the targets: one column a target, not one a removal.

With g a target's gradient, o what object i owns and r the rest, the score is

    g_rᵀ (H⁻¹)_rr ∇_r ΔL_i − g_oᵀ o = sᵀ∇ΔL_i − s_oᵀ ∇_o ΔL_i − g_oᵀ o,      s = H⁻¹ (g with g_o struck).

A target has g_o = 0 for nearly every object, so s is nearly always H⁻¹g, and only where it is not is a column of its
own solved. Without i only the penalty holds what i owned, so that ∇_o ΔL_i = ∇_o L(θ, 1) − λo.
"""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core.finished import warn_if_flat
from versatile_influence.core.problem import Problem
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Inverse
from versatile_influence.core.span import Span
from versatile_influence.core.target import Target
from versatile_influence.verbs.changes import solved_changes

Scored = tuple[Float[Tensor, "k t"], Float[Tensor, " t"], Solution | None]


def scored(problem: Problem, inverse: Inverse, target: Target) -> Scored:
    """Return the scores, how far finishing the training would move each target, and the solution behind them."""
    span = Span.of(problem, inverse.hessian, target, inverse.solver)
    if span.lift is not None:
        problem, inverse = span.problem, Inverse(span.hessian, inverse.solver)
    gradients, mask = problem.target_gradients(span.target), problem.owned()
    # Owned parameters differ from removal to removal; for most targets that costs no column of its own.
    if mask.dim() and served_by_target(problem, mask, gradients):
        scores, rest = scores_by_target(problem, inverse, mask, gradients)
        warn_if_flat(problem, inverse, gradients)
        return scores, gradients @ rest, inverse.solution
    if mask.dim() or len(gradients) > problem.removals.count:
        changes, rest, solution = solved_changes(problem, inverse)
        scores, leftover = changes @ gradients.T, gradients @ rest
        # Large, and not needed any more.
        del changes
        warn_if_flat(problem, inverse, gradients)
    else:
        solved = inverse @ gradients.T
        warn_if_flat(problem, inverse, gradients)
        del gradients
        # The differences along the few columns, never as a k×p matrix.
        scores, leftover = problem.gradient_differences(solved, inverse.hessian), solved.T @ problem.gradient
        solution = inverse.solution
    if span.lift is not None and solution is not None:
        solution = replace(solution, lift=span.lift)
    return scores, leftover, solution


def served_by_target(problem: Problem, mask: Bool[Tensor, "k p"], gradients: Float[Tensor, "t p"]) -> bool:
    """Return whether fewer columns are solved so than removals or parameters, and only the penalty holds what is owned.

    The latter as the first removal shows.
    """
    columns = len(gradients) + len(_touched(mask, gradients))
    if not problem.loss.treatment.by_target or columns >= min(problem.removals.count, len(problem.theta)):
        return False
    without = problem.loss.gradient(problem.params, problem.presence_without(0))
    held = problem.loss.penalty * problem.theta
    return torch.allclose(without[mask[0]], held[mask[0]], rtol=1e-8, atol=1e-10)


def scores_by_target(
    problem: Problem, inverse: Inverse, mask: Bool[Tensor, "k p"], gradients: Float[Tensor, "t p"]
) -> tuple[Float[Tensor, "k t"], Float[Tensor, " p"]]:
    """Return the scores with owned parameters marginalised, and H⁻¹∇L(θ, 1)."""
    touched, count = _touched(mask, gradients), len(gradients)
    # ∇_o L of the whole loss without its penalty is what the object's own terms say.
    own = mask * (problem.gradient - problem.loss.penalty * problem.theta)
    struck = gradients[touched[:, 1]].masked_fill(mask[touched[:, 0]], 0.0)
    value = inverse @ torch.cat([gradients, struck, problem.gradient[None]]).T
    solved, special = value[:, :count], value[:, count:-1]
    scores = problem.gradient_differences(solved) - own @ solved
    # A target that looks at what the object owned: its gradient is struck there, and solved for by itself.
    if len(touched):
        rows, place = touched[:, 0].unique(return_inverse=True)
        mended = problem.of_rows(rows.tolist()).gradient_differences(special) - own[rows] @ special
        scores[touched[:, 0], touched[:, 1]] = mended[place, torch.arange(len(touched))]
    return scores - (mask * problem.theta) @ gradients.T, value[:, -1]


def _touched(mask: Bool[Tensor, "k p"], gradients: Float[Tensor, "t p"]) -> Int[Tensor, "m 2"]:
    """Return (removal, target) where a target depends on what the removed object owns."""
    return ((mask.to(gradients) @ (gradients != 0).to(gradients).T) > 0).nonzero()
