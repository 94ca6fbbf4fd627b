"""One Newton step on the loss without the object: nearer to retraining than the influence function."""

import warnings
from collections.abc import Iterable
from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, vmap

from versatile_influence._finished import finished
from versatile_influence._memory import memory_named
from versatile_influence._ravel import Params
from versatile_influence.hessian import Hessian, best_dense, deflated
from versatile_influence.loss import Loss, PresenceTarget, Target, has_fast_differences
from versatile_influence.problem import Problem, by_masks
from versatile_influence.result import Attribution
from versatile_influence.solvers import CG
from versatile_influence.targets import checked_target, presence_function, presence_value, target_function


@memory_named()
def newton_step(
    loss: Loss,
    params: Params,
    target: Target | PresenceTarget,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    damping: float = 0.0,
    chunk_size: int | None = None,
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
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects, chunk_size=chunk_size)
    return at_parameters(problem, target, newton_parameters(problem, damping))


def newton_parameters(problem: Problem, damping: float = 0.0) -> Float[Tensor, "k p"]:
    """Return θᵢ = θ − H₋ᵢ⁻¹ ∇L(θ, 1₋ᵢ) of each removal."""
    gradients = problem.gradient - problem.gradient_differences()
    if best_dense(Hessian(problem.loss, problem.unravel(problem.theta), problem.everyone())) is None:
        return problem.theta - _steps_by_cg(problem, gradients, damping)
    p, steps, start = len(problem.theta), [], 0
    for part, curvatures in reduced_hessians(problem):
        damped = curvatures + damping * torch.eye(p, dtype=curvatures.dtype, device=curvatures.device)
        steps.append(solve_each(damped, gradients[start : start + part.count], warn=True))
        start += part.count
    return problem.theta - torch.cat(steps)


def reduced_hessians(problem: Problem):
    """Yield the removals part by part, with H₋ᵢ = ∇²L(θ, 1₋ᵢ) of each as one (c, p, p) tensor."""
    p = len(problem.theta)
    unravelled = problem.unravel(problem.theta)
    reduced = Hessian(problem.loss, unravelled, problem.removals.part(0, 1).presences(problem.theta)[0])
    if reduced.by_hand() is not None:
        for part in problem.parts(p * p):
            dense = [replace(reduced, presence=presence).dense() for presence in part.presences(problem.theta)]
            yield part, torch.stack(dense)
        return
    # The differences are evaluated p² times, for all removals at once; the masked loss p times for each.
    fast = has_fast_differences(problem.loss, problem.removals) and p <= problem.removals.count
    hessian = Hessian(problem.loss, unravelled, problem.everyone())
    full = hessian.dense() if fast else None
    for part in problem.parts(p * p if fast else max(p * p, p * problem.removals.n_objects)):
        if full is not None:
            curvatures = full - jacfwd(jacfwd(lambda theta: problem.differences(theta, part)))(problem.theta)  # noqa: B023
        else:
            # Reverse over reverse: forward over reverse is wrong for some masked losses (pytorch#196705).
            curvatures = by_masks(jacrev(grad(problem.value)), problem.theta, part.presences(problem.theta))
        curvatures = (curvatures + curvatures.mT) / 2
        if hasattr(problem.loss, "null_directions"):
            nulls = [replace(hessian, presence=presence).null_space() for presence in part.presences(problem.theta)]
            curvatures = torch.stack(list(map(deflated, curvatures, nulls)))
        yield part, curvatures


def solve_each(
    matrices: Float[Tensor, "c p p"], rhs: Float[Tensor, "c p"], *, warn: bool = False
) -> Float[Tensor, "c p"]:
    """Return H₋ᵢ⁻¹ bᵢ of each, by Cholesky, or by the least-norm solution where H₋ᵢ is not positive definite."""
    factors, failed = torch.linalg.cholesky_ex(matrices)
    pivots = factors.diagonal(dim1=-2, dim2=-1).square()
    bad = (failed != 0) | (pivots.amin(-1) <= 1e-12 * pivots.amax(-1)) | ~torch.isfinite(pivots).all(-1)
    safe = torch.where(bad[:, None, None], torch.eye(rhs.shape[1], dtype=rhs.dtype, device=rhs.device), factors)
    value = torch.cholesky_solve(rhs[..., None], safe)[..., 0]
    if bad.any():
        value[bad], lost = _flat_step(matrices[bad], rhs[bad])
        if warn and lost.any():
            warnings.warn(
                f"Without the object, the Hessian is not positive definite for {int(lost.sum())} of {len(bad)} "
                "removals, in directions in which the loss is not flat; their step is not to a minimum. Add a penalty "
                "or damping=….",
                stacklevel=4,
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
    left_out = (torch.where(flat, slope, 0.0).abs() > 1e-6 * rhs.abs().amax(-1, keepdim=True)).any(-1)
    return value, left_out | ((curvature < 0) & ~flat).any(-1)


def _steps_by_cg(problem: Problem, gradients: Float[Tensor, "k p"], damping: float) -> Float[Tensor, "k p"]:
    """Return H₋ᵢ⁻¹ bᵢ by conjugate gradients, one removal at a time."""
    unravelled = problem.unravel(problem.theta)
    steps = []
    for row in range(problem.removals.count):
        presence = problem.removals.part(row, row + 1).presences(problem.theta)[0]
        hessian = Hessian(problem.loss, unravelled, presence, damping)
        steps.append(CG().solve(hessian, gradients[row][:, None]).value[:, 0])
    return torch.stack(steps)


def at_parameters(
    problem: Problem,
    target: Target | PresenceTarget,
    moved: Float[Tensor, "k p"],
    failed: dict[int, str] | None = None,
) -> Attribution:
    """Return the change of each target from θ to each row of `moved`, the parameters without that removal."""
    if isinstance(target, PresenceTarget):
        return _presence_change(problem, target, moved, failed)
    function = target_function(problem, target)
    now = checked_target(function(problem.theta))
    size = problem.chunk_size or max(1, 2_000_000 // max(1, len(now)))
    after = vmap(function, chunk_size=size)(moved)
    return _named(problem, target, after - now, failed)


def _presence_change(
    problem: Problem, target: PresenceTarget, moved: Float[Tensor, "k p"], failed: dict[int, str] | None
) -> Attribution:
    function = presence_function(problem, target)
    now = presence_value(problem, target)
    before, after, start = [], [], 0
    for part in problem.parts(max(problem.removals.n_objects, len(now), getattr(target, "size", None) or 0)):
        presences = part.presences(problem.theta)
        before.append(by_masks(function, problem.theta, presences))
        after.append(vmap(function)(moved[start : start + part.count], presences))
        start += part.count
    total, direct = torch.cat(after) - now, torch.cat(before) - now
    return replace(_named(problem, target, total, failed), direct=direct, parameter=total - direct)


def _named(problem: Problem, target: object, scores: Tensor, failed: dict[int, str] | None) -> Attribution:
    """Return the scores as an attribution, with NaN where the removal failed and nowhere else."""
    if not failed:
        return finished(problem, target, scores, None)
    rows = torch.tensor(sorted(failed))
    result = finished(problem, target, scores.index_fill(0, rows, 0.0), None)
    return replace(result, scores=scores.index_fill(0, rows, float("nan")), failed=failed)
