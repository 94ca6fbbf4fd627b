"""What embeds or scores rows: linear maps and networks, as values that can be sent to other processes."""

from functools import partial

import torch
from torch import Tensor

from versatile_influence.core.arguments import module
from versatile_influence.core.checks import whole
from versatile_influence.core.models import Network
from versatile_influence.core.outputs import Function, Outputs
from versatile_influence.core.ravel import Params


def embedded(model: torch.nn.Module | None, x: Tensor, dim: int) -> Outputs:
    """Return embeddings of x: x W with W of `dim` columns, starting from the leading coordinates, or a network's."""
    if model is not None:
        return Network(module(model), x)
    # At zero all distances are equal and nothing pulls.
    start = torch.eye(x.shape[-1], whole(dim, "dim", least=1), dtype=torch.float64)
    return Function(partial(product, x), start)


def product(x: Tensor, params: Params) -> Tensor:
    """Return x W, in the precision of W."""
    return x.to(matrix(params)) @ matrix(params)


def matrix(params: Params) -> Tensor:
    """Return the parameters, or say that they must not be a dict."""
    if isinstance(params, dict):
        raise TypeError("The parameters are a dict, but the loss has no `model`. Pass the tensor of `loss.zeros()`.")
    return params
