"""Low rank by the Lanczos process (Arnoldi's, for a symmetric H)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.draws import normal
from versatile_influence.core.ravel import flat
from versatile_influence.core.settings import setting
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver, beside, eigenpairs, finite, true_residual
from versatile_influence.solvers.lanczos import lanczos


@dataclass(frozen=True)
class Arnoldi(Solver):
    """Solve in the span of the eigenvectors of largest curvature, found by the Lanczos process from a random start.

    With Q orthonormal after `num_steps` products with one vector each, and T = Qᵀ H Q = S diag(λ) Sᵀ, kept for the
    `rank` largest |λ|,

        H⁻¹ ≈ V diag(1/λ) Vᵀ + (I − V Vᵀ)/μ,      V = Q S,      μ = damping + the loss's penalty,

    and the last term is left out without either. Exact after p steps. Other libraries orthogonalise once, and lose the
    basis on a Hessian near c·I; here twice, so that Q stays orthonormal to rounding. Products are taken one at a time:
    `Nystrom` takes as many at once, and is the faster where a product with many columns is cheaper than many with one.

    Attributes:
        num_steps: Products with H; more than p are never taken.
        rank: How many eigenvectors are kept, or None for all that the steps found.
        seed: Seed of the start.
        rtol: Above this relative residual the solution comes with a warning.

    References:
        Schioppa et al. (2022), "Scaling up influence functions"; Parlett (1998).

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> H = vif.Hessian(loss, torch.zeros(2).double(), torch.ones(1).double())
        >>> vif.solvers.Arnoldi(num_steps=2).solve(H, torch.ones(2, 1).double()).value.squeeze()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    num_steps: int = setting(100, least=1)
    rank: int | None = setting(None, least=1)
    seed: int = setting(0)
    rtol: float = setting(0.1, least=0)
    any_basis: ClassVar[bool] = True
    advice: ClassVar[str] = (
        "The directions found hold too little of them: raise num_steps or rank, add damping=…, or use vif.CG."
    )

    @property
    def tolerated(self) -> float:
        """What it tolerates is `rtol`."""
        return self.rtol

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X ≈ H⁻¹ B; the residuals say how much of B the eigenvectors hold."""
        null, mu = hessian.null_space(), hessian.floor
        rhs = without(null, rhs)
        directions, kept, dropped, smallest, steps = hessian.once(self, lambda: self._eigenpairs(hessian, null))
        inside = directions.T @ rhs
        value = directions @ (inside / kept[:, None])
        if mu > 0:
            value = value + (rhs - directions @ inside) / mu
        value = without(null, value)
        residual = true_residual(hessian, value, rhs, null)
        return Solution(value, residual, num_steps=steps, smallest_curvature=smallest, dropped=dropped)

    def _eigenpairs(self, hessian: Curvature, null: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None, float, int]:
        """Return eigenvectors and eigenvalues found, largest first, flat ones, the smallest of all, and the steps."""
        theta, generator = flat(hessian.params), torch.Generator().manual_seed(self.seed)

        def drawn() -> Tensor:
            return without(null, normal(generator, len(theta), 1, like=theta))[:, 0]

        steps = min(self.num_steps, len(theta) - (0 if null is None else null.shape[1]))
        basis, projected = lanczos(
            lambda columns: without(null, finite(hessian @ columns)), drawn(), steps, restart=drawn
        )
        curvature, turned, level = eigenpairs(projected)
        order = curvature.abs().argsort(descending=True)[: self.rank]
        smallest = curvature.min().item() if len(curvature) else 0.0
        return basis @ turned[:, order], curvature[order], beside(null, basis @ level), smallest, len(projected)
