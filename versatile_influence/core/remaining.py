"""A loss of those who are left, when some objects are gone for good."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params, flat, shaper, stacked
from versatile_influence.core.removals import Removals
from versatile_influence.core.target import PresenceTarget, Target


class Remaining(Loss):
    """The loss of some objects, numbered anew, the others being absent.

    Args:
        whole: The loss of all.
        kept: Numbers of those who are left.

    Example:
        >>> import torch
        >>> from versatile_influence.core.boundary import as_loss
        >>> whole = as_loss(lambda theta, presence: (presence * torch.tensor([1.0, 2, 4]) * theta).sum(), 3)
        >>> Remaining(whole, torch.tensor([0, 2]))(torch.tensor(1.0), torch.ones(2)).item()
        5.0
    """

    def __init__(self, whole: Loss, kept: Int[Tensor, " m"]):
        self.whole, self.kept, self.n_objects = whole, kept, len(kept)
        self.penalty, self.treatment, self.precision, self.units = (
            whole.penalty,
            whole.treatment,
            whole.precision,
            whole.units,
        )
        self.owning, self.hessian_written_out = whole.owning, whole.hessian_written_out
        self.parameter_names = whole.parameter_names

    def present(self, presence: Float[Tensor, "... m"]) -> Float[Tensor, "... n"]:
        """Return the presence of all objects."""
        every = presence.new_zeros(*presence.shape[:-1], self.whole.n_objects)
        return every.index_add(-1, self.kept, presence)

    def target(self, asked: Target | PresenceTarget) -> Target | PresenceTarget:
        """Return a target of all objects as one of those who are left."""
        if not isinstance(asked, PresenceTarget):
            return asked
        return PresenceTarget(lambda params, presence: asked(params, self.present(presence)), asked.labels)

    def __call__(self, params: Params, presence: Float[Tensor, " m"]) -> Float[Tensor, ""]:
        return self.whole(params, self.present(presence))

    def gradient(self, params: Params, presence: Float[Tensor, " m"]) -> Float[Tensor, " p"]:
        return self.whole.gradient(params, self.present(presence))

    def gradient_and_value(
        self, params: Params, presence: Float[Tensor, " m"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        return self.whole.gradient_and_value(params, self.present(presence))

    def gradients(self, params: Params, presence: Float[Tensor, "k m"]) -> Float[Tensor, "k p"]:
        return self.whole.gradients(params, self.present(presence))

    def gradients_without(self, params: Params, removals: Removals) -> Float[Tensor, "k p"]:
        theta, unravel = flat(params), shaper(params)
        rows = [
            self.gradients(stacked(unravel, theta.expand(part.count, -1)), part.presences(theta))
            for part in removals.parts(max(self.whole.n_objects, len(theta)))
        ]
        return torch.cat(rows)

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " m"], vectors: Float[Tensor, "p k"]
    ) -> Float[Tensor, "p k"]:
        return self.whole.hessian_products(params, self.present(presence), vectors)

    def hessian(self, params: Params, presence: Float[Tensor, " m"]) -> Float[Tensor, "p p"]:
        return self.whole.hessian(params, self.present(presence))

    def owned(self, i: int) -> Int[Tensor, " q"]:
        return self.whole.owned(int(self.kept[i]))
