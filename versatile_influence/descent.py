"""A few steps towards the refit: the rung between one Newton step and exact retraining."""

from collections.abc import Iterable

import torch

from versatile_influence._ravel import Params
from versatile_influence.loss import Loss, PresenceTarget, Target, at_presence
from versatile_influence.minimisation import Objective, few_steps
from versatile_influence.newton import at_parameters
from versatile_influence.problem import Problem
from versatile_influence.result import Attribution


def descend(
    loss: Loss,
    params: Params,
    target: Target | PresenceTarget,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    steps: int = 4,
    chunk_size: int | None = None,
) -> Attribution:
    """Return the change of each target after a few downhill steps on L(·, 1₋ᵢ) from θ, for each object i.

    For objects so large a part of the loss, as the hubs of a graph, that one Newton step leads astray: each step is
    θ ← θ − s |H₋ᵢ|⁻¹ ∇L(θ, 1₋ᵢ), with the absolute eigenvalues of the Hessian at the point reached and s halved until
    the loss falls. Costs one Hessian a step and object, so a fraction of a refit. Above some hundred parameters each
    step is ten of L-BFGS in its place.

    Arguments and result are those of `attribute`; the parameters should be at a minimum.

    Args:
        loss: `loss(params, presence) -> scalar`, a sum.
        params: The trained parameters.
        target: What to explain.
        n_objects: How many objects there are, where the loss does not say.
        objects: Which to remove, as in `attribute`.
        steps: How many steps are taken at most.
        chunk_size: Removals whose targets are evaluated at once.

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
    if steps < 1:
        raise ValueError(f"`steps` must be at least 1, got {steps}. For no step at all see `attribute`.")
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects, chunk_size=chunk_size)
    moved = []
    for row in range(problem.removals.count):
        presence = problem.removals.part(row, row + 1).presences(problem.theta)[0]
        objective = Objective(
            at_presence(loss, presence), problem.unravel, presence, goal=1e-10 * problem.removals.n_objects
        )
        moved.append(few_steps(objective, problem.theta, steps))
    return at_parameters(problem, target, torch.stack(moved))
