"""A Gauss–Newton system written in the space of the outputs, where these are fewer than the parameters."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.factored import Factored
from versatile_influence.core.gauss_newton import GaussNewton
from versatile_influence.core.jacobian import Jacobian, Stored
from versatile_influence.core.solution import Solution


@dataclass(frozen=True)
class OutputSpace:
    """(JᵀBJ + κI) x = b through the kernel K = JJᵀ of the outputs (Woodbury 1950).

        x = (b − Jᵀ y)/κ,      M y = B J b,      M = κI + B K,      ‖G x − b‖ = ‖B J b − M y‖_K / κ,

    with ‖u‖_K = ‖Jᵀu‖ the length in the space of parameters. M is self-adjoint in that inner product, so that all that
    works on G works on M, at a cost that does not grow with the number of parameters.

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
        jacobian = hessian.jacobian.factors or Stored(_stored(hessian.jacobian, single))
        kernel = jacobian.gram().to(rhs)
        outer = hessian.outer_products(torch.eye(len(kernel), dtype=rhs.dtype, device=rhs.device))
        return cls(jacobian, kernel, outer, hessian.ridge)

    def product(self, dual: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Return M U."""
        return self.outer @ (self.kernel @ dual) + self.ridge * dual

    def direct(self, right: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Return M⁻¹ U."""
        system = self.outer @ self.kernel
        system.diagonal().add_(self.ridge)
        return torch.linalg.solve(system, right)

    def solution(self, rhs: Float[Tensor, "p k"], right: Float[Tensor, "m k"], dual: Float[Tensor, "m k"]) -> Solution:
        """Return x of y, with ‖G x − b‖/‖b‖ measured anew through the kernel."""
        value = self.jacobian.transposed(dual).neg_().add_(rhs).div_(self.ridge)
        rest = right - self.product(dual)
        distance = (rest * (self.kernel @ rest)).sum(dim=0).clamp_min(0).sqrt() / self.ridge
        size = torch.linalg.vector_norm(rhs, dim=0)
        residual = torch.where(size > 0, distance / size.clamp_min(torch.finfo(rhs.dtype).tiny), distance)
        return Solution(value, residual)


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
