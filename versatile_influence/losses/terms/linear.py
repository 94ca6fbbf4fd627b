"""Outputs linear in features, for regressions of rows, checked where they enter.

With outputs o = X θ, one row a term, and r, w the first and second derivative of each term along its own output,

    ∇ℓ_t = r_t x_t,      ∇² Σ_t ℓ_t = Xᵀ diag(w) X.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from versatile_influence.core import models
from versatile_influence.core.tables import features
from versatile_influence.losses.terms.families import Family


class Linear(models.Linear):
    """Outputs o = X θ for the `outputs=` of a `TermLoss` whose term t is made of output t alone.

    Linear, logistic, Poisson, Huber or any other regression of rows; its derivatives are then matrix products.

    Args:
        x: (T, d) features, a column of ones among them where there is to be a constant; in float64.

    Raises:
        ValueError: If they are no table, or a number is missing; row and column are named.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]).double(), torch.tensor([0.0, 2.0, 3.0]).double()
        >>> loss = vif.losses.TermLoss(lambda o: (o - y) ** 2 / 2, [0, 1, 2], outputs=vif.losses.Linear(x))
        >>> vif.minimize(loss, loss.zeros()).tolist()
        [0.428..., 0.928...]
    """

    def __init__(self, x: object):
        super().__init__(features(x, rows="row"))


def check_elementwise(terms: Callable[[Tensor], Tensor], through: models.Linear) -> None:
    """Raise unless there is a term for each output and a change of one output changes that term alone.

    Raises:
        ValueError: If not.
    """
    values_of = through(through.start())
    if isinstance(terms, Family) and len(terms.y) != len(values_of):
        raise ValueError(f"There are {len(values_of)} rows of features but {len(terms.y)} answers `y`. Give one a row.")
    values = terms(values_of)
    if values.shape != values_of.shape:
        raise ValueError(f"There must be one term an output: {len(values_of)} rows, got terms {tuple(values.shape)}.")
    values_of[0] = 0.5
    changed = (~torch.isclose(terms(values_of), values, rtol=0.0, atol=0.0, equal_nan=True)).nonzero()
    if (changed > 0).any():
        raise ValueError(
            f"Output 0 is in term {int(changed.max())} too. With Linear outputs each term is made of its own "
            "alone: pass a function of the parameters as `outputs` instead."
        )
