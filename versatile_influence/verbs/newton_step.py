"""One Newton step on the loss without the object: nearer to retraining than the influence function."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import number
from versatile_influence.core.curvature import deflated, newton_is_dense
from versatile_influence.core.finished import finished, told
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.made import made_by
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.removals import Removals
from versatile_influence.core.result import Attribution
from versatile_influence.core.target import PresenceTarget, Target, evaluated
from versatile_influence.core.warn import warn
from versatile_influence.core.words import errors_named
from versatile_influence.solvers.cg import CG
from versatile_influence.training.directions import newton_direction
from versatile_influence.training.objective import Objective
from versatile_influence.verbs.trust import Scale, gradients_at, rises, scores_at


@errors_named()
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
    result = at_parameters(problem, problem.given.target(target), torch.cat(moved), further=torch.cat(further))
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
            replace(problem, removals=removals), lambda rhs, rtol, H=held: solve_each(H, rhs, telling=rtol < 0.1), held
        )


def _moved(
    part: Problem, solve: Callable[[Tensor, float], Tensor], curvatures: Float[Tensor, "c p p"] | None = None
) -> tuple[Float[Tensor, "c p"], Float[Tensor, "c p"]]:
    """Return parameters one step on, halved where the loss without the removal rises, and two steps on."""
    before = part.gradient - part.gradient_differences()
    moved = part.theta - solve(before, 1e-5)
    slopes = gradients_at(part, moved)
    for row in rises(part, moved, slopes, before, torch.zeros_like(part.theta)):
        step = moved[row] - part.theta if curvatures is None else newton_direction(curvatures[row], before[row])
        objective = Objective.of(part.loss, part.unravel, part.presence_without(row))
        shorter = objective.downhill(part.theta, step, gradient=before[row], value=objective.value(part.theta))
        moved[row] = part.theta if shorter is None else shorter
        slopes[row] = objective.gradient(moved[row])[0]
    return moved, moved - solve(slopes, 0.1)


def hessians_without(problem: Problem) -> Iterator[tuple[Removals, Float[Tensor, "c p p"]]]:
    """Yield the removals part by part, with H₋ᵢ = ∇²L(θ, 1₋ᵢ) of each."""
    p, loss, params = len(problem.theta), problem.loss, problem.params
    # A matrix each, or the second derivatives of a masked loss, which hold n numbers a column.
    for part in problem.removals.parts(p * (p if loss.differences_together else max(p, loss.n_objects))):
        curvatures = loss.hessians_without(params, part)
        if not loss.hessian_written_out and loss.null_directions(params, problem.everyone()):
            nulls = [Hessian(loss, params, presence).null_space() for presence in part.presences(problem.theta)]
            curvatures = torch.stack(list(map(deflated, curvatures, nulls)))
        yield part, curvatures


def solve_each(
    matrices: Float[Tensor, "c p p"], rhs: Float[Tensor, "c p"], *, telling: bool = False
) -> Float[Tensor, "c p"]:
    """Return H₋ᵢ⁻¹ bᵢ of each, by Cholesky, or by the least-norm solution where H₋ᵢ is not positive definite."""
    factors, failed = torch.linalg.cholesky_ex(matrices)
    pivots = factors.diagonal(dim1=-2, dim2=-1).square()
    # A factor may exist by rounding alone: a last pivot of 1e-16 is a singular matrix.
    bad = (failed != 0) | (pivots.amin(-1) <= 1e-12 * pivots.amax(-1)) | ~torch.isfinite(pivots).all(-1)
    # What failed is solved below; here it must only do no harm.
    safe = torch.where(bad[:, None, None], torch.eye(rhs.shape[1], dtype=rhs.dtype, device=rhs.device), factors)
    value = torch.cholesky_solve(rhs[..., None], safe)[..., 0]
    if bad.any():
        value[bad], lost = _flat_step(matrices[bad], rhs[bad])
        if telling and lost.any():
            warn(
                f"Without the object, the Hessian is not positive definite for {int(lost.sum())} of {len(bad)} "
                "removals, in directions in which the loss is not flat; their step is not to a minimum. Add a penalty "
                "or damping=….",
            )
    return value


def _flat_step(
    matrices: Float[Tensor, "c p p"], rhs: Float[Tensor, "c p"]
) -> tuple[Float[Tensor, "c p"], Bool[Tensor, " c"]]:
    """Return the least-norm steps, and whether one leaves out a slope or follows a negative curvature.

    Parameters that the removed object alone had are flat without a slope: nothing is lost.
    """
    curvature, directions = torch.linalg.eigh(matrices)
    flat = curvature.abs() <= 1e-12 * curvature.abs().amax(-1, keepdim=True)
    slope = (directions.mT @ rhs[..., None])[..., 0]
    value = (directions @ torch.where(flat, 0.0, slope / torch.where(flat, 1.0, curvature))[..., None])[..., 0]
    # A slope along a flat direction would carry the step to infinity.
    left_out = (torch.where(flat, slope, 0.0).abs() > 1e-6 * rhs.abs().amax(-1, keepdim=True)).any(-1)
    return value, left_out | ((curvature < 0) & ~flat).any(-1)


def at_parameters(
    problem: Problem,
    asked: Target | PresenceTarget,
    moved: Float[Tensor, "k p"],
    *,
    further: Float[Tensor, "k p"] | None = None,
    failed: dict[int, str] | None = None,
) -> Attribution:
    """Return the change of each target from θ to each row of `moved`, the parameters without that removal.

    `further` are parameters nearer to the minimum, which the scores are judged by; None where they are at it.
    """
    if isinstance(asked, PresenceTarget):
        total, direct = asked.at(problem.params, moved, problem.removals)
        result = replace(_named(problem, asked, total, failed), direct=direct, parameter=total - direct)
    else:
        result = _named(problem, asked, evaluated(asked, problem.params, moved), failed)
    if further is None:
        return replace(result, error=torch.where(result.scores.isnan().any(1), float("nan"), 0.0).double())
    better = scores_at(problem, asked, further)
    return told(replace(result, error=Scale.of(result.scores).errors(result.scores, better)))


def _named(
    problem: Problem, target: Target | PresenceTarget, scores: Tensor, failed: dict[int, str] | None
) -> Attribution:
    """Return the scores as an attribution, with NaN where the removal failed and nowhere else."""
    if not failed:
        return finished(problem, scores, target)
    rows = torch.tensor(sorted(failed))
    # What failed is NaN by design; everything else must still be finite.
    result = finished(problem, scores.index_fill(0, rows, 0.0), target)
    return replace(result, scores=scores.index_fill(0, rows, float("nan")), failed=failed)
