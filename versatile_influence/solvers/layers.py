"""What goes into the layers of a network, the pseudo-gradients of their weights, and factors of these.

For a layer s = W a (with a 1 appended to a for the bias), the gradient of Σ z·outputs in W is Σ_r g_r a_rᵀ over the
rows r that pass through it, g_r the gradient in s_r. A convolution is such a layer over patches, an embedding one over
one-hot vectors.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from versatile_influence.core.sizes import PASS_NUMBERS


@dataclass
class Layer:
    """One layer with its weight among the parameters, and what passed through it.

    Attributes:
        weight: Name of its weight in the parameters.
        bias: Name of its bias in the parameters, or None.
        module: The layer.
        inputs: What came in, one tensor a call.
        outputs: What went out.
    """

    weight: str
    bias: str | None
    module: nn.Module
    inputs: list[Tensor] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)

    @property
    def one_hot(self) -> bool:
        """Whether what comes in are numbers of rows of the weight."""
        return isinstance(self.module, nn.Embedding)

    def record(self, _module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        """Keep a call's input and output; what goes on is a copy, so that in-place activations do no harm."""
        self.inputs.append(inputs[0].detach())
        self.outputs.append(output)
        return output.clone()

    def totals(self, gradients: list[Float[Tensor, "d ..."]]) -> Float[Tensor, "d o i"]:
        """Return Σ g aᵀ of each pseudo-gradient; rows are the layer's outputs, columns its inputs."""
        return torch.stack([self._total(a, g) for a, g in zip(self.inputs, gradients, strict=True)]).sum(dim=0)

    def parts(self, totals: Float[Tensor, "d o i"]) -> dict[str, Float[Tensor, "d ..."]]:
        """Return such matrices as the parameters that they are about, by name."""
        found = {}
        if self.bias is not None:
            totals, found[self.bias] = totals[..., :-1], totals[..., -1]
        shape: Any = self.module.weight.shape
        weight = totals.mT if self.one_hot else totals
        return {self.weight: weight.reshape(-1, *shape)} | found

    def matrices(self, parts: dict[str, Float[Tensor, "d ..."]]) -> Float[Tensor, "d o i"]:
        """Return the parameters as such matrices; the inverse of `parts`."""
        weight = parts[self.weight]
        if self.one_hot:
            return weight.mT
        weight = weight.flatten(start_dim=2)
        return weight if self.bias is None else torch.cat([weight, parts[self.bias][..., None]], dim=-1)

    def _total(self, entered: Tensor, left: Float[Tensor, "d ..."]) -> Float[Tensor, "d o i"]:
        if isinstance(self.module, nn.Embedding):
            rows = left.flatten(1, -2)
            total = rows.new_zeros(len(left), self.module.num_embeddings, rows.shape[-1])
            total = total.index_add(1, entered.reshape(-1), rows)
            if self.module.padding_idx is not None:
                total[:, self.module.padding_idx] = 0.0
            return total.mT
        entered = entered.to(left.dtype)
        if isinstance(self.module, nn.Conv2d):
            # One row a place of the picture that the kernel is laid on.
            kernel, module = self.module.kernel_size, self.module
            patches = nn.functional.unfold(entered, kernel, module.dilation, module.padding, module.stride)  # pyright: ignore[reportArgumentType]
            entered, left = patches.mT.flatten(0, 1), left.flatten(3).mT.flatten(1, 2)
        entered, left = entered.flatten(0, -2), left.flatten(1, -2)
        if self.bias is not None:
            entered = torch.cat([entered, torch.ones_like(entered[:, :1])], dim=1)
        return left.mT @ entered


def layers_of(model: nn.Module, names: set[str]) -> list[Layer]:
    """Return the Linear, Embedding and (ungrouped, zero-padded) Conv2d layers whose weight is among the names."""
    found = []
    for place, module in model.named_modules():
        before = f"{place}." if place else ""
        plain = isinstance(module, nn.Linear | nn.Embedding) or (
            isinstance(module, nn.Conv2d)
            and module.groups == 1
            and module.padding_mode == "zeros"
            and not isinstance(module.padding, str)
        )
        if plain and f"{before}weight" in names:
            bias = f"{before}bias" if f"{before}bias" in names else None
            found.append(Layer(f"{before}weight", bias, module))
    return found


@contextmanager
def recorded(layers: list[Layer]) -> Iterator[None]:
    """Let the layers keep what passes through them."""
    handles = [layer.module.register_forward_hook(layer.record) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def backpropagated(
    outputs: Tensor, sources: list[Tensor], cotangents: Float[Tensor, "d ..."]
) -> Iterator[list[Float[Tensor, "c ..."]]]:
    """Yield the gradients of Σ z·outputs in each source, for some z at a time; zeros where it does not enter."""
    numbers = sum(source.numel() for source in sources) + outputs.numel()
    settings = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    for part in cotangents.to(outputs.dtype).split(max(1, PASS_NUMBERS // numbers)):
        # One by itself: not every kernel goes back for many at once.
        if len(part) == 1:
            gradients = [one[None] for one in torch.autograd.grad(outputs, sources, part[0], **settings)]
        else:
            gradients = torch.autograd.grad(outputs, sources, part, is_grads_batched=True, **settings)
        # Of a network in lower precision too, sums are taken in that of the outputs; where a source does not enter,
        # PyTorch has zeros once, and not for each.
        each = [(gradient, (len(part), *source.shape)) for gradient, source in zip(gradients, sources, strict=True)]
        yield [gradient.to(outputs.dtype).expand(shape) for gradient, shape in each]


@dataclass(frozen=True)
class Block:
    """One layer's part of the Gauss–Newton matrix: U, V and Λ; nothing outside U and V."""

    layer: Layer
    left: Float[Tensor, "o r"]
    right: Float[Tensor, "i s"] | None
    curvature: Float[Tensor, "r s"]

    @classmethod
    def of(cls, layer: Layer, totals: Float[Tensor, "d o i"]) -> "Block":
        """Return the factors of second moments of pseudo-gradients."""
        left = _basis(totals.transpose(0, 1).flatten(1))
        # One-hot vectors have a basis already.
        right = None if layer.one_hot else _basis(totals.permute(2, 0, 1).flatten(1))
        return cls(layer, left, right, _turned(left, totals, right).square().sum(dim=0))

    @classmethod
    def of_rows(cls, layer: Layer, left: Float[Tensor, "r e o"], entered: Float[Tensor, "r i"]) -> "Block":
        """Return the same of pseudo-gradients g aᵀ, e of each row, that are never made."""
        turned = _basis((left * entered.norm(dim=1)[:, None, None]).flatten(0, 1).T)
        right = _basis((entered * left.flatten(1).norm(dim=1)[:, None]).T)
        return cls(layer, turned, right, (left @ turned).square().sum(1).T @ (entered @ right).square())

    def turned(self, totals: Float[Tensor, "d o i"]) -> Float[Tensor, "d r s"]:
        """Return Uᵀ T V."""
        return _turned(self.left, totals.to(self.left), self.right)

    def solved(self, matrices: Float[Tensor, "k o i"], mu: float) -> Float[Tensor, "k o i"]:
        """Return the block's inverse times each matrix."""
        inside = self.turned(matrices)
        gained = divided(inside, self.curvature, mu) - (inside / mu if mu > 0 else 0.0)
        change = self.left @ gained
        change = change if self.right is None else change @ self.right.T
        return change + (matrices / mu if mu > 0 else 0.0)


class Moments:
    """Second moments of one layer's pseudo-gradients, as they come."""

    def __init__(self, layer: Layer):
        self.layer, self.left, self.right = layer, torch.zeros(()).double(), torch.zeros(()).double()

    def add(self, totals: Float[Tensor, "d o i"]) -> None:
        """Add Σ T Tᵀ and Σ TᵀT."""
        rows = totals.double().transpose(0, 1).flatten(1)
        self.left = self.left + rows @ rows.T
        if not self.layer.one_hot:
            columns = totals.double().flatten(0, 1)
            self.right = self.right + columns.T @ columns

    def block(self) -> Block:
        """Return U and V, with Λ still zero."""
        left, right = _eigenvectors(self.left), None if self.layer.one_hot else _eigenvectors(self.right)
        module: Any = self.layer.module
        width = module.num_embeddings if right is None else right.shape[1]
        return Block(self.layer, left, right, left.new_zeros(left.shape[1], width))


def _turned(left: Tensor, totals: Tensor, right: Tensor | None) -> Float[Tensor, "d r s"]:
    return left.T @ totals if right is None else left.T @ totals @ right


def _basis(columns: Float[Tensor, "m c"]) -> Float[Tensor, "m r"]:
    """Return orthonormal eigenvectors of C Cᵀ, those of rounding left out."""
    if columns.shape[1] >= columns.shape[0]:
        return _eigenvectors(columns @ columns.T)
    vectors, size, _ = torch.linalg.svd(columns, full_matrices=False)
    return vectors[:, size > 1e-7 * size[0]]


def _eigenvectors(moment: Float[Tensor, "m m"]) -> Float[Tensor, "m r"]:
    size, vectors = torch.linalg.eigh(moment)
    return vectors[:, size > 1e-14 * len(size) * size[-1]]


def divided(values: Tensor, curvature: Tensor, mu: float) -> Tensor:
    """Return values / (curvature + μ), 0 where both are none."""
    total = curvature + mu
    if not total.numel():
        # A layer that no gradient reaches.
        return values
    flat = total <= 1e-14 * total.max()
    return torch.where(flat, 0.0, values / torch.where(flat, 1.0, total))
