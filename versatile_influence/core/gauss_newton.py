"""The generalised Gauss–Newton matrix: curvature that stays positive semi-definite in neural networks."""

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.composed import Composed
from versatile_influence.core.curvature import Curvature, Scaled, check_dense, without
from versatile_influence.core.derivatives import in_blocks
from versatile_influence.core.factored import Factored
from versatile_influence.core.jacobian import Jacobian, Stored
from versatile_influence.core.loss import share
from versatile_influence.core.ravel import flat
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import CHUNK_NUMBERS, at_once
from versatile_influence.core.solution import Solution


@dataclass(frozen=True)
class GaussNewton(Curvature):
    """G = Jᵀ B J + (λ + damping) I of a loss outer(outputs(θ), b) + (λ/2)‖θ‖², as an operator like `Hessian`.

    J is the Jacobian of the outputs and B = ∇²outer at the outputs: what is left of H when the outputs' own second
    derivatives are dropped. It is H where the outputs are linear in θ, and it has no negative eigenvalues where the
    outer loss is convex (Cox in log-risks, softmax in scores, pairs in scores).

    Raises:
        TypeError: If the loss has no outputs: a ready one has, and `vif.losses.OutputLoss(model, x, outer, …)`.

    References:
        Schraudolph (2002), "Fast curvature matrix-vector products"; Martens (2020), §8.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.PairwiseLoss([0, 1], [1, 2], penalty=1.0)
        >>> GaussNewton(loss, loss.zeros(), torch.ones(2).double()).dense()
        tensor([[ 1.2500, -0.2500,  0.0000],
                [-0.2500,  1.5000, -0.2500],
                [ 0.0000, -0.2500,  1.2500]], dtype=torch.float64)
    """

    def __post_init__(self):
        super().__post_init__()
        if not isinstance(self.loss, Composed):
            raise TypeError(
                f"GaussNewton needs a loss of outputs, L = outer(outputs(params), presence), got {self.loss!r}. Write "
                "it as vif.losses.OutputLoss(model, x, outer, …) or vif.Composed(outputs, outer, …), or leave "
                "`curvature` out for the Hessian."
            )
        if self.loss.outputs.identity and isinstance(self.params, dict):
            raise TypeError(
                f"GaussNewton needs outputs that are the same whoever is present, and {type(self.loss).__name__} has "
                "none but its parameters. Leave `curvature` out for the Hessian."
            )

    @property
    def composed(self) -> Composed:
        """The loss, with its parts."""
        assert isinstance(self.loss, Composed)
        return self.loss

    @property
    def ridge(self) -> float:
        """λ + damping."""
        return self.composed.ridge + self.damping

    @cached_property
    def outputs(self) -> Tensor:
        """The outputs there."""
        return self.composed.outputs(self.params)

    @cached_property
    def jacobian(self) -> Jacobian:
        """J, held in factors where it has any: it is multiplied again and again."""
        jacobian = self.composed.outputs.jacobian(self.params)
        _ = jacobian.factors
        return jacobian

    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return G V: a forward derivative of the outputs, B, and a backward derivative, for each column."""
        # Of millions of parameters the vectors of one product are let go before the next.
        vars(self).pop("_last", None)
        moved = self.jacobian @ vectors
        vars(self).update(_last=(vectors, vectors._version, moved))
        return self.jacobian.transposed(self.outer_products(moved)).add_(vectors, alpha=self.ridge)

    def removal_products(self, directions: Float[Tensor, "p k"], removals: Removals) -> Float[Tensor, "m k"]:
        """Return what the loss does: where its last product says how far a solver came, J V is known already."""
        vectors, version, moved = vars(self).get("_last", (None, 0, directions))
        if vectors is None or version != directions._version or not same(vectors, directions):
            return super().removal_products(directions, removals)
        size = at_once(len(moved), most=max(16 * len(moved), CHUNK_NUMBERS))
        outer = self.composed.outer
        return in_blocks(lambda part: outer.removal_products(self.outputs, part, removals), moved, size)

    def outer_products(self, moved: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Return B U, the curvature of the outer loss along each column."""
        return self.composed.outer.hessian_products(self.outputs, self.presence, moved)

    def dense(self) -> Float[Tensor, "p p"]:
        check_dense(flat(self.params))
        matrix = self.composed.outer.curvature_along(self.outputs, self.presence, self.jacobian.dense())
        matrix.diagonal().add_(self.ridge)
        return matrix

    def bend(self, direction: Float[Tensor, " p"]) -> float:
        """Return ‖(H − G) x‖ / ‖G x‖: how much of the Hessian is left out along x, 0 where outputs are linear."""
        straight, along = self @ direction[:, None], direction[:, None]
        curved = self.loss.hessian_products(self.params, self.presence, along) + self.damping * along
        left_out = without(self.null_space(), curved - straight)
        return (left_out.norm() / straight.norm()).item()

    def sample(self, terms: Int[Tensor, " m"]) -> Scaled:
        """Return the matrix of the loss's terms numbered `terms`, scaled up so that it estimates G without bias."""
        part = replace(self, loss=self.composed.sampled(terms), damping=0.0)
        # Its outputs are those of the whole loss.
        vars(part).update(jacobian=self.jacobian)
        return Scaled(part, 1 / share(self.loss, terms), self.damping)


def same(one: Tensor, other: Tensor) -> bool:
    """Return whether both are the same numbers in memory."""
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape and one.stride() == other.stride()


@dataclass(frozen=True)
class OutputSpace:
    """A Gauss–Newton system in the space of the outputs: M y = B J b with M = κI + B K.

    With ‖u‖_K = ‖Jᵀu‖, the length in the space of parameters, ‖G x − b‖ = ‖B J b − M y‖_K / κ. M is self-adjoint in
    that inner product, so that all that works on G works on M, at a cost that does not grow with p.

    Attributes:
        jacobian: J (m, p).
        kernel: K.
        outer: B.
        ridge: κ = penalty + damping.
    """

    jacobian: Jacobian | Factored
    kernel: Float[Tensor, "m m"]
    outer: Float[Tensor, "m m"]
    ridge: float

    @classmethod
    def of(cls, hessian: GaussNewton, rhs: Float[Tensor, "p k"], *, single: int) -> "OutputSpace":
        """Return the system of a curvature, whose Jacobian is kept in single precision from `single` numbers on.

        Raises:
            ValueError: If penalty and damping are both zero.
        """
        if not hessian.ridge > 0:
            raise ValueError("Woodbury divides by penalty + damping, which is 0. Add damping=…, or use vif.Explicit().")
        jacobian = hessian.jacobian.held or Stored(_stored(hessian.jacobian, single))
        kernel = jacobian.gram().to(rhs)
        outer = hessian.outer_products(torch.eye(len(kernel), dtype=rhs.dtype, device=rhs.device))
        return cls(jacobian, kernel, outer, hessian.ridge)

    def solution(self, rhs: Float[Tensor, "p k"], right: Float[Tensor, "m k"], dual: Float[Tensor, "m k"]) -> Solution:
        """Return x of y, with ‖G x − b‖/‖b‖ measured anew through the kernel."""
        value = self.jacobian.transposed(dual).neg_().add_(rhs).div_(self.ridge)
        rest = right - self.outer @ (self.kernel @ dual) - self.ridge * dual
        distance = (rest * (self.kernel @ rest)).sum(dim=0).clamp_min(0).sqrt() / self.ridge
        size = torch.linalg.vector_norm(rhs, dim=0)
        return Solution(value, distance / size.masked_fill(size == 0, 1.0))


def _stored(jacobian: Jacobian, single: int) -> Float[Tensor, "m p"]:
    """Return J as a matrix, filled in place: the blocks and the whole together would take twice the memory."""
    m, p = jacobian.shape
    whole, start = torch.empty(0), 0
    for block in jacobian.blocks():
        if not start:
            whole = block.new_empty(m, p, dtype=torch.float32 if m * p > single else block.dtype)
        whole[start : start + len(block)] = block
        start += len(block)
    return whole
