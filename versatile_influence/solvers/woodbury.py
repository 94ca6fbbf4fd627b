"""Exact solution in the space of the outputs, where these are fewer than the parameters."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.gauss_newton import GaussNewton
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver
from versatile_influence.solvers.output_space import OutputSpace


@dataclass(frozen=True)
class Woodbury(Solver):
    """Solve (JᵀBJ + κI) x = b through the kernel K = JJᵀ of the outputs (Woodbury 1950).

        x = (b − Jᵀ y)/κ,      (κI + B K) y = B J b.

    For `GaussNewton` with fewer outputs m than parameters p: time m³ + mpk, beside m²p for the kernel, which layers in
    factors make far less. Memory: those factors where the outputs are those of linear layers, each row by itself; else
    one Jacobian, in single precision where it is large. Equivalent to `Explicit` with the same curvature, which needs
    p² numbers and time p³. Residuals are those with the Jacobian as it is kept: in single precision they do not show
    its rounding, about 1e-7 of G.

    Attributes:
        single: From how many numbers on a Jacobian that is stored is kept in single precision.

    Raises:
        TypeError: If the curvature is not `GaussNewton`.
        ValueError: If penalty and damping are both zero.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.PairwiseLoss([0, 1], [1, 2], penalty=1.0)
        >>> matrix = vif.GaussNewton(loss, loss.zeros(), torch.ones(2).double())
        >>> Woodbury().solve(matrix, torch.tensor([[1.0], [0.0], [0.0]]).double()).value[:, 0]
        tensor([0.8286, 0.1429, 0.0286], dtype=torch.float64)
    """

    single: int = 30_000_000
    tolerated: ClassVar[float] = 1e-4
    any_basis: ClassVar[bool] = True
    advice: ClassVar[str] = "Raise damping=… (the system is nearly singular), or single=…, to keep all in float64."

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return G⁻¹ B, with residuals ‖G x − b‖ = ‖Jᵀ(B J x + …)‖ measured through the kernel."""
        if not isinstance(hessian, GaussNewton):
            raise TypeError(f"Woodbury solves with curvature=vif.GaussNewton, got {type(hessian).__name__}.")
        space = OutputSpace.of(hessian, rhs, single=self.single)
        right = space.outer @ (space.jacobian @ rhs)
        return space.solution(rhs, right, space.direct(right))
