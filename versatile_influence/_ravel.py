"""A tensor, or a dict of tensors, as one flat vector and back."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

Params = Tensor | dict[str, Tensor]


def ravel(params: Params) -> tuple[Float[Tensor, " p"], Callable[[Tensor], Params]]:
    """Return the parameters as one vector, and the function that shapes such a vector back.

    Args:
        params: A tensor of any shape, or a dict of them (`dict(module.named_parameters())`).

    Raises:
        TypeError: If it is neither, or not floating point.
        ValueError: If the tensors are on different devices, of different types, or not finite.
    """
    named = params if isinstance(params, dict) else {"params": params}
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
        if not torch.isfinite(tensor).all():
            raise ValueError(
                f"Parameter `{name}` has NaN or infinite entries: the training diverged. Train again first."
            )

    shapes = {name: tensor.shape for name, tensor in named.items()}
    sizes = [tensor.numel() for tensor in named.values()]
    vector = torch.cat([tensor.detach().reshape(-1) for tensor in named.values()])

    def unravel(flat: Tensor) -> Params:
        parts = flat.split(sizes)
        shaped = {name: part.reshape(shapes[name]) for name, part in zip(shapes, parts, strict=True)}
        return shaped if isinstance(params, dict) else shaped["params"]

    return vector, unravel
