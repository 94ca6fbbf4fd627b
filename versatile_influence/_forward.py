"""Forward-mode derivatives along many directions at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jvp, vmap


def whole_jacobian(
    products: Callable[[Tensor], Float[Tensor, "m _"]], theta: Float[Tensor, " p"], *, chunk_size: int
) -> Float[Tensor, "m p"]:
    """Return the Jacobian whose products with directions `products` gives, some unit vectors at a time."""
    units = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
    columns = [products(part) for part in units.split(chunk_size, dim=1)]
    return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def jacobian_products(
    function: Callable[[Tensor], Tensor],
    theta: Float[Tensor, " p"],
    directions: Float[Tensor, "p q"] | None = None,
    *,
    chunk_size: int | None = None,
) -> Float[Tensor, "m q"]:
    """Return J V for the Jacobian J of `function` at θ and directions V, one a column; J itself without V."""
    if directions is None:
        directions = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
    along = vmap(lambda direction: jvp(function, (theta,), (direction,))[1], chunk_size=chunk_size)
    return along(directions.T).T
