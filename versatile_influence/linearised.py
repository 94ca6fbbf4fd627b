"""A loss with linear outputs and a linear target, in coordinates: what `reduced` puts in place of a network."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.losses.composed import Composed

# What the coordinates are called among the parameters.
NAME = "coordinates"


class Linearised(Composed):
    """A loss with its outputs replaced by their linear part in some coordinates.

    Args:
        whole: The loss.
        outputs: What its outputs are now.
        rows: Their Jacobian in the coordinates.
        at: The coordinates now.
    """

    def __init__(self, whole: Any, outputs: Tensor, rows: Float[Tensor, "m r"], at: Float[Tensor, " r"]):
        self.whole, self.shape, self.penalty, self.n_objects = whole, outputs.shape, whole.penalty, whole.n_objects
        self.by_row = (_linear, torch.cat([rows, (outputs.reshape(-1) - rows @ at)[:, None]], dim=1))
        self.removes_groups = getattr(whole, "removes_groups", False)
        self.object_labels = getattr(whole, "object_labels", None)
        self.size = getattr(whole, "size", None)
        if hasattr(whole, "n_terms"):
            self.n_terms = whole.n_terms

    def outputs(self, params: Any) -> Tensor:
        """Return the outputs, linear in the coordinates."""
        assert self.by_row is not None
        return _linear(params, self.by_row[1]).reshape(self.shape)

    def outer(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the whole loss's outer loss."""
        return self.whole.outer(outputs, presence)

    def outer_terms(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return its terms."""
        return self.whole.outer_terms(outputs, presence)

    def outer_differences(
        self, outputs: Tensor, objects: Int[Tensor, " k"] | list[Tensor] | None = None
    ) -> Float[Tensor, " k"]:
        """Return its removal differences."""
        return self.whole.outer_differences(outputs, objects)


@dataclass(frozen=True)
class LinearTarget:
    """The linear part of a target in some coordinates.

    Attributes:
        values: The target's values.
        rows: Its gradients, one a row.
        at: The coordinates at which it has these values.
        labels: Names of its numbers.
    """

    values: Float[Tensor, " t"]
    rows: Float[Tensor, "t r"]
    at: Float[Tensor, " r"]
    labels: Any = None

    def __call__(self, params: Any) -> Float[Tensor, " t"]:
        """Return the t numbers."""
        return self.values + self.rows @ (params[NAME][0] - self.at)

    def gradients(self, _: Any) -> Float[Tensor, "t r"]:
        """Return the gradients."""
        return self.rows


def _linear(params: Any, rows: Float[Tensor, "m q"]) -> Float[Tensor, "m 1"]:
    """Return rows of a linear model whose last column is a constant."""
    return torch.nn.functional.linear(rows[:, :-1], params[NAME]) + rows[:, -1:]
