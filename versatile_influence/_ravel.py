"""A tensor, or a dict of tensors, as one flat vector and back."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence._finite import all_finite

Params = Tensor | dict[str, Tensor]


def ravel(params: Params) -> tuple[Float[Tensor, " p"], Callable[[Tensor], Params]]:
    """Return the parameters as one vector, and the function that shapes such a vector back.

    Args:
        params: A tensor of any shape, or a dict of them (`dict(module.named_parameters())`).

    Raises:
        TypeError: If it is neither, or not floating point.
        ValueError: If the tensors are on different devices, of different types, or not finite.
    """
    if not isinstance(params, dict):
        vector = _checked({"params": params})
        return vector, lambda flat: flat.reshape(params.shape)
    vector = _checked(params)
    shapes = {name: tensor.shape for name, tensor in params.items()}
    sizes = [tensor.numel() for tensor in params.values()]

    def unravel(flat: Tensor) -> Params:
        return {name: part.reshape(shapes[name]) for name, part in zip(shapes, flat.split(sizes), strict=True)}

    return vector, unravel


def _checked(named: dict[str, Tensor]) -> Float[Tensor, " p"]:
    """Return the parameters as one vector, after checking them by name."""
    if not named:
        raise ValueError("There are no parameters: `params` is an empty dict. Pass dict(module.named_parameters()).")
    for name, tensor in named.items():
        if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
            kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(
                f"Parameters must be a floating-point tensor or a dict of them, got {kind} for `{name}`. "
                "Use torch.as_tensor(values, dtype=torch.float64) or dict(module.named_parameters())."
            )
    kinds = {(tensor.dtype, tensor.device) for tensor in named.values()}
    if len(kinds) > 1:
        listed = ", ".join(f"{name}: {tensor.dtype} on {tensor.device}" for name, tensor in named.items())
        raise ValueError(f"Parameters must share one dtype and device, got {listed}. Use module.to(...) first.")
    for name, tensor in named.items():
        if not all_finite(tensor):
            raise ValueError(
                f"Parameter `{name}` has NaN or infinite entries: the training diverged. Train again first."
            )
    return torch.cat([tensor.detach().reshape(-1) for tensor in named.values()])
