"""Scores that nothing determines: of parameters that the data without an object say nothing of."""

from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from versatile_influence.core.curvature import in_units
from versatile_influence.core.derivatives import jacobian_products
from versatile_influence.core.problem import Problem
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import FLAT, SINGULAR
from versatile_influence.core.solver import share_along
from versatile_influence.core.target import PresenceTarget, Target, flat_target
from versatile_influence.core.warn import warn


def lost(problem: Problem) -> dict[int, dict[str, Tensor]]:
    """Return the directions that nothing determines without each removal, by row and name; of most rows none."""
    known, removals = problem.loss.undetermined, problem.removals
    if known is None:
        return {}
    if not removals.grouped:
        return {row: known[one] for row, one in enumerate(removals.members.tolist()) if one in known} if known else {}
    found, loss, p = {}, problem.loss, len(problem.theta)
    names = loss.parameter_names or [str(place) for place in range(p)]
    units = problem.theta.new_ones(p) if loss.units is None else loss.units
    curvatures = (
        in_units(loss.hessians_without(problem.params, part), units)
        for part in removals.parts(p * (p if loss.differences_together else max(p, loss.n_objects)))
    )
    for row, curvature in enumerate(torch.cat([*curvatures])):
        size, ways = torch.linalg.eigh(curvature)
        flat = ways[:, size <= SINGULAR * size[-1]].T
        if len(flat):
            found[row] = {str(names[int(way.abs().argmax())]): units * way for way in flat}
    return found


def undetermined(problem: Problem, target: Target | PresenceTarget) -> Bool[Tensor, "k t"] | None:
    """Return which scores depend on parameters that nothing determines without the object; None where none do."""
    return _dependent(problem, target, rows) if (rows := lost(problem)) else None


def _dependent(problem: Problem, target: Target | PresenceTarget, rows: dict[int, dict[str, Tensor]]) -> Tensor:
    members = problem.removals.groups()
    gone = torch.zeros(problem.removals.count, len(target.now(problem.params, problem.removals.n_objects))).bool()
    for row, ways in rows.items():
        presence = problem.everyone().index_fill(0, members[row], 0.0)

        def values(theta: Tensor, presence: Tensor = presence) -> Tensor:
            params = problem.unravel(theta)
            # Of a standard error or a baseline those left say on what it depends.
            return flat_target(target(params, presence) if isinstance(target, PresenceTarget) else target(params))

        basis = torch.linalg.qr(torch.stack(list(ways.values()), dim=1).to(problem.theta))[0]
        gone[row] = ~(share_along(basis, jacobian_products(values, problem.theta).T) <= FLAT)
    return gone


def determined(problem: Problem, target: Target | PresenceTarget, result: Attribution) -> Attribution:
    """Return the result with NaN for what nothing determines, after a warning that says of what."""
    if not (rows := lost(problem)):
        return result
    gone = _dependent(problem, target, rows)
    # What was not finite is NaN already.
    gone[[*rows]] |= result.scores[[*rows]].isnan()
    if not gone.any():
        return result
    names = result.names()
    told = ", ".join(f"`{name}` without {names[row]}" for row, ways in rows.items() if gone[row].any() for name in ways)
    warn(
        f"Nothing determines {told}: it is constant among the others, a combination of other covariates, or no event "
        "is left. Scores that depend on it are NaN. Drop it, or add a penalty > 0."
    )
    nothing = lambda part: None if part is None else part.masked_fill(gone, float("nan"))  # noqa: E731
    assert result.error is not None
    error = result.error.masked_fill(gone.any(1), float("nan"))
    return replace(result, scores=nothing(result.scores), parameter=nothing(result.parameter), error=error)
