"""A loss as a minimiser sees it, and whether it has a finite minimum where one stopped."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import deflated, without
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params
from versatile_influence.core.scale_free import NoMinimumError
from versatile_influence.core.sizes import FAR, FURTHER, KEPT, LEAST_FALL, SINGULAR
from versatile_influence.core.warn import warn


@dataclass(frozen=True)
class Objective:
    """L(·, b) over flat parameters.

    Attributes:
        loss: The loss.
        unravel: Shapes flat parameters.
        presence: Who is present.
        goal: The gradient's largest entry at which the minimiser is done.
        eps: The rounding of the loss, relative to it.
        least: A step of L-BFGS by which the loss falls by no more, relative to it, is its last.
        start: Parameters, such as those to start from, with gradient and value there, where they are known already.
    """

    loss: Loss
    unravel: Callable[[Tensor], Params]
    presence: Float[Tensor, " n"]
    goal: float
    eps: float
    least: float = 0.0
    start: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    @classmethod
    def of(cls, loss: Loss, unravel: Callable[[Tensor], Params], presence: Float[Tensor, " n"], gtol: float = 1e-10):
        """Return it with a goal per object, no finer than the rounding of the loss."""
        eps = torch.finfo(loss.precision).eps
        # Below that there is nothing to reach.
        goal = gtol if loss.precision == torch.float64 else max(gtol, 8 * eps)
        # What a presence costs (walks, risk sets) is paid once for all steps.
        return cls(loss.at(presence), unravel, presence, goal * loss.n_objects, eps)

    def known_at(self, theta: Float[Tensor, " p"]) -> "Objective":
        """Return it with gradient and value at θ known, for all who ask there."""
        return replace(self, start=(theta, self.gradient(theta)))

    def roughly(self, goal: float) -> "Objective":
        """Return it to a coarser goal, in single precision where that is faster."""
        rough = self.loss.rough
        return replace(self, goal=goal) if rough is None else replace(self, loss=rough, goal=goal, least=LEAST_FALL)

    def gradient(self, theta: Float[Tensor, " p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        """Return gradient and value."""
        if self.start is not None and theta is self.start[0]:
            return self.start[1]
        gradient, value = self.loss.gradient_and_value(self.unravel(theta), self.presence)
        return gradient.to(theta), value

    def size(self, gradient: Float[Tensor, " p"]) -> Float[Tensor, ""]:
        """Return the gradient's largest entry, along steps of the parameters' own units."""
        units = self.loss.units
        return (gradient if units is None else gradient * units).abs().max()

    def is_reached(self, theta: Float[Tensor, " p"]) -> bool:
        """Return whether the gradient is at its goal, or as small as the rounding of the loss lets it be."""
        gradient, value = self.gradient(theta)
        return bool(self.size(gradient) <= max(self.goal, 500 * self.eps * abs(value.item())))

    def value(self, theta: Float[Tensor, " p"]) -> float:
        """Return the loss, infinite where it is not defined."""
        value = self.loss(self.unravel(theta), self.presence).item()
        return value if math.isfinite(value) else float("inf")

    def hessian(self, theta: Float[Tensor, " p"]) -> Hessian:
        """Return the curvature."""
        return Hessian(self.loss, self.unravel(theta), self.presence)

    def downhill(
        self, theta: Float[Tensor, " p"], step: Float[Tensor, " p"], *, gradient: Float[Tensor, " p"], value: float
    ) -> Float[Tensor, " p"] | None:
        """Return θ moved along a step, halved until the loss falls; None where it does not fall any more."""
        slope, rounding = (gradient @ step).item(), 4 * self.eps * abs(value)
        for length in (0.5**halved for halved in range(40)):
            moved = theta + length * step
            if self.value(moved) <= value + 1e-4 * length * slope + rounding:
                return moved
        return None


def check_reached(objective: Objective, init: Float[Tensor, " p"], found: Float[Tensor, " p"]) -> None:
    """Warn where the minimiser stopped short of its goal; raise where the loss goes on falling the way it went."""
    gradient, value = objective.gradient(found)
    reached, way, there = objective.size(gradient).item(), found - init, objective.is_reached(found)
    # Far out the rounding of a large loss hides its slope.
    if there and way.norm() <= FAR * (1 + init.norm()):
        return
    values = [objective.loss(objective.unravel(found + far * way), objective.presence) for far in (0, 1, 10, 100)]
    # −∞ is as low as a loss can fall.
    falls = [
        bool(b < a or b == -torch.inf or (b.isnan() and way.norm() > FAR**2)) for a, b in itertools.pairwise(values)
    ]
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
    before: Float[Tensor, "p p"] | None,
    further: Callable[[Objective, Tensor, int], Tensor],
) -> None:
    """Raise a NoMinimumError where the minimiser went off along a path on which the loss falls forever.

    It began at `init`, where the Hessian was `before`, None of many parameters, and `further` takes some more steps.
    """
    if (found == init).all():
        return
    if before is None:
        # Of many parameters the way that it went is looked at alone.
        way = torch.nn.functional.normalize(found - init, dim=0)
        was, now = ((way @ (objective.hessian(at) @ way[:, None])).item() for at in (init, found))
        _check_line(objective, init, found, way, was=was, now=now)
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
    if outward is not None and was > SINGULAR * scale.max() ** 2:
        _check_line(objective, init, found, outward, was=was, now=now)


def _check_line(objective: Objective, init: Tensor, found: Tensor, outward: Tensor, *, was: float, now: float) -> None:
    """Raise where the curvature along `outward` fell from `was` to nothing, and the loss never rises again."""
    if not (was > 0 and abs(now) < KEPT * was):
        return
    # As far as the parameters are large: nearer by, the tangent of a rotation that does nothing looks level.
    least, far = objective.value(found), torch.maximum((found - init).norm(), found.norm())
    if min(objective.value(found + length * far * outward) for length in (0.1, 1, 10)) <= least + 1e-9 * abs(least):
        names = objective.loss.parameter_names
        index = int(outward.abs().argmax())
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
    if objective.size(objective.gradient(found)[0]) > objective.goal:
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
