"""What a step of a training takes the gradient of: the loss of a recorded batch, or some terms of a whole loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import listed, told
from versatile_influence.core.derivatives import by_masks
from versatile_influence.core.loss import Loss, Objects, number_of_terms
from versatile_influence.core.ravel import Params, everything
from versatile_influence.core.removals import Removals
from versatile_influence.core.tables import whole_numbers


class BatchLoss(Loss):
    """The loss of one recorded batch: a function of (parameters, batch, presence of its objects)."""

    # A mask multiplies what presence enters: the network before it runs once for all of them.
    differences_together = True

    def __init__(self, function: Callable[..., Tensor], batch: object, n_objects: int):
        self.function, self.batch, self.n_objects = function, batch, n_objects

    def __call__(self, params: Params, presence: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        # Copies: parts of one vector start anywhere, and how a matrix product rounds hangs on where its operands start.
        apart = {k: v.clone() for k, v in params.items()} if isinstance(params, dict) else params.clone()
        return self.function(apart, self.batch, presence)

    def value_and_differences(self, params: Params, removals: Removals) -> Float[Tensor, " m"]:
        """Return L(θ, 1) and all ΔL, from one evaluation of what comes before presence."""
        everyone = self.everyone(params)
        values = by_masks(lambda b: self(params, b), torch.cat([everyone[None], removals.presences(everyone)]))
        return torch.cat([values[:1], values[0] - values[1:]])

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        return self.value_and_differences(params, Removals.of(objects, self.n_objects))[1:]


class Piece(NamedTuple):
    """A loss whose gradient enters a step: `weight` times that of `loss`, of these objects; None for all."""

    loss: Loss
    objects: Int[Tensor, " m"] | None
    weight: float


@dataclass(frozen=True)
class Batches:
    """Steps over recorded batches: the user's function of (params, batch, presence), with what is frozen held."""

    step_loss: Callable[..., Tensor]
    start: Params

    def __call__(self, params: Params, batch: object, presence: Float[Tensor, " m"]) -> Tensor:
        """Return the loss of a batch as a function of what is trained."""
        return self.step_loss(everything(self.start, params), batch, presence)

    def at(self, batch: object, objects: Int[Tensor, " m"]) -> Piece:
        """Return the loss of a batch."""
        return Piece(BatchLoss(self, batch, len(objects)), objects, 1.0)


@dataclass(frozen=True)
class Terms:
    """Steps over some terms of a loss of all objects and of what is trained, each as large as scale · the whole."""

    loss: Loss
    trained: Params
    scale: float

    def at(self, terms: Int[Tensor, " m"] | None, objects: None) -> Piece:
        """Return the loss of these terms, or of all."""
        if terms is None:
            return Piece(self.loss, objects, self.scale)
        return Piece(self.loss.part(terms), objects, self.scale * (number_of_terms(self.loss) / len(terms)))

    def drawn(self, epochs: int, size: int | None, seed: int) -> list[tuple[Tensor | None, None]]:
        """Return the steps of a number of epochs, in mini-batches of terms drawn by `seed`, or whole."""
        if size is None:
            return [(None, None)] * epochs
        count, order = number_of_terms(self.loss), torch.Generator().manual_seed(seed)
        return [
            (terms, None)
            for _ in range(epochs)
            for terms in torch.randperm(count, generator=order, device="cpu").split(size)
        ]


def checked_steps(steps: object, n: int, accumulation: int) -> list[tuple[object, Int[Tensor, " m"]]]:
    """Return the user's steps, each with its objects as a tensor.

    Raises:
        TypeError: If a step is no pair, or its objects are no whole numbers.
        ValueError: If an object is not one of n, or there is no whole number of accumulations.
    """
    found = []
    for place, pair in enumerate(listed(steps, "steps", "pairs (batch, objects)")):
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise TypeError(f"Step {place} of `steps` must be a pair (batch, objects), got {told(pair)}.")
        found.append((pair[0], whole_numbers(pair[1], f"steps[{place}]", shape=[None], most=n - 1)))
    if not found or len(found) % accumulation:
        raise ValueError(
            f"`steps` holds {len(found)} batches, and must hold at least one, and a multiple of accumulation="
            f"{accumulation}."
        )
    return found
