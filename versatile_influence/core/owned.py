"""Parameters that an object owns: an item's output row, a node's embedding.

Once the object is gone nothing but the penalty holds them. With r the other parameters and o the object's own, training
without it minimises over r alone, so that

    Δr = S⁻¹ ∇_r ΔL_i,      Δo = −o   (they fall to zero),

and the treatments differ in S, the curvature of the loss without the object that is read off H:

    Marginalised    S = H_rr − H_ro H_oo⁻¹ H_or,  S⁻¹ = (H⁻¹)_rr
    Conditioned     S = H_rr
    Shared          no parameter counts as owned: Eq. 10 as it stands

For a softmax over items with probabilities p the first is diag(p_r) − p_r p_rᵀ/(1 − p_i), which is 1 − p_i times the
curvature without item i, and so nearly exact; it is the default. `loss.treated(Conditioned())` has another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Solve = Callable[[Tensor], Tensor]


class Treatment(ABC):
    """How parameters are treated that only a removed object trains; another one is another subclass.

    Attributes:
        owns: Whether any parameter counts as owned.
        by_target: Whether H⁻¹ may be applied on the side of the targets: where owned entries are struck on both sides.
    """

    owns: bool = True
    by_target: bool = False

    @abstractmethod
    def changes(
        self, differences: Float[Tensor, "k p"], mask: Bool[Tensor, "k p"], theta: Float[Tensor, " p"], solve: Solve
    ) -> Float[Tensor, "k p"]:
        """Return Δθ of each removal.

        Args:
            differences: ∇ΔL_i, one row a removal.
            mask: True where a parameter is owned by what is removed.
            theta: The trained parameters.
            solve: Applies H⁻¹ to columns.
        """


@dataclass(frozen=True)
class Marginalised(Treatment):
    """S⁻¹ = (H⁻¹)_rr: owned entries are struck before and after H⁻¹.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> differences, theta = torch.tensor([[5.0, 1.0]]), torch.tensor([3.0, 4.0])
        >>> Marginalised().changes(differences, mask, theta, lambda columns: columns / 2)
        tensor([[-3.0000,  0.5000]])
    """

    by_target = True

    def changes(
        self, differences: Float[Tensor, "k p"], mask: Bool[Tensor, "k p"], theta: Float[Tensor, " p"], solve: Solve
    ) -> Float[Tensor, "k p"]:
        return torch.where(mask, -theta, solve(differences.masked_fill(mask, 0.0).T).T)


@dataclass(frozen=True)
class Conditioned(Treatment):
    """S⁻¹ = (H_rr)⁻¹ = (H⁻¹)_rr − (H⁻¹)_ro ((H⁻¹)_oo)⁻¹ (H⁻¹)_or."""

    def changes(
        self, differences: Float[Tensor, "k p"], mask: Bool[Tensor, "k p"], theta: Float[Tensor, " p"], solve: Solve
    ) -> Float[Tensor, "k p"]:
        positions = mask.any(0).nonzero()[:, 0]
        units = torch.zeros(len(theta), len(positions), dtype=theta.dtype, device=theta.device)
        units[positions, torch.arange(len(positions), device=theta.device)] = 1.0
        # One call, so that H is factorised once.
        solved = solve(torch.cat([differences.masked_fill(mask, 0.0).T, units], dim=1))
        kept, inverse = solved[:, : len(differences)].T.clone(), solved[:, len(differences) :]
        for row, own in enumerate(mask):
            columns = inverse[:, own[positions]]
            kept[row] -= columns @ torch.linalg.solve(columns[own], kept[row, own])
        return torch.where(mask, -theta, kept)


@dataclass(frozen=True)
class Shared(Treatment):
    """H⁻¹∇ΔL_i, as if nothing were owned.

    Example:
        >>> mask = torch.tensor([[True, False]])
        >>> differences, theta = torch.tensor([[5.0, 1.0]]), torch.tensor([3.0, 4.0])
        >>> Shared().changes(differences, mask, theta, lambda columns: columns / 2)
        tensor([[2.5000, 0.5000]])
    """

    owns = False

    def changes(
        self,
        differences: Float[Tensor, "k p"],
        mask: Bool[Tensor, "k p"],  # noqa: ARG002
        theta: Float[Tensor, " p"],  # noqa: ARG002
        solve: Solve,
    ) -> Float[Tensor, "k p"]:
        return solve(differences.T).T
