"""Whether a loss has a finite minimum where a minimiser stopped."""

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.hessian import deflated, without

if TYPE_CHECKING:
    from versatile_influence.minimisation import Objective

# A direction whose curvature fell to less than this share of what it was at the start may lead to infinity.
KEPT = 1e-6


class NoMinimumError(ValueError):
    """The loss has no finite minimiser, or none was found."""


def check_bounded(objective: "Objective", init: Float[Tensor, " p"], found: Float[Tensor, " p"]) -> None:
    """Raise where the minimiser went off along a direction in which the loss falls forever.

    Such a direction had curvature at the start and has next to none where the minimiser stopped, and the loss is still
    not larger far out along it.

    Raises:
        NoMinimumError: If there is one.
    """
    moved = found - init
    if not moved.any():
        return
    before, after = objective.hessian(init).dense(), objective.hessian(found).dense()
    # What the loss itself names as constant, and what was flat from the start, is no way out.
    null = objective.hessian(found).null_space()
    scale = before.diagonal().abs().clamp_min(1e-300).sqrt() if null is None else torch.ones_like(found)
    relative = deflated(after, null) / scale[:, None] / scale[None, :]
    # Where Cholesky shows that every curvature kept enough of its size, nothing else need be looked at.
    if (
        torch.linalg.cholesky_ex(relative - KEPT * torch.eye(len(found), dtype=found.dtype, device=found.device))[1]
        == 0
    ):
        return
    curvature, directions = torch.linalg.eigh(relative)
    flats = without(null, directions[:, curvature < KEPT] / scale[:, None])
    if not flats.shape[1]:
        return
    flats = torch.linalg.qr(flats)[0]
    most, ways = torch.linalg.eigh(flats.T @ before @ flats)
    was, flat = most[-1].item(), flats @ ways[:, -1]
    now = (flat @ after @ flat).item()
    if not (was > 1e-12 * before.diagonal().abs().max() and abs(now) < 1e-6 * was):
        return
    if null is not None and moved.norm() > init.norm() and abs(now) < 1e-7 * was:
        raise NoMinimumError(
            f"The loss has no finite minimum: the parameters, of size {init.norm():.3g}, moved by {moved.norm():.3g} "
            f"while a curvature fell from {was:.2g} to {now:.1g}. Is what is left in several parts, as a graph without "
            "its cut vertex? Add a penalty > 0."
        )
    outward = flat * torch.sign(flat @ moved)
    now, far = objective.value(found), moved.norm()
    if min(objective.value(found + length * far * outward) for length in (0.1, 1, 10)) <= now + 1e-9 * abs(now):
        names = getattr(objective.loss, "parameter_names", None)
        index = int((outward * scale).abs().argmax())
        name = f"`{names[index]}`" if names else f"parameter {index}"
        raise NoMinimumError(
            f"The loss has no finite minimum: it keeps falling as {name} goes to {'+' if outward[index] > 0 else '-'}∞ "
            f"(it is at {found[index].item():.3g}). In regression this is complete separation (a monotone likelihood): "
            "that covariate predicts the outcome perfectly. Add a penalty > 0, or drop or merge the covariate."
        )
