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

from versatile_influence.core.apart import halves, number_of
from versatile_influence.core.derivatives import jacobian_products
from versatile_influence.core.draws import normal
from versatile_influence.core.loss import Loss
from versatile_influence.core.sizes import DENSE_OUTPUTS, OUTER_CHUNK, PASS_NUMBERS, ROOT_STEPS, SINGULAR, at_once
from versatile_influence.core.warn import warn


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
    flat, slope, product = _curvature(outer, outputs, presence)
    draws = num_draws or 0
    noise = normal(generator, len(flat), draws, like=flat) / max(draws, 1) ** 0.5
    if len(flat) <= dense_outputs:
        root = _root(jacobian_products(slope, flat, chunk_size=OUTER_CHUNK))
        found = root if num_draws is None else root @ (torch.nn.functional.normalize(root, dim=0).T @ noise)
    elif num_draws is None:
        raise ValueError(
            f"There are {len(flat)} outputs, and their curvature is not made dense beyond {dense_outputs}. Ask for a "
            "number of draws, such as num_draws=64."
        )
    elif (roots := row_roots(outer, outputs, presence)) is not None:
        # Draws of the rank of B alone, as of a dense one: R Rᵀ is V Λ Vᵀ, and this V √Λ Vᵀ.
        turned = torch.nn.functional.normalize(roots, dim=1)
        found = (roots @ (turned.mT @ noise.reshape(*roots.shape[:2], -1))).reshape(len(flat), -1)
    else:
        each = at_once(len(flat) * min(ROOT_STEPS, len(flat)), most=PASS_NUMBERS)
        found = torch.cat([_rooted(product, some) for some in noise.split(each, dim=1)], dim=1)
    return found.T.reshape(-1, *outputs.shape)


def row_roots(outer: Loss, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, "n c c"] | None:
    """Return R_r with R_r R_rᵀ the block of B of each row, where rows do not meet in it, and else None."""
    flat, _, product = _curvature(outer, outputs, presence)
    blocks = _by_row(product, flat.reshape(_rows(outer, outputs), -1))
    if blocks is None:
        return None
    size, turned = torch.linalg.eigh(_finite(blocks))
    return turned * _roots(size)[:, None, :]


def _curvature(
    outer: Loss, outputs: Tensor, presence: Float[Tensor, " n"]
) -> tuple[Float[Tensor, " m"], Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Return the outputs as one vector, the slopes of the outer loss as a function of it, and products with B."""
    flat = outputs.detach().reshape(-1)
    slope = grad(lambda values: outer(values.reshape(outputs.shape), presence))

    def product(vectors: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        return jacobian_products(slope, flat, vectors, chunk_size=max(1, PASS_NUMBERS // len(flat)))

    return flat, slope, product


def _rows(outer: Loss, outputs: Tensor) -> int:
    """Return how many rows outputs have: their own, or of a plain vector one an object."""
    return len(outputs) if outputs.dim() > 1 or len(outputs) % outer.n_objects else outer.n_objects


def _by_row(product: Callable[[Tensor], Tensor], outputs: Float[Tensor, "n c"]) -> Float[Tensor, "n c c"] | None:
    """Return the blocks of B of each row, where rows do not meet in it, and else None.

    They do not where B z of any of the `halves` of the rows is 0 in the other.
    """
    n, c = outputs.shape
    if n * c * c > PASS_NUMBERS:
        return None
    noise = normal(torch.Generator().manual_seed(0), n, c, 1, like=outputs)
    for some in torch.arange(number_of(n)).split(at_once(n * c)):
        digits = halves(n, some.tolist()).T.to(outputs)
        moved = product((noise * digits[:, None]).reshape(n * c, -1)).reshape(n, c, -1)
        if (moved * (1 - digits[:, None])).abs().max() > SINGULAR * moved.abs().max():
            return None
    units = torch.eye(c).to(outputs).expand(n, c, c).reshape(n * c, c)
    blocks = product(units).reshape(n, c, c)
    return (blocks + blocks.mT) / 2


def _root(matrix: Float[Tensor, "m m"]) -> Float[Tensor, "m r"]:
    """Return R with R Rᵀ = the matrix, as many columns as it has rank."""
    size, turned = torch.linalg.eigh(_finite(matrix + matrix.T) / 2)
    kept = _above(size)
    return turned[:, kept] * size[kept].sqrt()


def _finite(curvature: Tensor) -> Tensor:
    """Return B, or blocks of it, as they are."""
    if not torch.isfinite(curvature).all():
        raise ValueError(
            "The curvature of the outer loss in the outputs has NaN or infinite entries. Look for overflow, or a norm "
            "or logarithm of zero, in the outer loss at these outputs."
        )
    return curvature


def _rooted(product: Callable[[Tensor], Tensor], vectors: Float[Tensor, "m d"]) -> Float[Tensor, "m d"]:
    """Return B^½ v of each vector from the Lanczos process started at it: ‖v‖ Q T^½ e₁, all side by side."""
    (m, d), steps = vectors.shape, min(ROOT_STEPS, len(vectors))
    length = vectors.norm(dim=0)
    basis, projected = vectors.new_zeros(d, m, steps), vectors.new_zeros(d, steps, steps)
    fresh = (vectors / length).T
    for step in range(steps):
        basis[:, :, step] = fresh
        known, image = basis[:, :, : step + 1], product(fresh.T).T
        inside = torch.einsum("dms,dm->ds", known, image)
        projected[:, : step + 1, step] = projected[:, step, : step + 1] = inside
        # Twice is enough (Kahan), and once more after what was nearly nothing is scaled up.
        fresh = image - torch.einsum("dms,ds->dm", known, inside)
        fresh = fresh - torch.einsum("dms,ds->dm", known, torch.einsum("dms,dm->ds", known, fresh))
        size = fresh.norm(dim=1, keepdim=True)
        # Where nothing new is met the process ends: the zeros that follow stand apart in T.
        going = size > 1e2 * torch.finfo(fresh.dtype).eps * image.norm(dim=1, keepdim=True)
        fresh = torch.where(going, fresh / torch.where(going, size, 1.0), 0.0)
        fresh = fresh - torch.einsum("dms,ds->dm", known, torch.einsum("dms,dm->ds", known, fresh))
        if not going.any():
            break
    size, turned = torch.linalg.eigh(projected)
    weights = torch.einsum("dse,de,de->ds", turned, _roots(size), turned[:, 0])
    return length * torch.einsum("dms,ds->md", basis, weights)


def _roots(size: Float[Tensor, "d m"]) -> Float[Tensor, "d m"]:
    """Return the roots of eigenvalues of several matrices, 0 of rounding."""
    return torch.where(_above(size.flatten()).reshape(size.shape), size, 0.0).sqrt()


def _above(size: Float[Tensor, " m"]) -> Tensor:
    """Return which eigenvalues are more than rounding; warns of negative ones, which are left out."""
    cut = SINGULAR * len(size) * size.abs().max()
    if size.min() < -1e3 * cut:
        warn(
            f"The outer loss is not convex in the outputs: its curvature there goes down to {size.min().item():.3g}, "
            f"beside {size.max().item():.3g} upward. What curves downward is left out.",
        )
    return size > cut
