"""Scores that nothing determines, or that are no number: NaN, and said of what."""

from collections.abc import Sequence
from dataclasses import replace

from jaxtyping import Bool
from torch import Tensor

from versatile_influence.core.problem import Problem
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import NAMED, WRONG
from versatile_influence.core.target import PresenceTarget, Target
from versatile_influence.core.warn import UntrustedWarning, warn


def told(problem: Problem, target: Target | PresenceTarget, result: Attribution) -> Attribution:
    """Return the result, NaN where nothing determines a score, after warnings of that and of what is off by half."""
    result = _determined(problem, target, result)
    if (gone := fallen(problem, target, result.names())) is not None:
        result = _without(result, gone, gone.all(1))
    assert result.error is not None
    if (result.error > WRONG).any():
        warn(result.trust(), UntrustedWarning)
    return result


def _determined(problem: Problem, target: Target | PresenceTarget, result: Attribution) -> Attribution:
    """Return the result with NaN for what nothing determines, after a warning that says of what."""
    if not (rows := problem.lost):
        return result
    gone = problem.undetermined(target)
    # What was not finite is NaN already.
    gone[[*rows]] |= result.scores[[*rows]].isnan()
    if not gone.any():
        return result
    names, told, groups = result.names(), [], problem.removals.groups()
    for row, ways in rows.items():
        who = names[row] if len(groups[row]) <= NAMED else f"group {row} ({len(groups[row]):,} objects)"
        told += [f"`{name}` without {who}" for name in ways if gone[row].any()]
    warn(
        f"Nothing determines {', '.join(told)}: it is constant among the others, a combination of other covariates, or "
        "no event is left. Scores that depend on it are NaN. Drop it, or add a penalty > 0."
    )
    return _without(result, gone, gone.any(1))


def fallen(problem: Problem, target: Target | PresenceTarget, names: Sequence[object]) -> Bool[Tensor, "k t"] | None:
    """Return which targets are no number without what they are about, after a warning; None where all are."""
    gone = problem.fallen(target)
    if gone is None:
        return None
    rows = gone.any(1).nonzero()[:, 0].tolist()
    said = ", ".join(str(names[row]) for row in rows[:NAMED]) + ", …" * (len(rows) > NAMED)
    warn(
        f"What is explained is no number without {said}: of what an object owns the penalty leaves 0, and a target "
        f"about it is not finite there (the cosine of no vector). NaN stands for it, {int(gone.sum())} times."
    )
    return gone


def _without(result: Attribution, gone: Bool[Tensor, "k t"], rows: Bool[Tensor, " k"]) -> Attribution:
    """Return the result with NaN for these scores, and for the errors of these rows."""
    nothing = lambda part: None if part is None else part.masked_fill(gone, float("nan"))  # noqa: E731
    assert result.error is not None
    error = result.error.masked_fill(rows, float("nan"))
    return replace(result, scores=nothing(result.scores), parameter=nothing(result.parameter), error=error)
