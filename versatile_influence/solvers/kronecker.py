"""Factors of the layers of a network by pseudo-gradients that are drawn, some at a time, and of batches in turn."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import accumulate

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.batched import BatchedOutputs
from versatile_influence.core.batched_outer import BatchSum
from versatile_influence.core.chained import ChainedOutputs
from versatile_influence.core.composed import Composed
from versatile_influence.core.draws import normal
from versatile_influence.core.sizes import DRAWN_NUMBERS, PASS_NUMBERS
from versatile_influence.core.warn import warn
from versatile_influence.solvers.layers import Block, Layer, Moments, backpropagated, layers_of, recorded
from versatile_influence.solvers.pseudo_gradients import pseudo_gradients, row_roots

Named = dict[str, Tensor]


def by_row(loss: Composed, params: Named, presence: Float[Tensor, " n"]) -> list[Block] | None:
    """Return the layers' factors without a draw, where rows meet neither in Linear layers nor in the outer loss."""
    assert loss.model is not None
    layers, jacobian = layers_of(loss.model, set(params)), loss.outputs.jacobian(params).factors
    within = {name for layer in layers for name in (layer.weight, layer.bias) if name is not None}
    if jacobian is None or within != set(params):
        return None
    roots = row_roots(loss.outer, loss.outputs(params), presence)
    if roots is None or roots.shape[:2] != jacobian.factors[0].left.shape[:2]:
        return None
    starts = accumulate((value.numel() for value in params.values()), initial=0)
    places, known = dict(zip(params, starts, strict=False)), {factor.start: factor for factor in jacobian.factors}
    blocks = []
    for layer in layers:
        factor = known[places[layer.weight]]
        entered = factor.entered
        if layer.bias is not None:
            entered = torch.cat([entered, torch.ones_like(entered[:, :1])], dim=1)
        blocks.append(Block.of_rows(layer, roots.mT @ factor.left, entered))
    return blocks


@dataclass
class Drawn:
    """Pseudo-gradients Jᵀz of all parameters, for z with second moment B: layer by layer, and of the other parameters.

    Of batches that do not meet in the outer loss each has its own: the moments of all are sums over batches.

    Attributes:
        loss: The loss.
        params: Where.
        presence: Who is present.
        num_draws: How many z, or None for as many as have second moment B exactly.
        generator: Of the draws.
    """

    loss: Composed
    params: Named
    presence: Float[Tensor, " n"]
    num_draws: int | None
    generator: torch.Generator
    layers: list[Layer] = field(init=False)

    def __post_init__(self):
        assert self.loss.model is not None
        self.layers = layers_of(self.loss.model, set(self.params))
        judged: dict[str, bool] = {}
        for run, _, _ in self._passes():
            outputs = self._recorded(run)
            new = [one for one in self.layers if one.outputs and one.weight not in judged]
            judged |= {one.weight: complete(one, outputs, self.leaves) for one in new}
            # Not every batch need pass every layer.
            if len(judged) == len(self.layers):
                break
        self.layers = [one for one in self.layers if judged.get(one.weight)]

    @property
    def read(self) -> BatchedOutputs | None:
        """What is read batch by batch, or None where all data are in memory."""
        outputs = self.loss.outputs
        outputs = outputs.inner if isinstance(outputs, ChainedOutputs) else outputs
        return outputs if isinstance(outputs, BatchedOutputs) else None

    @cached_property
    def leaves(self) -> Named:
        """The parameters to take gradients in, in the precision of the module."""
        params = self.params
        if self.read is not None:
            params = {name: value.to(self.read.precision) for name, value in params.items()}
        return {name: value.detach().clone().requires_grad_() for name, value in params.items()}

    @cached_property
    def z(self) -> Float[Tensor, "d ..."]:
        """The vectors, in the order in which outputs are read."""
        outputs, outer, values = self.loss.outputs, self.loss.outer, self.loss.outputs(self.params)
        parts = [(outer, values, self.presence)]
        if isinstance(outer, BatchSum) and self.num_draws is not None:
            # Batches do not meet in B: each is drawn by itself.
            parts = [(one.loss, values[one.place], self.presence[one.objects]) for one in outer.pieces]
        settings = {"num_draws": self.num_draws, "generator": self.generator}
        drawn = [pseudo_gradients(*part, **settings) for part in parts]
        found = drawn[0] if len(drawn) == 1 else torch.cat(drawn, dim=1)
        if self.read is None:
            return found
        if isinstance(outputs, ChainedOutputs):
            # Of what the module gives: the functions of it are passed at once.
            found = outputs.maps.transposed(self.read(self.params), found.T).T
        return self.read.as_read(found.T).T

    @property
    def others(self) -> list[str]:
        """Names of the parameters that no layer has."""
        within = {name for layer in self.layers for name in (layer.weight, layer.bias)}
        return [name for name in self.params if name not in within]

    @cached_property
    def held(self) -> list[Float[Tensor, "d ..."]] | None:
        """All pseudo-gradients, a tensor a layer and one for each of the others; None where they are too many."""
        batches = len(self.loss.outer.pieces) if isinstance(self.loss.outer, BatchSum) else 1
        if batches * len(self.z) * sum(value.numel() for value in self.params.values()) > DRAWN_NUMBERS:
            return None
        like = next(iter(self.params.values()))
        return [torch.cat(parts).to(like) for parts in zip(*self, strict=True)]

    def __iter__(self) -> Iterator[list[Float[Tensor, "c ..."]]]:
        """Yield some pseudo-gradients at a time, as `held` has them; what comes together in a batch is summed."""
        size = max(1, PASS_NUMBERS // sum(value.numel() for value in self.params.values()))
        for some in self.z.split(size):
            total: list[Tensor] = []
            for run, place, last in self._passes():
                found = self._gradients(self._recorded(run), some[:, place])
                total = [old.add_(new) for old, new in zip(total, found, strict=True)] if total else found
                if last:
                    yield total
                    total = []

    def blocks(self) -> tuple[list[Block], dict[str, Tensor]]:
        """Return the layers' factors and the diagonal of the others, by two rounds of passes; nothing is held."""
        moments = [Moments(layer) for layer in self.layers]
        squares = [torch.zeros_like(self.params[name]) for name in self.others]
        for gradients in self:
            for moment, found in zip(moments, gradients, strict=False):
                moment.add(found)
            for square, found in zip(squares, gradients[len(moments) :], strict=True):
                square.add_(found.square().sum(dim=0))
        blocks = [one.block() for one in moments]
        for gradients in self:
            for block, found in zip(blocks, gradients, strict=False):
                block.curvature.add_(block.turned(found).square().sum(dim=0))
        return blocks, dict(zip(self.others, squares, strict=True))

    def _passes(self) -> Iterator[tuple[Callable[[Named], Tensor], slice, bool]]:
        """Yield what makes outputs, which of z are about them, and whether what follows does not meet them."""
        outputs = self.read
        if outputs is None:
            yield self.loss.outputs, slice(None), True
            return
        start, apart = 0, isinstance(self.loss.outer, BatchSum)
        ends = [*accumulate(sum(layout.sizes) for layout in outputs.layouts)]
        for run, size in outputs.passes():
            start += size
            yield partial(_named, run), slice(start - size, start), start in (ends if apart else ends[-1:])

    def _recorded(self, run: Callable[[Named], Tensor]) -> Tensor:
        """Return the outputs of a pass, and let the layers keep what came through them."""
        for layer in self.layers:
            layer.inputs.clear()
            layer.outputs.clear()
        with torch.enable_grad(), recorded(self.layers):
            return run(self.leaves)

    def _gradients(self, outputs: Tensor, z: Float[Tensor, "c ..."]) -> list[Float[Tensor, "c ..."]]:
        sources = [output for layer in self.layers for output in layer.outputs]
        sources += [self.leaves[name] for name in self.others]
        found = []
        for gradients in backpropagated(outputs, sources, z):
            totals = [self._total(layer, [gradients.pop(0) for _ in layer.outputs], len(z)) for layer in self.layers]
            found.append(totals + gradients)
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def _total(self, layer: Layer, gradients: list[Tensor], count: int) -> Float[Tensor, "c o i"]:
        if gradients:
            return layer.totals(gradients)
        # A layer that this batch does not pass.
        names = [name for name in (layer.weight, layer.bias) if name is not None]
        return layer.matrices(
            {name: torch.zeros_like(self.leaves[name]).expand(count, *self.leaves[name].shape) for name in names}
        )


def _named(run: Callable[[Named], Tensor], leaves: Named) -> Tensor:
    return run({f"model.{name}": value for name, value in leaves.items()})


def complete(layer: Layer, outputs: Tensor, leaves: Named) -> bool:
    """Return whether the layer's calls are all that its weight does; a tied weight also acts elsewhere."""
    names = [name for name in (layer.weight, layer.bias) if name is not None]
    sources = layer.outputs + [leaves[name] for name in names]
    noise = normal(torch.Generator().manual_seed(0), *outputs.shape, like=outputs)
    gradients = next(backpropagated(outputs, sources, noise[None]))
    calls, rtol = len(layer.outputs), max(1e-4, 16 * torch.finfo(layer.outputs[0].dtype).eps)
    parts = layer.parts(layer.totals(gradients[:calls]))
    # Of the layer, not of the parameter: that of a bias may be zero, as a key's in attention is, to rounding.
    atol = rtol / 10 * max(whole.abs().max().item() for whole in gradients[calls:])
    for name, whole in zip(names, gradients[calls:], strict=True):
        if not torch.allclose(parts[name], whole, rtol=rtol, atol=atol):
            warn(
                f"The gradient of `{name}` is not that of its layer alone: the weight is tied, or used outside the "
                "layer. EKFAC keeps only its diagonal.",
            )
            return False
    return True
