"""Eigenvalue-corrected Kronecker factors of the Gauss–Newton matrix, layer by layer."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.composed import Composed
from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.preconditioner import Preconditioner
from versatile_influence.core.ravel import flat_each, shaper, stacked
from versatile_influence.core.settings import setting
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver, true_residual
from versatile_influence.solvers.kronecker import Drawn, by_row
from versatile_influence.solvers.layers import Block, Layer, divided


@dataclass(frozen=True)
class EKFAC(Solver, Preconditioner):
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

    Where rows meet neither in the outer loss nor in the network, one of Linear layers, nothing is drawn: each row has a
    root of its own block of B, g aᵀ for each of its columns, and the moments are sums over all of them.

    What couples layers gets lost, and what U and V do not make diagonal. With `rank` r the r strongest directions of
    the pseudo-gradients of all layers together, S = Σ_j s_j s_jᵀ, are kept as they are, and U, V and Λ are those of the
    rest. S + EK-FAC of the rest stays positive definite, has the trace of the Gauss–Newton matrix, and becomes it as r
    grows; its inverse is the factors' and a system of r equations (Woodbury). It takes no more passes, and r numbers a
    parameter. The strongest of few draws are their noise: ask for `num_draws=None`, or some dozen draws a direction.

    Attributes:
        num_draws: Vectors z, where they are drawn; None for vectors whose second moment is B exactly, as many as there
            are outputs.
        rank: Directions kept across layers; 0 for EK-FAC as published.
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

    num_draws: int | None = setting(128, least=1)
    rank: int = setting(0)
    seed: int = setting(0)
    tolerated: ClassVar[float] = 1.0
    advice: ClassVar[str] = (
        "The factors hold little of H along them, so that scores may be well ordered but of the wrong size: give "
        "rank=… or more draws, or take them as vif.CG(preconditioner=vif.EKFAC())."
    )

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X ≈ H⁻¹ B, with residuals that are large by the method's nature.

        Raises:
            TypeError: If the loss is none of a network's outputs, or the parameters are not its dict.
            ValueError: If something is not finite, or `rank` is asked for without penalty and damping.
        """
        null = hessian.null_space()
        rhs = without(null, rhs)
        value = without(null, self.inverse(hessian)(rhs))
        return Solution(value, true_residual(hessian, value, rhs, null), dropped=null)

    def inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        """Return columns ↦ H⁻¹ columns by the factors; errors are those of `solve`."""
        return hessian.once(self, lambda: self._inverse(hessian))

    def _inverse(self, hessian: Curvature) -> Callable[[Tensor], Tensor]:
        loss, params = hessian.loss, hessian.params
        if not isinstance(loss, Composed) or loss.model is None:
            raise TypeError(
                f"EKFAC needs a loss of a network's outputs, got {loss!r}. Compose one with "
                "vif.losses.OutputLoss(model, x, outer, …), or use vif.CG()."
            )
        if not isinstance(params, dict):
            raise TypeError("EKFAC needs the parameters as the dict of model.named_parameters(), got a tensor.")
        mu, unravel = hessian.floor, shaper(params)
        if self.rank and not mu > 0:
            raise ValueError(
                f"EKFAC(rank={self.rank}) divides by penalty + damping, which is 0. Add damping=…, or leave out `rank`."
            )
        blocks, diagonal, strong = self._factors(loss, params, hessian.presence)

        def factored(columns: Tensor) -> Tensor:
            parts = stacked(unravel, columns.T)
            assert isinstance(parts, dict)
            solved = {name: divided(parts[name], curvature, mu) for name, curvature in diagonal.items()}
            for block in blocks:
                solved |= block.layer.parts(block.solved(block.layer.matrices(parts), mu))
            return flat_each({name: solved[name] for name in params}).T

        return factored if strong is None else _with(strong, factored)

    def _factors(
        self, loss: Composed, params: dict[str, Tensor], presence: Float[Tensor, " n"]
    ) -> tuple[list[Block], dict[str, Tensor], Tensor | None]:
        """Return the layers' factors, the diagonal of the other parameters by name, and the directions kept."""
        if not self.rank and (blocks := by_row(loss, params, presence)) is not None:
            return blocks, {}, None
        drawn = Drawn(loss, params, presence, self.num_draws, torch.Generator().manual_seed(self.seed))
        if drawn.held is None:
            if self.rank:
                raise MemoryError(
                    f"EKFAC(rank={self.rank}) holds {len(drawn.z)} pseudo-gradients of all parameters, and they are "
                    "too many. Ask for fewer draws, or leave out `rank`."
                )
            return *drawn.blocks(), None
        layers, others = drawn.layers, drawn.others
        gradients, strong = _strongest(drawn.held, self.rank)
        blocks = [Block.of(layer, found) for layer, found in zip(layers, gradients, strict=False)]
        squares = [found.square().sum(dim=0) for found in gradients[len(layers) :]]
        return blocks, dict(zip(others, squares, strict=True)), _flat(strong, layers, others, list(params))


def _strongest(gradients: list[Tensor], rank: int) -> tuple[list[Tensor], list[Tensor]]:
    """Return gradients (d, …) without their strongest combinations over draws, and those combinations, r or less."""
    if not rank:
        return gradients, []
    size, turned = torch.linalg.eigh(torch.stack([part.flatten(1) @ part.flatten(1).T for part in gradients]).sum(0))
    turned = turned[:, -rank:][:, size[-rank:] > 1e-12 * size[-1]]
    strong = [torch.tensordot(turned.T, part, dims=1) for part in gradients]
    return [part - torch.tensordot(turned, own, dims=1) for part, own in zip(gradients, strong, strict=True)], strong


def _flat(
    strong: list[Tensor], layers: list[Layer], others: list[str], names: list[str]
) -> Float[Tensor, "r p"] | None:
    """Return the strongest directions as rows over all parameters, or None where there are none."""
    if not strong:
        return None
    parts = dict(zip(others, strong[len(layers) :], strict=True))
    for layer, matrices in zip(layers, strong, strict=False):
        parts |= layer.parts(matrices)
    return flat_each({name: parts[name] for name in names})


def _with(strong: Float[Tensor, "r p"], factored: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Return columns ↦ (E + SᵀS)⁻¹ columns, given E⁻¹ (Woodbury 1950)."""
    turned = factored(strong.T)
    system = torch.linalg.cholesky(torch.eye(len(strong)).to(strong) + strong @ turned)

    def apply(columns: Tensor) -> Tensor:
        solved = factored(columns)
        return solved - turned @ torch.cholesky_solve(strong @ solved, system)

    return apply
