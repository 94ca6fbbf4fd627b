"""Randomised low rank plus a multiple of the identity."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.draws import normal
from versatile_influence.core.preconditioner import Preconditioner
from versatile_influence.core.ravel import flat
from versatile_influence.core.settings import setting
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import POSITIVE, Solver, beside, finite, true_residual
from versatile_influence.core.warn import warn


@dataclass(frozen=True)
class Nystrom(Solver, Preconditioner):
    """Solve with the best sketch of H of a given rank: `rank` products with H in all, whatever the number of columns.

    With μ = damping + the loss's penalty, H = A + μ I, and Ω random orthonormal columns,

        A ≈ (AΩ)(ΩᵀAΩ)⁺(AΩ)ᵀ = V diag(λ) Vᵀ,      H⁻¹ ≈ V diag(1/(λ + μ)) Vᵀ + (I − V Vᵀ)/μ,

    the last by Woodbury's identity. What it misses are directions of curvature below about the smallest λ, whose share
    of the solution comes out too large. Exact at rank p. As `CG(preconditioner=…)` it takes them for the smallest λ
    instead, which is safe however small μ is.

    Attributes:
        rank: Columns of the sketch; more than p are never taken.
        seed: Seed of Ω.
        rtol: Above this relative residual the solution comes with a warning.

    References:
        Frangella, Tropp & Udell (2023), "Randomized Nyström preconditioning", Algorithm 2.1.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> H = vif.Hessian(loss, torch.zeros(2).double(), torch.ones(1).double(), damping=1.0)
        >>> vif.solvers.Nystrom(rank=2).solve(H, torch.ones(2, 1).double()).value.squeeze().tolist()
        [0.333..., 0.333...]
    """

    rank: int = setting(100, least=1)
    seed: int = setting(0)
    rtol: float = setting(0.1, least=0)
    any_basis: ClassVar[bool] = True
    advice: ClassVar[str] = (
        "The sketch misses too much of H along them: raise rank, add damping=…, or take it as "
        "vif.CG(preconditioner=vif.solvers.Nystrom(rank=…)), whose answer is exact."
    )

    @property
    def tolerated(self) -> float:
        """What it tolerates is `rtol`."""
        return self.rtol

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X ≈ H⁻¹ B; the residuals say how good the sketch is for these columns.

        Raises:
            ValueError: If H is not finite, or there is neither damping nor penalty and `rank` is below p.
        """
        null = hessian.null_space()
        mu, room = hessian.floor, len(rhs) - (0 if null is None else null.shape[1])
        if mu <= 0 and self.rank < room:
            raise ValueError(
                f"A sketch of rank {self.rank} says nothing of the other {room - self.rank} directions: the loss has "
                "no penalty and there is no damping. Pass damping=…, or use vif.CG."
            )
        directions, curvature, dropped = self.sketch(hessian)
        rhs = without(null, rhs)
        value = without(null, _woodbury(directions, curvature, mu, mu)(rhs))
        residual = true_residual(hessian, value, rhs, null)
        return Solution(value, residual, smallest_curvature=(curvature.min() + mu).item(), dropped=dropped)

    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        """Return columns ↦ H⁻¹ columns by the sketch, directions that it misses counting as its flattest."""
        directions, curvature, _ = self.sketch(hessian)
        mu = hessian.floor
        return _woodbury(directions, curvature, mu, mu + curvature.min().item())

    def sketch(self, hessian: Curvature) -> tuple[Float[Tensor, "p r"], Float[Tensor, " r"], Tensor | None]:
        """Return V and λ, largest first, those of rounding left out, and the directions that are left out with them."""
        return hessian.once(self, lambda: self._sketch(hessian))

    def _sketch(self, hessian: Curvature) -> tuple[Float[Tensor, "p r"], Float[Tensor, " r"], Tensor | None]:
        theta, mu, null = flat(hessian.params), hessian.floor, hessian.null_space()
        generator = torch.Generator().manual_seed(self.seed)
        drawn = normal(generator, len(theta), min(self.rank, len(theta)), like=theta)
        room = len(theta) - (0 if null is None else null.shape[1])
        drawn = torch.linalg.qr(without(null, drawn[:, :room]))[0]
        image = finite(hessian @ drawn) - mu * drawn
        core = drawn.T @ image
        # Rather than the reference's Cholesky of a shifted core: this also sees a core that is not positive.
        size, turned = torch.linalg.eigh((core + core.T) / 2)
        rounding = 1e-13 if theta.dtype == torch.float64 else 1e-6
        cut = rounding * len(theta) * (size.abs().max().item() + mu)
        if size[0] < -max(cut, 1e-8 * size[-1].item()):
            warn(
                f"The Hessian is not positive definite: it has a curvature of {size[0].item() + mu:.3g} or less. The "
                f"sketch leaves such directions out. {POSITIVE}",
            )
        kept = size > cut
        # With damping or a penalty nothing is flat.
        dropped = beside(null, drawn @ turned[:, (size.abs() <= cut) & (mu <= 0)])
        if not kept.any():
            return drawn[:, :1], drawn.new_zeros(1), dropped
        root = (image @ turned[:, kept]) / size[kept].sqrt()
        vectors, singular, _ = torch.linalg.svd(root, full_matrices=False)
        return vectors, singular.square(), dropped


def _woodbury(
    directions: Float[Tensor, "p r"], curvature: Float[Tensor, " r"], mu: float, elsewhere: float
) -> Callable[[Tensor], Tensor]:
    """Return columns ↦ V (λ + μ)⁻¹ Vᵀ columns + (I − V Vᵀ) columns / elsewhere."""
    rest = 1 / elsewhere if elsewhere > 0 else 0.0
    gain = 1 / (curvature + mu).clamp_min(torch.finfo(curvature.dtype).tiny) - rest
    return lambda columns: directions @ (gain[:, None] * (directions.T @ columns)) + rest * columns
