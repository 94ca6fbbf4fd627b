"""What a solver is, and what it says of its solution."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence._finite import all_finite
from versatile_influence.hessian import Curvature, without

# What to do about a curvature that bends down somewhere.
POSITIVE = (
    "Use curvature=vif.GaussNewton where the loss has outputs, add damping=…, or train closer to a "
    "minimum (vif.minimize)."
)

# Curvatures below this, beside the largest, count as zero where they are found by iteration.
SINGULAR = 1e-12


@dataclass(frozen=True)
class Solution:
    """The solution of H X = B, with how good it is.

    Attributes:
        value: X; in coordinates of fewer parameters where there is `lift`.
        residual: ‖H x − b‖ / ‖b‖ of each column, as measured, 0 where b = 0.
        num_steps: Iterations taken; 0 for a direct solver.
        smallest_curvature: Smallest eigenvalue, or the smallest curvature met, whichever the solver learns.
        dropped: Orthonormal directions in which H is flat and X was set to 0, one a column, or None.
        lift: From columns of `value` to columns as long as the parameters, where `value` is in coordinates of the
            span of all gradients met (many parameters, few outputs and targets), lengths kept; else None. Not saved.
    """

    value: Float[Tensor, "p k"]
    residual: Float[Tensor, " k"]
    num_steps: int = 0
    smallest_curvature: float | None = None
    dropped: Float[Tensor, "p d"] | None = None
    lift: Callable[[Float[Tensor, "r k"]], Float[Tensor, "p k"]] | None = None


@runtime_checkable
class Solver(Protocol):
    """A frozen value that solves H X = B for many columns at once.

    One that meets H only through products with it, and so gives the same in any orthonormal basis of the parameters,
    says so by `any_basis = True`: where outputs and targets are few, it is then given a smaller problem in place of
    that of all parameters.
    """

    def solve(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with its residuals."""
        ...


@runtime_checkable
class Preconditioner(Protocol):
    """A frozen value that knows a cheap, positive definite stand-in for H⁻¹."""

    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        """Return a function that applies the stand-in to columns (p, k)."""
        ...


def finite(product: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Return products with H as they are.

    Raises:
        ValueError: If one is not finite.
    """
    if not all_finite(product):
        raise ValueError(
            "The Hessian has NaN or infinite entries, though loss and gradient are finite. Look for (a) a norm or "
            "square root at zero, (b) `torch.where` around an infinite branch, (c) torch.logcumsumexp with −inf."
        )
    return product


def eigenpairs(projected: Float[Tensor, "m m"], *, stacklevel: int) -> tuple[Float[Tensor, " r"], Float[Tensor, "m r"]]:
    """Return the eigenvalues and vectors of H within a subspace, zero ones left out; warns of those and of negative."""
    curvature, turned = torch.linalg.eigh(projected)
    if curvature[0] < -1e-10 * curvature.abs().max():
        warnings.warn(
            f"The Hessian is indefinite: a direction found has a curvature of {curvature[0]:.3g}. {POSITIVE}",
            stacklevel=stacklevel + 1,
        )
    warn_if_singular(curvature, stacklevel=stacklevel + 1)
    kept = curvature.abs() > SINGULAR * curvature.abs().max()
    return curvature[kept], turned[:, kept]


def warn_if_singular(curvature: Float[Tensor, " m"], *, stacklevel: int) -> None:
    """Warn where some of the curvatures found are zero, so that their directions are left out."""
    flat = int((curvature.abs() <= SINGULAR * curvature.abs().max()).sum())
    if flat and curvature.abs().max() > 0:
        warnings.warn(
            f"The Hessian is singular: {flat} of {len(curvature)} directions found have no curvature and were left "
            "out. What moves along them is not explained. Add a penalty or damping=…, or drop redundant parameters.",
            stacklevel=stacklevel + 1,
        )


def floor(hessian: Curvature) -> float:
    """Return what damping and penalty alone give every direction: the least curvature of a convex loss."""
    return hessian.damping + float(getattr(hessian.loss, "penalty", 0.0))


def true_residual(
    hessian: Curvature, value: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"], null: Tensor | None
) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, measured with H itself, outside the directions `null`."""
    return relative_residual(without(null, finite(hessian @ value)), rhs)


def relative_residual(product: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"]) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, where `product` is H x."""
    size, distance = (columns.square().sum(dim=0).sqrt() for columns in (rhs, product - rhs))
    return distance / size.masked_fill(size == 0, 1.0)
