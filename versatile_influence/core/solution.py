"""What a solver says of its solution."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Solution:
    """The solution of H X = B, with how good it is.

    Attributes:
        value: X; in coordinates of fewer parameters where there is `lift`.
        residual: ‖H x − b‖ / ‖b‖ of each column, as measured, 0 where b = 0.
        num_steps: Iterations taken; 0 for a direct solver.
        smallest_curvature: Smallest eigenvalue, or the smallest curvature met, whichever the solver learns.
        dropped: Orthonormal directions in which H is flat and X was set to 0, one a column, or None.
        lift: From columns of `value` to columns as long as the parameters, where `value` is in coordinates of the
            span of all gradients met (many parameters, few outputs and targets), lengths kept; else None. Not saved.
        bent_down: Columns along which H was found to curve downward, so that they were left early.
    """

    value: Float[Tensor, "p k"]
    residual: Float[Tensor, " k"]
    num_steps: int = 0
    smallest_curvature: float | None = None
    dropped: Float[Tensor, "p d"] | None = None
    lift: Callable[[Float[Tensor, "r k"]], Float[Tensor, "p k"]] | None = None
    bent_down: int = 0
