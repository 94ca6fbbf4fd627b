"""Regressions of rows: outputs linear in features, and the terms of generalised linear models.

With outputs o = X θ, one row a term, and r, w the first and second derivative of each term along its own output,

    ∇ℓ_t = r_t x_t,      ∇² Σ_t ℓ_t = Xᵀ diag(w) X.

A family is a function of the outputs, for `TermLoss(family, …, outputs=Linear(x))`: minus the log-likelihood of each
row, without what does not depend on the parameters.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core import models
from versatile_influence.core.checks import array
from versatile_influence.core.places import follow
from versatile_influence.core.tables import features


class Family(ABC):
    """Terms, one an answer, with their derivatives along its output.

    Args:
        y: (T,) answers, as numbers, an array or a tensor; kept in float64.

    Raises:
        TypeError: If answers are no numbers.
        ValueError: If an answer is missing or none that the family allows; its row is named.
    """

    def __init__(self, y: object):
        given = array(y, "y")
        if given.dim() > 2 or given.shape[1:].numel() > 1:
            raise ValueError(f"`y` must hold one answer a row, got shape {tuple(given.shape)}.")
        self.y = y = given.reshape(-1)
        words, allowed = self.allowed(y)
        if not len(y):
            raise ValueError("`y` is empty. Give one answer a row.")
        if (wrong := ~(allowed & torch.isfinite(y))).any():
            row = int(wrong.nonzero()[0])
            raise ValueError(f"`y` of row {row} is {y[row].item():g}, where answers must be {words}.")

    @staticmethod
    def allowed(y: Float[Tensor, " T"]) -> tuple[str, Bool[Tensor, " T"]]:
        """Return what answers must be, in words, and which are."""
        return "numbers", torch.isfinite(y)

    @abstractmethod
    def __call__(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return the terms."""

    @abstractmethod
    def slopes(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return the first derivative of each term along its own output."""

    @abstractmethod
    def bends(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return the second derivative of each term along its own output."""


class SquaredError(Family):
    """Half the squared error, (o − y)²/2: ordinary least squares.

    Args:
        y: (T,) answers.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0]]), torch.tensor([0.0, 2.0, 3.0])
        >>> loss = vif.losses.TermLoss(vif.losses.SquaredError(y), range(3), outputs=vif.losses.Linear(x))
        >>> vif.minimize(loss, loss.zeros()).tolist()
        [0.428..., 0.928...]
    """

    def __call__(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return (o − y)²/2."""
        return (outputs - self.y).square() / 2

    def slopes(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return o − y."""
        return outputs - self.y

    def bends(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        return torch.ones_like(outputs)


class Logistic(Family):
    """The logistic loss, log(1 + eᵒ) − y o: logistic regression, o the log-odds of y = 1.

    Args:
        y: (T,) answers from 0 to 1: classes, or shares.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x, y = torch.tensor([[1.0, 0.0], [1.0, 1.0], [1.0, 3.0], [1.0, 4.0]]), [0, 1, 0, 1]
        >>> loss = vif.losses.TermLoss(vif.losses.Logistic(y), range(4), outputs=vif.losses.Linear(x), penalty=0.1)
        >>> theta = vif.minimize(loss, loss.zeros())
        >>> vif.attribute(loss, theta, lambda params: params[1]).top(1).item()
        2
    """

    @staticmethod
    def allowed(y: Float[Tensor, " T"]) -> tuple[str, Bool[Tensor, " T"]]:
        """Return that answers are from 0 to 1."""
        return "from 0 to 1", (y >= 0) & (y <= 1)

    def __call__(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return log(1 + eᵒ) − y o."""
        return torch.nn.functional.softplus(outputs) - self.y * outputs

    def slopes(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return σ(o) − y."""
        return outputs.sigmoid() - self.y

    def bends(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return σ(o)(1 − σ(o))."""
        chance = outputs.sigmoid()
        return chance * (1 - chance)


class Poisson(Family):
    """The Poisson loss, eᵒ − y o: log-linear counts, o the logarithm of the mean.

    Args:
        y: (T,) counts.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.TermLoss(
        ...     vif.losses.Poisson([1, 3]), range(2), outputs=vif.losses.Linear(torch.ones(2, 1))
        ... )
        >>> vif.minimize(loss, loss.zeros()).exp().item()
        2.0...
    """

    @staticmethod
    def allowed(y: Float[Tensor, " T"]) -> tuple[str, Bool[Tensor, " T"]]:
        """Return that answers are not negative."""
        return "counts from 0 on", y >= 0

    def __call__(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return eᵒ − y o."""
        return outputs.exp() - self.y * outputs

    def slopes(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        """Return eᵒ − y."""
        return outputs.exp() - self.y

    def bends(self, outputs: Float[Tensor, " T"]) -> Float[Tensor, " T"]:
        return outputs.exp()


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
        table = features(x, rows="row")
        # What a user's own terms hold is where x is.
        super().__init__(table.to(x.device) if isinstance(x, Tensor) else table)


def check_elementwise(terms: Callable[[Tensor], Tensor], through: models.Linear) -> None:
    """Raise a ValueError unless there is a term for each output and a change of one output changes that term alone."""
    values_of = through(through.start())
    if isinstance(terms, Family) and len(terms.y) != len(values_of):
        raise ValueError(f"There are {len(values_of)} rows of features but {len(terms.y)} answers `y`. Give one a row.")
    terms = follow(terms, values_of)
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
