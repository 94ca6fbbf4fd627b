"""Losses that are sums of log-softmax terms: Plackett–Luce, cross-entropy, InfoNCE."""

from collections.abc import Callable, Sequence
from typing import Any

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.composed import Composed
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params
from versatile_influence.losses.softmax.rows import Rows


class SoftmaxLoss(Composed):
    """A sum of log-softmax terms over rows of candidates, plus (λ/2)‖θ‖²; base of the ready losses.

    Args:
        rows: The terms, and who owns what in them: `SharedRows` or `NestedRows`.
        scores: From parameters to the scores of every row's candidates, in the shape of `rows.allowed`.
        penalty: λ.
        labels: Names of the objects.

    Example:
        >>> import torch, versatile_influence as vif
        >>> owners, eye = vif.losses.Owners(3, torch.arange(3)), torch.eye(3, dtype=torch.float64)
        >>> rows = vif.losses.SharedRows(owners, eye[:, None], torch.ones(3, 1, 3).bool())
        >>> loss = SoftmaxLoss(rows, lambda theta: theta * eye, penalty=1.0)
        >>> loss(torch.tensor(0.0).double(), torch.ones(3).double()).item()  # 3 log 3
        3.295...
    """

    outer: Rows

    def __init__(
        self,
        rows: Rows,
        scores: Outputs | Callable[[Any], Tensor],
        *,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        super().__init__(scores, rows, penalty=penalty, labels=labels)

    @property
    def rows(self) -> Rows:
        """The terms, and who owns what in them."""
        return self.outer

    @property
    def scores(self) -> Outputs:
        """From parameters to the scores of every row's candidates."""
        return self.outputs

    def row_losses(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " R"]:
        """Return the loss of each row at some parameters, without the penalty."""
        return self.terms(params, presence)
