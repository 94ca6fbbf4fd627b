"""The versatile influence function: §3.4 of the paper.

A score is `f(θ without i) − f(θ)`, in the units of the target: what retraining would show. To first order the
parameters change by

    Δθᵢ = H⁻¹ ∇(L(θ, 1) − L(θ, 1₋ᵢ)),      H = ∇²L(θ, 1),

and the target by ∇f(θ)ᵀ Δθᵢ. Eq. 10's VIF is −n Δθᵢ, with Eq. 11 for the target: `Attribution.vif`.
"""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import number
from versatile_influence.core.curvature import Curvature, CurvatureOf
from versatile_influence.core.determined import told
from versatile_influence.core.finished import finished, warn_if_flat, warn_if_unfinished
from versatile_influence.core.gauss_newton import GaussNewton
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.made import made_by
from versatile_influence.core.places import verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import BENT
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Inverse, Solver
from versatile_influence.core.target import PresenceTarget
from versatile_influence.core.warn import UntrustedWarning, warn
from versatile_influence.solvers.automatic import Automatic, said_of
from versatile_influence.verbs.changes import solved_changes
from versatile_influence.verbs.ladder import climbed, with_errors
from versatile_influence.verbs.sides import scored


@verb
def attribute(
    loss: object,
    params: Params,
    target: object,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    solver: Solver = Automatic(),  # noqa: B008  (a frozen value)
    damping: float = 0.0,
    curvature: CurvatureOf = Hessian,
    check: bool | Literal["all"] = True,
    tolerance: float | None = None,
) -> Attribution:
    """Return the predicted change of each target when each object is removed, without retraining (Eqs. 10–11).

    Args:
        loss: `loss(params, presence) -> scalar`, a sum; a function, or a `vif.Loss` that knows more.
        params: The trained parameters, a tensor or a dict of tensors, at a minimum of `loss(·, 1)`. Those of a module
            that are frozen (`requires_grad=False`) are constants.
        target: `target(params) -> (t,)`, or a `PresenceTarget`.
        n_objects: How many objects there are, where the loss does not say.
        objects: Which to remove: None for each in turn, a list of object numbers, or a list of groups of them, each
            group removed together.
        solver: How H x = b is solved; by default with the dense matrix up to some thousands of parameters, by CG
            beyond (`vif.solvers.Automatic`).
        damping: Added to the diagonal of H, in units of the summed loss.
        curvature: What stands for H: `Hessian`, or `GaussNewton` for a loss of outputs; a function of (loss, params,
            presence, damping).
        check: Whether the error of the scores is estimated (`Attribution.error`): True for all removals where that is
            expected to take under a second or less than the scores did, and else for those that move a target most and
            as many drawn at random (for none, of networks so large that even four take
            minutes); "all", however long it takes; False for none.
        tolerance: Removals whose estimated error is larger are taken further, each as far as needed: steps with the
            same H⁻¹, downhill steps as `descend` takes them, a refit. `Attribution.rung` says how each ended.

    Returns:
        Scores (k, t): f(θ without i) − f(θ), to first order, in float64 whatever the loss is evaluated in. Parameters
        that only a removed object trains are treated as the loss says; `loss.treated(…)` says otherwise.

    Raises:
        TypeError: If loss, target or parameters are not of the form above.
        ValueError: If anything is not finite, or the numbers of objects disagree.
        MemoryError: If it does not fit; `vif.memory_budget` makes do with less, `vif.write_scores` writes to disk.

    Warns:
        UserWarning: If the parameters are not at a minimum, the solver did not fully succeed, scores are not to be
            trusted, or the Hessian is far from the Gauss–Newton matrix that was asked for.

    References:
        Deng et al., "A Versatile Influence Function for Data Attribution with Non-Decomposable Loss", Eqs. 10 and 11.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> attribute(loss, torch.tensor(3.0), lambda theta: theta, n_objects=3).scores.squeeze().tolist()
        [0.666..., 0.333..., -1.0]
    """
    tolerance = None if tolerance is None else number(tolerance, "tolerance", above=0)
    if check not in (True, False, "all"):
        raise TypeError(f'`check` must be True, False or "all", got {check!r}.')
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    asked = problem.given.target(target)
    inverse = Inverse(problem.curvature(curvature, damping, solver), solver)
    if isinstance(asked, PresenceTarget):
        # Each removal has a direct effect of its own, so that H⁻¹ goes to the removals, however few the targets.
        changes, leftover, solution = solved_changes(problem, inverse)
        warn_if_unfinished(problem, leftover, changes)
        warn_if_flat(problem, inverse)
        # Gradients of the target without the object: there it is looked at.
        direct, parameter = asked.effects(problem.params, changes, problem.removals)
        result = finished(problem, direct + parameter, asked, solution=solution)
        result = replace(result, direct=direct, parameter=parameter)
    else:
        scores, leftover, solution = scored(problem, inverse, asked)
        result = finished(problem, scores, asked, solution=solution, leftover=leftover)
    solved = said_of(inverse.solver, asked=solver)
    result = replace(result, made=made_by("attribute", **solved, damping=damping, curvature=curvature))
    if tolerance is None:
        result = told(problem, asked, with_errors(problem, asked, inverse, result, check=check))
        # Where no removal was looked at, two products with matrices may take as long.
        if result.error is not None and not result.error.isnan().all() and solution is not None:
            warn_if_bent(inverse.hessian, solution)
        return result
    return told(problem, asked, climbed(problem, asked, inverse, result, tolerance=tolerance))


def warn_if_bent(curvature: Curvature, solution: Solution) -> None:
    """Warn where the Hessian is far from the Gauss–Newton matrix that was asked for, along the sum of what it solved.

    Two products, however many targets: what the sum of targets moves by is where they are compared.
    """
    if not isinstance(curvature, GaussNewton):
        return
    along = solution.value.sum(1, keepdim=True)
    along = (along if solution.lift is None else solution.lift(along))[:, 0].to(flat(curvature.params))
    if along.any() and (bend := curvature.bend(along)) > BENT:
        warn(
            f"The Gauss-Newton matrix leaves out how the outputs bend: along what was solved for, the Hessian differs "
            f"from it by {bend:.0%}, and its scores may be far from refits. At a minimum leave `curvature` out, for "
            "the Hessian; elsewhere hold some scores against refits (vif.spot_check).",
            UntrustedWarning,
        )


@verb
def parameter_changes(
    loss: object,
    params: Params,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    solver: Solver = Automatic(),  # noqa: B008
    damping: float = 0.0,
    curvature: CurvatureOf = Hessian,
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
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    inverse = Inverse(problem.curvature(curvature, damping, solver), solver)
    changes, leftover, _ = solved_changes(problem, inverse)
    warn_if_unfinished(problem, leftover, changes)
    warn_if_flat(problem, inverse)
    return changes
