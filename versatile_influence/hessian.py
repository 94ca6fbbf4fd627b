"""The curvature of a loss, as an operator: the only home of damping."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad

from versatile_influence._forward import jacobian_products
from versatile_influence._ravel import Params, ravel
from versatile_influence.loss import Loss, chunk_for


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
        """Return H V, one forward-over-reverse derivative a column."""
        theta, unravel = ravel(self.params)
        gradient = grad(lambda flat: self.loss(unravel(flat), self.presence))
        chunk = self.chunk_size or chunk_for(self.loss)
        products = jacobian_products(gradient, theta, vectors, chunk_size=chunk)
        return products + self.damping * vectors

    def dense(self) -> Float[Tensor, "p p"]:
        """Return H as a matrix, exactly symmetric."""
        theta, _ = ravel(self.params)
        if closed_form_hessian(self.loss):
            matrix = self.loss.masked_hessian(self.params, self.presence)  # pyright: ignore[reportAttributeAccessIssue]
            return matrix + self.damping * torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        if hasattr(self.loss, "dense_hessian") and bool((self.presence == 1).all()):
            matrix = self.loss.dense_hessian(self.params)  # pyright: ignore[reportAttributeAccessIssue]
            if matrix is not None:
                return matrix + self.damping * torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        matrix = self @ torch.eye(len(theta), dtype=theta.dtype, device=theta.device)
        return (matrix + matrix.T) / 2


# Up to this many parameters a Newton step solves with the dense Hessian; more where the loss gives it in closed form.
DENSE_PARAMETERS, CLOSED_FORM_PARAMETERS = 400, 2000


def dense_parameters(loss: object) -> int:
    """Return up to how many parameters Newton's method uses the dense Hessian."""
    return CLOSED_FORM_PARAMETERS if closed_form_hessian(loss) else DENSE_PARAMETERS


def closed_form_hessian(loss: object) -> bool:
    """Return whether the loss gives ∇²L(θ, b) in closed form."""
    return bool(getattr(loss, "closed_form", False))
