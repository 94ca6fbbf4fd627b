"""Whether a loss has a finite minimum where a minimiser stopped."""

import itertools
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import deflated, without
from versatile_influence.core.scale_free import NoMinimumError
from versatile_influence.core.sizes import FAR, FURTHER, KEPT, SINGULAR
from versatile_influence.core.warn import warn
from versatile_influence.training.objective import Objective


def check_reached(objective: Objective, init: Float[Tensor, " p"], found: Float[Tensor, " p"]) -> None:
    """Warn where the minimiser stopped short of its goal; raise where the loss goes on falling the way it went."""
    gradient, value = objective.gradient(found)
    reached, way = gradient.abs().max().item(), found - init
    there = torch.isfinite(value) and reached <= max(objective.goal, 500 * objective.eps * abs(value.item()))
    # Far out the rounding of a large loss hides its slope.
    if there and way.norm() <= FAR * (1 + init.norm()):
        return
    values = [objective.loss(objective.unravel(found + far * way), objective.presence) for far in (0, 1, 10, 100)]
    # −∞ is as low as a loss can fall.
    falls = [bool(b < a or b == -torch.inf) for a, b in itertools.pairwise(values)]
    if not torch.isfinite(value) or (way.any() and all(falls)):
        raise NoMinimumError(
            f"The loss has no finite minimum that was found: it is {value.item():.4g} where the minimiser stopped, and "
            "still falls the way it came. Check the sign of the loss (it is made small), start elsewhere, or add a "
            "penalty > 0."
        )
    if there:
        return
    warn(
        f"The minimiser stopped at a gradient of {reached:.2g}, short of {objective.goal:.2g}. Raise max_steps, "
        "start closer, or look whether the loss is smooth there (ReLU and |x| have kinks).",
    )


def check_bounded(
    objective: Objective,
    init: Float[Tensor, " p"],
    found: Float[Tensor, " p"],
    *,
    before: Float[Tensor, "p p"],
    further: Callable[[Objective, Tensor, int], Tensor],
) -> None:
    """Raise a NoMinimumError where the minimiser went off along a path on which the loss falls forever.

    It began at `init`, where the Hessian was `before`, and `further` takes some more steps.
    """
    if (found == init).all():
        return
    if objective.hessian(found).null_space() is not None and not objective.loss.penalty > 0:
        _check_paths(objective, init, found, before, further)
    _check_lines(objective, init, found, before)


def _check_lines(objective: Objective, init: Tensor, found: Tensor, before: Float[Tensor, "p p"]) -> None:
    """Raise where a direction lost its curvature and the loss is still not larger far out along it."""
    # What was flat from the start is no way out.
    scale = before.diagonal().abs().clamp_min(1e-300).sqrt()
    # Of several the one in which it went: with more curvature before, another may lead uphill again.
    moved = found - init
    outward, was, now = _lost(objective, found, before, scale, moved)
    if outward is None or not (was > SINGULAR * scale.max() ** 2 and abs(now) < KEPT * was):
        return
    least, far = objective.value(found), moved.norm()
    if min(objective.value(found + length * far * outward) for length in (0.1, 1, 10)) <= least + 1e-9 * abs(least):
        names = objective.loss.parameter_names
        index = int((outward * scale).abs().argmax())
        name = f"`{names[index]}`" if names else f"parameter {index}"
        raise NoMinimumError(
            f"The loss has no finite minimum: it keeps falling as {name} goes to {'+' if outward[index] > 0 else '-'}∞ "
            f"(it is at {found[index].item():.3g}). In regression this is complete separation (a monotone likelihood): "
            "that covariate predicts the outcome perfectly. Add a penalty > 0, or drop or merge the covariate."
        )


def _check_paths(
    objective: Objective,
    init: Tensor,
    found: Tensor,
    before: Tensor,
    further: Callable[[Objective, Tensor, int], Tensor],
) -> None:
    """Raise where the parameters grew and grew while a curvature vanished: no line, but a path that leads to infinity.

    How far a minimiser gets on such a path hangs on rounding, and on the way there are saddles. So where it stopped
    short of its goal, having more than doubled the parameters, it is sent on before it is judged; what has a minimum is
    there soon.
    """
    if (found - init).norm() <= init.norm():
        return
    if objective.gradient(found)[0].abs().max() > objective.goal:
        found = further(objective, found, FURTHER)
    size = before.diagonal().abs().max()
    flat, was, now = _lost(objective, found, before, size.sqrt().expand(len(found)))
    if flat is not None and was > 1e-3 * size and abs(now) < 10 * KEPT * was:
        raise NoMinimumError(
            f"The loss has no finite minimum: the parameters, of size {init.norm():.3g}, moved by "
            f"{(found - init).norm():.3g} while a curvature fell from {was:.2g} to {now:.1g}. Is what is left in "
            "several parts, as a graph without its cut vertex? Add a penalty > 0."
        )


def _lost(
    objective: Objective,
    found: Tensor,
    before: Float[Tensor, "p p"],
    scale: Float[Tensor, " p"],
    moved: Float[Tensor, " p"] | None = None,
) -> tuple[Float[Tensor, " p"] | None, float, float]:
    """Return of the directions flat by now that of `moved`, and what curvature it had and has; None for none.

    Without `moved`, the one that had most curvature. Parameters are taken in units of 1/`scale`; what the loss itself
    names as constant is left out.
    """
    hessian = objective.hessian(found)
    after, null = hessian.dense(), hessian.null_space()
    relative = deflated(after, null) / scale[:, None] / scale[None, :]
    # Where Cholesky shows that every curvature kept enough of its size, nothing else need be looked at.
    if torch.linalg.cholesky_ex(relative - KEPT * torch.eye(len(scale)).to(relative))[1] == 0:
        return None, 0.0, 0.0
    curvature, directions = torch.linalg.eigh(relative)
    flats = without(null, directions[:, curvature < KEPT] / scale[:, None])
    if not flats.shape[1]:
        return None, 0.0, 0.0
    flats = torch.linalg.qr(flats)[0]
    way = flats.T @ moved if moved is not None else torch.linalg.eigh(flats.T @ before @ flats)[1][:, -1]
    flat = flats @ torch.nn.functional.normalize(way, dim=0)
    return flat, (flat @ before @ flat).item(), (flat @ after @ flat).item()
