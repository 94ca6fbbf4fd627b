"""The generalised Gauss–Newton matrix: curvature that stays positive semi-definite in neural networks."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, jacrev, vjp, vmap

from versatile_influence._factored import Factored
from versatile_influence._forward import chunk_that_fits, jacobian_products
from versatile_influence._jacobian import factored
from versatile_influence._ravel import Params, ravel
from versatile_influence._rows import row_blocks
from versatile_influence.hessian import check_dense, constant_directions
from versatile_influence.loss import Sampled, chunk_for, has_outputs, squared_norm


@dataclass(frozen=True)
class GaussNewton:
    """G = Jᵀ B J + (λ + damping) I of a loss outer(outputs(θ), b) + (λ/2)‖θ‖², as an operator like `Hessian`.

    J is the Jacobian of the outputs and B = ∇²outer at the outputs: what is left of H when the outputs' own second
    derivatives are dropped. It is H where the outputs are linear in θ, and it has no negative eigenvalues where the
    outer loss is convex (Cox in log-risks, softmax in scores, pairs in scores).

    Attributes:
        loss: A loss with `outputs` and `outer`; see `versatile_influence.loss`.
        params: Where the curvature is taken.
        presence: Who is present.
        damping: Added to the diagonal, in units of the summed loss.
        chunk_size: How many columns are multiplied at once; None for as many as fit.

    Raises:
        TypeError: If the loss has no outputs.
        ValueError: If the loss is not outer(outputs(θ), b) plus its penalty.

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

    loss: Any
    params: Params
    presence: Float[Tensor, " n"]
    damping: float = 0.0
    chunk_size: int | None = None

    def __post_init__(self):
        if not has_outputs(self.loss):
            raise TypeError(
                f"GaussNewton needs a loss with `outputs(params)` and `outer(outputs, presence)`, got "
                f"{getattr(self.loss, '__name__', type(self.loss).__name__)}. Write it as vif.losses.OutputLoss(model, "
                "x, outer, …), or leave `curvature` out for the Hessian."
            )
        if not isinstance(self.loss, Sampled):
            check_composed(self.loss, self.params, self.presence)

    def __matmul__(self, vectors: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return G V: a forward derivative of the outputs, B, and a backward derivative, for each column."""
        if (jacobian := self.factors) is not None:
            return jacobian.transposed(self.outer_products(jacobian @ vectors)).add_(vectors, alpha=self.ridge)
        outputs, theta = self._outputs()
        chunk = self._chunk()
        bent = self.outer_products(jacobian_products(outputs, theta, vectors, chunk_size=chunk))
        pull = vjp(outputs, theta)[1]
        return vmap(lambda row: pull(row)[0], chunk_size=chunk)(bent.T).T + self.ridge * vectors

    @property
    def ridge(self) -> float:
        """λ + damping."""
        return self.loss.penalty + self.damping

    @cached_property
    def factors(self) -> Factored | None:
        """J in factors where the outputs are those of linear layers, each row by itself; None elsewhere."""
        whole = self.loss.loss if isinstance(self.loss, Sampled) else self.loss
        return factored(getattr(whole, "by_row", None), whole.outputs(self.params), self.params)

    def jacobian(self) -> Float[Tensor, "m p"]:
        """Return J, one row an output."""
        if self.factors is not None:
            return self.factors.dense()
        blocks = list(self.jacobian_blocks())
        return blocks[0] if len(blocks) == 1 else torch.cat(blocks)

    def jacobian_blocks(self) -> Iterable[Float[Tensor, "c p"]]:
        """Return J in blocks of rows: one small gradient an output where the loss knows that rows are independent."""
        theta, unravel = ravel(self.params)
        whole = self.loss.loss if isinstance(self.loss, Sampled) else self.loss
        blocks = row_blocks(getattr(whole, "by_row", None), whole.outputs(self.params), theta, unravel)
        if blocks is not None:
            return blocks
        outputs, _ = self._outputs()
        if self.loss.outputs(self.params).numel() < len(theta):
            return [jacrev(outputs, chunk_size=self._chunk())(theta)]
        return [jacobian_products(outputs, theta, chunk_size=self._chunk())]

    def outer_products(self, moved: Float[Tensor, "m k"]) -> Float[Tensor, "m k"]:
        """Return B U, the curvature of the outer loss along each column."""
        shaped = self.loss.outputs(self.params)
        slope = grad(lambda flat: self.loss.outer(flat.reshape(shaped.shape), self.presence))
        return jacobian_products(slope, shaped.reshape(-1), moved, chunk_size=self.chunk_size or chunk_for(self.loss))

    def dense(self) -> Float[Tensor, "p p"]:
        """Return G as a matrix, exactly symmetric."""
        check_dense(self._outputs()[1])
        jacobian = self.jacobian()
        matrix = jacobian.T @ self.outer_products(jacobian)
        matrix = (matrix + matrix.T) / 2
        matrix.diagonal().add_(self.ridge)
        return matrix

    def sample(self, terms: Int[Tensor, " m"]) -> "GaussNewton":
        """Return the matrix of the loss's terms numbered `terms`, scaled up so that it estimates G without bias."""
        sampled = replace(self, loss=Sampled(self.loss, terms))
        # Its outputs are those of the whole loss.
        sampled.__dict__["factors"] = self.factors
        return sampled

    def null_space(self) -> Float[Tensor, "p m"] | None:
        """Return orthonormal directions in which the loss says that it is constant (`null_directions`), or None."""
        return constant_directions(self)

    def _chunk(self) -> int:
        return self.chunk_size or chunk_for(self.loss) or chunk_that_fits(*self._outputs())

    def _outputs(self) -> tuple[Callable[[Tensor], Float[Tensor, " m"]], Float[Tensor, " p"]]:
        theta, unravel = ravel(self.params)
        return lambda flat: self.loss.outputs(unravel(flat)).reshape(-1), theta


def check_composed(loss: Any, params: Params, presence: Float[Tensor, " n"]) -> None:
    """Check that the loss is outer(outputs(θ), b) + (λ/2)‖θ‖², with everybody there and with half absent.

    Raises:
        ValueError: If it is not.
    """
    outputs, ridge = loss.outputs(params), loss.penalty / 2 * squared_norm(params)
    half = presence * (torch.arange(len(presence), device=presence.device) % 2)
    for some in (presence, half):
        whole, parts = loss(params, some), loss.outer(outputs, some) + ridge
        if not torch.isclose(whole, parts, rtol=1e-5, atol=1e-8):
            raise ValueError(
                f"The loss is {whole.item():.8g}, but outer(outputs(params), presence) + penalty/2 ‖params‖² is "
                f"{parts.item():.8g}, with {int(some.sum())} of {len(some)} objects present. The outputs must not "
                "depend on who is present (as through batch statistics), and the penalty must be the loss's `penalty`."
            )
