"""Outputs that are made of a batch's own: similarities of its embeddings, leads of its triplets.

The outer loss is convex in them, not in embeddings, so that a Gauss–Newton matrix whose outputs they are has no
negative eigenvalues.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import vjp, vmap

from versatile_influence.core.batched import BatchedOutputs
from versatile_influence.core.derivatives import jacobian_products
from versatile_influence.core.jacobian import Jacobian, Stored
from versatile_influence.core.outputs import Outputs, Pull
from versatile_influence.core.ravel import Params

# From the numbers that the module gives for a batch to the outputs of that batch.
Map = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Maps:
    """A function of each batch's own numbers.

    Attributes:
        functions: One a batch, or None for the numbers themselves.
        sizes: How many numbers each takes.
        results: How many it gives.
    """

    functions: tuple[Map | None, ...]
    sizes: tuple[int, ...]
    results: tuple[int, ...]

    def __call__(self, numbers: Float[Tensor, " e"]) -> Float[Tensor, " m"]:
        """Return the outputs."""
        parts = zip(self.functions, numbers.split(self.sizes), strict=True)
        return torch.cat([part if one is None else one(part) for one, part in parts])

    def products(self, numbers: Float[Tensor, " e"], moved: Float[Tensor, "e k"]) -> Float[Tensor, "m k"]:
        """Return K U, for their Jacobian K."""
        parts = zip(self.functions, numbers.split(self.sizes), moved.split(self.sizes), strict=True)
        return torch.cat([u if one is None else jacobian_products(one, part, u) for one, part, u in parts])

    def transposed(self, numbers: Float[Tensor, " e"], slopes: Float[Tensor, "m k"]) -> Float[Tensor, "e k"]:
        """Return Kᵀ U."""
        found, parts = [], zip(self.functions, numbers.split(self.sizes), slopes.split(self.results), strict=True)
        for one, part, slope in parts:
            back = None if one is None else vjp(one, part)[1]
            found.append(slope if back is None else vmap(lambda u, back=back: back(u)[0], 1, 1)(slope))
        return torch.cat(found)


@dataclass(frozen=True, eq=False)
class ChainedOutputs(Outputs):
    """Functions of each batch's numbers, of a module that reads it.

    Attributes:
        inner: The numbers.
        maps: The functions.
    """

    inner: BatchedOutputs
    maps: Maps

    def __post_init__(self):
        vars(self).update(precision=self.inner.precision)

    def __call__(self, params: Params) -> Float[Tensor, " m"]:
        return self.maps(self.inner(params))

    @property
    def module(self) -> nn.Module:
        return self.inner.model

    def start(self) -> Params:
        return self.inner.start()

    def jacobian(self, params: Params) -> "ChainedJacobian":
        return ChainedJacobian(self, params)

    def pull(self, params: Params) -> tuple[Tensor, Pull]:
        numbers, back = self.inner.pull(params)
        return self.maps(numbers), lambda slopes: back(self.maps.transposed(numbers, slopes[:, None])[:, 0])

    def holding(self, params: dict[str, Tensor], free: Sequence[str]) -> "ChainedOutputs":
        return replace(self, inner=self.inner.holding(params, free))


@dataclass(frozen=True)
class ChainedJacobian(Jacobian):
    """K J, for the Jacobian J of the module and K of the functions of what it gives."""

    outputs: ChainedOutputs
    params: Params

    @cached_property
    def inner(self) -> Jacobian:
        """J."""
        return self.outputs.inner.jacobian(self.params)

    @cached_property
    def numbers(self) -> Float[Tensor, " e"]:
        """What the module gives."""
        return self.outputs.inner(self.params)

    @property
    def shape(self) -> tuple[int, int]:
        return sum(self.outputs.maps.results), self.inner.shape[1]

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        return self.outputs.maps.products(self.numbers, self.inner @ directions)

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        return self.inner.transposed(self.outputs.maps.transposed(self.numbers, outputs))

    def gram(self) -> Float[Tensor, "m m"]:
        return Stored(self.dense()).gram()

    def blocks(self) -> Iterator[Float[Tensor, "m p"]]:
        yield self.dense()

    def dense(self) -> Float[Tensor, "m p"]:
        return self.outputs.maps.products(self.numbers, self.inner.dense())
