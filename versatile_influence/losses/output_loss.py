"""Any network under any outer loss."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence._ravel import Params
from versatile_influence.loss import masked_differences
from versatile_influence.losses.composed import Composed
from versatile_influence.losses.modules import named, outputs
from versatile_influence.removals import Removals


class OutputLoss(Composed):
    """A network under an outer loss: L(θ, b) = outer(model_θ(x), b) + (λ/2)‖θ‖².

    The network sees all of x whoever is present; `outer` alone says what is lost without an object. Removal differences
    are taken over the outer loss alone, so that a removal never costs an evaluation of the network.

    Args:
        model: The network; parameters are the dict of its `named_parameters()`. Put it into eval mode if it has dropout
            or batch normalisation.
        x: Its input.
        outer: `outer(outputs, presence) -> scalar`, a sum; or a ready loss, whose outputs the network's take the place
            of: log-risks for `CoxLoss`, in the order of its rows, or scores.
        n_objects: How many objects there are; None where `outer` is a ready loss.
        penalty: λ.
        labels: Names of the objects.

    Raises:
        ValueError: If the number of objects is unknown, or a ready loss has a penalty of its own.

    Example:
        >>> model, x = torch.nn.Linear(1, 1).double(), torch.arange(3.0).double()[:, None]
        >>> loss = OutputLoss(model, x, lambda o, b: (b * (o[:, 0] - 1) ** 2).sum(), n_objects=3)
        >>> len(loss.removal_differences(loss.zeros()))
        3
    """

    def __init__(
        self,
        model: torch.nn.Module,
        x: Tensor,
        outer: Callable[[Tensor, Tensor], Tensor],
        *,
        n_objects: int | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        number = n_objects if n_objects is not None else getattr(outer, "n_objects", None)
        if number is None:
            raise ValueError("How many objects are there? `outer` does not say: pass n_objects=….")
        if getattr(outer, "penalty", 0.0):
            raise ValueError("The outer loss has a penalty on parameters that are not its own. Give it here instead.")
        if not penalty >= 0:
            raise ValueError(f"`penalty` must be ≥ 0, got {penalty}.")
        self.model, self.x, self.n_objects, self.penalty = model, x, int(number), float(penalty)
        self.object_labels = labels if labels is not None else getattr(outer, "object_labels", None)
        self._ready: Any = outer if hasattr(outer, "outer") else None
        self._function = outer
        self.by_row = (lambda params, rows: outputs(model, params, rows), x)
        self.removes_groups = self._ready is None or getattr(outer, "removes_groups", False)

    def zeros(self) -> dict[str, Tensor]:
        """Return parameters to start from: the network's present ones."""
        return named(self.model)

    def outputs(self, params: Params) -> Tensor:
        """Return the network's outputs."""
        return outputs(self.model, params, self.x)

    def outer(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the outer loss."""
        return (self._function if self._ready is None else self._ready.outer)(outputs, presence)

    def outer_differences(
        self, outputs: Tensor, objects: Int[Tensor, " k"] | list[Tensor] | None = None
    ) -> Float[Tensor, " k"]:
        """Return ΔL_i as a function of the outputs: the ready loss's own, else one outer loss a removal."""
        if hasattr(self._ready, "outer_differences"):
            return self._ready.outer_differences(outputs, objects)
        return masked_differences(self.outer, outputs, Removals.of(objects, self.n_objects))

    @property
    def n_terms(self) -> int:
        """How many terms the outer loss has, where it says so."""
        if self._ready is None:
            raise AttributeError("The outer loss is a function; it has no terms to sample.")
        return self._ready.n_terms

    def outer_terms(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return the terms of the outer loss, where it is a ready loss."""
        return self._ready.outer_terms(outputs, presence)
