"""Losses whose parameters enter through outputs: L(θ, b) = outer(outputs(θ), b) + (λ/2)‖θ‖²."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence._ravel import Params
from versatile_influence.loss import number_of_terms, squared_norm


class Composed(ABC):
    """What follows from outputs and outer loss alone; base of ready losses.

    Attributes:
        n_objects: How many objects there are.
        penalty: λ.
        by_row: (function, x) where the outputs are function(params, x), each row of x by itself; else None.
        removes_groups: Whether `objects` may be a list of groups, each removed together.
    """

    n_objects: int
    penalty: float
    by_row: tuple[Callable[[Params, Tensor], Tensor], Tensor] | None = None
    removes_groups: bool = False

    @abstractmethod
    def outputs(self, params: Params) -> Tensor:
        """Return what the parameters enter the loss through."""

    @abstractmethod
    def outer_terms(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return the terms of the outer loss."""

    @abstractmethod
    def outer_differences(self, outputs: Tensor, objects: Any = None) -> Float[Tensor, " k"]:
        """Return ΔL_i = L(θ, 1) − L(θ, 1₋ᵢ), which only the outputs decide, of the objects asked for, or all."""

    def outer(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the loss of outputs, without the penalty."""
        return self.outer_terms(outputs, presence).sum()

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the penalised loss of the objects present."""
        loss = self.outer(self.outputs(params), presence)
        return loss + self.penalty / 2 * squared_norm(params) if self.penalty else loss

    def on_terms(self, params: Params, presence: Float[Tensor, " n"], terms: Int[Tensor, " m"]) -> Float[Tensor, ""]:
        """Return the sum of some terms, with their share of the penalty."""
        chosen = self.outer_terms(self.outputs(params), presence).index_select(0, terms).sum()
        return chosen + len(terms) / number_of_terms(self) * self.penalty / 2 * squared_norm(params)

    def removal_differences(self, params: Params, objects: Any = None) -> Float[Tensor, " k"]:
        """Return ΔL_i = L(θ, 1) − L(θ, 1₋ᵢ) of the objects asked for, or all."""
        return self.outer_differences(self.outputs(params), objects)
