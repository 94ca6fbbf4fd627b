"""Exact leave-one-out for smooth losses, warm-started from the trained parameters."""

from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import number, whole
from versatile_influence.core.curvature import newton_is_dense
from versatile_influence.core.determined import told
from versatile_influence.core.finished import at_parameters
from versatile_influence.core.made import made_by
from versatile_influence.core.places import verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params, ravel, stacked
from versatile_influence.core.removals import Removals
from versatile_influence.core.result import Attribution
from versatile_influence.core.scale_free import NoMinimumError
from versatile_influence.core.sizes import NEWTON_STEPS
from versatile_influence.core.warn import warn
from versatile_influence.training.minimize import minimize
from versatile_influence.training.objective import Objective
from versatile_influence.verbs.without import hessians_without, solve_each

# Below it, what is left of a gradient is no news.
LOOSE_GTOL = 1e-6


@verb
def refit(
    loss: object,
    params: Params,
    target: object,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    gtol: float = 1e-10,
    max_steps: int = NEWTON_STEPS,
) -> Attribution:
    """Return the exact change of each target: the loss is minimised again without each object, from θ.

    The ground truth that `attribute` predicts, free of the noise of a new start. `params` are first brought to their
    own minimum. With few parameters all removals are refitted together, by Newton steps with the Hessian without the
    object at θ, and exact gradients; a refit that these do not settle, and every refit of a large model, is minimised
    on its own.

    A refit is done when the gradient's largest entry is at most gtol · n, or after `max_steps` steps. Other arguments
    and the result are those of `attribute`. A removal without which the loss has no finite minimum is recorded in
    `Attribution.failed`, with NaN scores.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> refit(loss, torch.tensor(2.9), lambda theta: theta, n_objects=3).scores.squeeze().tolist()
        [1.0, 0.5, -1.5]
    """
    gtol, max_steps = number(gtol, "gtol", least=0), whole(max_steps, "max_steps", least=1)
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    asked = problem.given.target(target)
    n, loss = problem.removals.n_objects, problem.loss
    # Else part of every score would be training that had not been finished.
    best = minimize(loss, problem.params, gtol=gtol, max_steps=max_steps)
    theta = ravel(best)[0]
    problem = replace(problem, theta=theta, gradient=loss.gradient(best, problem.everyone()))
    if newton_is_dense(loss, best):
        moved, unsettled = _together(problem, gtol * n)
    else:
        moved, unsettled = theta.repeat(problem.removals.count, 1), list(range(problem.removals.count))
    # What is evaluated in half precision is rounded by as much as a removal changes.
    failed, doubted = {}, [] if loss.precision in (torch.float64, torch.float32) else list(range(len(moved)))
    for row in unsettled:
        try:
            # From the common minimum: the nearest minimum is the one that a removal leads to.
            refitted = minimize(loss, best, problem.presence_without(row), gtol=gtol, max_steps=max_steps)
            moved[row] = ravel(refitted)[0]
            objective = Objective.of(loss, problem.unravel, problem.presence_without(row), gtol)
            # Where gtol is above what a removal leaves of the gradient, its refit is over before it starts.
            if not objective.is_reached(moved[row]) or (gtol > LOOSE_GTOL and torch.equal(moved[row], theta)):
                doubted.append(row)
        except NoMinimumError as error:
            failed[row] = str(error)
            # A place to evaluate the target at; its score is NaN.
            moved[row] = theta
    made = made_by("refit", gtol=gtol, max_steps=max_steps)
    result = replace(at_parameters(problem, asked, moved, failed), made=made)
    if doubted:
        warn(
            f"{len(doubted)} of {len(moved)} refits are not exact, and their error is not known (NaN): the loss is "
            f"evaluated in {loss.precision}, the minimiser stopped short, or gtol is above what a removal changes the "
            "gradient by. Evaluate it in float32 or float64; raise max_steps; lower gtol; round what has corners."
        )
        assert result.error is not None
        result.error[doubted] = float("nan")
    return told(problem, asked, result)


def _together(problem: Problem, goal: float) -> tuple[Float[Tensor, "k p"], list[int]]:
    """Return the parameters without each removal, and the rows that did not settle.

    Each step is −H₋ᵢ(θ)⁻¹ ∇L(θᵢ, 1₋ᵢ): the curvature is taken once, at θ, where the loss's own second differences
    give it for all removals at once, and the gradients at θᵢ are exact, so that the fixed point is.
    """
    first, size = problem.gradient - problem.gradient_differences(), problem.gradients_at_once
    moved, unsettled, start = [], [], 0
    for curved, curvatures in hessians_without(problem):
        for part, curvature in zip(curved.split(size), curvatures.split(size), strict=True):
            steps = solve_each(curvature, first[start : start + part.count], units=problem.loss.units)
            settled, bad = _iterate(problem, part, curvature, theta=problem.theta - steps, goal=goal)
            moved.append(settled)
            unsettled += [start + row for row in bad]
            start += part.count
    return torch.cat(moved), unsettled


def _iterate(problem: Problem, part: Removals, curvature: Tensor, *, theta: Tensor, goal: float):
    """Step until every gradient is below the goal; return parameters and the rows that stopped improving."""
    presences = part.presences(problem.theta)
    active, last = torch.arange(part.count), torch.full((part.count,), float("inf"), dtype=theta.dtype)
    stuck: list[int] = []
    units = problem.loss.units
    while len(active):
        # Exact gradients, so that what the steps settle at is the minimum whatever curvature they use.
        gradient = problem.loss.gradients(stacked(problem.unravel, theta[active]), presences[active])
        size = (gradient if units is None else gradient * units).abs().amax(dim=1).nan_to_num(float("inf"))
        # A fixed curvature converges linearly: a gradient that does not halve belongs to Newton's method proper.
        worse = (size > goal) & ~(size <= 0.5 * last[active]) | ~torch.isfinite(size)
        stuck += active[worse].tolist()
        going = (size > goal) & ~worse
        last[active] = size
        # The last step is taken beyond the goal too: it costs nothing more, and gains digits.
        better = ~worse
        theta[active[better]] -= solve_each(curvature[active[better]], gradient[better], units=units)
        active = active[going]
    return theta, stuck
