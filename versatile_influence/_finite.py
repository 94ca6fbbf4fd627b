"""Whether numbers are finite, at the price of one sum."""

import math

import torch
from torch import Tensor


def all_finite(numbers: Tensor) -> bool:
    """Return whether no number is NaN or infinite; a finite sum says so, without a second array of their size."""
    return math.isfinite(numbers.sum().item()) or bool(torch.isfinite(numbers).all())
