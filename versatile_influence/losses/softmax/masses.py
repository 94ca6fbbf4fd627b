"""Softmax masses b e^{s}, with sums over all but one that lose no digits."""

import torch
from jaxtyping import Float
from torch import Tensor


def masses(scores: Tensor, allowed: Tensor, units: Tensor) -> tuple[Tensor, Tensor]:
    """Return the largest score of who is there, row by row, and b e^{s − it}; the shift carries no derivative."""
    there = allowed & (units > 0)
    shift = shifts(scores, there)
    return shift.reshape(-1), bounded_exp(scores - shift) * (there * units)


def shifts(scores: Tensor, there: Tensor) -> Tensor:
    """Return the largest score of who is there, row by row, with axes of length 1 for the others; a constant."""
    over = tuple(range(1, there.dim()))
    shift = torch.where(there, scores.detach(), -torch.inf).amax(over, keepdim=True)
    return torch.where(torch.isfinite(shift), shift, 0.0)


def bounded_exp(shifted: Tensor) -> Tensor:
    """Return the exponential of what is at most 0, and no infinity for who is absent and may be above."""
    return shifted.clamp(max=0.0).exp()


def reverse_cumsum(values: Tensor) -> Tensor:
    """Return the sum of each entry and all after it, along the last axis."""
    return values.flip(-1).cumsum(-1).flip(-1)


def leave_one_out_sums(mass: Float[Tensor, "... B"]) -> Float[Tensor, "... B"]:
    """Return Σ_{l ≠ i} m_l for each i without cancellation: only the largest is summed anew, the rest by difference."""
    top = torch.arange(mass.shape[-1]) == mass.detach().argmax(-1, keepdim=True)
    rest = torch.where(top, 0.0, mass).sum(-1, keepdim=True)
    return torch.where(top, rest, mass.sum(-1, keepdim=True) - mass)


def log_growth(mass: Tensor, others: Tensor) -> Tensor:
    """Return log(Σ m) − log(Σ m − m_i) = log(1 + m_i / others), 0 where there are no others."""
    alone = others <= 0
    return torch.log1p(torch.where(alone, 0.0, mass / torch.where(alone, 1.0, others)))
