"""One Newton step on the loss without the object: nearer to retraining than the influence function."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import number
from versatile_influence.core.curvature import newton_is_dense
from versatile_influence.core.determined import told
from versatile_influence.core.finished import at_parameters
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.made import made_by
from versatile_influence.core.places import verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.result import Attribution
from versatile_influence.core.target import PresenceTarget, Target
from versatile_influence.solvers.cg import CG
from versatile_influence.training.directions import newton_direction
from versatile_influence.training.objective import Objective
from versatile_influence.verbs.trust import Scale, gradients_at, rises, scores_at
from versatile_influence.verbs.without import hessians_without, solve_each


@verb
def newton_step(
    loss: object,
    params: Params,
    target: object,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    damping: float = 0.0,
) -> Attribution:
    """Return the change of each target after one Newton step on L(·, 1₋ᵢ), for each object i.

    θᵢ = θ − s H₋ᵢ⁻¹ ∇L(θ, 1₋ᵢ), and the target is evaluated anew at θᵢ, where `attribute` is linear in both. Exact
    when L is quadratic. It corrects for the curvature that leaves with the object, and helps most where an object is
    a large part of the loss. s is 1, halved until the loss without the object falls; where H₋ᵢ is indefinite the step
    is −|H₋ᵢ|⁻¹∇L. `Attribution.error` is how far a second step would still move the targets.

    Arguments and result are those of `attribute`. For a `PresenceTarget` the direct part is f(θ, 1₋ᵢ) − f(θ, 1) and
    the rest is the part through the parameters.

    References:
        Pregibon (1981), "Logistic regression diagnostics": the one-step estimate.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> newton_step(loss, torch.tensor(3.0), lambda theta: theta, n_objects=3).scores.squeeze().tolist()
        [1.0, 0.5, -1.499...]
    """
    held = number(damping, "damping", least=0)
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    moved, further = zip(*newton_steps(problem, held), strict=True)
    result = judged(problem, problem.given.target(target), torch.cat(moved), torch.cat(further))
    return replace(result, made=made_by("newton_step", damping=held))


def newton_steps(problem: Problem, damping: float = 0.0) -> Iterator[tuple[Float[Tensor, "c p"], Float[Tensor, "c p"]]]:
    """Yield, part by part, θᵢ = θ − s H₋ᵢ⁻¹ ∇L(θ, 1₋ᵢ) of each removal, and where a second such step would lead."""
    if not newton_is_dense(problem.loss, problem.params):
        for row in range(problem.removals.count):
            part = problem.of_rows([row])
            hessian = Hessian(problem.loss, problem.params, problem.presence_without(row), damping)
            # One column a Hessian: no work is shared between removals. A second step is looked at, not taken.
            yield _moved(part, lambda rhs, rtol, H=hessian: CG(rtol=rtol).solve(H, rhs.T).value.T)
        return
    for removals, curvatures in hessians_without(problem):
        # Damping holds θ where it is; a penalty would pull it to zero.
        held = curvatures + damping * torch.eye(len(problem.theta)).to(curvatures) if damping else curvatures
        yield _moved(
            replace(problem, removals=removals),
            lambda rhs, rtol, H=held: solve_each(H, rhs, units=problem.loss.units, telling=rtol < 0.1),
            held,
        )


def _moved(
    part: Problem, solve: Callable[[Tensor, float], Tensor], curvatures: Float[Tensor, "c p p"] | None = None
) -> tuple[Float[Tensor, "c p"], Float[Tensor, "c p"]]:
    """Return parameters one step on, halved where the loss without the removal rises, and two steps on."""
    before = part.gradient - part.gradient_differences()
    moved = part.theta - solve(before, 1e-5)
    slopes = gradients_at(part, moved)
    for row in rises(part, moved, slopes, before, torch.zeros_like(part.theta)):
        units, step = part.loss.units, moved[row] - part.theta
        step = step if curvatures is None else newton_direction(curvatures[row], before[row], units)
        objective = Objective.of(part.loss, part.unravel, part.presence_without(row))
        shorter = objective.downhill(part.theta, step, gradient=before[row], value=objective.value(part.theta))
        moved[row] = part.theta if shorter is None else shorter
        slopes[row] = objective.gradient(moved[row])[0]
    return moved, moved - solve(slopes, 0.1)


def judged(
    problem: Problem, asked: Target | PresenceTarget, moved: Float[Tensor, "k p"], further: Float[Tensor, "k p"]
) -> Attribution:
    """Return the scores at `moved`, with their distance from those at parameters nearer to the minimum as error."""
    result = at_parameters(problem, asked, moved)
    better = scores_at(problem, asked, further)
    return told(problem, asked, replace(result, error=Scale.of(result.scores).errors(result.scores, better)))
