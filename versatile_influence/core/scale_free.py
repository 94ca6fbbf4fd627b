"""Whether a penalty pulls on what the rest of the loss does not feel: the scale of parameters that are normalised.

Where L₀, the loss without its penalty, is the same at cθ for every c > 0, as under a cosine, (λ/2)‖θ‖² drives θ to 0,
where L₀ has no value: there is no minimum. By Euler θᵀ∇L₀ = 0 there, which costs a product with a gradient that is
known; only where it holds is the loss evaluated at other scales.
"""

import math
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params, flat, squared_norm


class NoMinimumError(ValueError):
    """The loss has no finite minimiser, or none was found."""


def scale_free(
    loss: Loss, params: Params, gradient: Float[Tensor, " p"], presence: Float[Tensor, " n"] | None = None
) -> str | None:
    """Return what to say of a penalty on parameters that enter the loss through their direction alone, or None.

    Args:
        loss: The loss.
        params: Where.
        gradient: ∇L there.
        presence: Who is present; None for everybody.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.InfoNCELoss(torch.eye(3).double().expand(2, 3, 3), penalty=1.0)
        >>> scale_free(loss, loss.zeros(), loss.gradient(loss.zeros(), torch.ones(3).double())) is None
        False
    """
    if not loss.penalty > 0:
        return None
    named, presence = _named(params), loss.everyone(params) if presence is None else presence
    slopes = dict(zip(named, gradient.split([value.numel() for value in named.values()]), strict=True))
    for chosen in _blocks(list(named)):
        theta, slope = flat({name: named[name] for name in chosen}), torch.cat([slopes[name] for name in chosen])
        slope = slope - loss.penalty * theta
        pull = loss.penalty * (theta @ theta)
        if pull > 0 and (theta @ slope).abs() <= 1e-9 * (pull + theta.norm() * slope.norm()):
            value = partial(_unpenalised, loss, params, chosen, presence)
            here = value(1.0)
            # At 0 another: what does not enter at all has its minimum there.
            if all(math.isclose(here, value(scale), rel_tol=1e-9) for scale in (0.5, 2.0, 0.01)) and not math.isclose(
                here, value(0.0), rel_tol=1e-9
            ):
                return _told(chosen)
    return None


def _named(params: Params) -> dict[str, Tensor]:
    return params if isinstance(params, dict) else {"": params}


def _blocks(names: list[str]) -> list[list[str]]:
    """Return what may have a scale of its own: each tensor, the tensors of a module, and all of them."""
    modules = [name.rpartition(".")[0] for name in names]
    blocks = [[name] for name in names]
    blocks += [[name for name in names if name.rpartition(".")[0] == module] for module in dict.fromkeys(modules)]
    return [list(block) for block in dict.fromkeys(map(tuple, [*blocks, names]))]


def _unpenalised(loss: Loss, params: Params, chosen: list[str], presence: Tensor, scale: float) -> float:
    """Return L₀ where some parameters are scaled."""
    scaled = {name: value * scale if name in chosen and scale != 1 else value for name, value in _named(params).items()}
    at = scaled if isinstance(params, dict) else scaled[""]
    return (loss(at, presence) - loss.penalty / 2 * squared_norm(at)).item()


def _told(chosen: list[str]) -> str:
    what = f"`{'`, `'.join(chosen[:3])}`" if chosen != [""] else "the parameters"
    return (
        f"The loss has no minimum: without its penalty it depends on {what} only through their direction, as under a "
        "cosine or a normalisation, and the penalty drives them to 0. Leave the penalty out (the scale is then a "
        "direction without curvature, which solvers leave out), or penalise something that is not scale free, or fix "
        "the norm."
    )
