"""The curvature of a loss, as an operator: the only home of damping."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, vjp, vmap

from versatile_influence._forward import chunk_that_fits
from versatile_influence._memory import check_room
from versatile_influence._ravel import Params, ravel
from versatile_influence.loss import Loss, Sampled, chunk_for

# From this many parameters on, it is measured how many products fit in memory at once.
LARGE = 2000


@runtime_checkable
class Curvature(Protocol):
    """What solvers ask of a curvature: `Hessian`, `GaussNewton`, or another dataclass with these methods and fields."""

    @property
    def loss(self) -> Loss:
        """The loss."""
        ...

    @property
    def params(self) -> Params:
        """Where the curvature is taken."""
        ...

    @property
    def presence(self) -> Float[Tensor, " n"]:
        """Who is present."""
        ...

    @property
    def damping(self) -> float:
        """What is added to the diagonal."""
        ...

    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return its product with vectors."""
        ...

    def dense(self) -> Float[Tensor, "p p"]:
        """Return it as a matrix."""
        ...

    def null_space(self) -> Float[Tensor, "p m"] | None:
        """Return orthonormal directions in which the loss says that it is constant, or None."""
        ...

    def sample(self, terms: Int[Tensor, " m"]) -> "Curvature":
        """Return its unbiased estimate from some of the loss's terms."""
        ...


# (loss, params, presence, damping) -> curvature: the argument `curvature=` of the verbs.
CurvatureOf = Callable[[Loss, Params, Tensor, float], Curvature]


@dataclass(frozen=True)
class Hessian:
    """H = ∇²L(θ, b) + damping · I, as an operator on flat parameter vectors.

    Attributes:
        loss: The loss L(θ, b), a sum.
        params: Where the curvature is taken.
        presence: Who is present.
        damping: Added to the diagonal, in units of the summed (un-normalised) loss. A mean loss over n objects with
            damping d has the same effect as its sum with damping n·d.
        chunk_size: How many columns are multiplied at once; None for as many as fit.

    Example:
        >>> import torch
        >>> square = lambda theta, presence: presence.sum() * theta @ theta
        >>> H = Hessian(square, torch.zeros(2), torch.ones(3), damping=1.0)
        >>> H.dense()
        tensor([[7., 0.],
                [0., 7.]])
    """

    loss: Loss
    params: Params
    presence: Float[Tensor, " n"]
    damping: float = 0.0
    chunk_size: int | None = None

    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return H V, one reverse-over-reverse derivative a column: vᵀH = (H v)ᵀ, at half the time of forward mode."""
        theta, unravel = ravel(self.params)
        pull_back = vjp(grad(lambda flat: self.loss(unravel(flat), self.presence)), theta)[1]
        chunk = self.chunk_size or chunk_for(self.loss)
        if chunk is None and len(theta) > LARGE:
            chunk = chunk_that_fits(lambda flat: self.loss(unravel(flat), self.presence), theta)
        products = vmap(lambda vector: pull_back(vector)[0], chunk_size=chunk)(vectors.T).T
        return products + self.damping * vectors

    def dense(self) -> Float[Tensor, "p p"]:
        """Return H as a matrix, exactly symmetric."""
        theta, _ = ravel(self.params)
        check_dense(theta)
        by_hand = self.by_hand()
        if by_hand is not None:
            return by_hand
        matrix = self @ torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        return (matrix + matrix.T) / 2

    def by_hand(self) -> Float[Tensor, "p p"] | None:
        """Return H as a matrix where the loss has it written out (`dense_hessian`), or None."""
        if not hasattr(self.loss, "dense_hessian"):
            return None
        matrix = self.loss.dense_hessian(self.params, self.presence)  # pyright: ignore[reportAttributeAccessIssue]
        if matrix is not None and self.damping:
            matrix.diagonal().add_(self.damping)
        return matrix

    def sample(self, terms: Int[Tensor, " m"]) -> "Hessian":
        """Return the Hessian of the loss's terms numbered `terms`, scaled up so that it estimates H without bias."""
        return replace(self, loss=Sampled(self.loss, terms))

    def null_space(self) -> Float[Tensor, "p m"] | None:
        """Return orthonormal directions in which the loss says that it is constant (`null_directions`), or None.

        H is zero along them at a minimum, and training determines nothing there: solvers leave them out, and a target
        must not depend on them. With damping there are none.
        """
        return constant_directions(self)


def check_dense(theta: Float[Tensor, " p"]) -> None:
    """Refuse a dense matrix that does not fit.

    Raises:
        MemoryError: If it does not.
    """
    p = len(theta)
    check_room(
        3 * p * p,
        theta,
        what=f"A dense matrix of {p:,} × {p:,} curvatures, with room to factor it,",
        instead="No chunk_size helps here. Use solver=vif.CG(rtol=1e-3), which needs no such matrix; with "
        "curvature=vif.GaussNewton also vif.Woodbury() or vif.EKFAC(); or attribute through some of the parameters, "
        "vif.subset(loss, params, [pattern]).",
    )


def constant_directions(curvature: Curvature) -> Float[Tensor, "p m"] | None:
    """Return orthonormal directions in which the loss of an undamped curvature is constant, as it says, or None."""
    named = getattr(curvature.loss, "null_directions", None)
    if named is None or curvature.damping:
        return None
    theta, _ = ravel(curvature.params)
    directions = [ravel(direction)[0].to(theta) for direction in named(curvature.params, curvature.presence).values()]
    if not directions:
        return None
    basis, size, _ = torch.linalg.svd(torch.stack(directions, dim=1), full_matrices=False)
    return basis[:, size > 1e-10 * size.max()]


def without(null: Float[Tensor, "p m"] | None, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Return the part of each column that has nothing of the directions `null`."""
    return vectors if null is None else vectors - null @ (null.T @ vectors)


def deflated(matrix: Float[Tensor, "*c p p"], null: Float[Tensor, "p m"] | None) -> Float[Tensor, "*c p p"]:
    """Return the matrix with `null` as eigenvectors of a typical eigenvalue, and unchanged across from them."""
    if null is None:
        return matrix
    crossed = matrix @ null
    inner = null.mT @ crossed
    size = matrix.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    side = (crossed - 0.5 * null @ inner) @ null.mT
    return matrix - side - side.mT + size * (null @ null.mT)


def warn_if_undetermined(hessian: Curvature, gradients: Float[Tensor, "t p"]) -> None:
    """Warn where a target changes along directions in which the loss says that it is constant."""
    null = hessian.null_space()
    if null is None:
        return
    share = (gradients @ null).norm(dim=1) / gradients.norm(dim=1).clamp_min(torch.finfo(gradients.dtype).tiny)
    if (moved := share > 1e-4).any():
        warnings.warn(
            f"{int(moved.sum())} of {len(share)} targets, the first number {int(moved.nonzero()[0])}, change in "
            "directions in which the loss is constant (loss.null_directions): training does not determine them, and "
            "their scores are those of the nearest retrained parameters. Add a penalty, or ask for a target that is "
            "the same for all minimisers.",
            stacklevel=3,
        )


# Up to this many parameters Newton's method uses the dense Hessian; more where the loss has it written out by hand, and
# still more to finish what another minimiser began.
DENSE_PARAMETERS, BY_HAND_PARAMETERS, FINISHED_PARAMETERS = 400, 2000, 10_000


def best_dense(hessian: Hessian) -> Float[Tensor, "p p"] | None:
    """Return H as a matrix where Newton's method is best served by it, or None."""
    p = len(ravel(hessian.params)[0])
    if p <= DENSE_PARAMETERS:
        return hessian.dense()
    return hessian.by_hand() if p <= BY_HAND_PARAMETERS else None
