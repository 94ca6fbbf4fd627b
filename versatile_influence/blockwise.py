"""Scores that outgrow memory: computed block by block and written to disk."""

from collections.abc import Iterator
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence._jobs import as_finished
from versatile_influence._score_files import ScoreFile
from versatile_influence.hessian import Hessian
from versatile_influence.problem import Problem, labels_of
from versatile_influence.result import Attribution
from versatile_influence.solvers import Solver

# How many numbers a block holds, 32 MB in float64; and up to how many the gradient differences are kept as one matrix.
BLOCK_NUMBERS = 4_000_000
KEPT_NUMBERS = 16_000_000


def written_scores(
    problem: Problem,
    hessian: Hessian,
    gradients: Float[Tensor, "t p"],
    *,
    solver: Solver,
    out: str | PathLike,
    n_jobs: int | None,
    targets: list | None,
) -> tuple[Attribution, Float[Tensor, " t"], Float[Tensor, " 2"]]:
    """Return the scores in the folder `out`, what unfinished training would move, and the extreme scores.

    H⁻¹ is applied to the targets. Where the gradient differences, (k, p), are small enough to keep, blocks are rows,
    each a product of matrices; else they are columns, each a forward derivative along some targets.

    Raises:
        ValueError: If a score is not finite, or the folder holds scores already.
    """
    (t, p), k = gradients.shape, problem.removals.count
    if p <= t:
        solution = solver.solve(hessian, torch.eye(p, dtype=gradients.dtype, device=gradients.device))
        directions = solution.value @ gradients.T
    else:
        solution = solver.solve(hessian, gradients.T)
        directions = solution.value
    by_columns = k * p > KEPT_NUMBERS
    file = ScoreFile(out, (k, t), by_columns=by_columns)
    calls = _columns(problem, directions) if by_columns else _rows(problem, directions)
    extremes = []
    for start, block in as_finished(_block, calls, n_jobs=n_jobs):
        if not torch.isfinite(block).all():
            place = (~torch.isfinite(block)).nonzero()[0].tolist()
            place[1 if by_columns else 0] += start
            raise ValueError(f"The score of removal {place[0]} on target {place[1]} is not finite.")
        file.write(start, block)
        extremes += torch.aminmax(block)
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
    return (
        Attribution.load(file.folder),
        directions.T @ problem.gradient,
        torch.stack(torch.aminmax(torch.stack(extremes))),
    )


def _rows(problem: Problem, directions: Float[Tensor, "p t"]) -> Iterator[tuple]:
    """Yield (start, differences of some removals, directions)."""
    differences = problem.gradient_differences()
    size = max(1, BLOCK_NUMBERS // directions.shape[1])
    for start in range(0, len(differences), size):
        yield start, differences[start : start + size], directions


def _columns(problem: Problem, directions: Float[Tensor, "p t"]) -> Iterator[tuple]:
    """Yield (start, problem, some directions)."""
    size = max(1, BLOCK_NUMBERS // problem.removals.count)
    for start in range(0, directions.shape[1], size):
        yield start, problem, directions[:, start : start + size]


def _block(start: int, left: Problem | Tensor, right: Float[Tensor, "p q"]) -> tuple[int, Tensor]:
    """Return one block of scores, with where it starts."""
    return start, left.gradient_differences(right) if isinstance(left, Problem) else left @ right
