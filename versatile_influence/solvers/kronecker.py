"""One layer's part of a curvature, diagonal in a basis of Kronecker factors."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.solvers.layers import Layer


@dataclass(frozen=True)
class Block:
    """One layer's part of the Gauss–Newton matrix: U, V and Λ; nothing outside U and V."""

    layer: Layer
    left: Float[Tensor, "o r"]
    right: Float[Tensor, "i s"] | None
    curvature: Float[Tensor, "r s"]

    @classmethod
    def of(cls, layer: Layer, totals: Float[Tensor, "d o i"]) -> "Block":
        """Return the factors of second moments of pseudo-gradients."""
        left = _basis(totals.transpose(0, 1).flatten(1))
        embedding = isinstance(layer.module, torch.nn.Embedding)
        # One-hot vectors have a basis already.
        right = None if embedding else _basis(totals.permute(2, 0, 1).flatten(1))
        turned = left.T @ totals
        turned = turned if right is None else turned @ right
        return cls(layer, left, right, turned.square().sum(dim=0))

    def solved(self, matrices: Float[Tensor, "k o i"], mu: float) -> Float[Tensor, "k o i"]:
        """Return the block's inverse times each matrix."""
        inside = self.left.T @ matrices
        inside = inside if self.right is None else inside @ self.right
        gained = divided(inside, self.curvature, mu) - (inside / mu if mu > 0 else 0.0)
        change = self.left @ gained
        change = change if self.right is None else change @ self.right.T
        return change + (matrices / mu if mu > 0 else 0.0)


def _basis(columns: Float[Tensor, "m c"]) -> Float[Tensor, "m r"]:
    """Return orthonormal eigenvectors of C Cᵀ, those of rounding left out."""
    if columns.shape[1] >= columns.shape[0]:
        size, vectors = torch.linalg.eigh(columns @ columns.T)
        return vectors[:, size > 1e-14 * len(size) * size[-1]]
    vectors, size, _ = torch.linalg.svd(columns, full_matrices=False)
    return vectors[:, size > 1e-7 * size[0]]


def divided(values: Tensor, curvature: Tensor, mu: float) -> Tensor:
    """Return values / (curvature + μ), 0 where both are none."""
    total = curvature + mu
    flat = total <= 1e-14 * total.max()
    return torch.where(flat, 0.0, values / torch.where(flat, 1.0, total))
