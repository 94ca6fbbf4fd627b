"""The Hessian of a loss, as an operator."""

from dataclasses import dataclass, replace
from functools import cached_property

from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.boundary import as_loss
from versatile_influence.core.curvature import Curvature, Scaled, check_dense
from versatile_influence.core.loss import Loss, share
from versatile_influence.core.ravel import flat


@dataclass(frozen=True)
class Hessian(Curvature):
    """H = ∇²L(θ, b) + damping · I, as an operator on flat parameter vectors; a function of (params, presence) will do.

    Example:
        >>> import torch
        >>> square = lambda theta, presence: presence.sum() * theta @ theta
        >>> H = Hessian(square, torch.zeros(2), torch.ones(3), damping=1.0)
        >>> H.dense()
        tensor([[7., 0.],
                [0., 7.]])
    """

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "loss", as_loss(self.loss, len(self.presence)))

    @cached_property
    def _there(self) -> Loss:
        """The loss for who is present alone: what that takes is done once for many products."""
        return self.loss.at(self.presence)

    @property
    def rough(self) -> "Hessian":
        rough = self._there.rough
        return self if rough is None else replace(self, loss=rough)

    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        return self._there.hessian_products(self.params, self.presence, vectors) + self.damping * vectors

    def dense(self) -> Float[Tensor, "p p"]:
        check_dense(flat(self.params))
        matrix = self._there.hessian(self.params, self.presence)
        if self.damping:
            # A loss may keep the matrix that it gives.
            matrix = matrix.clone()
            matrix.diagonal().add_(self.damping)
        return matrix

    def sample(self, terms: Int[Tensor, " m"]) -> "Scaled":
        """Return the Hessian of the loss's terms numbered `terms`, scaled up so that it estimates H without bias."""
        # Damping is added once, after scaling, so that it is the same in every sample.
        part = replace(self, loss=self.loss.part(terms), damping=0.0)
        return Scaled(part, 1 / share(self.loss, terms), self.damping)
