"""Exact solution in the space of the outputs, where these are fewer than the parameters."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.gauss_newton import GaussNewton, OutputSpace
from versatile_influence.core.settings import setting
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver


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

    single: int = setting(30_000_000)
    tolerated: ClassVar[float] = 1e-4
    any_basis: ClassVar[bool] = True
    advice: ClassVar[str] = "Raise damping=… (the system is nearly singular), or single=…, to keep all in float64."

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        if not isinstance(hessian, GaussNewton):
            raise TypeError(f"Woodbury solves with curvature=vif.GaussNewton, got {type(hessian).__name__}.")
        space, factors = hessian.once(self, lambda: self._factorised(hessian, rhs))
        right = space.outer @ (space.jacobian @ rhs)
        return space.solution(rhs, right, torch.linalg.lu_solve(*factors, right))

    def _factorised(self, hessian: GaussNewton, rhs: Tensor) -> tuple["OutputSpace", tuple[Tensor, Tensor]]:
        space = OutputSpace.of(hessian, rhs, single=self.single)
        system = space.outer @ space.kernel
        system.diagonal().add_(space.ridge)
        return space, torch.linalg.lu_factor(system)
