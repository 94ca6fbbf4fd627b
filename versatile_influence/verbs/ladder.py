"""The ladder from a prediction to a refit, climbed removal by removal as far as its estimated error asks.

    attribute    the prediction itself
    chord        steps −H⁻¹ ∇L(·, 1₋ᵢ) on from θ + Δᵢ, with the H of everybody
    descend      the minimiser's own downhill steps from θ, until what one still changes is below the tolerance
    refit        the same, to the minimum

A step that does not make the loss fall, or the error less than half, leads to the next rung: none ends higher than the
one below. Descent starts at θ, as a refit does, so that both go into the same valley.
"""

import warnings
from dataclasses import replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.derivatives import numbers_held
from versatile_influence.core.finished import sloping
from versatile_influence.core.problem import Problem
from versatile_influence.core.result import Attribution
from versatile_influence.core.scale_free import NoMinimumError
from versatile_influence.core.sizes import (
    CHECKED_NUMBERS,
    CHORDS,
    DOUBTED,
    HELD_NUMBERS,
    LEAST_CHECKED,
    NEAR,
    NEWTON_STEPS,
    SAMPLED_NUMBERS,
    SCALE_NUMBERS,
    UNCHECKED_NUMBERS,
    at_once,
)
from versatile_influence.core.solver import Inverse
from versatile_influence.training.minimize import minimum
from versatile_influence.training.objective import Objective
from versatile_influence.verbs.changes import solved_changes
from versatile_influence.verbs.trust import Asked, Scale, Steps, estimated, scores_at

Checked = tuple[Float[Tensor, " k"], Float[Tensor, " k"], Float[Tensor, "k p"], Float[Tensor, "k t"]]


def with_errors(
    problem: Problem, target: Asked, inverse: Inverse, result: Attribution, *, check: bool | str
) -> Attribution:
    """Return the result with the estimated error of the removals that are checked."""
    if check is False:
        return result
    scale = Scale.of(result.scores)
    rows = rows_to_check(problem, result, scale) if check is True else torch.arange(problem.removals.count)
    error = torch.full((len(result.scores),), float("nan"), dtype=result.scores.dtype)
    for some in (
        () if not len(rows) else rows.split(at_once(problem.removals.n_objects + len(problem.theta), most=HELD_NUMBERS))
    ):
        part = problem if len(some) == problem.removals.count else problem.of_rows(some.tolist())
        with warnings.catch_warnings():
            # What the solver falls short by shows in the errors.
            warnings.simplefilter("ignore")
            given = {"scores": result.scores[some], "differences": part.gradient_differences()}
            error[some], *_ = _predicted(part, target, scale, inverse, **given)
    return replace(result, error=error)


def climbed(problem: Problem, target: Asked, inverse: Inverse, result: Attribution, *, tolerance: float) -> Attribution:
    """Return the result with every removal taken up the ladder until its estimated error is within the tolerance."""
    scale, scores = Scale.of(result.scores), result.scores.clone()
    differences = problem.gradient_differences()
    error, distance, further, better = _predicted(
        problem, target, scale, inverse, scores=scores, differences=differences
    )
    rungs, failed = ["attribute"] * len(scores), dict(result.failed or {})
    fallen = problem.fallen(target)
    nothing = torch.zeros(len(scores), dtype=torch.bool) if fallen is None else fallen.all(1)
    going = (~(error <= tolerance) & ~nothing).nonzero()[:, 0]
    climbing = going[torch.isfinite(error[going])]
    for _ in range(CHORDS):
        if not len(climbing):
            break
        part, tilt = problem.of_rows(climbing.tolist()), problem.gradient
        last, here, there = distance[climbing], further[climbing], better[climbing]
        given = {"scale": scale, "steps": _chords(inverse), "tilt": tilt, "before": -differences[climbing]}
        found = estimated(part, target, moved=here, scores=there, **given)
        improved = found[0] < 0.5 * last
        kept = climbing[improved]
        distance[kept], further[kept], better[kept] = (values[improved] for values in found)
        # What is left is the sum of the steps to come, each as much smaller as this one was.
        error[kept] = distance[kept] / (1 - distance[kept] / last[improved])
        scores[kept] = there[improved]
        for row in kept.tolist():
            rungs[row] = "chord"
        climbing = kept[error[kept] > tolerance]
    for row in (~(error <= tolerance) & ~nothing).nonzero()[:, 0].tolist():
        part = problem.of_rows([row])
        try:
            theta, rungs[row], error[row] = _descended(part, target, scale, tolerance)
            scores[row] = scores_at(part, target, theta[None])[0]
        except NoMinimumError as none:
            failed[row], scores[row], error[row], rungs[row] = str(none), float("nan"), float("nan"), "refit"
    direct = result.direct
    return replace(
        result,
        scores=scores,
        error=error,
        rung=rungs,
        failed=failed or None,
        parameter=None if direct is None else scores - direct,
    )


def _descended(part: Problem, target: Asked, scale: Scale, tolerance: float) -> tuple[Float[Tensor, " p"], str, float]:
    """Return the parameters without one removal, near enough to a minimum, by which rung, and the estimated error."""
    last, length, error = torch.zeros_like(scale.unit), float("inf"), float("inf")

    def enough(theta: Tensor, moved: Tensor) -> bool:
        nonlocal last, length, error
        (here,), before, longer = scores_at(part, target, moved[None]), last, length
        last, length = here, (moved - theta).norm().item()
        error = scale.errors(before[None], here[None]).item()
        # Steps that do not shrink add up without end, however small they are beside their sum, and however little a
        # target changes along them: near a minimum, and at no saddle on the way, each is a small share of the last.
        return error <= tolerance and length <= NEAR * longer

    theta, is_minimum = minimum(
        Objective.of(part.loss, part.unravel, part.presence_without(0)), part.theta, NEWTON_STEPS, enough
    )
    return (theta, "refit", 0.0) if is_minimum else (theta, "descend", error)


def _predicted(
    part: Problem,
    target: Asked,
    scale: Scale,
    inverse: Inverse,
    *,
    scores: Float[Tensor, "k t"],
    differences: Float[Tensor, "k p"],
) -> Checked:
    """Return the estimated errors of predicted scores, how far one step moves them, and parameters and scores there.

    Steps that shrink slowly add up: where the error is not small a second one says how fast they do.
    """
    moved = part.theta + solved_changes(part, inverse, differences)[0]
    given = {"scale": scale, "steps": _chords(inverse), "tilt": part.gradient}
    error, further, better = estimated(part, target, moved=moved, scores=scores, before=-differences, **given)
    distance = error.clone()
    rows = ((error > DOUBTED) & error.isfinite()).nonzero()[:, 0]
    if len(rows):
        some = part.of_rows(rows.tolist())
        there = {"moved": further[rows], "scores": better[rows], "before": -differences[rows]}
        error[rows] = scale.errors_of_series(scores[rows], better[rows], estimated(some, target, **there, **given)[2])
    error[sloping(inverse, differences)] = float("inf")
    return error, distance, further, better


def _chords(inverse: Inverse) -> Steps:
    """Return the steps −H⁻¹∇L with the curvature of everybody; what a removed object owned stays at 0."""

    def steps(problem: Problem, slopes: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
        mask = problem.owned()
        if not mask.dim():
            return -(inverse @ slopes.T).T
        return -(inverse @ slopes.masked_fill(mask, 0.0).T).T.masked_fill(mask, 0.0)

    return steps


def rows_to_check(problem: Problem, result: Attribution, scale: Scale) -> Int[Tensor, " m"]:
    """Return which removals are checked: all where that takes less than a second or than the scores, else a sample.

    None where the least sample takes minutes. Half of it move some target most, half are drawn with a fixed seed.
    """
    k, every = problem.removals.count, torch.arange(problem.removals.count)
    steps = result.solution.num_steps if result.solution is not None else 0
    each = max(numbers_held(problem.loss, problem.params, problem.everyone()), len(problem.theta)) * (1 + 2 * steps)
    # A Hessian of products costs one a parameter; an iterative solution some for each target.
    spent = result.scores.shape[1] * steps if steps else 0 if problem.loss.hessian_written_out else len(problem.theta)
    if k * each <= CHECKED_NUMBERS or k <= spent / (1 + 2 * steps):
        return every
    if LEAST_CHECKED * each > UNCHECKED_NUMBERS:
        return every[:0]
    count = min(k, max(LEAST_CHECKED, SAMPLED_NUMBERS // each, int(spent / (1 + 2 * steps))))
    every_so = 1 + result.scores.numel() // SCALE_NUMBERS
    size = (result.scores[:, ::every_so] / scale.unit[::every_so]).abs().amax(1)
    order = size.argsort(descending=True, stable=True)
    rest = order[(count + 1) // 2 :]
    drawn = rest[torch.randperm(len(rest), generator=torch.Generator().manual_seed(0), device="cpu")]
    return torch.cat([order[: (count + 1) // 2], drawn[: count // 2]]).sort().values
