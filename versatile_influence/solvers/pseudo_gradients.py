"""Pseudo-gradients: output-space vectors whose second moment is the curvature of the outer loss.

A loss L(θ, b) = outer(outputs(θ), b) + (λ/2)‖θ‖² has the Gauss–Newton matrix JᵀBJ + λI, with J the Jacobian of the
outputs and B = ∇² outer over *all* outputs together. Draw z ~ N(0, B) and backpropagate it: the gradient Jᵀz has the
second moment JᵀBJ, also where the outer loss couples rows, as a Cox risk set or a contrastive batch does. For a sum of
cross-entropies B is block diagonal and z amounts to the gradients of labels drawn from the model, the usual recipe.
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from versatile_influence.core.derivatives import jacobian_products
from versatile_influence.core.loss import Loss
from versatile_influence.core.sizes import DENSE_OUTPUTS, OUTER_CHUNK, ROOT_STEPS, SINGULAR
from versatile_influence.core.warn import warn
from versatile_influence.solvers.lanczos import lanczos


def pseudo_gradients(
    outer: Loss,
    outputs: Tensor,
    presence: Float[Tensor, " n"],
    *,
    num_draws: int | None,
    generator: torch.Generator,
    dense_outputs: int = DENSE_OUTPUTS,
) -> Float[Tensor, "d ..."]:
    """Return z_1 … z_d, each of the shape of the outputs, with Σ z zᵀ = B in the mean.

    Without `num_draws`, d, exactly: as many vectors as B has rank. B is dense up to `dense_outputs` outputs.

    Raises:
        ValueError: If B is not finite, or exact vectors are asked for with more outputs than a dense B allows.
    """
    flat = outputs.detach().reshape(-1)
    slope = grad(lambda values: outer(values.reshape(outputs.shape), presence))

    draws = num_draws or 0
    noise = torch.randn(len(flat), draws, generator=generator, dtype=torch.float64).to(flat) / max(draws, 1) ** 0.5
    if len(flat) <= dense_outputs:
        root = _root(jacobian_products(slope, flat, chunk_size=OUTER_CHUNK))
        found = root if num_draws is None else root @ (torch.nn.functional.normalize(root, dim=0).T @ noise)
    elif num_draws is None:
        raise ValueError(
            f"There are {len(flat)} outputs, and their curvature is not made dense beyond {dense_outputs}. Ask for a "
            "number of draws, such as num_draws=64."
        )
    else:
        found = torch.stack([_rooted(lambda v: jacobian_products(slope, flat, v), one) for one in noise.T], dim=1)
    return found.T.reshape(-1, *outputs.shape)


def _root(matrix: Float[Tensor, "m m"]) -> Float[Tensor, "m r"]:
    """Return R with R Rᵀ = the matrix, as many columns as it has rank."""
    if not torch.isfinite(matrix).all():
        raise ValueError(
            "The curvature of the outer loss in the outputs has NaN or infinite entries. Look for overflow, or a norm "
            "or logarithm of zero, in the outer loss at these outputs."
        )
    size, turned = torch.linalg.eigh((matrix + matrix.T) / 2)
    kept = _above(size)
    return turned[:, kept] * size[kept].sqrt()


def _rooted(product: Callable[[Tensor], Tensor], vector: Float[Tensor, " m"]) -> Float[Tensor, " m"]:
    """Return B^½ v from the Lanczos process started at v: ‖v‖ Q T^½ e₁."""
    basis, projected = lanczos(product, vector, ROOT_STEPS)
    size, turned = torch.linalg.eigh(projected)
    kept = _above(size)
    return vector.norm() * (basis @ (turned[:, kept] @ (size[kept].sqrt() * turned[0, kept])))


def _above(size: Float[Tensor, " m"]) -> Tensor:
    """Return which eigenvalues are more than rounding; warns of negative ones, which are left out."""
    cut = SINGULAR * len(size) * size.abs().max()
    if size.min() < -1e3 * cut:
        warn(
            f"The outer loss is not convex in the outputs: its curvature there goes down to {size.min().item():.3g}, "
            f"beside {size.max().item():.3g} upward. What curves downward is left out.",
        )
    return size > cut
