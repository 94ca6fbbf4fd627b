"""Derivatives forward, along many directions at once."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vjp, vmap
from torch.utils._python_dispatch import TorchDispatchMode

# How many numbers the derivatives along many directions may hold at once, where nobody says.
HELD_NUMBERS = 30_000_000


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
    """Return J V for the Jacobian J of `function` at θ and directions V, one a column; J itself without V.

    By two reverse derivatives: u ↦ Jᵀu is linear, and its own derivative backwards is v ↦ J v. The function runs once
    for all directions, in about half the time of PyTorch's forward mode.

    References:
        Townsend (2017), "A new trick for calculating Jacobian vector products".
    """
    if directions is None:
        directions = torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
    values, pull_back = vjp(function, theta)  # pyright: ignore[reportAssignmentType]
    push_forward = vjp(lambda cotangent: pull_back(cotangent)[0], torch.zeros_like(values))[1]
    return vmap(lambda direction: push_forward(direction)[0], chunk_size=chunk_size)(directions.T).T


class _Held(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives."""

    numbers = 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def chunk_that_fits(function: Callable[[Tensor], Tensor], theta: Float[Tensor, " p"]) -> int:
    """Return how many derivatives of the function fit in memory at once, by the largest tensor of one evaluation."""
    with _Held() as held, torch.no_grad():
        function(theta)
    return max(1, HELD_NUMBERS // max(held.numbers, len(theta)))
