"""Scores of documents from their own features."""

from dataclasses import dataclass

from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.models import Linear
from versatile_influence.core.ravel import Params


@dataclass(frozen=True, eq=False)
class LinearCandidates(Linear):
    """Scores x w of the documents of each query; a bias would cancel.

    Attributes:
        x: (R·D, d) features of each query's documents, zeros where there is none.
        width: D.
    """

    width: int

    def __call__(self, params: Params) -> Float[Tensor, "R D"]:
        """Return the scores."""
        return super().__call__(params).view(-1, self.width)

    def rows(self, chosen: Int[Tensor, " r"]) -> "LinearCandidates":
        """Return the scores of some queries."""
        return LinearCandidates(self.x.unflatten(0, (-1, self.width))[chosen].flatten(0, 1), self.width)
