"""Exact solution in the space of the outputs, where these are fewer than the parameters."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.factored import Factored
from versatile_influence.core.gauss_newton import GaussNewton
from versatile_influence.core.jacobian import Jacobian, Stored
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


@dataclass(frozen=True)
class OutputSpace:
    """A Gauss–Newton system in the space of the outputs: M y = B J b with M = κI + B K.

    With ‖u‖_K = ‖Jᵀu‖, the length in the space of parameters, ‖G x − b‖ = ‖B J b − M y‖_K / κ. M is self-adjoint in
    that inner product, so that all that works on G works on M, at a cost that does not grow with p.

    Attributes:
        jacobian: J (m, p).
        kernel: K.
        outer: B.
        ridge: κ = penalty + damping.
    """

    jacobian: Jacobian | Factored
    kernel: Float[Tensor, "m m"]
    outer: Float[Tensor, "m m"]
    ridge: float

    @classmethod
    def of(cls, hessian: GaussNewton, rhs: Float[Tensor, "p k"], *, single: int) -> "OutputSpace":
        """Return the system of a curvature, whose Jacobian is kept in single precision from `single` numbers on.

        Raises:
            ValueError: If penalty and damping are both zero.
        """
        if not hessian.ridge > 0:
            raise ValueError("Woodbury divides by penalty + damping, which is 0. Add damping=…, or use vif.Explicit().")
        jacobian = hessian.jacobian.held or Stored(_stored(hessian.jacobian, single))
        kernel = jacobian.gram().to(rhs)
        outer = hessian.outer_products(torch.eye(len(kernel), dtype=rhs.dtype, device=rhs.device))
        return cls(jacobian, kernel, outer, hessian.ridge)

    def solution(self, rhs: Float[Tensor, "p k"], right: Float[Tensor, "m k"], dual: Float[Tensor, "m k"]) -> Solution:
        """Return x of y, with ‖G x − b‖/‖b‖ measured anew through the kernel."""
        value = self.jacobian.transposed(dual).neg_().add_(rhs).div_(self.ridge)
        rest = right - self.outer @ (self.kernel @ dual) - self.ridge * dual
        distance = (rest * (self.kernel @ rest)).sum(dim=0).clamp_min(0).sqrt() / self.ridge
        size = torch.linalg.vector_norm(rhs, dim=0)
        return Solution(value, distance / size.masked_fill(size == 0, 1.0))


def _stored(jacobian: Jacobian, single: int) -> Float[Tensor, "m p"]:
    """Return J as a matrix, filled in place: the blocks and the whole together would take twice the memory."""
    m, p = jacobian.shape
    whole, start = torch.empty(0), 0
    for block in jacobian.blocks():
        if not start:
            whole = block.new_empty(m, p, dtype=torch.float32 if m * p > single else block.dtype)
        whole[start : start + len(block)] = block
        start += len(block)
    return whole
