"""The generalised Gauss–Newton matrix: curvature that stays positive semi-definite in neural networks."""

from dataclasses import dataclass, replace
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.composed import Composed
from versatile_influence.core.curvature import Curvature, Scaled, check_dense
from versatile_influence.core.jacobian import Jacobian
from versatile_influence.core.loss import share
from versatile_influence.core.ravel import flat


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
        bent = self.outer_products(self.jacobian @ vectors)
        return self.jacobian.transposed(bent).add_(vectors, alpha=self.ridge)

    def outer_products(self, moved: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Return B U, the curvature of the outer loss along each column."""
        return self.composed.outer.hessian_products(self.outputs, self.presence, moved)

    def dense(self) -> Float[Tensor, "p p"]:
        check_dense(flat(self.params))
        matrix = self.composed.outer.curvature_along(self.outputs, self.presence, self.jacobian.dense())
        matrix.diagonal().add_(self.ridge)
        return matrix

    def sample(self, terms: Int[Tensor, " m"]) -> Scaled:
        """Return the matrix of the loss's terms numbered `terms`, scaled up so that it estimates G without bias."""
        part = replace(self, loss=self.composed.sampled(terms), damping=0.0)
        # Its outputs are those of the whole loss.
        vars(part).update(jacobian=self.jacobian)
        return Scaled(part, 1 / share(self.loss, terms), self.damping)
