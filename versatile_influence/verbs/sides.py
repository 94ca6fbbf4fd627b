"""On which side H⁻¹ is applied: that of the targets or that of the removals, whichever has fewer columns.

score = ∇fᵀ H⁻¹ ∇ΔL_i = (H⁻¹∇f)ᵀ ∇ΔL_i
"""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.finished import warn_if_undetermined
from versatile_influence.core.problem import Problem
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Inverse, Solver
from versatile_influence.core.span import Span
from versatile_influence.core.target import Target
from versatile_influence.verbs.owned_scores import scores_by_target, served_by_target

Scored = tuple[Float[Tensor, "k t"], Float[Tensor, " t"], Solution | None]


def scored(problem: Problem, hessian: Curvature, solver: Solver, target: Target) -> Scored:
    """Return the scores, how far finishing the training would move each target, and the solution behind them."""
    span = Span.of(problem, hessian, target, solver)
    problem, inverse = span.problem, Inverse(span.hessian, solver)
    gradients, mask = problem.target_gradients(span.target), problem.owned()
    warn_if_undetermined(span.hessian, gradients)
    if mask.dim() and served_by_target(problem, mask, gradients):
        scores, rest = scores_by_target(problem, inverse, mask, gradients)
        return scores, gradients @ rest, inverse.solution
    if mask.dim() or len(gradients) > problem.removals.count:
        changes, rest, solution = solved_changes(problem, span.hessian, solver)
        scores, leftover = changes @ gradients.T, gradients @ rest
    else:
        solved = inverse @ gradients.T
        # Large, and not needed any more.
        del gradients
        scores, leftover, solution = problem.gradient_differences(solved), solved.T @ problem.gradient, inverse.solution
    if span.lift is not None and solution is not None:
        solution = replace(solution, lift=span.lift)
    return scores, leftover, solution


def solved_changes(
    problem: Problem, hessian: Curvature, solver: Solver
) -> tuple[Float[Tensor, "k p"], Float[Tensor, " p"], Solution | None]:
    """Return Δθᵢ = H⁻¹∇ΔLᵢ of every removal, owned parameters treated, H⁻¹∇L(θ, 1), and a solution they come from."""
    inverse, rest = Inverse(hessian, solver), []

    def solve(columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        # One call, so that H is factorised once.
        solved = inverse @ torch.cat([columns, problem.gradient[:, None]], dim=1)
        rest.append(solved[:, -1])
        return solved[:, :-1]

    differences, mask = problem.gradient_differences(), problem.owned()
    if mask.dim():
        changes = problem.loss.treatment.changes(differences, mask, problem.theta, solve)
    else:
        changes = solve(differences.T).T
    return changes, rest[0], inverse.solution
