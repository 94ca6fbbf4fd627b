"""A loss of outputs that is a sum over batches, each of its own outputs and the presence of its own objects."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.boundary import FunctionLoss
from versatile_influence.core.chained import Map
from versatile_influence.core.checks import told
from versatile_influence.core.loss import Loss, Objects
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.readings import Layout
from versatile_influence.core.removals import Removals


@dataclass(frozen=True)
class Lost:
    """What is lost by one batch.

    Attributes:
        loss: A loss of outputs and of the presence of the batch's objects.
        size: How many outputs it has.
        made: From all numbers that the module gives for the batch to these outputs; None where they are the same.
    """

    loss: Loss
    size: int
    made: Map | None = None


class InBatch(ABC):
    """A loss of the outputs of a batch, whatever its size."""

    @abstractmethod
    def of(self, layout: Layout) -> Lost:
        """Return what is lost by one batch."""


@dataclass(frozen=True)
class Written(InBatch):
    """A function of the outputs of a batch and of the presence of its objects."""

    function: Callable[[Any, Tensor], Tensor]

    def of(self, layout: Layout) -> Lost:
        """Return what is lost by one batch.

        Raises:
            ValueError: If it is no number of such outputs and presence.
        """
        presence = torch.ones(len(layout.objects), dtype=torch.float64)
        for found in tried(lambda outputs: self.function(outputs, presence), layout, "outer"):
            if isinstance(found, Tensor) and found.shape == () and found.is_floating_point():
                break
            shape = f" of shape {tuple(found.shape)}" if isinstance(found, Tensor) else ""
            raise ValueError(
                f"`outer` must return one number, a tensor without dimensions that has a derivative, got {told(found)}"
                f"{shape}. Multiply each object's terms by its presence and .sum() them; leave out .item()."
            )
        return Lost(FunctionLoss(partial(self._shaped, layout), len(layout.objects)), sum(layout.sizes))

    def _shaped(self, layout: Layout, outputs: Any, presence: Tensor) -> Tensor:
        return self.function(layout.shaped(outputs), presence)


def tried(function: Callable[[Any], Any], layout: Layout, name: str) -> list[Any]:
    """Return what a function gives for outputs of a batch that are all 0; nothing where 0 is no output that it knows.

    Raises:
        ValueError: If it cannot be computed of outputs of such shapes.
    """
    try:
        return [function(layout.shaped(torch.zeros(sum(layout.sizes), dtype=torch.float64)))]
    except (torch.linalg.LinAlgError, ValueError, ArithmeticError, AssertionError):  # pyright: ignore[reportPrivateImportUsage]
        return []
    except (RuntimeError, TypeError, LookupError, AttributeError) as error:
        shapes = [tuple(leaf) if isinstance(leaf, torch.Size) else told(leaf) for leaf in layout.leaves]
        raise ValueError(
            f"`{name}` cannot be computed for a batch of {len(layout.objects)} objects with outputs {shapes}: {error}"
        ) from error


@dataclass(frozen=True, eq=False)
class Piece:
    """The loss of one batch.

    Attributes:
        loss: Of its outputs as one vector, and of its own objects.
        objects: Their numbers among all.
        place: Where its outputs are among all.
    """

    loss: Loss
    objects: Int[Tensor, " b"]
    place: slice


class BatchSum(Loss):
    """L(o, b) = Σ_batches L_batch(o_batch, b_batch), and the derivatives of it, batch by batch.

    Args:
        pieces: The batches, in the order of the outputs.
        n_objects: How many objects there are.
    """

    differences_together = True

    def __init__(self, pieces: list[Piece], n_objects: int):
        self.pieces, self.n_objects = pieces, n_objects

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return torch.stack([self._value(piece, flat(params), presence) for piece in self.pieces]).sum()

    @staticmethod
    def _value(piece: Piece, outputs: Tensor, presence: Tensor) -> Tensor:
        return piece.loss(outputs[piece.place], presence[piece.objects])

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        return self.gradient_and_value(params, presence)[0]

    def gradient_and_value(
        self, params: Params, presence: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " m"], Float[Tensor, ""]]:
        outputs = flat(params)
        found = [one.loss.gradient_and_value(outputs[one.place], presence[one.objects]) for one in self.pieces]
        return torch.cat([slopes for slopes, _ in found]), torch.stack([value for _, value in found]).sum()

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " n"], vectors: Float[Tensor, "m k"]
    ) -> Float[Tensor, "m k"]:
        outputs = flat(params)
        return torch.cat(
            [
                one.loss.hessian_products(outputs[one.place], presence[one.objects], vectors[one.place])
                for one in self.pieces
            ]
        )

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return ΔL_i, the sum of those of the batches that an object is in."""
        removals, outputs = Removals.of(objects, self.n_objects), flat(params)
        total = outputs.new_zeros(removals.count)
        for piece in self.pieces:
            rows, there = removals.among(piece.objects)
            if there is not None:
                total = total.index_add(0, rows, piece.loss.removal_differences(outputs[piece.place], there))
        return total

    def removal_products(
        self, params: Params, directions: Float[Tensor, "m q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        removals, outputs = Removals.of(objects, self.n_objects), flat(params)
        total = outputs.new_zeros(removals.count, len(outputs) if directions is None else directions.shape[1])
        for piece in self.pieces:
            rows, there = removals.among(piece.objects)
            if there is None:
                continue
            along = None if directions is None else directions[piece.place]
            found = piece.loss.removal_products(outputs[piece.place], along, there)
            if directions is None:
                total[rows, piece.place] = found
            else:
                total.index_add_(0, rows, found)
        return total
