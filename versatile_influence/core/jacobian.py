"""The Jacobian of outputs in the parameters: one operator, held in whichever way suits what is asked of it.

It is never made where a product with a few directions is all that is asked; along many it is held in factors, where the
outputs are those of linear layers, or row by row, where each row of the input decides its outputs by itself.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vjp, vmap

from versatile_influence.core.derivatives import chunk_that_fits, jacobian_products
from versatile_influence.core.factored import ByRow, Factored, factored
from versatile_influence.core.ravel import Params, flat, shaper
from versatile_influence.core.sizes import CACHE_NUMBERS, MANY_DIRECTIONS, ROW_NUMBERS


class Jacobian(ABC):
    """What is asked of a Jacobian J (m, p)."""

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """(m, p)."""

    @property
    def factors(self) -> Factored | None:
        """J in factors where the outputs are those of linear layers, each row by itself; None elsewhere."""
        return None

    @property
    def held(self) -> "Stored | Factored | None":
        """J where it is kept already, as a matrix or in factors; None where only its products are known."""
        return self.factors

    @abstractmethod
    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V."""

    @abstractmethod
    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        """Return Jᵀ U."""

    @abstractmethod
    def gram(self) -> Float[Tensor, "m m"]:
        """Return J Jᵀ."""

    @abstractmethod
    def blocks(self) -> Iterator[Float[Tensor, "c p"]]:
        """Yield J in blocks of rows."""

    @abstractmethod
    def dense(self) -> Float[Tensor, "m p"]:
        """Return J as a matrix."""


@dataclass(frozen=True)
class Stored(Jacobian):
    """A Jacobian as a matrix, perhaps in single precision; what it gives has the precision of what it is given."""

    matrix: Float[Tensor, "m p"]

    @property
    def held(self) -> "Stored":
        return self

    @property
    def shape(self) -> tuple[int, int]:
        return self.matrix.shape[0], self.matrix.shape[1]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        return (self.matrix @ directions.to(self.matrix)).to(directions)

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        return (self.matrix.T @ outputs.to(self.matrix)).to(outputs)

    def gram(self, block: int = 256) -> Float[Tensor, "m m"]:
        """Return J Jᵀ, of whose symmetric halves one is computed."""
        matrix = self.matrix
        result = matrix.new_empty(len(matrix), len(matrix))
        # Half the arithmetic of one product, which computes both halves.
        for start in range(0, len(matrix), block):
            part = slice(start, start + block)
            result[part, start:] = matrix[part] @ matrix[start:].T
            result[start:, part] = result[part, start:].T.clone()
        return result

    def blocks(self) -> Iterator[Float[Tensor, "m p"]]:
        yield self.matrix

    def dense(self) -> Float[Tensor, "m p"]:
        return self.matrix


@dataclass(frozen=True)
class Derived(Jacobian):
    """The Jacobian of a function of the parameters, at these.

    Attributes:
        function: From parameters to outputs of any shape.
        params: Where.
        by_row: (function, x) where each row of x decides its outputs by itself, or None.
    """

    function: Callable[[Params], Tensor]
    params: Params
    by_row: ByRow | None = None

    @cached_property
    def outputs(self) -> Float[Tensor, " m"]:
        """The outputs, flat."""
        return self.function(self.params).detach().reshape(-1)

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.outputs), len(flat(self.params))

    @cached_property
    def factors(self) -> Factored | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        return factored(self.by_row, self.outputs, self.params)

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V: by derivatives along a few directions, by the blocks or factors of J along many."""
        # For a few directions holding J costs more than the derivatives along them.
        many = directions.shape[1] > MANY_DIRECTIONS
        if (many or "factors" in self.__dict__) and self.factors is not None:
            return self.factors @ directions
        if many and (blocks := self._by_rows()) is not None:
            return torch.cat([block @ directions for block in blocks])
        return jacobian_products(self._flat, flat(self.params), directions, chunk_size=self._chunk)

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        many = outputs.shape[1] > MANY_DIRECTIONS
        if (many or "factors" in self.__dict__) and self.factors is not None:
            return self.factors.transposed(outputs)
        pull = vjp(self._flat, flat(self.params))[1]
        return vmap(lambda row: pull(row)[0], chunk_size=self._chunk)(outputs.T).T

    def gram(self) -> Float[Tensor, "m m"]:
        return Stored(self.dense()).gram() if self.factors is None else self.factors.gram()

    def blocks(self) -> Iterator[Float[Tensor, "c p"]]:
        """Yield J in blocks of rows: one small gradient an output where rows are independent."""
        blocks = self._by_rows()
        if blocks is not None:
            yield from blocks
        # Wide: one pass back an output. Tall: two derivatives backwards a parameter.
        elif self.shape[0] < self.shape[1]:
            yield jacrev(self._flat, chunk_size=self._chunk)(flat(self.params))
        else:
            yield jacobian_products(self._flat, flat(self.params), chunk_size=self._chunk)

    def dense(self) -> Float[Tensor, "m p"]:
        if self.factors is not None:
            return self.factors.dense()
        blocks = list(self.blocks())
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    @cached_property
    def _chunk(self) -> int | None:
        m, p = self.shape
        # Where the whole is small, it is not worth an evaluation to measure what fits.
        return None if m * p <= CACHE_NUMBERS else chunk_that_fits(self._flat, flat(self.params))

    def _flat(self, vector: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        return self.function(shaper(self.params)(vector)).reshape(-1)

    def _by_rows(self) -> Iterator[Float[Tensor, "c p"]] | None:
        """Return blocks of J by one small gradient an output, or None where rows are not known to be independent."""
        if self.by_row is None:
            return None
        function, x = self.by_row
        first = function(self.params, x[:1]).reshape(-1)
        # A row alone must give what it gives among all: a layer that looks across rows would not.
        if not torch.allclose(first, self.outputs.reshape(len(x), -1)[0], rtol=1e-6):
            return None
        theta, unravel = flat(self.params), shaper(self.params)
        each = vmap(jacrev(lambda vector, row: function(unravel(vector), row[None]).reshape(-1)), (None, 0))
        # Each row has as many gradients as outputs, all of them as long as the parameters.
        size = max(1, ROW_NUMBERS // (len(theta) * (len(self.outputs) // len(x))))
        head, *rest = x.split(size)
        try:
            begun = each(theta, head)
        except RuntimeError:
            # A layer that PyTorch cannot batch so, as nn.PReLU.
            return None
        return (block.reshape(-1, len(theta)) for block in chain([begun], (each(theta, part) for part in rest)))
