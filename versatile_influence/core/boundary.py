"""The boundary: the one place where what a user hands in is looked at, once, and becomes a value of the library.

A plain function becomes a loss of which nothing else is known; none of its attributes is read afterwards, and none by
name but `n_objects`.
"""

import difflib
import math
import operator
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.loss import METHODS, Loss
from versatile_influence.core.ravel import Params
from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target
from versatile_influence.core.words import meaning

# What a class could offer before there was `Loss`.
FORMER = {"dense_hessian", "on_terms", "outputs", "outer", "outer_differences", "outer_terms"}


class FunctionLoss(Loss):
    """A function of (parameters, presence) and the number of objects, of which nothing else is known.

    Example:
        >>> FunctionLoss(lambda theta, presence: (presence * theta).sum(), 2).n_objects
        2
    """

    def __init__(
        self, function: Callable[[Params, Tensor], Tensor], n_objects: int, labels: Sequence[object] | None = None
    ):
        self.function, self.n_objects, self.object_labels = function, n_objects, labels

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return self.function(params, presence)


def as_loss(loss: object, n_objects: int | None = None) -> Loss:
    """Return the user's loss as a `Loss`.

    Args:
        loss: A `Loss`, or a function of (params, presence); it may say `n_objects`.
        n_objects: How many objects there are, where the loss does not say.

    Raises:
        TypeError: If it is neither.
        ValueError: If the number of objects is unknown, or loss and caller disagree.

    Warns:
        UserWarning: Once, if a class that is no `Loss` has methods of one.
    """
    if isinstance(loss, Loss):
        known_objects(getattr(loss, "n_objects", None), n_objects)
        if getattr(loss, "n_objects", None) is None:
            raise ValueError(f"{type(loss).__name__} must say how many objects there are: set its `n_objects`.")
        return loss
    if not callable(loss) or isinstance(loss, type):
        raise TypeError(f"`loss` must be a function of (params, presence), got {loss!r}.")
    # The one thing that is read of a function: how many objects there are is no capability.
    number = known_objects(getattr(loss, "n_objects", None), n_objects)
    _tell_of_methods(type(loss))
    return FunctionLoss(loss, number)  # pyright: ignore[reportArgumentType]


def as_target(target: object) -> Target | PresenceTarget:
    """Return the user's target as a value.

    Raises:
        TypeError: If it is no function.
    """
    if isinstance(target, Target | PresenceTarget):
        return target
    if not callable(target):
        raise TypeError(f"`target` must be a function of the parameters, got {type(target).__name__}.")
    return LabelledTarget(target)  # pyright: ignore[reportArgumentType]


def known_objects(own: Any, n_objects: int | None) -> int:
    """Return the number of objects, from the loss or the caller.

    Raises:
        ValueError: If neither knows it, or they disagree.
    """
    if own is None and n_objects is None:
        raise ValueError("How many objects are there? The loss does not say: pass n_objects=….")
    if own is not None and n_objects is not None and own != n_objects:
        raise ValueError(f"`n_objects` is {n_objects}, but the loss has {own} objects. Leave `n_objects` out.")
    given = own if own is not None else n_objects
    try:
        # NumPy's whole numbers are whole numbers too; True is none.
        number = 0 if isinstance(given, bool) else operator.index(given or 0)
    except TypeError:
        number = 0
    if number < 1:
        raise ValueError(f"`n_objects` must be a whole number, at least 1, got {given!r}.")
    return number


def not_evaluated(loss: Loss, error: Exception) -> Exception:
    """Return what to say of a loss that fails at its parameters."""
    # A ValueError is the loss's own word on what is wrong.
    said, own = str(error).rstrip("."), isinstance(error, ValueError)
    form = "It must take (params, presence), with presence a float vector of that length."
    return (None if own else meaning(error)) or TypeError(
        f"The loss could not be evaluated at these parameters with all {loss.n_objects} objects present: {said}. "
        f"{'' if own else form}".rstrip()
    )


def check_value(value: object) -> None:
    """Check that a loss's value is a finite real scalar.

    Raises:
        TypeError: If it is no real scalar.
        ValueError: If it is not finite.
    """
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


@cache
def _tell_of_methods(kind: type) -> None:
    """Warn, once, of methods by which a class means to be a loss that knows more, and which are never called."""
    if meant := methods_meant(kind):
        warnings.warn(
            f"{kind.__name__} has {', '.join(f'`{name}`' for name in meant)}, never called: the loss is taken as a "
            f"plain function. Write `class {kind.__name__}(vif.Loss)`, with methods of vif.Loss, to be served by them, "
            "and hold them to the automatic ones with vif.check_loss(loss, params).",
            stacklevel=4,
        )


def methods_meant(kind: type) -> list[str]:
    """Return the methods of a class that is no `Loss` whose names are, or nearly are, those of one."""
    known = {*METHODS, *FORMER}
    # Methods of torch.nn.Module, or of Python's own classes, mean no loss.
    parts = [part for part in kind.__mro__ if part.__module__.split(".")[0] not in ("builtins", "torch")]
    own = {name: value for part in reversed(parts) for name, value in vars(part).items()}
    named = [name for name, value in own.items() if callable(value) and not name.startswith("_")]
    return [name for name in named if difflib.get_close_matches(name, known, n=1, cutoff=0.9)]
