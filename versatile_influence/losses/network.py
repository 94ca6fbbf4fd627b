"""Any network under any outer loss."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from versatile_influence.core.boundary import as_loss
from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.core.models import Network


class OutputLoss(Composed):
    """A network under an outer loss: L(θ, b) = outer(model_θ(x), b) + (λ/2)‖θ‖².

    The network sees all of x whoever is present; `outer` alone says what is lost without an object. Removal differences
    are taken over the outer loss alone, so that a removal never costs an evaluation of the network.

    Args:
        model: The network; parameters are the dict of its `named_parameters()`. Put it into eval mode if it has dropout
            or batch normalisation.
        x: Its input.
        outer: `outer(outputs, presence) -> scalar`, a sum; or a ready loss, whose outputs the network's take the place
            of: log-risks for `CoxLoss`, in the order of its rows, or scores; or another `vif.Loss` of outputs.
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
        outer: Loss | Callable[[Any, Tensor], Tensor],
        *,
        n_objects: int | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        inner = as_loss(outer, n_objects)
        if isinstance(inner, Composed):
            if inner.ridge:
                raise ValueError(
                    "The outer loss has a penalty on parameters that are not its own. Give it here instead."
                )
            inner = inner.as_outer()
        super().__init__(Network(model, x), inner, penalty=penalty, labels=labels)
