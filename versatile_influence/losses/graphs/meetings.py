"""How often nodes meet, of too many nodes for tables of all pairs: products with the counts C, and some rows."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

Pair = tuple[Float[Tensor, "n q"], Float[Tensor, "n r"]]


class Meetings(ABC):
    """How often each node meets each, as centre and as context.

    Attributes:
        centres: How often each is a centre, C 1.
        contexts: How often each is a context, Cᵀ 1.
    """

    centres: Float[Tensor, " n"]
    contexts: Float[Tensor, " n"]

    @abstractmethod
    def products(self, left: Float[Tensor, "n q"], right: Float[Tensor, "n r"]) -> Pair:
        """Return Cᵀ left and C right; either may have no columns."""

    @abstractmethod
    def rows(self, part: slice, precision: torch.dtype) -> Float[Tensor, "b n"]:
        """Return the counts of some centres, for the caller to write into."""


class Counted(Meetings):
    """Counts that are given as a table."""

    def __init__(self, counts: Float[Tensor, "n n"]):
        self.counts, self.centres, self.contexts = counts, counts.sum(1), counts.sum(0)

    def products(self, left: Float[Tensor, "n q"], right: Float[Tensor, "n r"]) -> Pair:
        return self.counts.T @ left, self.counts @ right

    def rows(self, part: slice, precision: torch.dtype) -> Float[Tensor, "b n"]:
        return self.counts[part].to(precision, copy=True)
