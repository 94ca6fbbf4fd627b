"""Targets as functions of flat parameters, with their gradients, checked."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, jvp, vmap

from versatile_influence._finite import all_finite
from versatile_influence._forward import chunk_that_fits, jacobian_products
from versatile_influence._jacobian import factored
from versatile_influence._memory import check_room
from versatile_influence._rows import row_blocks
from versatile_influence.loss import PresenceTarget, Target
from versatile_influence.problem import Problem


def target_function(problem: Problem, target: Target) -> Callable[[Tensor], Tensor]:
    """Return the target as a function of the flat parameters with a flat result."""
    if not callable(target):
        raise TypeError(f"`target` must be a function of the parameters, got {type(target).__name__}.")
    return lambda theta: flat_target(target(problem.unravel(theta)))


def presence_function(problem: Problem, target: PresenceTarget) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the target as a function of the flat parameters and presence, with a flat result."""
    return lambda theta, presence: flat_target(target(problem.unravel(theta), presence))


def presence_value(problem: Problem, target: PresenceTarget) -> Float[Tensor, " t"]:
    """Return the target's value now, checked."""
    return checked_target(presence_function(problem, target)(problem.theta, problem.everyone()))


def presence_effects(
    problem: Problem, target: PresenceTarget, changes: Float[Tensor, "k p"]
) -> tuple[Float[Tensor, "k t"], Float[Tensor, "k t"]]:
    """Return f(θ, 1₋ᵢ) − f(θ, 1) and ∇f(θ, 1₋ᵢ)ᵀ Δθᵢ, by the target's own method where it has one."""
    full = presence_value(problem, target)
    if target.effects is not None and not problem.removals.grouped:
        by_hand = target.effects(problem.unravel(problem.theta), changes, problem.removals.members)
        if by_hand is not None:
            return by_hand
    value = presence_function(problem, target)

    def both(presence: Tensor, change: Tensor) -> tuple[Tensor, ...]:
        return jvp(lambda theta: value(theta, presence), (problem.theta,), (change,))

    direct, parameter, start = [], [], 0
    size = getattr(target, "size", None) or 0
    for part in problem.parts(max(problem.removals.n_objects, len(full), len(problem.theta), size)):
        step = changes[start : start + part.count]
        without, moved = vmap(both)(part.presences(problem.theta), step)
        direct.append(without - full)
        parameter.append(moved)
        start += part.count
    return torch.cat(direct), torch.cat(parameter)


def target_gradients(problem: Problem, target: Target) -> Float[Tensor, "t p"]:
    """Return ∇f of each target number.

    Raises:
        TypeError: If the target returns no tensor.
        ValueError: If the target or its gradient is not finite.
    """
    function = target_function(problem, target)
    values = checked_target(function(problem.theta))
    t, p = len(values), len(problem.theta)
    check_room(
        2 * t * p,
        problem.theta,
        what=f"The gradients of {t:,} targets in {p:,} parameters, and what is solved for them,",
        instead="Explain fewer targets in a call. (chunk_size bounds what is beside them.)",
    )
    by_hand = getattr(target, "gradients", None)
    gradients = None if by_hand is None else by_hand(problem.unravel(problem.theta))
    if gradients is None:
        gradients = _derived(problem, target, function, values)
    if not all_finite(gradients):
        worst = int((~torch.isfinite(gradients)).any(dim=1).nonzero()[0])
        raise ValueError(f"The gradient of target {worst} has NaN or infinite entries. Leave it out, or smooth it.")
    return gradients


def _derived(
    problem: Problem, target: Target, function: Callable[[Tensor], Tensor], values: Float[Tensor, " t"]
) -> Float[Tensor, "t p"]:
    """Return ∇f of each target number by automatic differentiation."""
    chunk = problem.chunk_size or chunk_that_fits(function, problem.theta)
    by_row = getattr(target, "by_row", None) if len(problem.theta) > len(values) else None
    factors = factored(by_row, values, problem.unravel(problem.theta))
    if factors is not None:
        return factors.dense()
    blocks = row_blocks(by_row, values, problem.theta, problem.unravel)
    if blocks is not None:
        return torch.cat(list(blocks))
    if len(problem.theta) <= len(values):
        return jacobian_products(function, problem.theta, chunk_size=chunk)
    return jacrev(function, chunk_size=chunk)(problem.theta)


def flat_target(values: object) -> Float[Tensor, " t"]:
    """Return what a target returned as a vector.

    Raises:
        TypeError: If it is no tensor.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"The target must return a tensor, but it returned {type(values).__name__}.")
    return values.reshape(-1)


def checked_target(values: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Return the target's values if there are any, all finite.

    Raises:
        ValueError: If there is none, or one is not finite.
    """
    if not len(values):
        raise ValueError("The target returned no numbers. Ask for at least one.")
    if not all_finite(values):
        worst = int((~torch.isfinite(values)).nonzero()[0])
        raise ValueError(f"Target {worst} is {values[worst].item()}. Remove it, or look for NaN in its test data.")
    return values
