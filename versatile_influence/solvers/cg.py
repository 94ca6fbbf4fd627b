"""Conjugate gradients, all right-hand sides at once."""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.hessian import Curvature, without
from versatile_influence.solvers.solver import Solution, relative_residual


@dataclass(frozen=True)
class CG:
    """Solve by conjugate gradients (Hestenes & Stiefel 1952; Appendix C of the paper), one product H V a step.

    Equivalent to `scipy.sparse.linalg.cg` on each column. Differs from it in this: the columns advance together, a
    column that has converged stays as it is, and one along which H curves downward stops and is named. Directions that
    the loss names as constant (`null_directions`) are left out, and reported in `Solution.dropped`.

    Attributes:
        rtol: A column is done when ‖H x − b‖ ≤ rtol ‖b‖.
        max_steps: Largest number of steps; None for ten times the number of parameters.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> vif.CG().solve(vif.Hessian(loss, torch.zeros(2), torch.ones(1)), torch.ones(2, 1)).num_steps
        1
    """

    rtol: float = 1e-8
    max_steps: int | None = None

    def solve(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with H X ≈ B; warns where a column did not reach `rtol`."""
        null = hessian.null_space()
        rhs = without(null, rhs)
        value = torch.zeros_like(rhs)
        residual, direction = rhs.clone(), rhs.clone()
        squared = residual.square().sum(dim=0)
        goal = self.rtol**2 * squared
        limit = self.max_steps if self.max_steps is not None else 10 * len(rhs)
        active, curved_down = squared > goal, torch.zeros_like(squared, dtype=torch.bool)
        smallest, step = float("inf"), 0
        while active.any() and step < limit:
            columns = active.nonzero().squeeze(1)
            along = direction[:, columns]
            product = without(null, hessian @ along)
            curvature = (along * product).sum(dim=0)
            smallest = min(smallest, (curvature / along.square().sum(dim=0)).min().item())
            downward = curvature <= 0
            curved_down[columns[downward]] = True
            length = torch.where(downward, 0.0, squared[columns] / torch.where(downward, 1.0, curvature))
            value[:, columns] += length * along
            residual[:, columns] -= length * product
            new = residual[:, columns].square().sum(dim=0)
            direction[:, columns] = residual[:, columns] + (new / squared[columns]) * along
            squared[columns] = new
            active = (squared > goal) & ~curved_down
            step += 1
        measured = relative_residual(without(null, hessian @ value), rhs)
        self._warn(measured, curved_down, smallest, step)
        return Solution(value, measured, num_steps=step, smallest_curvature=smallest if step else None, dropped=null)

    def _warn(self, measured: Tensor, curved_down: Tensor, smallest: float, step: int) -> None:
        if curved_down.any():
            warnings.warn(
                f"The Hessian is not positive definite: CG met a curvature of {smallest:.3g} and stopped early on "
                f"{int(curved_down.sum())} of {len(measured)} columns (worst relative residual {measured.max():.2g}). "
                "Add damping=…, train closer to a minimum, or use vif.Explicit() where the parameters are few.",
                stacklevel=5,
            )
        elif (short := measured > 10 * self.rtol).any():
            warnings.warn(
                f"CG stopped after {step} steps with {int(short.sum())} of {len(measured)} columns short of rtol="
                f"{self.rtol:g} (worst relative residual {measured.max():.2g}). Raise max_steps, add damping=…, or "
                "accept the residuals, which are in the solution.",
                stacklevel=5,
            )
