"""How often nodes meet in walks, for graphs too large for tables of all pairs."""

from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.losses.graphs.meetings import Meetings, Pair
from versatile_influence.losses.graphs.walks import Walks


class Walked(Meetings):
    """Counts of walks, which are walked for a product; only what asks for rows makes a sparse table of them."""

    def __init__(self, walks: Walks, nodes: Float[Tensor, " n"], edges: Float[Tensor, " m"]):
        self.walks, self.steps = walks, walks.steps(edges, plain=True)
        self.visits = walks.visits(self.steps, nodes[:, None])
        one = torch.ones(len(nodes), 1, dtype=nodes.dtype)
        self.contexts, self.centres = (found[:, 0] for found in self.products(one, one))

    def products(self, left: Float[Tensor, "n q"], right: Float[Tensor, "n r"]) -> Pair:
        ahead, back = self.walks.met(self.steps, self.visits, torch.cat([left, right], dim=1))
        return back[:, 0, : left.shape[1]], ahead[:, 0, left.shape[1] :]

    def rows(self, part: slice, precision: torch.dtype) -> Float[Tensor, "b n"]:
        if self.centres.device.type != "cpu":
            return self._scattered(part, precision)
        table = self._single if precision == torch.float32 else self._table
        ends, n = table.indptr[part.start : part.stop + 1], len(self.centres)
        inside = slice(ends[0], ends[-1])
        # A slice of the table by itself is a copy.
        some = sp.csr_array((table.data[inside], table.indices[inside], ends - ends[0]), (len(ends) - 1, n))
        return torch.from_numpy(some.toarray()).to(precision)

    def _scattered(self, part: slice, precision: torch.dtype) -> Float[Tensor, "b n"]:
        ends, columns, counts = self._there
        found = counts.new_zeros(part.stop - part.start, len(self.centres), dtype=precision)
        inside = slice(int(ends[part.start]), int(ends[part.stop]))
        row = torch.repeat_interleave(ends[part.start : part.stop + 1].diff())
        found[row, columns[inside]] = counts[inside].to(precision)
        return found

    @cached_property
    def _there(self) -> tuple[Tensor, Tensor, Tensor]:
        """The table where the nodes are: where rows end, columns and counts."""
        parts = self._table.indptr, self._table.indices, self._table.data
        ends, columns, counts = (torch.from_numpy(part).to(self.centres.device) for part in parts)
        return ends.long(), columns.long(), counts

    @cached_property
    def _table(self) -> sp.csr_array:
        return self.walks.sparse_counts(self.steps, self.visits)

    @cached_property
    def _single(self) -> sp.csr_array:
        # `astype` would sort all rows, for as long as making them took.
        table = self._table
        return sp.csr_array((table.data.astype(np.float32), table.indices, table.indptr), table.shape)
