"""Whether objects meet in a loss of outputs: a function does not say, and some presences of half of them tell."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.derivatives import by_masks, plain
from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params
from versatile_influence.core.sizes import at_once


def halves(n: int) -> Float[Tensor, "d n"]:
    """Return the binary digits of 0…n−1, digit by digit: of any two numbers some digit tells them apart.

    Example:
        >>> halves(4)
        tensor([[0., 1., 0., 1.],
                [0., 0., 1., 1.]], dtype=torch.float64)
    """
    digits = torch.arange(max(1, (n - 1).bit_length()))
    return (torch.arange(n) >> digits[:, None] & 1).double()


def changes_apart(loss: Loss, outputs: Params) -> Float[Tensor, "n c"] | None:
    """Return ∇ΔL_i in the outputs, of which row i alone changes without object i; None where another one does too.

    Rows stay as they are under presences of half of the objects, by the digits of their numbers: of any two objects one
    is there and the other is not in two of these. The first and the last object are removed by themselves besides.
    """
    n = loss.n_objects
    if not isinstance(outputs, Tensor) or not outputs.numel() or outputs.numel() % n or not plain(outputs):
        return None
    if len(outputs) != n and outputs.dim() > 1:
        return None
    digits, ends = halves(n).to(outputs), torch.ones(2, n).to(outputs)
    ends[[0, 1], [0, -1]] = 0.0
    whole = loss.gradient(outputs, loss.everyone(outputs)).reshape(n, -1)
    least, gone = 64 * torch.finfo(whole.dtype).eps * whole.abs().max(), torch.full_like(whole, torch.nan)
    for masks in torch.cat([digits, 1 - digits, ends]).split(at_once(whole.numel())):
        found = by_masks(partial(Loss.gradient, loss, outputs), masks).reshape(len(masks), n, -1)
        for mask, slopes in zip(masks[..., None], found, strict=True):
            expected = torch.where(mask == 1, whole, torch.where(gone.isnan(), slopes, gone))
            if not ((slopes - expected).abs() <= least).all():
                return None
            gone = torch.where(mask == 1, gone, expected)
    return whole - gone
