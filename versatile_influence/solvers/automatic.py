"""The solver of choice, where none is named."""

from dataclasses import dataclass
from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, check_dense
from versatile_influence.core.ravel import flat
from versatile_influence.core.sizes import EXPLICIT_PARAMETERS, LARGEST_DENSE, STEPS_OF_CG
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Solver
from versatile_influence.solvers.cg import CG
from versatile_influence.solvers.explicit import Explicit


@dataclass(frozen=True)
class Automatic(Solver):
    """`Explicit()` or `CG()`: by how many parameters there are beside what is solved for, and by what fits.

    A dense matrix costs as many products with H as there are parameters, CG some hundred for each column. What was
    chosen is in `Attribution.made`, and in its words where it is not `Explicit`.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> hessian = vif.Hessian(loss, torch.zeros(2), torch.ones(1))
        >>> Automatic().chosen(hessian, 1)
        Explicit(rtol=1e-12)
    """

    any_basis: ClassVar[bool] = True
    tolerated: ClassVar[float] = Explicit.tolerated
    advice: ClassVar[str] = Explicit.advice

    def chosen(self, hessian: Curvature, columns: int) -> Solver:
        """Return the solver of so many columns."""
        theta = flat(hessian.params)
        p = len(theta)
        if p <= EXPLICIT_PARAMETERS:
            return Explicit()
        try:
            check_dense(theta)
        except MemoryError:
            return CG()
        return Explicit() if p <= min(LARGEST_DENSE, STEPS_OF_CG * columns) else CG()

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return what the chosen one says."""
        return self.chosen(hessian, rhs.shape[1]).solved(hessian, rhs)

    def checked(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return what the chosen one says, held to what it tolerates."""
        return self.chosen(hessian, rhs.shape[1]).checked(hessian, rhs)


def said_of(used: Solver, *, asked: Solver) -> dict[str, object]:
    """Return what a result says of what solved for it; in its line nothing of the one asked for, or the exact one."""
    chosen = "" if used in (asked, Explicit()) else f"by {used}, chosen; "
    return {"solver": used, "tolerated": used.tolerated, "chosen": chosen}
