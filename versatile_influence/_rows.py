"""The Jacobian of a loss's outputs, best where each row of the input decides its outputs by itself."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vmap

from versatile_influence._forward import chunk_that_fits, jacobian_products
from versatile_influence._jacobian import factored
from versatile_influence._ravel import Params, ravel

# How many numbers one block of rows may hold.
BLOCK_NUMBERS = 8_000_000
# Along more directions than this the Jacobian is made, block by block, and multiplied.
MANY_DIRECTIONS = 16

ByRow = tuple[Callable[[Params, Tensor], Tensor], Tensor]


def row_blocks(
    by_row: ByRow | None, whole: Tensor, theta: Float[Tensor, " p"], unravel: Callable[[Tensor], Params]
) -> Iterator[Float[Tensor, "c p"]] | None:
    """Return blocks of the Jacobian of outputs `whole` = function(params, x), (function, x) = by_row, rows in order.

    One small gradient an output; None where rows are not known to be independent.
    """
    if by_row is None:
        return None
    function, x = by_row
    if not torch.allclose(function(unravel(theta), x[:1]).reshape(-1), whole.reshape(len(x), -1)[0], rtol=1e-6):
        return None

    def one(flat: Tensor, row: Tensor) -> Tensor:
        return function(unravel(flat), row[None]).reshape(-1)

    each = vmap(jacrev(one), (None, 0))
    size = max(1, BLOCK_NUMBERS // (len(theta) * (whole.numel() // len(x))))
    return (each(theta, part).reshape(-1, len(theta)) for part in x.split(size))


def output_products(loss: Any, params: Params, directions: Float[Tensor, "p q"]) -> Float[Tensor, "m q"]:
    """Return J V, how the outputs move along each direction; the Jacobian is never stored."""
    theta, unravel = ravel(params)
    by_row = getattr(loss, "by_row", None) if directions.shape[1] > MANY_DIRECTIONS else None
    whole = loss.outputs(params)
    jacobian = factored(by_row, whole, params)
    if jacobian is not None:
        return jacobian @ directions
    blocks = row_blocks(by_row, whole, theta, unravel)
    if blocks is not None:
        return torch.cat([block @ directions for block in blocks])

    def function(flat: Tensor) -> Tensor:
        return loss.outputs(unravel(flat)).reshape(-1)

    return jacobian_products(function, theta, directions, chunk_size=chunk_that_fits(function, theta))
