"""The diagonal of H, as a preconditioner."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.preconditioner import Preconditioner
from versatile_influence.core.ravel import flat
from versatile_influence.core.settings import setting
from versatile_influence.core.solver import finite


@dataclass(frozen=True)
class Diagonal(Preconditioner):
    """Stand in for H⁻¹ with 1 / diag(H) (Jacobi), the diagonal probed by products with random signs.

        diag(H) ≈ mean over probes of z ∘ H z,      z of random signs,

    which is exact with p probes or more: then the unit vectors are used in place of signs. For
    `CG(preconditioner=…)`, where parameters have very different scales.

    Attributes:
        num_probes: Products with H; more than p are never taken.
        seed: Seed of the signs.

    References:
        Hutchinson (1990); Bekas, Kokiopoulou & Saad (2007), "An estimator for the diagonal of a matrix".

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * (theta[0] ** 2 + 50 * theta[1] ** 2)
        >>> H = vif.Hessian(loss, torch.zeros(2).double(), torch.ones(1).double())
        >>> vif.solvers.Diagonal().inverse(H)(torch.ones(2, 1).double()).squeeze().tolist()
        [0.5, 0.01]
    """

    num_probes: int = setting(64, least=1)
    seed: int = setting(0)

    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        """Return columns ↦ columns / diag(H), entries that are not positive counting as the least positive one."""
        entries = hessian.once(self, lambda: self.entries(hessian))
        least = torch.where(entries > 0, entries, torch.inf).min().clamp(max=entries.abs().max())
        scale = entries.clamp_min(max(hessian.floor, least.item(), torch.finfo(entries.dtype).tiny))
        return lambda columns: columns / scale[:, None]

    def entries(self, hessian: Curvature) -> Float[Tensor, " p"]:
        """Return diag(H), exact where p ≤ `num_probes`."""
        theta = flat(hessian.params)
        if len(theta) <= self.num_probes:
            return finite(hessian @ torch.eye(len(theta)).to(theta)).diagonal()
        generator = torch.Generator().manual_seed(self.seed)
        signs = torch.randint(0, 2, (len(theta), self.num_probes), generator=generator, device="cpu").to(theta) * 2 - 1
        return (signs * finite(hessian @ signs)).mean(dim=1)
