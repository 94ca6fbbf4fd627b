"""Outputs that run in lower precision only, between parameters and outputs in float64."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.jacobian import ByRow
from versatile_influence.core.loss import Loss
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params, cast, first


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
        return (lambda params, rows: function(cast(params, self.precision), rows).to(first(params).dtype)), x

    def start(self) -> Params:
        return self.whole.start()

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return self.whole.owned(i)

    def null_directions(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        return self.whole.null_directions(outer, params, presence)

    def rows(self, chosen: Int[Tensor, " r"]) -> "LoweredOutputs":
        return LoweredOutputs(self.whole.rows(chosen), self.precision)
