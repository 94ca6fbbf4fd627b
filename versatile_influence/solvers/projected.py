"""Low rank in the span of random combinations of what removals do to the gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vjp, vmap

from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.derivatives import chunk_that_fits
from versatile_influence.core.draws import normal
from versatile_influence.core.ravel import flat, shaper
from versatile_influence.core.settings import setting
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver, beside, eigenpairs, finite, true_residual


@dataclass(frozen=True)
class Projected(Solver):
    """Solve within a subspace: x = P (PᵀHP)⁻¹ Pᵀb, with P orthonormal columns that span what removals move.

    A score is ∇ΔL_iᵀ H⁻¹ ∇f, so only directions in which some ∇ΔL_i points matter. P spans JᵀΩ, J the Jacobian of the
    removal differences ΔL (n, p) and Ω random (n, `rank`): one backward pass a column through `removal_differences`,
    so that J is never stored, and a loss that is no sum over objects serves as well as one that is. Exact at rank p.
    The part of b outside P is left out, which shows in the residuals more than in the scores.

    Attributes:
        rank: Columns of P; more than p are never taken.
        unstructured: P from random directions of the parameters instead, as projections that know nothing of the loss:
            the error then falls only as rank/p grows.
        seed: Seed of Ω.

    References:
        Park et al. (2023), "TRAK"; Choe et al. (2024), "What is your data worth to GPT?" (LoGra); Halko, Martinsson &
        Tropp (2011) for the range of a matrix from random combinations.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> H = vif.Hessian(loss, torch.ones(3).double(), torch.ones(4).double())
        >>> vif.solvers.Projected(rank=1).solve(H, torch.ones(3, 1).double()).value.squeeze()
        tensor([0.1250, 0.1250, 0.1250], dtype=torch.float64)
    """

    rank: int = setting(100, least=1)
    unstructured: bool = setting(False)
    seed: int = setting(0)
    tolerated: ClassVar[float] = 1.0
    advice: ClassVar[str] = (
        "What of them lies outside the subspace is left out, which shows in scores only where a removal points there: "
        "raise rank, or hold some scores against vif.CG."
    )

    @property
    def any_basis(self) -> bool:
        """Whether it gives the same in any orthonormal basis: unless the directions are of the parameters."""
        return not self.unstructured

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with Pᵀ(H X − B) = 0 and X in the span of P."""
        null = hessian.null_space()
        rhs = without(null, rhs)
        directions, curvature, dropped = hessian.once(self, lambda: self._eigenpairs(hessian, null))
        value = directions @ ((directions.T @ rhs) / curvature[:, None])
        residual = true_residual(hessian, value, rhs, null)
        smallest = curvature.min().item() if len(curvature) else None
        return Solution(value, residual, smallest_curvature=smallest, dropped=dropped)

    def _eigenpairs(self, hessian: Curvature, null: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return eigenvectors and eigenvalues of H within the subspace, and what is left out of it."""
        basis = self._basis(hessian, null)
        inner = basis.T @ without(null, finite(hessian @ basis))
        curvature, turned, level = eigenpairs((inner + inner.T) / 2)
        return basis @ turned, curvature, beside(null, basis @ level)

    def _basis(self, hessian: Curvature, null: Tensor | None) -> Float[Tensor, "p r"]:
        theta, unravel = flat(hessian.params), shaper(hessian.params)
        room = len(theta) - (0 if null is None else null.shape[1])
        size, n = min(self.rank, room), len(hessian.presence)
        generator = torch.Generator().manual_seed(self.seed)
        if self.unstructured or size == room:
            drawn = normal(generator, len(theta), size, like=theta)
        else:
            pull = vjp(lambda vector: hessian.loss.removal_differences(unravel(vector)), theta)[1]
            mixed = normal(generator, size, n, like=theta)
            chunk = chunk_that_fits(lambda vector: hessian.loss.removal_differences(unravel(vector)), theta)
            drawn = vmap(lambda row: pull(row)[0], chunk_size=chunk)(mixed).T
        return torch.linalg.qr(without(null, drawn))[0]
