"""How often nodes meet, of too many nodes for tables of all pairs: products with the counts C, and some rows."""

from abc import ABC, abstractmethod
from functools import cached_property

import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.losses.graphs.walks import Walks

Pair = tuple[Float[Tensor, "n q"], Float[Tensor, "n q"]]


class Meetings(ABC):
    """How often each node meets each, as centre and as context.

    Attributes:
        centres: How often each is a centre, C 1.
        contexts: How often each is a context, Cᵀ 1.
    """

    centres: Float[Tensor, " n"]
    contexts: Float[Tensor, " n"]

    @abstractmethod
    def products(self, left: Float[Tensor, "n q"], right: Float[Tensor, "n q"]) -> Pair:
        """Return Cᵀ left and C right."""

    @abstractmethod
    def rows(self, part: slice) -> Float[Tensor, "b n"]:
        """Return the counts of some centres, for the caller to write into."""


class Counted(Meetings):
    """Counts that are given as a table."""

    def __init__(self, counts: Float[Tensor, "n n"]):
        self.counts, self.centres, self.contexts = counts, counts.sum(1), counts.sum(0)

    def products(self, left: Float[Tensor, "n q"], right: Float[Tensor, "n q"]) -> Pair:
        return self.counts.T @ left, self.counts @ right

    def rows(self, part: slice) -> Float[Tensor, "b n"]:
        return self.counts[part].clone()


class Walked(Meetings):
    """Counts of walks, which are walked for a product; only what asks for rows makes a sparse table of them."""

    def __init__(self, walks: Walks, nodes: Float[Tensor, " n"], edges: Float[Tensor, " m"]):
        self.walks, self.steps = walks, walks.steps(edges, plain=True)
        self.visits = walks.visits(self.steps, nodes[:, None])
        one = torch.ones(len(nodes), 1, dtype=nodes.dtype)
        self.contexts, self.centres = (found[:, 0] for found in self.products(one, one))

    def products(self, left: Float[Tensor, "n q"], right: Float[Tensor, "n q"]) -> Pair:
        ahead, back = self.walks.met(self.steps, self.visits, torch.cat([left, right], dim=1))
        return back[:, 0, : left.shape[1]], ahead[:, 0, left.shape[1] :]

    def rows(self, part: slice) -> Float[Tensor, "b n"]:
        return torch.from_numpy(self._table[part].toarray())

    @cached_property
    def _table(self) -> sp.csr_array:
        return self.walks.sparse_counts(self.steps, self.visits)
