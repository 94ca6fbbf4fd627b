"""A loss as a minimiser sees it."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.hessian import Hessian
from versatile_influence.core.loss import Loss
from versatile_influence.core.problem import Problem
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
    eps: float
    start: tuple[Tensor, tuple[Tensor, Tensor]] | None = None

    @classmethod
    def of(cls, loss: Loss, unravel: Callable[[Tensor], Params], presence: Float[Tensor, " n"], gtol: float):
        """Return it with a goal per object, no finer than the rounding of the loss."""
        eps = torch.finfo(loss.precision).eps
        # Below that there is nothing to reach.
        goal = gtol if loss.precision == torch.float64 else max(gtol, 8 * eps)
        # What a presence costs (walks, risk sets) is paid once for all steps.
        return cls(loss.at(presence), unravel, presence, goal * loss.n_objects, eps)

    @classmethod
    def without(cls, problem: Problem, row: int = 0, *, gtol: float = 1e-10) -> "Objective":
        """Return the loss without one of a problem's removals."""
        return cls.of(problem.loss, problem.unravel, problem.presence_without(row), gtol)

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
