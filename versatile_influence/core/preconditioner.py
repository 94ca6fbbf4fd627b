"""What a preconditioner is: a cheap stand-in for the inverse of a curvature."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

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
