"""Scores that outgrow memory: computed block by block and written to disk."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.arguments import folder
from versatile_influence.core.curvature import CurvatureOf
from versatile_influence.core.determined import fallen
from versatile_influence.core.finished import extremes, warn_if_flat, warn_if_unfinished
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.jobs import as_finished
from versatile_influence.core.made import made_by
from versatile_influence.core.places import verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.result import Attribution
from versatile_influence.core.score_files import read_scores, score_file
from versatile_influence.core.sizes import KEPT_NUMBERS, SCORE_NUMBERS
from versatile_influence.core.solver import Inverse, Solver
from versatile_influence.core.span import Span
from versatile_influence.core.target import PresenceTarget
from versatile_influence.solvers.automatic import Automatic, said_of


@verb
def write_scores(
    loss: object,
    params: Params,
    target: object,
    out: str | PathLike,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    solver: Solver = Automatic(),  # noqa: B008  (a frozen value)
    damping: float = 0.0,
    curvature: CurvatureOf = Hessian,
    n_jobs: int | None = None,
) -> Attribution:
    """Return what `attribute` does, its scores written to a folder block by block and read from there when used.

    H⁻¹ is applied to the targets, and a block is some of them: its scores are a product with the gradient differences
    where these, (k, p), are few enough to keep, and else a derivative along the targets. `out` is the folder,
    which `Attribution.load(out)` opens again, and `n_jobs` how many blocks are computed at once, on joblib's engines as
    in `leave_one_out`. Other arguments, warnings and errors are those of `attribute`.

    Raises:
        ValueError: If a score is not finite, the folder holds scores already or another run is filling it, the target
            depends on who is present, or the loss names parameters that an object owns.
        OSError: If the folder cannot be written.

    Example:
        >>> import tempfile, torch
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_scores(loss, torch.tensor(3.0), lambda theta: theta, folder, n_objects=3).top(1).item()
        2
    """
    where = folder(out, "out")
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    asked = problem.given.target(target)
    if isinstance(asked, PresenceTarget):
        raise ValueError("Scores are written for targets of the parameters alone. Use vif.attribute for this one.")
    if problem.owned().dim():
        raise ValueError(
            "Scores are written with no parameters treated as owned. Pass loss.treated(vif.owned.Shared()), or use "
            "vif.attribute."
        )
    # Far fewer coordinates, where there are: directions of all targets are kept at once.
    whole, span = problem, Span.of(problem, problem.curvature(curvature, damping, solver), asked, solver)
    problem = span.problem
    gradients = problem.target_gradients(span.target)
    (t, p), k = gradients.shape, problem.removals.count
    with score_file(where, (k, t)) as file:
        inverse = Inverse(span.hessian, solver)
        directions = inverse @ gradients.T
        warn_if_flat(problem, inverse, gradients)
        # Kept where small: blocks are then products with it, else each is a derivative of its own.
        left = problem.gradient_differences() if k * p <= KEPT_NUMBERS else problem
        ends, gone = [], whole.fallen(asked)
        for start, block in as_finished(_block, _calls(left, directions, k), n_jobs=n_jobs):
            ends.append(extremes(block, first=start))
            if gone is not None:
                block = block.masked_fill(gone[:, start : start + block.shape[1]], float("nan"))  # noqa: PLW2901
            file.write(start, block)
        file.finish()
        rest = Attribution(
            gradients.new_empty(k, 0),
            problem.removals.objects(),
            n_objects=problem.removals.n_objects,
            labels=whole.loss.object_labels,
            targets=asked.labels,
            about=asked.about,
            solution=inverse.solution,
            made=made_by("write_scores", **said_of(inverse.solver, asked=solver), damping=damping, curvature=curvature),
        )
        # Last: it makes the folder a result.
        rest.save(where / "rest.npz")
    warn_if_unfinished(whole, directions.T @ problem.gradient, torch.cat(ends))
    fallen(whole, asked, rest.names())
    # What was just written is not read again to be checked.
    return replace(rest, scores=torch.from_numpy(read_scores(out, checked=False)))


def _calls(left: Problem | Tensor, directions: Float[Tensor, "p t"], count: int) -> Iterator[tuple]:
    """Yield (start, gradient differences, some directions) of each block."""
    size = max(1, SCORE_NUMBERS // count)
    for start in range(0, directions.shape[1], size):
        yield start, left, directions[:, start : start + size]


@verb
def _block(start: int, left: Problem | Tensor, right: Float[Tensor, "p q"]) -> tuple[int, Float[Tensor, "k q"]]:
    """Return one block of scores, with where it starts."""
    if isinstance(left, Problem):
        return start, left.gradient_differences(right)
    # Column after column, as it is written.
    return start, (right.T @ left.T).T
