"""Eigenvalue-corrected Kronecker factors of the Gauss–Newton matrix, layer by layer."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.hessian import Curvature, without
from versatile_influence.loss import has_outputs
from versatile_influence.solvers.layers import Layer, backpropagated, layers_of, recorded
from versatile_influence.solvers.pseudo_gradients import pseudo_gradients
from versatile_influence.solvers.solver import Solution, floor, true_residual


@dataclass(frozen=True)
class EKFAC:
    """Solve with Kronecker factors (EK-FAC), for any loss of a network's outputs, also one whose terms couple rows.

    The loss is outer(outputs(θ), b) + (λ/2)‖θ‖². Draw z with second moment B = ∇² outer over all outputs together and
    backpropagate it: in a layer's weight that gives T = Σ_r g_r a_rᵀ, summed over rows, and the second moment of vec T
    *is* the layer's block of the Gauss–Newton matrix, with all that couples rows. With U and V the eigenvectors of
    E[T Tᵀ] and E[TᵀT], the block is taken to be diagonal in the basis of U and V, with the entries

        Λ = E[(Uᵀ T V)²],      W-part of the solution = U ((Uᵀ R V) / (Λ + damping + λ)) Vᵀ,

    and blocks are solved apart from each other. Linear, Embedding and Conv2d layers have factors; other parameters
    (norms, grouped convolutions, tied weights) their diagonal. What the factors cannot hold shows in the residuals;
    these are measured with the curvature given and can be large where the scores are still well ordered. As
    `CG(preconditioner=EKFAC())` it only makes the steps fewer, and the answer exact.

    Differs from the usual factors in that they are second moments of T, not of a_r and g_r row by row: those leave out
    what couples rows, and a Cox loss, say, does not see its mean log-risk at all.

    Attributes:
        num_draws: Vectors z; None for vectors whose second moment is B exactly, as many as there are outputs.
        seed: Seed of the draws.

    References:
        George et al. (2018), "Fast approximate natural gradient descent in a Kronecker-factored eigenbasis"; Grosse et
        al. (2023), "Studying large language model generalization with influence functions".

    Example:
        >>> import torch, versatile_influence as vif
        >>> model = torch.nn.Linear(1, 1, bias=False).double()
        >>> loss = vif.losses.CoxLoss([[1.0], [0.0], [2.0]], [1, 2, 3], [1, 1, 1], model=model, penalty=1.0)
        >>> H = vif.Hessian(loss, loss.zeros(), torch.ones(3).double())
        >>> vif.EKFAC(num_draws=None).solve(H, torch.ones(1, 1).double()).residual.item() < 1e-12
        True
    """

    num_draws: int | None = 128
    seed: int = 0

    def solve(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X ≈ H⁻¹ B; no warning where residuals are large, which they are by the method's nature.

        Raises:
            TypeError: If the loss is none of a network's outputs, or the parameters are not its dict.
            ValueError: If something is not finite.
        """
        null = hessian.null_space()
        rhs = without(null, rhs)
        value = without(null, self.inverse(hessian)(rhs))
        return Solution(value, true_residual(hessian, value, rhs, null), dropped=null)

    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        """Return columns ↦ H⁻¹ columns by the factors; errors are those of `solve`."""
        loss, params = hessian.loss, hessian.params
        if not (has_outputs(loss) and isinstance(getattr(loss, "model", None), torch.nn.Module)):
            raise TypeError(
                f"EKFAC needs a loss of a network's outputs, with `model`, `outputs` and `outer`; got "
                f"{type(loss).__name__}. Compose one with vif.losses.OutputLoss(model, x, outer, …), or use vif.CG()."
            )
        if not isinstance(params, dict):
            raise TypeError("EKFAC needs the parameters as the dict of model.named_parameters(), got a tensor.")
        blocks, diagonal = self._factors(hessian, params)
        mu, shapes = floor(hessian), {name: value.shape for name, value in params.items()}
        sizes = [value.numel() for value in params.values()]

        def apply(columns: Tensor) -> Tensor:
            pieces = columns.T.split(sizes, dim=1)
            parts = {name: piece.reshape(-1, *shapes[name]) for name, piece in zip(shapes, pieces, strict=True)}
            solved = {name: _divided(parts[name], curvature, mu) for name, curvature in diagonal.items()}
            for block in blocks:
                solved |= block.layer.parts(block.solved(block.layer.matrices(parts), mu))
            return torch.cat([solved[name].flatten(1) for name in params], dim=1).T

        return apply

    def _factors(self, hessian: Curvature, params: dict[str, Tensor]) -> tuple[list["_Block"], dict[str, Tensor]]:
        """Return the layers' factors, and the diagonal of the other parameters by name."""
        loss: Any = hessian.loss
        leaves = {name: value.detach().clone().requires_grad_() for name, value in params.items()}
        layers = layers_of(loss.model, set(params))
        with torch.enable_grad(), recorded(layers):
            outputs = loss.outputs(leaves)
        drawn = pseudo_gradients(
            loss,
            outputs,
            hessian.presence,
            num_draws=self.num_draws,
            generator=torch.Generator().manual_seed(self.seed),
        )
        layers = [layer for layer in layers if layer.outputs and _complete(layer, outputs, leaves, drawn[:1])]
        within = {name for layer in layers for name in (layer.weight, layer.bias)}
        others = [name for name in params if name not in within]
        sources = [output for layer in layers for output in layer.outputs] + [leaves[name] for name in others]
        totals: list[list[Tensor]] = [[] for _ in layers]
        diagonal = {name: torch.zeros_like(params[name]) for name in others}
        for gradients in backpropagated(outputs, sources, drawn):
            for layer, found in zip(layers, totals, strict=True):
                found.append(layer.totals([gradients.pop(0) for _ in layer.outputs]))
            for name, gradient in zip(others, gradients, strict=True):
                diagonal[name] += gradient.square().sum(dim=0)
        return [_Block.of(layer, torch.cat(found)) for layer, found in zip(layers, totals, strict=True)], diagonal


@dataclass(frozen=True)
class _Block:
    """One layer's part of the Gauss–Newton matrix: U, V and Λ; nothing outside U and V."""

    layer: Layer
    left: Float[Tensor, "o r"]
    right: Float[Tensor, "i s"] | None
    curvature: Float[Tensor, "r s"]

    @classmethod
    def of(cls, layer: Layer, totals: Float[Tensor, "d o i"]) -> "_Block":
        left = _basis(totals.transpose(0, 1).flatten(1))
        embedding = isinstance(layer.module, torch.nn.Embedding)
        # One-hot vectors have a basis already.
        right = None if embedding else _basis(totals.permute(2, 0, 1).flatten(1))
        turned = left.T @ totals
        turned = turned if right is None else turned @ right
        return cls(layer, left, right, turned.square().sum(dim=0))

    def solved(self, matrices: Float[Tensor, "k o i"], mu: float) -> Float[Tensor, "k o i"]:
        """Return the block's inverse times each matrix."""
        inside = self.left.T @ matrices
        inside = inside if self.right is None else inside @ self.right
        gained = _divided(inside, self.curvature, mu) - (inside / mu if mu > 0 else 0.0)
        change = self.left @ gained
        change = change if self.right is None else change @ self.right.T
        return change + (matrices / mu if mu > 0 else 0.0)


def _basis(columns: Float[Tensor, "m c"]) -> Float[Tensor, "m r"]:
    """Return orthonormal eigenvectors of C Cᵀ, those of rounding left out."""
    if columns.shape[1] >= columns.shape[0]:
        size, vectors = torch.linalg.eigh(columns @ columns.T)
        return vectors[:, size > 1e-14 * len(size) * size[-1]]
    vectors, size, _ = torch.linalg.svd(columns, full_matrices=False)
    return vectors[:, size > 1e-7 * size[0]]


def _divided(values: Tensor, curvature: Tensor, mu: float) -> Tensor:
    """Return values / (curvature + μ), 0 where both are none."""
    total = curvature + mu
    flat = total <= 1e-14 * total.max()
    return torch.where(flat, 0.0, values / torch.where(flat, 1.0, total))


def _complete(layer: Layer, outputs: Tensor, leaves: dict[str, Tensor], drawn: Float[Tensor, "1 ..."]) -> bool:
    """Return whether the layer's calls are all that its weight does; a tied weight also acts elsewhere."""
    names = [name for name in (layer.weight, layer.bias) if name is not None]
    sources = layer.outputs + [leaves[name] for name in names]
    gradients = next(backpropagated(outputs, sources, drawn))
    calls = len(layer.outputs)
    parts = layer.parts(layer.totals(gradients[:calls]))
    for name, whole in zip(names, gradients[calls:], strict=True):
        if not torch.allclose(parts[name], whole, rtol=1e-4, atol=1e-5 * whole.abs().max().item()):
            warnings.warn(
                f"The gradient of `{name}` is not that of its layer alone: the weight is tied, or used outside the "
                "layer. EKFAC keeps only its diagonal.",
                stacklevel=6,
            )
            return False
    return True
