"""A loss that runs in lower precision only, between parameters and value in float64.

What is done with its derivatives, solving above all, is then float64, whatever the loss is evaluated in.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.boundary import FunctionLoss
from versatile_influence.core.composed import Composed
from versatile_influence.core.jacobian import ByRow
from versatile_influence.core.loss import Loss
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params, cast, first


def lowered(loss: Loss, precision: torch.dtype) -> Loss:
    """Return the loss, evaluated in this precision.

    Example:
        >>> from versatile_influence.core.boundary import as_loss
        >>> half = torch.tensor([1.0, 2.0]).half()
        >>> loss = lowered(as_loss(lambda theta, presence: (half * presence) @ theta, 2), torch.float16)
        >>> loss(torch.ones(2).double(), torch.ones(2).double())
        tensor(3., dtype=torch.float64)
    """
    if precision == torch.float64:
        return loss
    if isinstance(loss, Composed) and not loss.outputs.selection:
        # Its parts stay known, so that whatever serves a loss of outputs still does.
        outputs = LoweredOutputs(loss.outputs, precision)
        outer = Lowered(loss.outer, precision) if isinstance(loss.outer, FunctionLoss) else loss.outer
        return loss.with_parts(outputs, outer, ridge=loss.ridge, constant=loss.constant)
    return Lowered(loss, precision)


class Lowered(Loss):
    """A loss of which nothing is known but its value in a lower precision."""

    def __init__(self, loss: Loss, precision: torch.dtype):
        self.loss, self.precision, self.n_objects, self.n_terms = loss, precision, loss.n_objects, loss.n_terms
        self.object_labels, self.parameter_names = loss.object_labels, loss.parameter_names
        self.penalty, self.treatment, self.owning = loss.penalty, loss.treatment, loss.owning

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        value = self.loss(cast(params, self.precision), presence.to(self.precision))
        # What is no tensor is told of by whoever asked.
        return value.to(presence.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        return self.loss.terms(cast(params, self.precision), presence.to(self.precision)).to(presence.dtype)

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return self.loss.owned(i)

    def null_directions(self, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        return self.loss.null_directions(params, presence)


@dataclass(frozen=True, eq=False)
class LoweredOutputs(Outputs):
    """Outputs by a function of parameters in lower precision."""

    whole: Outputs
    precision: torch.dtype

    def __post_init__(self):
        whole = self.whole
        vars(self).update(linear=whole.linear, owning=whole.owning, module=whole.module)

    def __call__(self, params: Params) -> Any:
        return cast(self.whole(cast(params, self.precision)), first(params).dtype)

    @property
    def by_row(self) -> ByRow | None:
        if self.whole.by_row is None:
            return None
        function, x = self.whole.by_row
        return (lambda params, rows: cast(function(cast(params, self.precision), rows), first(params).dtype)), x

    def start(self) -> Params:
        return self.whole.start()

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return self.whole.owned(i)

    def null_directions(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        return self.whole.null_directions(outer, params, presence)

    def rows(self, chosen: Int[Tensor, " r"]) -> "LoweredOutputs":
        return LoweredOutputs(self.whole.rows(chosen), self.precision)
