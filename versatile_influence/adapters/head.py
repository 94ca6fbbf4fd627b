"""A small trainable layer on frozen embeddings, which starts as the identity."""

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import whole


class ResidualHead(torch.nn.Module):
    """h(x) = x + U D Uᵀ x: D, (rank, rank), is trained from 0; U holds the leading principal axes of the features.

    At the start embeddings are those of the frozen encoder, exactly. Few parameters make a small Hessian, and a ridge
    on D pulls towards the encoder, not towards 0, where a cosine has no value.

    Args:
        features: (..., d) embeddings by the frozen encoder.
        rank: How many axes; at most d.

    Raises:
        ValueError: If there are fewer axes than `rank`.

    Example:
        >>> head = ResidualHead(torch.eye(3).double(), rank=2)
        >>> head(torch.ones(1, 3).double()).tolist(), head.change.numel()
        ([[1.0, 1.0, 1.0]], 4)
    """

    axes: Tensor

    def __init__(self, features: Float[Tensor, "*rows d"], rank: int):
        super().__init__()
        rows = features.double().reshape(-1, features.shape[-1])
        if whole(rank, "rank", least=1) > min(rows.shape):
            raise ValueError(f"`rank` must be from 1 to {min(rows.shape)}, the axes of the features; got {rank}.")
        self.register_buffer("axes", torch.linalg.svd(rows, full_matrices=False).Vh[:rank].T.contiguous())
        self.change = torch.nn.Parameter(torch.zeros(rank, rank, dtype=torch.float64))

    def forward(self, x: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows d"]:
        """Return the embeddings."""
        return x + x @ self.axes @ self.change.T @ self.axes.T
