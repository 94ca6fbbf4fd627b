"""The Jacobian of a network of linear layers, in factors.

Where rows pass a network by themselves, the gradient of an output in the weight of a linear layer s = W a is g aᵀ, with
g the gradient in s. So the m×p Jacobian of a network of linear layers is known from m×o and m×i numbers a layer.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from versatile_influence.core.draws import normal
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.sizes import FACTOR_BLOCK, FACTOR_NUMBERS, FACTOR_ROWS, slices

# (function, x) where outputs are function(params, x), each row of x by itself.
ByRow = tuple[Callable[[Params, Tensor], Tensor], Tensor]


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
        # Blocks near the size of the cache: products with them are then bound by arithmetic, not by memory.
        room = max(1, FACTOR_BLOCK // (rows * per_row))
        for first in range(0, height, step := max(1, room // width)):
            for column in range(0, width, across := min(room, width)):
                left = self.left[:, :, first : first + step, None]
                block = left * self.entered[:, None, None, column : column + across]
                yield self.start + first * width + column, block.reshape(rows * per_row, -1)

    def along(self, directions: Float[Tensor, "p k"], result: Float[Tensor, "rows c k"]) -> None:
        """Add its rows' inner products with each direction: a on them first, then g, never g ⊗ a."""
        width, k = self.entered.shape[1], directions.shape[1]
        for height, rows in self._pieces(k):
            weight = directions[self._of(height)].view(-1, width, k).transpose(0, 1).reshape(width, -1)
            for part in rows:
                left, entered = self.left[part, :, height], self.entered[part]
                if width == 1:
                    result[part] += entered[..., None] * (left @ weight.view(-1, k))
                else:
                    result[part].baddbmm_(left, (entered @ weight).view(len(left), -1, k))

    def combined(self, shares: Float[Tensor, "rows c k"], result: Float[Tensor, "p k"]) -> None:
        """Put in its place in the result the sum of its rows times their shares, column by column."""
        width, k = self.entered.shape[1], shares.shape[2]
        for height, rows in self._pieces(k):
            total = shares.new_zeros(width, (height.stop - height.start) * k)
            for part in rows:
                left, entered, some = self.left[part, :, height], self.entered[part], shares[part]
                if width == 1:
                    total += (left.flatten(0, 1).T @ (entered[..., None] * some).flatten(0, 1)).view(1, -1)
                else:
                    total.addmm_(entered.T, (left.mT * some if left.shape[1] == 1 else left.mT @ some).flatten(1))
            result[self._of(height)] = total.view(width, -1, k).transpose(0, 1).reshape(-1, k)

    def products(self, other: "Factor") -> Float[Tensor, "m n"]:
        """Return the inner products of its rows with those of another."""
        (rows, each, _), (others, other_each, _) = self.left.shape, other.left.shape
        left = (self.left.flatten(0, 1) @ other.left.flatten(0, 1).T).view(rows, each, others, other_each)
        return left.mul_((self.entered @ other.entered.T)[:, None, :, None]).view(rows * each, others * other_each)

    def _pieces(self, columns: int) -> Iterator[tuple[slice, list[slice]]]:
        """Yield some of the weight's rows, and so many of ours that an array of both stays in the cache."""
        rows, _, height = self.left.shape
        size = min(rows, FACTOR_ROWS)
        step = max(8, FACTOR_BLOCK // max(1, size * columns))
        for some in slices(height, step):
            yield some, slices(rows, size)

    def _of(self, height: slice) -> slice:
        """Return where these rows of the weight are in the flat parameters."""
        width = self.entered.shape[1]
        return slice(self.start + height.start * width, self.start + height.stop * width)


@dataclass(frozen=True)
class Factored:
    """A Jacobian in factors, one a weight, which together are about all parameters."""

    factors: list[Factor]
    shape: tuple[int, int]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V."""
        k, result = directions.shape[1], directions.new_zeros(self.shape[0], directions.shape[1])
        if self._in_pieces(k):
            for factor in self.factors:
                factor.along(directions, result.view(*factor.left.shape[:2], k))
        else:
            for start, block in self._blocks():
                result.addmm_(block, directions[start : start + block.shape[1]])
        return result

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        """Return Jᵀ U."""
        k, result = outputs.shape[1], outputs.new_empty(self.shape[1], outputs.shape[1])
        if self._in_pieces(k):
            for factor in self.factors:
                factor.combined(outputs.reshape(*factor.left.shape[:2], k), result)
        else:
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

    def _in_pieces(self, columns: int) -> bool:
        """Return whether no block of J is made: several outputs of a row share what entered, or there is one column."""
        return columns == 1 or (columns > 1 and self.factors[0].left.shape[1] > 1)

    def _blocks(self) -> Iterator[tuple[int, Float[Tensor, "m w"]]]:
        for factor in self.factors:
            yield from factor.blocks()


class _LinearCalls(TorchFunctionMode):
    """Notes each call of a linear layer: its weight, bias, input and output.

    With `copies` what goes on is a copy of the output, so that in-place activations do no harm.
    """

    def __init__(self, *, copies: bool):
        super().__init__()
        self.copies = copies
        self.calls: list[tuple[Tensor, Tensor | None, Tensor, Tensor]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is torch.nn.functional.linear and not kwargs:
            entered, weight, *rest = args
            self.calls.append((weight, rest[0] if rest else None, entered, result))
            return result.clone() if self.copies else result
        return result


@torch.enable_grad()
def factored(by_row: ByRow | None, whole: Tensor, params: Params) -> Factored | None:
    """Return the Jacobian of outputs `whole` = function(params, x), (function, x) = by_row, in factors.

    None where it has no such form: other layers, a weight used twice, rows that do not pass by themselves. That is
    checked by a random vector, for which the factors must give what backpropagation gives.
    """
    if by_row is None or not isinstance(params, dict):
        return None
    function, x = by_row
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    with _LinearCalls(copies=False) as seen:
        outputs = function(leaves, x)
    # An in-place activation has overwritten what the layer gave: again, with copies between them.
    if any(output._version for *_, output in seen.calls):
        with _LinearCalls(copies=True) as seen:
            outputs = function(leaves, x)
    rows, m, p = len(x), outputs.numel(), sum(value.numel() for value in params.values())
    factors, places = [], _places(leaves)
    # Layers whose weights are held fixed are passed through.
    calls = [call for call in seen.calls if id(call[0]) in places or id(call[1]) in places]
    held = sum(m * sent.shape[-1] + entered.numel() for _, _, entered, sent in calls)
    # A layer that was called with more rows, or by no rows at all, is no such network.
    if not calls or held > FACTOR_NUMBERS or m % rows or m != whole.numel() or not outputs.requires_grad:
        return None
    sent = [output for *_, output in calls]
    if any(output.dim() != 2 or len(output) != rows for output in sent):
        return None
    # Rows do not meet, so the gradient of a column's sum holds every row's own.
    columns = outputs.reshape(rows, -1).unbind(1)
    gradients = [torch.autograd.grad(column.sum(), sent, retain_graph=True, allow_unused=True) for column in columns]
    for (weight, bias, entered, _), left in zip(calls, map(list, zip(*gradients, strict=True)), strict=True):
        if any(part is None for part in left):
            return None
        stacked = torch.stack(left, dim=1) if len(left) > 1 else left[0][:, None]
        # A weight used twice is found here once, and then does not agree.
        if id(weight) in places:
            factors.append(Factor(places.pop(id(weight)), stacked, entered.detach()))
        if id(bias) in places:
            factors.append(Factor(places.pop(id(bias)), stacked, torch.ones_like(entered[:, :1])))
    found = Factored(factors, (m, p))
    # Places that are left are weights that no linear layer used.
    return None if places or not _agrees(found, outputs, whole, leaves) else found


def _places(leaves: dict[str, Tensor]) -> dict[int, int]:
    """Return where each parameter begins in the flat ones, by the identity of its tensor."""
    places, start = {}, 0
    for value in leaves.values():
        places[id(value)] = start
        start += value.numel()
    return places


def _agrees(found: Factored, outputs: Tensor, whole: Tensor, leaves: dict[str, Tensor]) -> bool:
    """Return whether outputs are as given, and the factors backpropagate a random vector as the network does."""
    tolerance = 1e-8 if outputs.dtype == torch.float64 else 1e-4
    values = outputs.reshape(-1)
    if not torch.allclose(values, whole.reshape(-1).to(values), rtol=1e3 * tolerance, atol=1e-30):
        return False
    # Weights shared, layers between, rows that meet: each shows along a random vector.
    generator = torch.Generator().manual_seed(0)
    vector = normal(generator, len(values), like=values)
    gradients = torch.autograd.grad(values, list(leaves.values()), vector, allow_unused=True, materialize_grads=True)
    expected = flat(dict(zip(leaves, gradients, strict=True)))
    return bool((found.transposed(vector[:, None])[:, 0] - expected).norm() <= tolerance * expected.norm())
