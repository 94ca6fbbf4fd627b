"""The Jacobian of outputs in the parameters, as what it does to vectors: from the layers of a network, or stored."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import TorchFunctionMode

from versatile_influence._factored import Factor, Factored
from versatile_influence._ravel import Params, ravel

# How many numbers its factors may hold.
FACTOR_NUMBERS = 400_000_000


@runtime_checkable
class Jacobian(Protocol):
    """What is asked of a Jacobian J (m, p)."""

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V."""
        ...

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        """Return Jᵀ U."""
        ...

    def gram(self) -> Float[Tensor, "m m"]:
        """Return J Jᵀ."""
        ...


@dataclass(frozen=True)
class Stored:
    """A Jacobian as a matrix, perhaps in single precision; what it gives has the precision of what it is given."""

    matrix: Float[Tensor, "m p"]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        """Return J V."""
        return (self.matrix @ directions.to(self.matrix)).to(directions)

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        """Return Jᵀ U."""
        return (self.matrix.T @ outputs.to(self.matrix)).to(outputs)

    def gram(self, block: int = 256) -> Float[Tensor, "m m"]:
        """Return J Jᵀ, of whose symmetric halves one is computed."""
        matrix = self.matrix
        result = matrix.new_empty(len(matrix), len(matrix))
        for start in range(0, len(matrix), block):
            part = slice(start, start + block)
            result[part, start:] = matrix[part] @ matrix[start:].T
            result[start:, part] = result[part, start:].T.clone()
        return result


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


def factored(
    by_row: tuple[Callable[[Params, Tensor], Tensor], Tensor] | None, whole: Tensor, params: Params
) -> Factored | None:
    """Return the Jacobian of outputs `whole` = function(params, x), (function, x) = by_row, in factors.

    None where it has no such form: other layers, a weight used twice, rows that do not pass by themselves. That is
    checked by a random vector, for which the factors must give what backpropagation gives.
    """
    if by_row is None or not isinstance(params, dict):
        return None
    function, x = by_row
    leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
    with torch.enable_grad(), _LinearCalls(copies=False) as seen:
        outputs = function(leaves, x)
    if any(output._version for *_, output in seen.calls):
        with torch.enable_grad(), _LinearCalls(copies=True) as seen:
            outputs = function(leaves, x)
    rows, m, p = len(x), outputs.numel(), sum(value.numel() for value in params.values())
    factors, places = [], _places(leaves)
    # Layers whose weights are held fixed are passed through.
    calls = [call for call in seen.calls if id(call[0]) in places or id(call[1]) in places]
    held = sum(m * sent.shape[-1] + entered.numel() for _, _, entered, sent in calls)
    if not calls or held > FACTOR_NUMBERS or m % rows or m != whole.numel() or not outputs.requires_grad:
        return None
    sent = [output for *_, output in calls]
    if any(output.dim() != 2 or len(output) != rows for output in sent):
        return None
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
    flat = outputs.reshape(-1)
    if not torch.allclose(flat, whole.reshape(-1).to(flat), rtol=1e3 * tolerance, atol=1e-30):
        return False
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(len(flat), generator=generator, dtype=torch.float64).to(flat)
    gradients = torch.autograd.grad(flat, list(leaves.values()), vector, allow_unused=True, materialize_grads=True)
    expected, _ = ravel(dict(zip(leaves, gradients, strict=True)))
    return bool((found.transposed(vector[:, None])[:, 0] - expected).norm() <= tolerance * expected.norm())
