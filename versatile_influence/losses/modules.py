"""Networks as functions of their parameters."""

import torch
from torch import Tensor
from torch.func import functional_call

from versatile_influence._ravel import Params


def named(model: torch.nn.Module) -> dict[str, Tensor]:
    """Return a network's present parameters, in float64."""
    return {name: value.detach().double().clone() for name, value in model.named_parameters()}


def outputs(model: torch.nn.Module | None, params: Params, x: Tensor) -> Tensor:
    """Return the network's outputs at other parameters, in their dtype, buffers too.

    Raises:
        TypeError: If there is no network, or the parameters are no dict.
        ValueError: If a batch normalisation takes its statistics from the batch.
    """
    if model is None:
        raise TypeError("The parameters are a dict, but the loss has no `model`. Pass the tensor of `loss.zeros()`.")
    if not isinstance(params, dict):
        raise TypeError("The parameters are a tensor, but the loss has a `model`. Pass the dict of `loss.zeros()`.")
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm) and (
            module.training or module.running_mean is None
        ):
            raise ValueError(
                f"The batch normalisation `{name}` couples the rows: its statistics would change with who is present. "
                "Call model.eval(), so that it uses the running statistics, or use another normalisation."
            )
    like = next(iter(params.values()))
    buffers = {name: value.to(like) for name, value in model.named_buffers() if value.is_floating_point()}
    x = x.to(like) if x.is_floating_point() else x.to(like.device)
    return functional_call(model, buffers | params, (x,))
