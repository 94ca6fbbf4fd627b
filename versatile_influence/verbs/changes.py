"""Δθᵢ = H⁻¹ ∇ΔLᵢ of every removal: one column of H⁻¹ each."""

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.problem import Problem
from versatile_influence.core.sizes import MANY_DIRECTIONS
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Inverse


def solved_changes(
    problem: Problem, inverse: Inverse, differences: Float[Tensor, "k p"] | None = None
) -> tuple[Float[Tensor, "k p"], Float[Tensor, " p"], Solution | None]:
    """Return Δθᵢ = H⁻¹∇ΔLᵢ of every removal, owned parameters treated, H⁻¹∇L(θ, 1), and a solution they come from."""
    rest = []

    def solve(columns: Tensor) -> Tensor:
        gradient = problem.gradient[:, None]
        if columns.shape[1] > MANY_DIRECTIONS or columns.shape[1] >= len(columns):
            # No copy of many columns for one more: their steps, too, are hardly fewer with it.
            solved = inverse @ columns
            rest.append((inverse @ gradient)[:, 0])
            return solved
        solved = inverse @ torch.cat([columns, gradient], dim=1)
        rest.append(solved[:, -1])
        return solved[:, :-1]

    differences = problem.gradient_differences() if differences is None else differences
    mask = problem.owned()
    if mask.dim():
        changes = problem.loss.treatment.changes(differences, mask, problem.theta, solve)
    else:
        changes = solve(differences.T).T
    return changes, rest[0], inverse.solution
