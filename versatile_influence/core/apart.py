"""Whether objects meet in a loss of outputs: a function does not say, and some presences of half of them tell."""

from collections.abc import Iterable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.derivatives import by_masks, plain
from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import at_once


def halves(n: int, digits: Iterable[int] | None = None) -> Float[Tensor, "d n"]:
    """Return the binary digits of 0…n−1, digit by digit: of any two numbers some digit tells them apart.

    Example:
        >>> halves(4)
        tensor([[0., 1., 0., 1.],
                [0., 0., 1., 1.]], dtype=torch.float64)
    """
    place = torch.tensor([*range(number_of(n))] if digits is None else [*digits])
    return (torch.arange(n) >> place[:, None] & 1).double()


def number_of(n: int) -> int:
    """Return how many halves there are."""
    return max(1, (n - 1).bit_length())


def changes_apart(loss: Loss, outputs: Params) -> Float[Tensor, "n c"] | None:
    """Return ∇ΔL_i in the outputs, of which row i alone changes without object i; None where another one does too.

    Rows stay as they are under presences of half of the objects, by the digits of their numbers: of any two objects one
    is there and the other is not in two of these. What binds them only while nearly everybody is there, a limit that
    one of them alone keeps from being passed, shows in values: apart, Σ ΔL_i is what everybody adds to nobody.
    """
    n = loss.n_objects
    if not isinstance(outputs, Tensor) or not outputs.numel() or outputs.numel() % n or not plain(outputs):
        return None
    if not outputs.dim() or (len(outputs) != n and outputs.dim() > 1):
        return None
    whole = loss.gradient(outputs, loss.everyone(outputs)).reshape(n, -1)
    gone, least = torch.full_like(whole, torch.nan), 64 * torch.finfo(whole.dtype).eps
    digits = torch.arange(number_of(n)).split(at_once(2 * whole.numel()))
    each = (torch.cat([half, 1 - half]) for half in (halves(n, some.tolist()).to(outputs) for some in digits))
    for masks in each:
        found = by_masks(partial(Loss.gradient, loss, outputs), masks).reshape(len(masks), n, -1)
        for mask, slopes in zip(masks[..., None], found, strict=True):
            expected = torch.where(mask == 1, whole, torch.where(gone.isnan(), slopes, gone))
            size = torch.maximum(whole.abs(), expected.abs()).amax(1, keepdim=True)
            if not ((slopes - expected).abs() <= least * size).all():
                return None
            gone = torch.where(mask == 1, gone, expected)
    return whole - gone if _additive(loss, outputs) else None


def _additive(loss: Loss, outputs: Tensor) -> bool:
    """Return whether Σ L(o, 1) − L(o, 1₋ᵢ) over all objects is L(o, 1) − L(o, 0), to rounding."""
    n, everyone = loss.n_objects, loss.everyone(outputs)
    with torch.no_grad():
        value, nobody = loss(outputs, everyone), loss(outputs, 0 * everyone)
        parts = Removals.of(None, n).parts(outputs.numel())
        total = torch.stack([loss.removal_differences(outputs, part).sum() for part in parts]).sum()
    rounding = 16 * n * torch.finfo(outputs.dtype).eps * torch.maximum(value.abs(), nobody.abs())
    return bool((total - (value - nobody)).abs() <= rounding)
