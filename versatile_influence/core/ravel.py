"""Parameters, a tensor or a dict of tensors, as one flat vector and back."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vmap

Params = Tensor | dict[str, Tensor]


def all_finite(numbers: Tensor) -> bool:
    """Return whether no number is NaN or infinite; a finite sum says so, without a second array of their size."""
    # A sum may also overflow: then, and only then, they are looked at one by one.
    return math.isfinite(numbers.sum().item()) or bool(torch.isfinite(numbers).all())


def ravel(params: Params) -> tuple[Float[Tensor, " p"], Callable[[Tensor], Params]]:
    """Return a user's parameters as one vector, checked, and the function that shapes such a vector back.

    Args:
        params: A tensor of any shape, or a dict of them (`dict(module.named_parameters())`).

    Raises:
        TypeError: If it is neither, or not floating point.
        ValueError: If the tensors are on different devices, of different types, or not finite.
    """
    _check(params if isinstance(params, dict) else {"params": params})
    # Parameters straight from training carry a graph, which every derivative here would grow; and a loss that works in
    # place would change the user's.
    detached = {n: t.detach() for n, t in params.items()} if isinstance(params, dict) else params.detach().clone()
    return flat(detached), shaper(params)


def flat(params: Params) -> Float[Tensor, " p"]:
    """Return parameters as one vector."""
    if isinstance(params, dict):
        return torch.cat([tensor.reshape(-1) for tensor in params.values()])
    return params.reshape(-1)


def shaper(like: Params) -> Callable[[Tensor], Params]:
    """Return the function that shapes a flat vector as the parameters are."""
    if not isinstance(like, dict):
        shape = like.shape
        return lambda vector: vector.reshape(shape)
    shapes = {name: tensor.shape for name, tensor in like.items()}
    sizes = [tensor.numel() for tensor in like.values()]
    return lambda vector: {
        name: part.reshape(shapes[name]) for name, part in zip(shapes, vector.split(sizes), strict=True)
    }


def first(params: Params) -> Tensor:
    """Return one of the tensors, for its dtype and device."""
    return next(iter(params.values())) if isinstance(params, dict) else params


def parts_of(params: Params) -> list[Tensor]:
    """Return the tensors."""
    return list(params.values()) if isinstance(params, dict) else [params]


def cast(params: Params, dtype: torch.dtype) -> Params:
    """Return parameters in another precision."""
    if isinstance(params, dict):
        return {name: value.to(dtype) for name, value in params.items()}
    return params.to(dtype)


def all_frozen(number: int) -> str:
    """Return what to do where every parameter is frozen."""
    return (
        f"All {number} parameters are frozen (requires_grad=False), so nothing was trained. Were the flags cleared for "
        "inference? Set them on what was trained, before the loss is made: model.requires_grad_(True), or "
        "model.head.requires_grad_(True) for a part."
    )


def stacked(unravel: Callable[[Tensor], Params], theta: Float[Tensor, "k p"]) -> Params:
    """Return the parameters of each row, stacked along a first dimension."""
    if len(theta) > 1:
        return vmap(unravel)(theta)
    params = unravel(theta[0])
    return {name: value[None] for name, value in params.items()} if isinstance(params, dict) else params[None]


def flat_each(params: Params) -> Float[Tensor, "k p"]:
    """Return stacked parameters as one row each."""
    if isinstance(params, dict):
        return torch.cat([tensor.reshape(len(tensor), -1) for tensor in params.values()], dim=1)
    return params.reshape(len(params), -1)


def everything(whole: Params, trained: Params, *, frozen: bool = False) -> Params:
    """Return all parameters, as `whole` has them, with trained ones, perhaps stacked, in their place.

    The others are marked as frozen where asked for, so that whoever is given them takes them so again.
    """
    if not isinstance(whole, dict) or not isinstance(trained, dict) or len(whole) == len(trained):
        return trained
    name, like = next(iter(trained.items()))
    stack = like.shape[: like.dim() - whole[name].dim()]
    rest = {name: value.detach().to(like).expand(*stack, *value.shape) for name, value in whole.items()}
    if frozen:
        rest = {name: nn.Parameter(value, requires_grad=False) for name, value in rest.items()}
    return rest | trained


def squared_norm(params: Params) -> Float[Tensor, ""]:
    """Return ‖θ‖²."""
    if not isinstance(params, dict):
        return params.square().sum()
    return torch.stack([part.square().sum() for part in params.values()]).sum()


def _check(named: dict[str, Tensor]) -> None:
    """Check parameters by name."""
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(
                f"Parameters must be a floating-point tensor or a dict of them, got {kind} for `{name}`. "
                "Use torch.as_tensor(values, dtype=torch.float64) or dict(module.named_parameters())."
            )
        if tensor.layout != torch.strided:
            raise ValueError(f"Parameter `{name}` is sparse ({tensor.layout}). Make it dense: .to_dense().")
    if not sum(tensor.numel() for tensor in named.values()):
        raise ValueError(
            "There are no parameters: `params` is empty. Pass a tensor of some, or dict(module.named_parameters())."
        )
    kinds = {(tensor.dtype, tensor.device) for tensor in named.values()}
    if len(kinds) > 1:
        listed = ", ".join(f"{name}: {tensor.dtype} on {tensor.device}" for name, tensor in named.items())
        raise ValueError(f"Parameters must share one dtype and device, got {listed}. Use module.to(...) first.")
    for name, tensor in named.items():
        if tensor.is_meta:
            raise ValueError(f"Parameter `{name}` is on the meta device, without values. Load them first.")
        if not all_finite(tensor):
            raise ValueError(
                f"Parameter `{name}` has NaN or infinite entries: the training diverged. Train again first."
            )
