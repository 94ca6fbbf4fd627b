"""What a curvature is: an operator on flat parameters, and the only home of damping."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import number
from versatile_influence.core.loss import Loss
from versatile_influence.core.memory import check_room
from versatile_influence.core.ravel import Params, flat
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import DENSE_PARAMETERS, WRITTEN_PARAMETERS

T = TypeVar("T")
# The least inner product of a combination of unit length with itself, from which rounding leaves enough of it.
APART = 1e-6


@dataclass(frozen=True)
class Curvature(ABC):
    """What solvers ask of a curvature: `Hessian`, `GaussNewton`, or a subclass of your own.

    Attributes:
        loss: The loss L(θ, b), a sum.
        params: Where the curvature is taken.
        presence: Who is present.
        damping: Added to the diagonal, in units of the summed (un-normalised) loss. A mean loss over n objects with
            damping d has the same effect as its sum with damping n·d.
    """

    loss: Any
    params: Params
    presence: Float[Tensor, " n"]
    damping: float = 0.0

    def __post_init__(self):
        number(self.damping, "damping", least=0)

    @abstractmethod
    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return its product with vectors."""

    @abstractmethod
    def dense(self) -> Float[Tensor, "p p"]:
        """Return it as a matrix, exactly symmetric."""

    def removal_products(self, directions: Float[Tensor, "p k"], removals: Removals) -> Float[Tensor, "m k"]:
        """Return the derivative of the loss's removal differences along directions that it was multiplied with last."""
        return self.loss.removal_products(self.params, directions, removals)

    @abstractmethod
    def sample(self, terms: Int[Tensor, " m"]) -> "Scaled":
        """Return its unbiased estimate from some of the loss's terms."""

    def once(self, key: object, make: Callable[[], T]) -> T:
        """Return what a solver takes this curvature apart into: made when first asked for, kept as long as it lives."""
        known = vars(self).setdefault("_known", {})
        if key not in known:
            known[key] = make()
        return known[key]

    @property
    def units(self) -> Float[Tensor, " p"] | None:
        """What the loss says of the size of a natural step of each parameter."""
        return self.loss.units

    @property
    def floor(self) -> float:
        """What damping and penalty alone give every direction: the least curvature of a convex loss."""
        return self.damping + self.loss.penalty

    @property
    def rough(self) -> "Curvature":
        """The same curvature in single precision, where that is faster."""
        return self

    def null_space(self) -> Float[Tensor, "p m"] | None:
        """Return orthonormal directions in which the loss says that it is constant (`null_directions`), or None.

        H is zero along them at a minimum, and training determines nothing there: solvers leave them out, and a target
        must not depend on them. With damping there are none.
        """
        return self.once("null space", self._null_space)

    def _null_space(self) -> Float[Tensor, "p m"] | None:
        named = {} if self.damping else self.loss.null_directions(self.params, self.presence)
        if not named:
            return None
        return spanned(torch.stack([flat(direction).to(flat(self.params)) for direction in named.values()], dim=1))


def spanned(directions: Float[Tensor, "p m"]) -> Float[Tensor, "p r"]:
    """Return an orthonormal basis of what some directions span, of any length, nearly parallel ones once."""
    length = directions.norm(dim=0)
    basis = directions = torch.nn.functional.normalize(directions[:, length > 1e-10 * length.max()], dim=0)
    if not directions.shape[1]:
        return directions
    # Products with their few inner products take a fourth of the time, where these tell the directions well apart; of
    # what the first round leaves the second makes rounding.
    for _ in range(2):
        size, turned = torch.linalg.eigh(basis.T @ basis)
        if not size[0] > APART:
            basis, size, _ = torch.linalg.svd(directions, full_matrices=False)
            return basis[:, size > 1e-10 * size.max()]
        basis = basis @ (turned / size.sqrt())
    return basis


# (loss, params, presence, damping) -> curvature: the argument `curvature=` of the verbs.
CurvatureOf = Callable[[Loss, Params, Tensor, float], Curvature]


@dataclass(frozen=True)
class Scaled:
    """A curvature times a number, plus damping: what a sample of terms says of the whole.

    Attributes:
        part: The curvature of the sample.
        scale: How many terms each stands for.
        damping: Added to the diagonal.
    """

    part: Curvature
    scale: float
    damping: float

    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return its product with vectors."""
        return self.scale * (self.part @ vectors) + self.damping * vectors

    def dense(self) -> Float[Tensor, "p p"]:
        """Return it as a matrix."""
        matrix = self.scale * self.part.dense()
        matrix.diagonal().add_(self.damping)
        return matrix


def newton_is_dense(loss: Loss, params: Params) -> bool:
    """Return whether Newton's method on this loss is best served by its Hessian as a matrix."""
    return loss.stand_in is None and len(flat(params)) <= (
        WRITTEN_PARAMETERS if loss.hessian_written_out else DENSE_PARAMETERS
    )


def check_dense(theta: Float[Tensor, " p"]) -> None:
    """Refuse a dense matrix that does not fit, by a MemoryError."""
    p = len(theta)
    check_room(
        # The matrix, its factor, and what is solved.
        3 * p * p,
        theta,
        what=f"A dense matrix of {p:,} × {p:,} curvatures, with room to factor it,",
        instead="No memory budget helps here. Use solver=vif.CG(rtol=1e-3), which needs no such matrix; with "
        "curvature=vif.GaussNewton also vif.Woodbury() or vif.EKFAC(); or attribute through some of the parameters, "
        "vif.subset(loss, params, [pattern]).",
    )


def without(null: Float[Tensor, "p m"] | None, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Return the part of each column that has nothing of the directions `null`."""
    return vectors if null is None else vectors - null @ (null.T @ vectors)


def in_units(matrix: Float[Tensor, "*c p p"], units: Float[Tensor, " p"] | None) -> Float[Tensor, "*c p p"]:
    """Return the curvature along steps of one unit each: dollars beside years are no singular matrix."""
    return matrix if units is None else units[:, None] * matrix * units


def deflated(matrix: Float[Tensor, "*c p p"], null: Float[Tensor, "p m"] | None) -> Float[Tensor, "*c p p"]:
    """Return the matrix with `null` as eigenvectors of a typical eigenvalue, and unchanged across from them."""
    if null is None:
        return matrix
    # (I − NNᵀ) H (I − NNᵀ) + size NNᵀ, multiplied out: no p×p projector for each of many matrices.
    crossed = matrix @ null
    inner = null.mT @ crossed
    size = matrix.diagonal(dim1=-2, dim2=-1).abs().mean(-1)[..., None, None]
    side = crossed - 0.5 * null @ inner - 0.5 * size * null
    # One product and no other array of the size of a large matrix.
    both = torch.cat([side, null.expand_as(side)], dim=-1) @ torch.cat([null.expand_as(side), side], dim=-1).mT
    return both.neg_().add_(matrix)
