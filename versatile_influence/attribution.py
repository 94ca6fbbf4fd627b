"""The versatile influence function: §3.4 of the paper.

A score is `f(θ without i) − f(θ)`, in the units of the target: what retraining would show. To first order the
parameters change by

    Δθᵢ = H⁻¹ ∇(L(θ, 1) − L(θ, 1₋ᵢ)),      H = ∇²L(θ, 1),

and the target by ∇f(θ)ᵀ Δθᵢ. Eq. 10's VIF is −n Δθᵢ, with Eq. 11 for the target: `Attribution.vif`.
"""

from collections.abc import Iterable
from dataclasses import replace
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence._finished import finished, typical_of_product, warn_if_unfinished
from versatile_influence._memory import memory_named
from versatile_influence._ravel import Params
from versatile_influence.blockwise import written_scores
from versatile_influence.hessian import Curvature, CurvatureOf, Hessian, warn_if_undetermined
from versatile_influence.loss import Loss, PresenceTarget, Target
from versatile_influence.owned import Treatment, marginalised, shared
from versatile_influence.owned_by_target import scores_by_target
from versatile_influence.problem import Problem
from versatile_influence.reduced import Reduced
from versatile_influence.result import Attribution
from versatile_influence.solvers import Explicit, Solution, Solver
from versatile_influence.targets import presence_effects, target_gradients


@memory_named()
def attribute(
    loss: Loss,
    params: Params,
    target: Target | PresenceTarget,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    solver: Solver = Explicit(),  # noqa: B008  (a frozen value)
    damping: float = 0.0,
    curvature: CurvatureOf = Hessian,
    owned: Treatment = marginalised,
    chunk_size: int | None = None,
    out: str | PathLike | None = None,
    n_jobs: int | None = None,
) -> Attribution:
    """Return the predicted change of each target when each object is removed, without retraining (Eqs. 10–11).

    Args:
        loss: `loss(params, presence) -> scalar`, a sum; see `versatile_influence.loss` for what more it may offer.
        params: The trained parameters, a tensor or a dict of tensors, at a minimum of `loss(·, 1)`.
        target: `target(params) -> (t,)`, or a `PresenceTarget`.
        n_objects: How many objects there are, where the loss does not say.
        objects: Which to remove: None for each in turn, a list of object numbers, or a list of groups of them, each
            group removed together.
        solver: How H x = b is solved.
        damping: Added to the diagonal of H, in units of the summed loss.
        curvature: What stands for H: `Hessian`, or `GaussNewton` for a loss of outputs; a function of (loss, params,
            presence, damping).
        owned: How parameters are treated that only a removed object trains, where the loss names them with `owned(i)`:
            a function of `versatile_influence.owned`.
        chunk_size: Removals (or directions) handled at once. Lower it where memory runs out.
        out: A folder, for scores that outgrow memory: they are written there block by block, and read from there
            when they are used. `Attribution.load(out)` opens it again.
        n_jobs: With `out`, how many blocks at once, on joblib's engines as in `leave_one_out`.

    Returns:
        Scores (k, t): f(θ without i) − f(θ), to first order.

    Raises:
        TypeError: If loss, target or parameters are not of the form above.
        ValueError: If anything is not finite, or the numbers of objects disagree.

    Warns:
        UserWarning: If the parameters are not at a minimum, or the solver did not fully succeed.

    References:
        Deng et al., "A Versatile Influence Function for Data Attribution with Non-Decomposable Loss", Eqs. 10 and 11.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> attribute(loss, torch.tensor(3.0), lambda theta: theta, n_objects=3).scores.squeeze().tolist()
        [0.666..., 0.333..., -1.0]
    """
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects, chunk_size=chunk_size)
    hessian = curvature_of(problem, curvature, damping)
    if isinstance(target, PresenceTarget):
        if out is not None:
            raise ValueError("`out` takes targets of the parameters alone. Leave `out` out for a PresenceTarget.")
        return _presence_attribution(problem, hessian, target, solver=solver, owned=owned)

    whole, reduced = problem, Reduced.of(problem, hessian, target, solver)
    if reduced is not None:
        problem, hessian, target = reduced.problem, reduced.hessian, reduced.target
    gradients = target_gradients(problem, target)
    warn_if_undetermined(hessian, gradients)
    owns = problem.owned() is not None
    if out is not None:
        if owns and owned is not shared:
            raise ValueError("`out` treats no parameters as owned. Leave `out` out, or pass owned=vif.owned.shared.")
        targets = getattr(target, "labels", None)
        written, leftover, extremes = written_scores(
            problem, hessian, gradients, solver=solver, out=out, n_jobs=n_jobs, targets=targets
        )
        warn_if_unfinished(whole, leftover, extremes)
        return written
    if owns:
        found = scores_by_target(problem, hessian, solver, gradients) if owned is marginalised else None
        if found is None:
            changes, leftover, solution = solved_changes(problem, hessian, solver, owned=owned)
            found = changes @ gradients.T, leftover, solution
        scores, leftover, solution = found
        return finished(problem, target, scores, solution, gradients @ leftover)
    (t, p), k, typical = gradients.shape, problem.removals.count, None
    # H⁻¹ is applied on the side with the fewest columns, and (k, p) is stored only where p is the smallest.
    if p <= min(t, k):
        solution = solver.solve(hessian, torch.eye(p, dtype=gradients.dtype, device=gradients.device))
        directions = solution.value @ gradients.T
        differences, leftover = problem.gradient_differences(), directions.T @ problem.gradient
        scores, typical = differences @ directions, typical_of_product(differences, directions)
    elif t <= k:
        solution = solver.solve(hessian, gradients.T)
        # Large, and not needed any more.
        del gradients, hessian
        scores = problem.gradient_differences(solution.value)
        leftover = solution.value.T @ problem.gradient
    else:
        columns = torch.cat([problem.gradient_differences().T, problem.gradient[:, None]], dim=1)
        solution = solver.solve(hessian, columns)
        scores, leftover = solution.value[:, :-1].T @ gradients.T, gradients @ solution.value[:, -1]
    if reduced is not None:
        solution = replace(solution, lift=reduced.lift)
    return finished(whole, target, scores, solution, leftover, typical=typical)


@memory_named()
def parameter_changes(
    loss: Loss,
    params: Params,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    solver: Solver = Explicit(),  # noqa: B008
    damping: float = 0.0,
    curvature: CurvatureOf = Hessian,
    owned: Treatment = marginalised,
    chunk_size: int | None = None,
) -> Float[Tensor, "k p"]:
    """Return the predicted change θ₋ᵢ − θ of the parameters themselves, one row a removal.

    Arguments are those of `attribute`. A dict of parameters is flattened in its own order. −n times a row is the
    VIF of Eq. 10.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> parameter_changes(loss, torch.tensor([3.0]), n_objects=3).squeeze().tolist()
        [0.666..., 0.333..., -1.0]
    """
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects, chunk_size=chunk_size)
    hessian = curvature_of(problem, curvature, damping)
    changes, leftover, _ = solved_changes(problem, hessian, solver, owned=owned)
    warn_if_unfinished(problem, leftover, changes)
    return changes


def curvature_of(problem: Problem, curvature: CurvatureOf, damping: float) -> Curvature:
    """Return the curvature at the problem's parameters, with everybody present."""
    operator = curvature(problem.loss, problem.unravel(problem.theta), problem.everyone(), damping)
    return operator if problem.chunk_size is None else replace(operator, chunk_size=problem.chunk_size)  # pyright: ignore[reportArgumentType, reportCallIssue]


def solved_changes(
    problem: Problem, hessian: Curvature, solver: Solver, *, owned: Treatment = marginalised
) -> tuple[Float[Tensor, "k p"], Float[Tensor, " p"], Solution]:
    """Return Δθᵢ = H⁻¹∇ΔLᵢ of every removal, owned parameters treated, H⁻¹∇L(θ, 1), and a solution they come from."""
    differences, mask = problem.gradient_differences(), problem.owned()
    treatment = shared if mask is None else owned
    mask = torch.zeros_like(differences, dtype=torch.bool) if mask is None else mask
    theta, gradient, solutions = problem.theta, problem.gradient[:, None], []
    if len(theta) <= problem.removals.count:
        whole = solver.solve(hessian, torch.eye(len(theta), dtype=theta.dtype, device=theta.device))
        changes = treatment(differences, mask, theta, lambda columns: whole.value @ columns)
        return changes, (whole.value @ gradient)[:, 0], whole

    def solve(columns: Tensor) -> Tensor:
        solutions.append(solver.solve(hessian, torch.cat([columns, gradient], dim=1)))
        return solutions[-1].value[:, :-1]

    changes = treatment(differences, mask, theta, solve)
    return changes, solutions[0].value[:, -1], solutions[0]


def _presence_attribution(
    problem: Problem, hessian: Curvature, target: PresenceTarget, *, solver: Solver, owned: Treatment
) -> Attribution:
    """Return direct and parameter effect of a target that depends on who is present."""
    changes, leftover, solution = solved_changes(problem, hessian, solver, owned=owned)
    warn_if_unfinished(problem, leftover, changes)
    direct, parameter = presence_effects(problem, target, changes)
    result = finished(problem, target, direct + parameter, solution)
    return replace(result, direct=direct, parameter=parameter)
