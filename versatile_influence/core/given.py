"""What a user hands in, as the library takes it: a loss and targets of what was trained, flat, in float64."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.boundary import as_loss, as_target
from versatile_influence.core.held import Subset, everything, unfrozen
from versatile_influence.core.loss import Loss
from versatile_influence.core.lowered import lowered
from versatile_influence.core.ravel import Params, cast, first, ravel
from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target, flat_target
from versatile_influence.core.words import meaning


@dataclass(frozen=True)
class Given:
    """A loss at parameters, both checked.

    Attributes:
        loss: The loss of what was trained, to be evaluated in float64.
        theta: What was trained, flat, in float64.
        unravel: Shapes a flat vector back into it.
        whole: All parameters as the user gave them, frozen ones too.
        value: L(θ, 1).
    """

    loss: Loss
    theta: Float[Tensor, " p"]
    unravel: Callable[[Tensor], Params]
    whole: Params
    value: Float[Tensor, ""]

    @classmethod
    def of(cls, loss: object, params: Params, *, n_objects: int | None = None) -> "Given":
        """Return the checked loss and parameters.

        Raises:
            TypeError: If the loss is no function, gives no real scalar, or cannot be evaluated at these parameters.
            ValueError: If the number of objects is unknown or disagrees, every parameter is frozen, or the loss is not
                finite or changes in place what it is given.
        """
        checked, trained = unfrozen(as_loss(loss, n_objects), params)
        theta, unravel = ravel(trained)
        theta = theta.double()
        found, value = evaluated_at(checked, theta, unravel, [torch.float64, first(trained).dtype, *LOWER])
        _check_value(value)
        return cls(found, theta, unravel, params, value)

    @property
    def params(self) -> Params:
        """What was trained, shaped."""
        return self.unravel(self.theta)

    def all(self, trained: Params) -> Params:
        """Return all parameters in the user's form, with others in the place of what was trained."""
        return everything(self.whole, trained)

    def check_steady(self) -> None:
        """Check that the loss gives the same again.

        Raises:
            ValueError: If it does not.
        """
        again, number = self.loss(self.params, self.loss.everyone(self.params)).item(), self.value.item()
        if again != number:
            raise ValueError(
                f"The loss is random, or changes between calls: it gave {number:.12g}, then {again:.12g}, for the same "
                "input. Fix what is drawn (dropout off with .eval(), walks or negatives drawn once, a generator seeded "
                "inside the loss), and keep nothing from call to call."
            )

    def target(self, target: object) -> Target | PresenceTarget:
        """Return the user's target as one of what was trained, in the precision of the loss."""
        asked = as_target(target)
        if not self._seen_differently:
            return asked
        if isinstance(asked, PresenceTarget):
            return PresenceTarget(lambda some, b: self._answer(asked(self._seen(some), b), some), asked.labels)
        return LabelledTarget(lambda some: self._answer(asked(self._seen(some)), some), asked.labels)

    @cached_property
    def _seen_differently(self) -> bool:
        trained = self.params
        frozen = isinstance(self.whole, dict) and isinstance(trained, dict) and len(self.whole) > len(trained)
        return frozen or self.loss.precision != torch.float64

    def _seen(self, trained: Params) -> Params:
        return cast(self.all(trained), self.loss.precision)

    def _answer(self, values: object, trained: Params) -> Tensor:
        return flat_target(values).to(first(trained).dtype)


# What a loss may run in that does not run in float64.
LOWER = (torch.float32, torch.bfloat16, torch.float16)


def evaluated_at(
    loss: Loss, theta: Float[Tensor, " p"], unravel: Callable[[Tensor], Params], precisions: list[torch.dtype]
) -> tuple[Loss, Any]:
    """Return the loss in the first precision that it runs in, and what it gives.

    Raises:
        TypeError: If it runs in none.
        ValueError: If it changes what it is given.

    Warns:
        UserWarning: If it is not the first.
    """
    errors: list[Exception] = []
    # What removals change is a small difference of large sums: in float64 wherever the loss allows it.
    for precision in dict.fromkeys(precisions):
        seen = lowered(loss, precision)
        point, presence = theta.clone(), theta.new_ones(loss.n_objects)
        try:
            value = seen(unravel(point), presence)
        # A loss that holds float32 data refuses float64 parameters: other precisions are tried before anything is said.
        except (RuntimeError, IndexError, ValueError, TypeError) as caught:
            errors.append(caught)
            continue
        if changed := [name for name, one in (("presence", presence), ("the parameters", point)) if one._version]:
            raise ValueError(
                f"The loss changes {changed[0]} in place. Make new tensors inside it: x = x * y, not x.mul_(y) or x *= y."
            )
        if errors:
            warnings.warn(
                f"The loss runs only in {precision} ({errors[0]}). Differences of gradients then lose accuracy, up to "
                f"{'1' if precision == torch.float32 else '100'} % for single objects: keep the data inside the loss "
                "in float64 for trustworthy scores.",
                stacklevel=5,
            )
        return seen, value
    raise _not_evaluated(loss, errors[0]) from errors[0]


def _not_evaluated(loss: Loss, error: Exception) -> Exception:
    # A ValueError is the loss's own word on what is wrong.
    said, own = str(error).rstrip("."), isinstance(error, ValueError)
    form = "It must take (params, presence), with presence a float vector of that length."
    return (None if own else meaning(error)) or TypeError(
        f"The loss could not be evaluated at these parameters with all {loss.n_objects} objects present: {said}. "
        f"{'' if own else form}".rstrip()
    )


def _check_value(value: object) -> None:
    """Check that a loss's value is a finite real scalar."""
    if not isinstance(value, Tensor) or value.numel() != 1 or value.dim() > 0:
        given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"The loss must return a scalar tensor, got {given}. Sum the terms: `terms.sum()`.")
    if not value.is_floating_point():
        advice = "Take its real part, or its size: .real, .abs()." if value.is_complex() else "It has no derivative."
        raise TypeError(f"The loss is {value.dtype}; it must be a real, floating-point number. {advice}")
    if value.is_meta:
        raise ValueError("The loss is on the meta device, without a value: its data are. Load them first.")
    if not math.isfinite(number := value.item()):
        raise ValueError(
            f"The loss is {number} at these parameters with all objects present. Look for (a) NaN in the data, "
            "(b) parameters that diverged, (c) a logarithm or division of zero."
        )
