"""Training to a stationary point: the ground that influence functions stand on."""

import math
import warnings
from collections.abc import Callable

import numpy as np
import scipy
import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from versatile_influence.core.boundary import with_presence
from versatile_influence.core.checks import number, whole
from versatile_influence.core.curvature import check_dense, deflated, newton_is_dense, without
from versatile_influence.core.given import Given
from versatile_influence.core.places import verb
from versatile_influence.core.preconditioner import Root
from versatile_influence.core.ravel import Params
from versatile_influence.core.scale_free import NoMinimumError, scale_free
from versatile_influence.core.sizes import (
    FINISHED_PARAMETERS,
    NEWTON_FROM,
    NEWTON_STEPS,
    PATIENCE,
    ROOTED_FROM,
    ROOTED_STEPS,
    SADDLES,
)
from versatile_influence.solvers.cg import CG
from versatile_influence.training.directions import beyond_saddle, newton_direction
from versatile_influence.training.objective import Objective, check_bounded, check_reached

# Whether a step, from one θ to the next, is the last that is wanted.
Enough = Callable[[Float[Tensor, " p"], Float[Tensor, " p"]], bool]


@verb
def minimize(
    loss: object,
    init: Params,
    presence: Float[Tensor, " n"] | None = None,
    *,
    n_objects: int | None = None,
    gtol: float = 1e-10,
    max_steps: int = NEWTON_STEPS,
) -> Params:
    """Return parameters at a stationary point of L(·, presence), in float64; frozen ones stay where they are.

    Newton's method with the dense Hessian for some hundred parameters; for more L-BFGS, finished by Newton steps: with
    the Hessian where the loss has it written out, with conjugate gradients where not. Downhill all the way, so from
    `init` to the minimum of its own valley.

    Args:
        loss: `loss(params, presence)`.
        init: Where to start; `loss.zeros()` of a ready loss.
        presence: Who is present; None for everybody.
        n_objects: How many objects there are, where neither the loss nor `presence` says.
        gtol: Done when the gradient's largest entry is at most gtol · n.
        max_steps: Largest number of Newton steps; L-BFGS takes up to 100 times as many.

    Raises:
        NoMinimumError: If the loss falls forever in some direction (in regression: complete separation, or a monotone
            likelihood), with that direction named, or its penalty is on the scale of what is normalised.
        ValueError: If the start is not finite.

    Warns:
        UserWarning: If the minimiser stops short of `gtol`, with the gradient it reached.

    Example:
        >>> loss = lambda theta, presence: (presence * (theta - torch.arange(3.0).double()) ** 2).sum()
        >>> minimize(loss, torch.tensor(0.0), n_objects=3).item()
        1.0
    """
    gtol, max_steps = number(gtol, "gtol", least=0), whole(max_steps, "max_steps", least=1)
    known, there = with_presence(loss, presence, n_objects)
    given = Given.of(known, init)
    given.check_steady()
    checked, theta = given.loss, given.theta
    presence = there.to(theta)
    objective = Objective.of(checked, given.unravel, presence, gtol).known_at(theta)
    if told := scale_free(checked, given.params, objective.gradient(theta)[0], presence):
        raise NoMinimumError(told)
    return given.all(given.unravel(minimum(objective, theta, max_steps)[0]))


def minimum(
    objective: Objective, theta: Float[Tensor, " p"], max_steps: int, enough: Enough | None = None
) -> tuple[Float[Tensor, " p"], bool]:
    """Return what `minimize` does, and whether it is the minimum: False where a step on the way there was `enough`."""
    init, left, before = theta, 0, None
    while True:
        found, curvature, is_minimum = _stationary(objective, theta, max_steps, enough)
        if not is_minimum:
            return found, False
        before = curvature if left == 0 else before
        there = objective.known_at(found)
        # At a saddle or a maximum the gradient is zero too: there is a way down, to another place.
        beyond = None
        if left < SADDLES and there.is_reached(found):
            dense = newton_is_dense(objective.loss, objective.unravel(found))
            beyond = beyond_saddle(there.value, there.hessian(found), theta, found, dense=dense)
        if beyond is None:
            check_bounded(there, init, found, before=before, further=lambda *given: _newton(*given)[0])
            check_reached(there, init, found)
            return found, True
        theta, left = beyond, left + 1


def _stationary(
    objective: Objective, theta: Float[Tensor, " p"], max_steps: int, enough: Enough | None
) -> tuple[Float[Tensor, " p"], Float[Tensor, "p p"] | None, bool]:
    """Return where the minimiser that suits the size stops, H at its start where it is dense, and whether it is done.

    It is not where a step on the way was `enough`.
    """
    if newton_is_dense(objective.loss, objective.unravel(theta)):
        curvature = objective.hessian(theta).dense()
        found, far = _newton(objective, theta, max_steps, curvature, enough)
        return found, curvature, far
    small, rooted = len(theta) <= FINISHED_PARAMETERS, objective.loss.stand_in is not None
    if not rooted and not (small and objective.loss.hessian_written_out):
        return _newton_cg(objective, _lbfgs(objective, theta, 100 * max_steps), max_steps)[0], None, True
    goal = max(objective.goal, (ROOTED_FROM if rooted else NEWTON_FROM) * objective.loss.n_objects)
    near = objective.roughly(goal)
    found, far = _lbfgs(near, theta, 100 * max_steps), True
    if rooted:
        found, far = _newton_cg(objective, found, max_steps, enough)
    if small and far and not (rooted and objective.is_reached(found)):
        check_dense(theta)
        found, far = _newton(objective, found, max_steps, enough=enough)
    return found, None, far


def few_steps(objective: Objective, theta: Float[Tensor, " p"], steps: int) -> Float[Tensor, " p"]:
    """Return θ after some downhill steps of the minimiser that suits its size."""
    if newton_is_dense(objective.loss, objective.unravel(theta)):
        return _newton(objective, theta, steps)[0]
    return _lbfgs(objective, theta, 10 * steps)


def _newton(
    objective: Objective,
    theta: Float[Tensor, " p"],
    max_steps: int,
    curvature: Float[Tensor, "p p"] | None = None,
    enough: Enough | None = None,
) -> tuple[Float[Tensor, " p"], bool]:
    """Descend by Newton steps from θ, where H may be known as `curvature`; False where one in a valley was `enough`."""
    finishing = False
    for _ in shown(max_steps, "Newton steps"):
        gradient, value = objective.gradient(theta)
        done = bool(objective.size(gradient) <= objective.goal)
        if done and finishing:
            break
        hessian = objective.hessian(theta)
        matrix, curvature = hessian.dense() if curvature is None else curvature, None
        if not torch.isfinite(matrix).all():
            raise NoMinimumError("The Hessian is not finite everywhere on the way. Start elsewhere, or add a penalty.")
        # Never along directions in which the loss is constant: they would move for no reason.
        null = hessian.null_space()
        step = without(null, newton_direction(deflated(matrix, null), gradient, hessian.units)[:, None])[:, 0]
        moved = objective.downhill(theta, step, gradient=gradient, value=value.item())
        if moved is None:
            break
        # Where the loss curves up all ways: on the way past a saddle steps are small too.
        if enough and torch.linalg.cholesky_ex(deflated(matrix, null))[1] == 0 and enough(theta, moved):
            return moved, False
        # One step beyond the goal costs little, and Newton's method doubles the digits with it.
        theta, finishing = moved, done
    return theta, True


def shown(total: int, what: str) -> tqdm:
    """Return so many steps at most, with progress for who waits longer than some seconds."""
    # How many there will be is not known: no time left is shown.
    return tqdm(range(total), desc="minimising", unit=f" {what}", total=math.inf, delay=PATIENCE, leave=False)


def _lbfgs(objective: Objective, theta: Float[Tensor, " p"], max_steps: int) -> Float[Tensor, " p"]:
    """Descend by SciPy's L-BFGS-B; where a loss knows of them in coordinates of unit curvature, taken anew at times."""
    stand_in, steps = objective.loss.stand_in, ROOTED_STEPS
    if stand_in is None:
        return _by_lbfgs(objective, theta, max_steps, None)[0]
    while max_steps > 0:
        root = stand_in.root(objective.hessian(theta))
        theta, done = _by_lbfgs(objective, theta, min(steps, max_steps), root)
        if done:
            break
        max_steps, steps = max_steps - steps, 2 * steps
    return theta


def _by_lbfgs(
    objective: Objective, theta: Float[Tensor, " p"], max_steps: int, root: Root | None
) -> tuple[Float[Tensor, " p"], bool]:
    """Return θ + R x where L-BFGS stops, and whether for another reason than its number of steps."""
    steps, near = iter(bar := shown(2 * max_steps, "L-BFGS evaluations")), False

    def at(flat: np.ndarray) -> Tensor:
        moved = torch.from_numpy(flat).to(theta)
        return moved if root is None else theta + (root @ moved[:, None])[:, 0]

    def value_and_gradient(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal near
        next(steps, None)
        gradient, value = objective.gradient(at(flat))
        near = (size := gradient.abs().max().item()) <= objective.goal
        bar.set_postfix_str(f"gradient {size:.1e} of {objective.goal:.1e}", refresh=False)
        gradient = gradient if root is None else root.turned(gradient[:, None])[:, 0]
        return value.item(), gradient.cpu().numpy().astype(np.float64)

    def stopping(_: object) -> None:
        # In other coordinates the gradient's entries have another size.
        if near and root is not None:
            raise StopIteration

    options = {"maxiter": max_steps, "maxfun": 2 * max_steps, "maxcor": 20, "ftol": objective.least}
    options["gtol"] = objective.goal if root is None else 0.0
    start = (theta if root is None else torch.zeros_like(theta)).cpu().numpy().astype(np.float64)
    given = {"jac": True, "method": "L-BFGS-B", "options": options, "callback": stopping}
    result = scipy.optimize.minimize(value_and_gradient, start, **given)
    return at(result.x), near or result.nit < max_steps


def _newton_cg(
    objective: Objective, theta: Float[Tensor, " p"], max_steps: int, enough: Enough | None = None
) -> tuple[Float[Tensor, " p"], bool]:
    """Finish with inexact Newton steps (Dembo, Eisenstat & Steihaug 1982); False where one in a valley was `enough`."""
    last = before = float("inf")
    for _ in range(max_steps):
        gradient, value = objective.gradient(theta)
        size = gradient.abs().max().item()
        if size <= objective.goal or (size > 0.9 * last and value > before - 100 * objective.eps * abs(before)):
            break
        last, before = size, value.item()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = CG(rtol=min(0.1, size**0.5), max_steps=200).solve(objective.hessian(theta), gradient[:, None])
        step = -found.value[:, 0]
        step = step if gradient @ step < 0 else -gradient
        moved = objective.downhill(theta, step, gradient=gradient, value=value.item())
        if moved is None:
            break
        if enough and not found.bent_down and enough(theta, moved):
            return moved, False
        theta = moved
    return theta, True
