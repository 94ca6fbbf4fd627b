"""Owned parameters, marginalised, with H⁻¹ on the side of the targets: one column a target, not one a removal.

With g a target's gradient, o what object i owns and r the rest, the score is

    g_rᵀ (H⁻¹)_rr ∇_r ΔL_i − g_oᵀ o = sᵀ∇ΔL_i − s_oᵀ ∇_o ΔL_i − g_oᵀ o,      s = H⁻¹ (g with g_o struck).

A target has g_o = 0 for nearly every object, so s is nearly always H⁻¹g, and only where it is not is a column of its
own solved. Without i only the penalty holds what i owned, so that ∇_o ΔL_i = ∇_o L(θ, 1) − λo.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core.problem import Problem
from versatile_influence.core.solver import Inverse


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
    own = mask * (problem.gradient - problem.loss.penalty * problem.theta)
    struck = gradients[touched[:, 1]].masked_fill(mask[touched[:, 0]], 0.0)
    value = inverse @ torch.cat([gradients, struck, problem.gradient[None]]).T
    solved, special = value[:, :count], value[:, count:-1]
    scores = problem.gradient_differences(solved) - own @ solved
    if len(touched):
        rows, place = touched[:, 0].unique(return_inverse=True)
        mended = problem.of_rows(rows.tolist()).gradient_differences(special) - own[rows] @ special
        scores[touched[:, 0], touched[:, 1]] = mended[place, torch.arange(len(touched))]
    return scores - (mask * problem.theta) @ gradients.T, value[:, -1]


def _touched(mask: Bool[Tensor, "k p"], gradients: Float[Tensor, "t p"]) -> Int[Tensor, "m 2"]:
    """Return (removal, target) where a target depends on what the removed object owns."""
    return ((mask.to(gradients) @ (gradients != 0).to(gradients).T) > 0).nonzero()
