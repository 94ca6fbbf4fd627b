"""A few steps towards the refit: the rung between one Newton step and exact retraining."""

from collections.abc import Iterable
from dataclasses import replace

import torch

from versatile_influence.core.checks import whole
from versatile_influence.core.made import made_by
from versatile_influence.core.places import verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.result import Attribution
from versatile_influence.training.minimize import few_steps
from versatile_influence.training.objective import Objective
from versatile_influence.verbs.newton_step import judged


@verb
def descend(
    loss: object,
    params: Params,
    target: object,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    steps: int = 4,
) -> Attribution:
    """Return the change of each target after a few downhill steps on L(·, 1₋ᵢ) from θ, for each object i.

    For objects so large a part of the loss, as the hubs of a graph, that one Newton step leads astray: each step is
    θ ← θ − s |H₋ᵢ|⁻¹ ∇L(θ, 1₋ᵢ), with the absolute eigenvalues of the Hessian at the point reached and s halved until
    the loss falls. Costs one Hessian a step and object, so a fraction of a refit. Above some hundred parameters each
    step is ten of L-BFGS in its place.

    At most `steps` are taken, and one more tells `Attribution.error`. Other arguments and the result are those of
    `attribute`; the parameters should be at a minimum.

    Raises:
        ValueError: If `steps` is less than 1.

    References:
        Dauphin et al. (2014), "Identifying and attacking the saddle point problem", for |H|.

    Example:
        >>> import versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * torch.cosh(x - theta)).sum()
        >>> theta = vif.minimize(loss, torch.tensor(3.0), n_objects=3)
        >>> rough = vif.newton_step(loss, theta, lambda theta: theta, n_objects=3)
        >>> close = vif.descend(loss, theta, lambda theta: theta, n_objects=3)
        >>> exact = vif.refit(loss, theta, lambda theta: theta, n_objects=3)
        >>> bool((close.scores - exact.scores).abs().max() < 0.1 * (rough.scores - exact.scores).abs().max())
        True
    """
    steps = whole(steps, "steps", least=1)
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    asked = problem.given.target(target)
    moved, further = [], []
    for row in range(problem.removals.count):
        objective = Objective.of(problem.loss, problem.unravel, problem.presence_without(row))
        moved.append(few_steps(objective, problem.theta, steps))
        further.append(few_steps(objective, moved[-1], 1))
    result = judged(problem, asked, torch.stack(moved), torch.stack(further))
    return replace(result, made=made_by("descend", steps=steps))
