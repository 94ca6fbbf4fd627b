"""Scores that outgrow memory: computed block by block and written to disk."""

from collections.abc import Iterator, Sequence
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence._jobs import as_finished
from versatile_influence._score_files import ScoreFile
from versatile_influence.hessian import Curvature
from versatile_influence.problem import Problem, labels_of
from versatile_influence.result import Attribution
from versatile_influence.solvers import Solver

# How many numbers a block holds. Its 40 MB are more than the C library ever keeps for later: each is given back.
BLOCK_NUMBERS = 5_000_000
# Up to how many numbers the gradient differences are kept as one matrix.
KEPT_NUMBERS = 16_000_000


def written_scores(
    problem: Problem,
    hessian: Curvature,
    gradients: Float[Tensor, "t p"],
    *,
    solver: Solver,
    out: str | PathLike,
    n_jobs: int | None,
    targets: Sequence[object] | None,
) -> tuple[Attribution, Float[Tensor, " t"], Float[Tensor, " m"]]:
    """Return the scores in the folder `out`, what unfinished training would move, and the blocks' extreme scores.

    H⁻¹ is applied to the targets, and a block is some of them: its scores are a product with the gradient
    differences where these, (k, p), are few enough to keep, and else a forward derivative along the targets.

    Raises:
        ValueError: If a score is not finite, or the folder holds scores already.
    """
    (t, p), k = gradients.shape, problem.removals.count
    file = ScoreFile(out, (k, t))
    if p <= t:
        solution = solver.solve(hessian, torch.eye(p, dtype=gradients.dtype, device=gradients.device))
        directions = solution.value @ gradients.T
    else:
        solution = solver.solve(hessian, gradients.T)
        directions = solution.value
    left = problem.gradient_differences() if k * p <= KEPT_NUMBERS else problem
    extremes: list[float] = []
    for start, block in as_finished(_block, _calls(left, directions, k), n_jobs=n_jobs):
        least, most = (end.item() for end in torch.aminmax(block))
        if not least - most > -float("inf"):
            row, column = (~torch.isfinite(block)).nonzero()[0].tolist()
            raise ValueError(f"The score of removal {row} on target {start + column} is not finite.")
        file.write(start, block)
        extremes += [least, most]
    rest = Attribution(
        gradients.new_empty(k, 0),
        problem.removals.objects(),
        n_objects=problem.removals.n_objects,
        labels=labels_of(problem.loss),
        targets=targets,
        solution=solution,
    )
    part = file.folder / "rest.part"
    rest.save(part)
    part.replace(file.folder / "rest.npz")
    return Attribution.load(file.folder), directions.T @ problem.gradient, gradients.new_tensor(extremes)


def _calls(left: Problem | Tensor, directions: Float[Tensor, "p t"], count: int) -> Iterator[tuple]:
    """Yield (start, gradient differences, some directions) of each block."""
    size = max(1, BLOCK_NUMBERS // count)
    for start in range(0, directions.shape[1], size):
        yield start, left, directions[:, start : start + size]


def _block(start: int, left: Problem | Tensor, right: Float[Tensor, "p q"]) -> tuple[int, Float[Tensor, "k q"]]:
    """Return one block of scores, with where it starts."""
    if isinstance(left, Problem):
        return start, left.gradient_differences(right)
    # Column after column, as it is written.
    return start, (right.T @ left.T).T
