"""Exact solution in the space of the outputs, where these are fewer than the parameters."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.gauss_newton import GaussNewton
from versatile_influence.hessian import Curvature
from versatile_influence.solvers.solver import Solution


@dataclass(frozen=True)
class Woodbury:
    """Solve (JᵀBJ + κI) x = b through the kernel K = JJᵀ of the outputs (Woodbury 1950).

        x = (b − Jᵀ y)/κ,      (κI + B K) y = B J b.

    For `GaussNewton` with fewer outputs m than parameters p: time m²p + mpk, memory one Jacobian in single precision
    where it is large. Equivalent to `Explicit` with the same curvature, which needs p² numbers and time p³. Residuals
    are those with the Jacobian as it is kept: in single precision they do not show its rounding, about 1e-7 of G.

    Attributes:
        single: From how many numbers on the Jacobian is kept in single precision.

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

    def solve(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return G⁻¹ B, with residuals ‖G x − b‖ = ‖Jᵀ(B J x + …)‖ measured through the kernel."""
        if not isinstance(hessian, GaussNewton):
            raise TypeError(f"Woodbury solves with curvature=vif.GaussNewton, got {type(hessian).__name__}.")
        if not hessian.ridge > 0:
            raise ValueError("Woodbury divides by penalty + damping, which is 0. Add damping=…, or use vif.Explicit().")
        jacobian = self._jacobian(hessian, len(rhs))
        kernel = gram(jacobian).to(rhs)
        moved = (jacobian @ rhs.to(jacobian)).to(rhs)
        outer = hessian.outer_products(torch.eye(len(kernel), dtype=rhs.dtype, device=rhs.device))
        system = outer @ kernel
        system.diagonal().add_(hessian.ridge)
        dual = torch.linalg.solve(system, outer @ moved)
        value = (jacobian.T @ dual.to(jacobian)).to(rhs).neg_().add_(rhs).div_(hessian.ridge)
        # G x − b = Jᵀ (B J x − y), and J x is (J b − K y)/κ.
        rest = outer @ ((moved - kernel @ dual) / hessian.ridge) - dual
        distance = (rest * (kernel @ rest)).sum(0).clamp_min(0).sqrt()
        size = torch.linalg.vector_norm(rhs, dim=0)
        residual = torch.where(size > 0, distance / size.clamp_min(torch.finfo(rhs.dtype).tiny), distance)
        return Solution(value, residual)

    def _jacobian(self, hessian: GaussNewton, p: int) -> Float[Tensor, "m p"]:
        m = hessian.loss.outputs(hessian.params).numel()
        # Filled in place: the blocks and the whole together would take twice the memory.
        whole, start = torch.empty(0), 0
        for block in hessian.jacobian_blocks():
            if not start:
                dtype = torch.float32 if m * p > self.single else block.dtype
                whole = block.new_empty(m, p, dtype=dtype)
            whole[start : start + len(block)] = block
            start += len(block)
        return whole


def gram(matrix: Float[Tensor, "m p"], block: int = 256) -> Float[Tensor, "m m"]:
    """Return A Aᵀ, of whose symmetric halves one is computed."""
    result = matrix.new_empty(len(matrix), len(matrix))
    for start in range(0, len(matrix), block):
        part = slice(start, start + block)
        result[part, start:] = matrix[part] @ matrix[start:].T
        result[start:, part] = result[part, start:].T.clone()
    return result
