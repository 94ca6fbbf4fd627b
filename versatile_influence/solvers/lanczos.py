"""The Lanczos process, its basis orthogonal to rounding."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor


def lanczos(
    product: Callable[[Float[Tensor, "p 1"]], Float[Tensor, "p 1"]],
    start: Float[Tensor, " p"],
    num_steps: int,
    *,
    restart: Callable[[], Float[Tensor, " p"]] | None = None,
) -> tuple[Float[Tensor, "p m"], Float[Tensor, "m m"]]:
    """Return Q with orthonormal columns, the first along `start`, and the symmetric T = Qᵀ H Q.

    Each new vector is made orthogonal to all before it, twice: once leaves an error that grows with the digits that
    cancel, and a Hessian near c·I cancels them all; twice is enough. Where H leaves the span of Q in place, the process
    goes on from a direction outside it that `restart` draws, and ends where there is none.

    References:
        Parlett (1998), "The Symmetric Eigenvalue Problem", §6.9 (Kahan: twice is enough) and §13.

    Example:
        >>> Q, T = lanczos(lambda v: 3 * v, torch.tensor([1.0, 0.0]), 2, restart=lambda: torch.ones(2))
        >>> T
        tensor([[3., 0.],
                [0., 3.]])
    """
    steps = min(num_steps, len(start))
    basis = start.new_zeros(len(start), steps)
    projected = start.new_zeros(steps, steps)
    basis[:, 0] = start / start.norm()
    tiny = 1e2 * torch.finfo(start.dtype).eps
    for step in range(steps):
        image = product(basis[:, step : step + 1])[:, 0]
        known = basis[:, : step + 1]
        inside = known.T @ image
        projected[: step + 1, step] = projected[step, : step + 1] = inside
        if step + 1 == steps:
            break
        fresh = image - known @ inside
        fresh = fresh - known @ (known.T @ fresh)
        if fresh.norm() <= tiny * image.norm().clamp_min(torch.finfo(start.dtype).tiny):
            if restart is None:
                return known, projected[: step + 1, : step + 1]
            fresh = restart()
            for _ in range(2):
                fresh = fresh - known @ (known.T @ fresh)
        fresh = fresh / fresh.norm()
        # What was nearly nothing before it was scaled up has components along the others again.
        fresh = fresh - known @ (known.T @ fresh)
        basis[:, step + 1] = fresh / fresh.norm()
    return basis, projected
