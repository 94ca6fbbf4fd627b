"""The Jacobian of a network of linear layers, in factors.

Where rows pass a network by themselves, the gradient of an output in the weight of a linear layer s = W a is g aᵀ, with
g the gradient in s. So the m×p Jacobian of a network of linear layers is known from m×o and m×i numbers a layer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

# How many numbers of the Jacobian are made at once.
BLOCK_NUMBERS = 1_000_000


@dataclass(frozen=True)
class Factor:
    """The part of a Jacobian that is about one weight (o, i), or a bias with i = 1: rows g ⊗ a.

    Attributes:
        start: Where the weight begins in the flat parameters.
        left: g of each output.
        entered: a of each output's row.
    """

    start: int
    left: Float[Tensor, "rows c o"]
    entered: Float[Tensor, "rows i"]

    def blocks(self) -> Iterator[tuple[int, Float[Tensor, "m w"]]]:
        """Return columns of the Jacobian, some at a time, each with the place of its first."""
        rows, per_row, height = self.left.shape
        width = self.entered.shape[1]
        room = max(1, BLOCK_NUMBERS // (rows * per_row))
        for first in range(0, height, step := max(1, room // width)):
            for column in range(0, width, across := min(room, width)):
                left = self.left[:, :, first : first + step, None]
                block = left * self.entered[:, None, None, column : column + across]
                yield self.start + first * width + column, block.reshape(rows * per_row, -1)

    def along(self, direction: Float[Tensor, " p"]) -> Float[Tensor, "rows c"]:
        """Return its rows' inner products with one vector of all parameters."""
        height, width = self.left.shape[2], self.entered.shape[1]
        weight = direction[self.start : self.start + height * width].view(height, width)
        if height > width:
            return ((self.left @ weight) * self.entered[:, None]).sum(-1)
        return (self.left * (self.entered @ weight.T)[:, None]).sum(-1)

    def combined(self, shares: Float[Tensor, "rows c"]) -> Float[Tensor, "o i"]:
        """Return the sum of its rows, each times its share, shaped as the weight."""
        if self.left.shape[1] == 1 and self.left.shape[2] > self.entered.shape[1]:
            return self.left[:, 0].T @ (shares * self.entered)
        return torch.einsum("rco,rc->or", self.left, shares) @ self.entered

    def products(self, other: "Factor") -> Float[Tensor, "m n"]:
        """Return the inner products of its rows with those of another."""
        (rows, each, _), (others, other_each, _) = self.left.shape, other.left.shape
        left = (self.left.flatten(0, 1) @ other.left.flatten(0, 1).T).view(rows, each, others, other_each)
        return left.mul_((self.entered @ other.entered.T)[:, None, :, None]).view(rows * each, others * other_each)


@dataclass(frozen=True)
class Factored:
    """A Jacobian in factors, one a weight, which together are about all parameters."""

    factors: list[Factor]
    shape: tuple[int, int]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V."""
        if directions.shape[1] == 1:
            parts = [factor.along(directions[:, 0]) for factor in self.factors]
            return torch.stack(parts).sum(0).view(-1, 1)
        result = directions.new_zeros(self.shape[0], directions.shape[1])
        for start, block in self._blocks():
            result.addmm_(block, directions[start : start + block.shape[1]])
        return result

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        """Return Jᵀ U."""
        result = outputs.new_empty(self.shape[1], outputs.shape[1])
        if outputs.shape[1] == 1:
            for factor in self.factors:
                weight = factor.combined(outputs.view(factor.left.shape[:2]))
                result[factor.start : factor.start + weight.numel(), 0] = weight.view(-1)
            return result
        for start, block in self._blocks():
            torch.mm(block.T, outputs, out=result[start : start + block.shape[1]])
        return result

    def gram(self, block: int = 256) -> Float[Tensor, "m m"]:
        """Return J Jᵀ, of whose symmetric halves one is computed."""
        rows, each = self.factors[0].left.shape[:2]
        result = self.factors[0].left.new_empty(self.shape[0], self.shape[0])
        for start in range(0, rows, block):
            part = slice(start * each, (start + block) * each)
            result[part, part.start :] = self.part(start, start + block).products(self.part(start, rows))
            result[part.start :, part] = result[part, part.start :].T.clone()
        return result

    def products(self, other: "Factored") -> Float[Tensor, "m n"]:
        """Return J J'ᵀ = Σ (g g'ᵀ) ∘ (a a'ᵀ) over the weights, which both are about, at the cost of their widths."""
        theirs, result = {factor.start: factor for factor in other.factors}, None
        for factor in self.factors:
            part = factor.products(theirs[factor.start])
            result = part if result is None else result.add_(part)
        assert result is not None
        return result

    def part(self, start: int, stop: int) -> "Factored":
        """Return the Jacobian of the outputs of rows start…stop−1 only."""
        parts = [Factor(each.start, each.left[start:stop], each.entered[start:stop]) for each in self.factors]
        return Factored(parts, (parts[0].left.shape[:2].numel(), self.shape[1]))

    def dense(self) -> Float[Tensor, "m p"]:
        """Return J as a matrix."""
        result = self.factors[0].left.new_empty(self.shape)
        for start, block in self._blocks():
            result[:, start : start + block.shape[1]] = block
        return result

    def _blocks(self) -> Iterator[tuple[int, Float[Tensor, "m w"]]]:
        for factor in self.factors:
            yield from factor.blocks()
