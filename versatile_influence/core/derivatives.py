"""Derivatives along many directions at once, in as many pieces as memory asks for."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from jaxtyping import Float
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor  # pyright: ignore[reportMissingImports]
from torch.func import vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from versatile_influence.core.sizes import HELD_NUMBERS, at_once
from versatile_influence.core.words import errors_named


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


def plain(*tensors: Tensor) -> bool:
    """Return whether nothing is differentiated, or evaluated for many at once, through these tensors."""
    return not any(one.requires_grad or is_functorch_wrapped_tensor(one) for one in tensors)


def in_blocks(
    products: Callable[[Tensor], Float[Tensor, "m _"]], directions: Float[Tensor, "p q"], size: int
) -> Float[Tensor, "m q"]:
    """Return `products(directions)`, some directions at a time."""
    parts = directions.split(max(1, size), dim=1)
    if len(parts) == 1:
        return products(directions)
    first, begin = products(parts[0]), parts[0].shape[1]
    # Rows that lie as those of the parts do; of millions of objects each part is let go before the next is made.
    found = first.new_empty(directions.shape[1], len(first)).T
    found[:, :begin] = first
    del first
    for part in parts[1:]:
        found[:, begin : begin + part.shape[1]] = products(part)
        begin += part.shape[1]
    return found


class _Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation gives."""

    numbers = 1

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.numbers = max(self.numbers, result.numel())
        return result


def numbers_held(function: Callable[..., object], *arguments: object) -> int:
    """Return how many numbers the largest tensor of one call holds."""
    # By running it: no estimate from shapes knows what a user's function makes in between.
    with _Largest() as largest, torch.no_grad():
        function(*arguments)
    return largest.numbers


def chunk_that_fits(function: Callable[[Tensor], Tensor], theta: Float[Tensor, " p"]) -> int:
    """Return how many derivatives of the function fit in memory at once, by the largest tensor of one evaluation."""
    return at_once(max(numbers_held(function, theta), len(theta)), most=HELD_NUMBERS)


def by_masks(function: Callable[[Tensor], Tensor], presences: Float[Tensor, "k n"]) -> Float[Tensor, "k ..."]:
    """Return `function(presence)` for each presence at once.

    Raises:
        TypeError: If the function's shapes depend on who is present.
    """
    with errors_named():
        return vmap(function)(presences)


def by_formula() -> AbstractContextManager:
    """Have attention computed by its formula, which has all derivatives: fused kernels have one."""
    return sdpa_kernel(SDPBackend.MATH)
