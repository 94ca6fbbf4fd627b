"""A loss as a minimiser sees it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.hessian import Hessian
from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params


@dataclass(frozen=True)
class Objective:
    """L(·, b) over flat parameters.

    Attributes:
        loss: The loss.
        unravel: Shapes flat parameters.
        presence: Who is present.
        goal: The gradient's largest entry at which the minimiser is done.
        eps: The rounding of the loss, relative to it.
        start: Parameters to start from, with gradient and value there, where they are known already.
    """

    loss: Loss
    unravel: Callable[[Tensor], Params]
    presence: Float[Tensor, " n"]
    goal: float
    eps: float = 2.3e-16
    start: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    def gradient(self, theta: Float[Tensor, " p"]) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        """Return gradient and value."""
        if self.start is not None and theta is self.start[0]:
            return self.start[1]
        gradient, value = self.loss.gradient_and_value(self.unravel(theta), self.presence)
        return gradient.to(theta), value

    def value(self, theta: Float[Tensor, " p"]) -> float:
        """Return the loss, infinite where it is not defined."""
        value = self.loss(self.unravel(theta), self.presence).item()
        return value if math.isfinite(value) else float("inf")

    def hessian(self, theta: Float[Tensor, " p"]) -> Hessian:
        """Return the curvature."""
        return Hessian(self.loss, self.unravel(theta), self.presence)
