"""The boundary: the one place where what a user hands in is looked at, once, and becomes a value of the library.

A plain function becomes a loss of which nothing else is known; none of its attributes is read afterwards, and none by
name but `n_objects`.
"""

import difflib
import math
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.apart import changes_apart, number_of
from versatile_influence.core.arguments import function
from versatile_influence.core.checks import numbers, whole
from versatile_influence.core.loss import METHODS, Loss, Objects
from versatile_influence.core.ravel import Params
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import MOST_OBJECTS
from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target
from versatile_influence.core.warn import warn
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

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return what `Loss` does: where rows do not meet by some dozen gradients for all, else by one a removal."""
        removals = Removals.of(objects, self.n_objects)
        own = changes_apart(self, params) if removals.count > 3 * number_of(self.n_objects) else None
        if own is None:
            return super().removal_products(params, directions, removals)
        (n, c), members, rows = own.shape, removals.members, removals.rows
        if directions is None:
            found = own.new_zeros(removals.count, n, c)
            found[rows, members] = own[members]
            return found.flatten(1)
        along = torch.einsum("nc,ncq->nq", own, directions.reshape(n, c, -1))
        if not removals.grouped:
            return removals.of_each(along)
        return along.new_zeros(removals.count, along.shape[1]).index_add(0, rows, along[members])


def as_loss(loss: object, n_objects: int | None = None, *, otherwise: int | None = None) -> Loss:
    """Return the user's loss as a `Loss`.

    Args:
        loss: A `Loss`, or a function of (params, presence); it may say `n_objects`.
        n_objects: How many objects there are, where the loss does not say.
        otherwise: How many, where neither says.

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
    if isinstance(loss, type):
        raise TypeError(f"`loss` must be a function of (params, presence), got {loss!r}. Call it: {loss.__name__}(…).")
    given = function(loss, "loss", "params", "presence")
    # The one thing that is read of a function: how many objects there are is no capability.
    number = known_objects(getattr(loss, "n_objects", None), n_objects, otherwise)
    _tell_of_methods(type(loss))
    return FunctionLoss(given, number)


def as_target(target: object) -> Target | PresenceTarget:
    """Return the user's target as a value.

    Raises:
        TypeError: If it is no function.
    """
    if isinstance(target, PresenceTarget):
        function(target.fn, "target", "params", "presence")
    if isinstance(target, Target | PresenceTarget):
        return target
    return LabelledTarget(function(target, "target", "params"))


def known_objects(own: Any, n_objects: int | None, otherwise: int | None = None) -> int:
    """Return the number of objects, from the loss or the caller.

    Raises:
        ValueError: If neither knows it, or they disagree.
    """
    said = [whole(one, "n_objects", least=1, most=MOST_OBJECTS) for one in (own, n_objects) if one is not None]
    if len(set(said)) > 1:
        raise ValueError(f"`n_objects` is {n_objects}, but the loss has {own} objects. Leave `n_objects` out.")
    if not said and otherwise is None:
        raise ValueError("How many objects are there? The loss does not say: pass n_objects=….")
    return said[0] if said else whole(otherwise, "n_objects", least=1, most=MOST_OBJECTS)


def with_presence(
    loss: object, presence: object, n_objects: int | None, *, rows: bool = False
) -> tuple[Loss, Float[Tensor, "*k n"]]:
    """Return the user's loss and who is present, (n,), or with `rows` also (k, n); None for everybody.

    Raises:
        TypeError: If the presence holds no numbers.
        ValueError: If it is of another length, or a number is not from 0 to 1.
    """
    if presence is None:
        checked = as_loss(loss, n_objects)
        return checked, torch.ones(checked.n_objects, dtype=torch.float64)
    given = numbers(presence, "presence")
    checked = as_loss(loss, n_objects, otherwise=given.shape[-1] if given.dim() else None)
    return checked, as_presence(given, checked.n_objects, rows=rows)


def as_presence(presence: object, n: int, *, rows: bool = False) -> Float[Tensor, "*k n"]:
    """Return who of n objects is present, (n,), or with `rows` also (k, n); None for everybody.

    Raises:
        TypeError: If it holds no numbers.
        ValueError: If it is of another length, or a number is not from 0 to 1.
    """
    if presence is None:
        return torch.ones(n, dtype=torch.float64)
    given = numbers(presence, "presence")
    if given.shape[-1:] != (n,) or given.dim() > 1 + rows or not len(given):
        forms = f"({n},)" + f", or (k, {n}) for k trainings" * rows
        raise ValueError(f"`presence` must be of shape {forms}, got {tuple(given.shape)}: there are {n} objects.")
    if len(bad := ((given < 0) | (given > 1)).nonzero()):
        place = ", ".join(map(str, bad[0].tolist()))
        raise ValueError(
            f"`presence` is {given[tuple(bad[0])].item():g} at position {place}. It is 1 for who is there and 0 for "
            "who is not, or in between."
        )
    return given


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
        warn(
            f"{kind.__name__} has {', '.join(f'`{name}`' for name in meant)}, never called: the loss is taken as a "
            f"plain function. Write `class {kind.__name__}(vif.Loss)`, with methods of vif.Loss, to be served by them, "
            "and hold them to the automatic ones with vif.check_loss(loss, params).",
        )


def methods_meant(kind: type) -> list[str]:
    """Return the methods of a class that is no `Loss` whose names are, or nearly are, those of one."""
    known = {*METHODS, *FORMER}
    # Methods of torch.nn.Module, or of Python's own classes, mean no loss.
    parts = [part for part in kind.__mro__ if part.__module__.split(".")[0] not in ("builtins", "torch")]
    own = {name: value for part in reversed(parts) for name, value in vars(part).items()}
    named = [name for name, value in own.items() if callable(value) and not name.startswith("_")]
    return [name for name in named if difflib.get_close_matches(name, known, n=1, cutoff=0.9)]
