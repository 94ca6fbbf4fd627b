"""What a solver is, and what it says of its solution."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.hessian import Curvature


@dataclass(frozen=True)
class Solution:
    """The solution of H X = B, with how good it is.

    Attributes:
        value: X.
        residual: ‖H x − b‖ / ‖b‖ of each column, as measured, 0 where b = 0.
        num_steps: Iterations taken; 0 for a direct solver.
        smallest_curvature: Smallest eigenvalue, or the smallest curvature met, whichever the solver learns.
        dropped: Orthonormal directions in which H is flat and X was set to 0, one a column, or None.
    """

    value: Float[Tensor, "p k"]
    residual: Float[Tensor, " k"]
    num_steps: int = 0
    smallest_curvature: float | None = None
    dropped: Float[Tensor, "p d"] | None = None


@runtime_checkable
class Solver(Protocol):
    """A frozen value that solves H X = B for many columns at once."""

    def solve(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with its residuals."""
        ...


def relative_residual(product: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"]) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, where `product` is H x."""
    size = torch.linalg.vector_norm(rhs, dim=0)
    distance = torch.linalg.vector_norm(product - rhs, dim=0)
    return torch.where(size > 0, distance / size.clamp_min(torch.finfo(rhs.dtype).tiny), distance)
