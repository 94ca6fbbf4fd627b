"""What a solver is, and what it says of its solution."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.ravel import all_finite
from versatile_influence.core.settings import Settings
from versatile_influence.core.sizes import FLAT, SINGULAR
from versatile_influence.core.solution import Solution
from versatile_influence.core.warn import warn

# What to do about a curvature that bends down somewhere.
POSITIVE = (
    "Use curvature=vif.GaussNewton where the loss has outputs, add damping=…, or train closer to a "
    "minimum (vif.minimize)."
)


class Solver(Settings, ABC):
    """A frozen value that solves H X = B for many columns at once, and warns where a column falls short.

    A subclass writes `solved`; `solve` holds it to what it tolerates, by one rule for all.

    Attributes:
        any_basis: Whether it gives the same in any orthonormal basis of the parameters, as one does that meets H
            only through products with it: where outputs and targets are few, it is then given a smaller problem in
            place of that of all parameters.
        tolerated: Above this relative residual a column has fallen short.
        advice: What to do then.
    """

    any_basis: bool = False
    tolerated: float
    advice: ClassVar[str]

    @abstractmethod
    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with its residuals."""

    def solve(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with H X ≈ B, and its residuals.

        Raises:
            TypeError: If the solver cannot use this curvature.
            ValueError: If H is not finite.

        Warns:
            UserWarning: If a column's relative residual is above `tolerated`, H curves downward, or is flat in a
                direction that a column asks for and the loss does not name.
        """
        solution = self.checked(hessian, rhs)
        if number := int((share_along(solution.dropped, without(hessian.null_space(), rhs)) > FLAT).sum()):
            warn(
                f"The Hessian is singular: {len(solution.dropped.T)} of {len(rhs)} directions have no curvature and "  # pyright: ignore
                f"were left out (see solution.dropped), and {number} of {rhs.shape[1]} columns ask for them. Add a "
                "penalty or damping=…, or drop redundant parameters."
            )
        return solution

    def checked(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return what `solve` does, without a word on directions left out: a verb says what they mean to it."""
        solution = self.solved(hessian, rhs)
        residual, name = solution.residual, type(self).__name__
        # Written so that NaN counts as short.
        short = int((~(residual <= self._bound(hessian) + share_along(solution.dropped, rhs))).sum())
        if not (short or solution.bent_down):
            return solution
        worst = f"(worst relative residual {residual.max():.2g})"
        if solution.bent_down:
            said = (
                f"The Hessian is not positive definite: {name} met a curvature of {solution.smallest_curvature:.3g} "
                f"and stopped early on {solution.bent_down} of {len(residual)} columns {worst}. "
                f"{POSITIVE} Where the parameters are few, vif.Explicit() solves it as it is."
            )
        else:
            steps = f" after {solution.num_steps} steps" if solution.num_steps else ""
            said = (
                f"{name} left {short} of {len(residual)} columns short of a relative residual of {self.tolerated:g}"
                f"{steps} {worst}. {self.advice}"
            )
        warn(said)
        return solution

    def _bound(self, hessian: Curvature) -> float:
        """Return what is tolerated, and at least a thousand roundings of the loss, up to half of what is solved for."""
        return max(self.tolerated, min(0.5, 1e3 * torch.finfo(hessian.loss.precision).eps))


class Preconditioner(Settings, ABC):
    """A frozen value that knows a cheap, positive definite stand-in for H⁻¹.

    Attributes:
        any_basis: Whether it is the same in any orthonormal basis of the parameters.
    """

    any_basis: bool = False

    @abstractmethod
    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        """Return a function that applies the stand-in to columns (p, k)."""


class Rooted(Preconditioner):
    """A stand-in R Rᵀ whose root is at hand: in coordinates x with θ = R x the curvature is near the identity."""

    @abstractmethod
    def root(self, hessian: Curvature) -> "Root":
        """Return R."""

    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        root = self.root(hessian)
        return lambda columns: root @ root.turned(columns)


@dataclass(frozen=True)
class Root:
    """A block-diagonal matrix R.

    Attributes:
        blocks: Its blocks, for as many rows of parameters.
    """

    blocks: Float[Tensor, "r d d"]

    def __matmul__(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return R X."""
        return (self.blocks @ columns.reshape(*self.blocks.shape[:2], -1)).reshape(columns.shape)

    def turned(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return Rᵀ X."""
        return (self.blocks.mT @ columns.reshape(*self.blocks.shape[:2], -1)).reshape(columns.shape)


class Inverse:
    """H⁻¹ applied to columns: solved for, or where they are more than the parameters, multiplied.

    Args:
        hessian: H.
        solver: What solves.

    Attributes:
        solution: The first solution, which the scores come from.
    """

    def __init__(self, hessian: Curvature, solver: Solver):
        self.hessian, self.solver = hessian, solver
        self.solution: Solution | None = None
        self._whole: Tensor | None = None

    def __matmul__(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return H⁻¹ B."""
        p, k = columns.shape
        if self._whole is None and k >= p:
            # As many columns as parameters: H⁻¹ itself costs no more, and serves what is asked next by a product.
            unit = torch.eye(p, dtype=columns.dtype, device=columns.device)
            self._whole = self._solved(unit)
        return self._solved(columns) if self._whole is None else self._whole @ columns

    def _solved(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        solution = self.solver.checked(self.hessian, columns)
        # The first is of the targets or the removals; later ones, of a leftover or a few mended columns.
        self.solution = self.solution or solution
        return solution.value


def share_along(directions: Float[Tensor, "p d"] | None, columns: Float[Tensor, "p k"]) -> Float[Tensor, " k"]:
    """Return which share of each column lies along orthonormal directions."""
    if directions is None:
        return columns.new_zeros(columns.shape[1])
    return (directions.T @ columns).norm(dim=0) / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)


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


def eigenpairs(projected: Float[Tensor, "m m"]) -> tuple[Float[Tensor, " r"], Float[Tensor, "m r"]]:
    """Return the eigenvalues and vectors of H within a subspace, zero ones left out; warns of those and of negative."""
    curvature, turned = torch.linalg.eigh(projected)
    # A zero eigenvalue comes out negative by rounding half of the time.
    if curvature[0] < -1e-10 * curvature.abs().max():
        warn(
            f"The Hessian is indefinite: a direction found has a curvature of {curvature[0]:.3g}. {POSITIVE}",
        )
    warn_if_singular(curvature)
    kept = curvature.abs() > SINGULAR * curvature.abs().max()
    return curvature[kept], turned[:, kept]


def warn_if_singular(curvature: Float[Tensor, " m"]) -> None:
    """Warn where some of the curvatures found are zero, so that their directions are left out."""
    flat = int((curvature.abs() <= SINGULAR * curvature.abs().max()).sum())
    if flat and curvature.abs().max() > 0:
        warn(
            f"The Hessian is singular: {flat} of {len(curvature)} directions found have no curvature and were left "
            "out. What moves along them is not explained. Add a penalty or damping=…, or drop redundant parameters.",
        )


def true_residual(
    hessian: Curvature, value: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"], null: Tensor | None
) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, measured with H itself, outside the directions `null`."""
    return relative_residual(without(null, finite(hessian @ value)), rhs)


def relative_residual(product: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"]) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, where `product` is H x."""
    # A column of zeros is solved by zeros: its residual is 0, not 0/0.
    size, distance = (columns.square().sum(dim=0).sqrt() for columns in (rhs, product - rhs))
    return distance / size.masked_fill(size == 0, 1.0)
