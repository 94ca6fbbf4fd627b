"""One Newton step on the loss without the object: nearer to retraining than the influence function."""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import number
from versatile_influence.core.curvature import deflated, newton_is_dense
from versatile_influence.core.finished import finished
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

    θᵢ = θ − H₋ᵢ⁻¹ ∇L(θ, 1₋ᵢ), and the target is evaluated anew at θᵢ, where `attribute` is linear in both. Exact
    when L is quadratic. It corrects for the curvature that leaves with the object, and helps most where an object is
    a large part of the loss; for neural networks it was worse than `attribute` in most trials.

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
    result = at_parameters(problem, problem.given.target(target), newton_parameters(problem, held))
    return replace(result, made=made_by("newton_step", damping=held))


def newton_parameters(problem: Problem, damping: float = 0.0) -> Float[Tensor, "k p"]:
    """Return θᵢ = θ − H₋ᵢ⁻¹ ∇L(θ, 1₋ᵢ) of each removal."""
    gradients = problem.gradient - problem.gradient_differences()
    if not newton_is_dense(problem.loss, problem.params):
        return problem.theta - _steps_by_cg(problem, gradients, damping)
    steps, start = [], 0
    for part, curvatures in hessians_without(problem):
        # Damping holds θ where it is; a penalty would pull it to zero.
        held = curvatures + damping * torch.eye(len(problem.theta)).to(curvatures) if damping else curvatures
        steps.append(solve_each(held, gradients[start : start + part.count], telling=True))
        start += part.count
    return problem.theta - torch.cat(steps)


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


def _steps_by_cg(problem: Problem, gradients: Float[Tensor, "k p"], damping: float) -> Float[Tensor, "k p"]:
    """Return H₋ᵢ⁻¹ bᵢ by conjugate gradients, one removal at a time."""
    steps = []
    for row in range(problem.removals.count):
        hessian = Hessian(problem.loss, problem.params, problem.presence_without(row), damping)
        # One column a Hessian: no work is shared between removals.
        steps.append(CG().solve(hessian, gradients[row][:, None]).value[:, 0])
    return torch.stack(steps)


def at_parameters(
    problem: Problem, asked: Target | PresenceTarget, moved: Float[Tensor, "k p"], failed: dict[int, str] | None = None
) -> Attribution:
    """Return the change of each target from θ to each row of `moved`, the parameters without that removal."""
    if isinstance(asked, PresenceTarget):
        total, direct = asked.at(problem.params, moved, problem.removals)
        return replace(_named(problem, asked, total, failed), direct=direct, parameter=total - direct)
    return _named(problem, asked, evaluated(asked, problem.params, moved), failed)


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
