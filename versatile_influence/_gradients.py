"""Gradients of a loss, by its own method where it has one."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor
from torch.func import grad, vmap

from versatile_influence._ravel import Params
from versatile_influence.loss import Loss


def gradient_by_hand(
    loss: Loss, unravel: Callable[[Tensor], Params], theta: Float[Tensor, "k p"], presence: Float[Tensor, "k n"]
) -> Float[Tensor, "k p"] | None:
    """Return ∇L at each row of θ with those of its row of presence, or None where the loss has no method of its own."""
    if not hasattr(loss, "gradients"):
        return None
    by_hand = loss.gradients(_stacked(unravel, theta), presence)  # pyright: ignore[reportAttributeAccessIssue]
    return None if by_hand is None else by_hand.to(theta.dtype)


def gradients(
    loss: Loss, unravel: Callable[[Tensor], Params], theta: Float[Tensor, "k p"], presence: Float[Tensor, "k n"]
) -> Float[Tensor, "k p"]:
    """Return ∇L at each row of θ with those of its row of presence, by the loss's own method where it has one."""
    by_hand = gradient_by_hand(loss, unravel, theta, presence)
    if by_hand is not None:
        return by_hand
    return vmap(grad(lambda flat, present: loss(unravel(flat), present)))(theta, presence)


def _stacked(unravel: Callable[[Tensor], Params], theta: Float[Tensor, "k p"]) -> Params:
    """Return the parameters of each row, stacked along a first dimension."""
    if len(theta) > 1:
        return vmap(unravel)(theta)
    params = unravel(theta[0])
    return {name: value[None] for name, value in params.items()} if isinstance(params, dict) else params[None]
