"""Terms of outputs linear in features: generalised linear models, with gradients and curvature as matrix products.

With outputs o = X θ, one row a term, and r, w the first and second derivative of each term along its own output,

    ∇ℓ_t = r_t x_t,      ∇² Σ_t ℓ_t = Xᵀ diag(w) X.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.losses.families import Family
from versatile_influence.losses.ranking_data import features

if TYPE_CHECKING:
    from versatile_influence.losses.terms import TermLoss


@dataclass(frozen=True)
class Linear:
    """Outputs o = X θ for the `outputs=` of a `TermLoss` whose term t is made of output t alone.

    Linear, logistic, Poisson, Huber or any other regression of rows; its derivatives are then matrix products.

    Attributes:
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

    x: Float[Tensor, "T d"]

    def __post_init__(self):
        object.__setattr__(self, "x", features(self.x, rows="row"))

    def __call__(self, params: Float[Tensor, " d"]) -> Float[Tensor, " T"]:
        """Return the outputs."""
        return self.x @ params

    def zeros(self) -> Float[Tensor, " d"]:
        """Return parameters to start from."""
        return self.x.new_zeros(self.x.shape[1])

    def check(self, terms: Callable[[Tensor], Tensor]) -> None:
        """Raise unless there is a term for each output and a change of one output changes that term alone.

        Raises:
            ValueError: If not.
        """
        outputs = self(self.zeros())
        if isinstance(terms, Family) and len(terms.y) != len(outputs):
            raise ValueError(
                f"There are {len(outputs)} rows of features but {len(terms.y)} answers `y`. Give one a row."
            )
        values = terms(outputs)
        if values.shape != outputs.shape:
            raise ValueError(f"There must be one term an output: {len(outputs)} rows, got terms {tuple(values.shape)}.")
        outputs[0] = 0.5
        changed = (~torch.isclose(terms(outputs), values, rtol=0.0, atol=0.0, equal_nan=True)).nonzero()
        if (changed > 0).any():
            raise ValueError(
                f"Output 0 is in term {int(changed.max())} too. With Linear outputs each term is made of its own "
                "alone: pass a function of the parameters as `outputs` instead."
            )


def slopes(terms: Callable[[Tensor], Tensor], outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """Return the derivative of each term along its own output."""
    if isinstance(terms, Family):
        return terms.slopes(outputs)
    with torch.enable_grad():
        there = outputs.detach().requires_grad_()
        return torch.autograd.grad(terms(there).sum(), there)[0]


def bends(terms: Callable[[Tensor], Tensor], outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
    """Return the second derivative of each term along its own output."""
    if isinstance(terms, Family):
        return terms.bends(outputs)
    with torch.enable_grad():
        there = outputs.detach().requires_grad_()
        first = torch.autograd.grad(terms(there).sum(), there, create_graph=True)[0]
        # Piecewise linear terms have slopes that are constants.
        return torch.autograd.grad(first.sum(), there)[0] if first.requires_grad else torch.zeros_like(outputs)


@dataclass(frozen=True)
class TermValues:
    """The target of each test row's own loss.

    Attributes:
        test: A loss made from the test rows.
    """

    test: "TermLoss"

    def __call__(self, params: Tensor) -> Float[Tensor, " T"]:
        """Return the terms."""
        return self.test.each(params if self.test.outputs is None else self.test.outputs(params))

    def gradients(self, params: Tensor) -> Float[Tensor, "T d"] | None:
        """Return the gradient of each term, or None where outputs are not `Linear`."""
        outputs = self.test.outputs
        return slopes(self.test.terms, outputs(params))[:, None] * outputs.x if isinstance(outputs, Linear) else None


def term_values(test: "TermLoss") -> TermValues:
    """Return the target of each test row's own loss, without the penalty.

    Args:
        test: A `TermLoss` made from the test rows, over the same parameters.

    Example:
        >>> import torch, versatile_influence as vif
        >>> y = torch.tensor([1.0, 2.0]).double()
        >>> test = vif.losses.TermLoss(lambda theta: (y - theta) ** 2, [0, 1])
        >>> term_values(test)(torch.tensor(0.0)).tolist()
        [1.0, 4.0]
    """
    return TermValues(test)
