"""Log-risks, the outputs that Cox regression is a loss of."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.arguments import module
from versatile_influence.core.jacobian import ByRow
from versatile_influence.core.models import Linear, Network, through
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params


def log_risks(model: torch.nn.Module | None, x: Float[Tensor, "rows d"]) -> "Linear | NetworkRisks":
    """Return the log-risks of rows: xθ, or a network's."""
    return Linear(x) if model is None else NetworkRisks(module(model), x)


def training_risks(model: torch.nn.Module | None, x: Float[Tensor, "rows d"]) -> "Linear | NetworkRisks":
    """Return log-risks of the rows trained on, of which only differences count: of xθ, those of centred covariates.

    Dates and dollars keep their digits so, and their coefficients are looked for in steps of one over their spread.
    """
    if model is not None:
        return log_risks(model, x)
    centred = x - x.mean(0)
    spread = centred.square().mean(0).sqrt()
    return Linear(centred, units=1 / torch.where(spread > 0, spread, 1.0))


@dataclass(frozen=True, eq=False)
class NetworkRisks(Network):
    """Log-risks by a network, in the float64 of x whatever its parameters are kept in."""

    def __call__(self, params: Params) -> Float[Tensor, " rows"]:
        return self._of(params, self.x)

    @property
    def by_row(self) -> ByRow:
        return self._of, self.x

    def _of(self, params: Params, rows: Float[Tensor, "m d"]) -> Float[Tensor, " m"]:
        if isinstance(params, dict):
            params = {name: value.to(rows) for name, value in params.items()}
        found = through(self.model, params, rows)
        found = found.squeeze(-1) if found.dim() == rows.dim() else found
        if found.shape != rows.shape[:-1]:
            shapes = f"{tuple(found.shape)} for covariates {tuple(rows.shape)}"
            raise ValueError(f"`model` must give one log-risk a row, got {shapes}. End it in Linear(…, 1).")
        return found


@dataclass(frozen=True, eq=False)
class Sorted(Outputs):
    """Log-risks that are given one a row, put in another order.

    Attributes:
        order: Row numbers in that order.
    """

    order: Int[Tensor, " rows"]
    linear = True

    def __call__(self, params: Float[Tensor, "..."]) -> Float[Tensor, " rows"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return log-risks, (rows,) or (rows, 1), in order.

        Raises:
            ValueError: If there is not one for each row.
        """
        if params.numel() != len(self.order):
            raise ValueError(f"Cox needs one log-risk for each of {len(self.order)} rows, got {tuple(params.shape)}.")
        return params.reshape(-1).index_select(0, self.order)

    def start(self) -> Float[Tensor, " rows"]:
        return torch.zeros(len(self.order), dtype=torch.float64)
