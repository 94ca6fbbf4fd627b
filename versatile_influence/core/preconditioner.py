"""What a preconditioner is: a cheap stand-in for the inverse of a curvature."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature
from versatile_influence.core.settings import Settings


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

    def coordinates(self, hessian: Curvature) -> "Coordinates":
        """Return H in these coordinates."""
        return Coordinates(hessian, self.root(hessian))

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

    def solved(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return R⁻¹ X."""
        return torch.linalg.solve(self.blocks, columns.reshape(*self.blocks.shape[:2], -1)).reshape(columns.shape)

    def turned(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return Rᵀ X."""
        return (self.blocks.mT @ columns.reshape(*self.blocks.shape[:2], -1)).reshape(columns.shape)


@dataclass(frozen=True)
class Coordinates:
    """H X = B in coordinates of near unit curvature, RᵀHR Y = RᵀB with X = R Y.

    Attributes:
        hessian: H.
        root: R.
    """

    hessian: Curvature
    root: Root

    def level(self, null: Float[Tensor, "p j"] | None) -> Float[Tensor, "m j"] | None:
        """Return an orthonormal basis of the directions without curvature in these coordinates."""
        return None if null is None else torch.linalg.qr(self.root.solved(null))[0]

    def right(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return what is solved for in these coordinates."""
        return self.root.turned(columns)

    def product(self, columns: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Return the product of the matrix with columns."""
        return self.root.turned(self.hessian @ (self.root @ columns))

    def back(self, found: Float[Tensor, "m k"], columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:  # noqa: ARG002
        """Return X from Y and B."""
        return self.root @ found


# From columns of one half of the parameters to those of the other, through H.
Across = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Halved(Coordinates):
    """The same in half of the coordinates, where the root is exact within either half: RᵀHR = [1 C; Cᵀ 1].

    (1 − C Cᵀ) Y₁ = B₁ − C B₂ and Y₂ = B₂ − Cᵀ Y₁: half the steps, as the eigenvalues 1 ± μ become 1 − μ².

    Attributes:
        ways: From the first half to the second, and back, through H.

    References:
        Reid (1972), "The use of conjugate gradients for systems of linear equations possessing Property A".
    """

    ways: tuple[Across, Across]

    def level(self, null: Float[Tensor, "p j"] | None) -> Float[Tensor, "m j"] | None:
        if null is None:
            return None
        return torch.linalg.qr(self._half(0).solved(null[: len(null) // 2]))[0]

    def right(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        first, second = self.root.turned(columns).chunk(2)
        return first - self._crossed(second, 1)

    def product(self, columns: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        return columns - self._crossed(self._crossed(columns, 0), 1)

    def back(self, found: Float[Tensor, "m k"], columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        second = self.root.turned(columns).chunk(2)[1]
        return self.root @ torch.cat([found, second - self._crossed(found, 0)])

    def _half(self, side: int) -> Root:
        return Root(self.root.blocks.chunk(2)[side])

    def _crossed(self, columns: Float[Tensor, "m k"], side: int) -> Float[Tensor, "m k"]:
        return self._half(1 - side).turned(self.ways[side](self._half(side) @ columns))
