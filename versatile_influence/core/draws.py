"""Random numbers: drawn on the processor, so that a seed gives the same on every device."""

import torch
from torch import Tensor


def normal(generator: torch.Generator, *shape: int, like: Tensor) -> Tensor:
    """Return standard normal numbers, in the dtype and on the device of another tensor.

    Example:
        >>> normal(torch.Generator().manual_seed(0), 2, 3, like=torch.zeros(1)).shape
        torch.Size([2, 3])
    """
    return torch.randn(*shape, generator=generator, device="cpu", dtype=torch.float64).to(like)
