"""What a user hands in, as the library takes it: a loss and targets of what was trained, flat, in float64."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from versatile_influence.core.boundary import FunctionLoss, as_loss, as_target, check_value, not_evaluated
from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.core.lowered import LoweredOutputs
from versatile_influence.core.outputs import Held, Outputs, Parameters
from versatile_influence.core.places import follow
from versatile_influence.core.ravel import Params, all_frozen, cast, everything, first, ravel, squared_norm
from versatile_influence.core.sizes import REORDERED, REORDERED_LOW
from versatile_influence.core.target import PresenceTarget, Target
from versatile_influence.core.warn import warn

Named = dict[str, Tensor]


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
        theta, checked = theta.double(), follow(checked, theta)
        found, value = evaluated_at(checked, theta, unravel, [torch.float64, first(trained).dtype, *LOWER])
        check_value(value)
        return cls(found, theta, unravel, params, value)

    @property
    def params(self) -> Params:
        """What was trained, shaped."""
        return self.unravel(self.theta)

    def all(self, trained: Params) -> Params:
        """Return all parameters in the user's form, with others in the place of what was trained; frozen stays so."""
        return everything(self.whole, trained, frozen=True)

    def check_steady(self) -> None:
        """Check that the loss gives the same again.

        Raises:
            ValueError: If it does not.
        """
        # The value is that of a copy of θ: also a loss that keeps what it gave here evaluates a second time.
        again, number = self.loss(self.params, self.loss.everyone(self.params)).item(), self.value.item()
        precision, rounding = self.loss.precision, 0.0
        if self.theta.device.type != "cpu":
            # A GPU adds up in any order.
            rounding = (REORDERED if precision == torch.float64 else REORDERED_LOW) * torch.finfo(precision).eps
        if not abs(again - number) <= rounding * abs(number):
            raise ValueError(
                f"The loss is random, or changes between calls: it gave {number:.12g}, then {again:.12g}, for the same "
                "input. Fix what is drawn (dropout off with .eval(), walks or negatives drawn once, a generator seeded "
                "inside the loss), and keep nothing from call to call."
            )

    def target(self, target: object) -> Target | PresenceTarget:
        """Return the user's target as one of what was trained, in the precision of the loss."""
        asked = follow(as_target(target), self.theta)
        whole, trained = self.whole, self.params
        frozen = isinstance(whole, dict) and isinstance(trained, dict) and whole.keys() != trained.keys()
        if not frozen and self.loss.precision == torch.float64:
            return asked
        return asked.seeing(lambda trained: cast(everything(self.whole, trained), self.loss.precision))


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
                f"The loss changes {changed[0]} in place. Make new tensors in it: x = x * y, not x.mul_(y) or x *= y."
            )
        if errors:
            warn(
                f"The loss runs only in {precision} ({errors[0]}). Differences of gradients then lose accuracy, up to "
                f"{'1' if precision == torch.float32 else '100'} % for single objects: keep the data inside the loss "
                "in float64 for trustworthy scores.",
            )
        return seen, value
    raise not_evaluated(loss, errors[0]) from errors[0]


def unfrozen(loss: Loss, params: Params) -> tuple[Loss, Params]:
    """Return the loss of the parameters that were trained, and those: what `requires_grad=False` froze is held.

    Frozen is a `torch.nn.Parameter` with its flag cleared, and what is so in the loss's own network. Tensors without a
    network or of another kind have no flag that says anything.

    Raises:
        ValueError: If nothing is left.

    Example:
        >>> from versatile_influence.core.boundary import as_loss
        >>> head = nn.Linear(1, 1)
        >>> head.bias = head.bias.requires_grad_(False)
        >>> loss = as_loss(lambda p, presence: presence.sum() * (p["weight"].sum() + p["bias"].sum()), 3)
        >>> list(unfrozen(loss, dict(head.named_parameters()))[1])
        ['weight']
    """
    if not isinstance(params, dict):
        return loss, params
    frozen = {name for name, value in params.items() if isinstance(value, nn.Parameter) and not value.requires_grad}
    if isinstance(loss, Composed) and loss.model is not None:
        frozen |= {name for name, value in loss.model.named_parameters() if not value.requires_grad} & params.keys()
    if not frozen:
        return loss, params
    trained = {name: value for name, value in params.items() if name not in frozen}
    if not trained:
        raise ValueError(all_frozen(len(frozen)))
    detached = {name: value.detach() for name, value in params.items()}
    return Subset(loss, detached, tuple(trained)), trained


class Subset(Composed):
    """A loss as a function of some parameters, with the others held; `vif.subset` makes it."""

    def __init__(self, loss: Loss, params: Named, free: tuple[str, ...]):
        self._joined = Held(Parameters(params), params, free)
        held = {name: value for name, value in params.items() if name not in free}
        # Of a function nothing is known: its own parameters are the outputs, some of them held.
        outputs: Outputs = Held(Parameters(params, loss), params, free)
        outer, ridge, constant = loss, 0.0, 0.0
        if isinstance(loss, Composed):
            outputs, outer, ridge = loss.outputs.holding(params, free), loss.outer, loss.ridge
            # What the penalty says of the held parameters is a number, and belongs to the value of the loss.
            constant = loss.constant + (ridge / 2 * squared_norm(held).item() if held and ridge else 0.0)
        super().__init__(outputs, outer, penalty=ridge, labels=loss.object_labels, constant=constant)
        self.treatment = loss.treatment

    def joined(self, params: Params) -> Named:
        """Return all parameters, where those chosen are given."""
        return self._joined.joined(params)

    def target(self, fn: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """Return a target of all parameters as one of those chosen."""
        return lambda params: fn(self.joined(params))


def lowered(loss: Loss, precision: torch.dtype) -> Loss:
    """Return the loss, evaluated in this precision.

    Example:
        >>> from versatile_influence.core.boundary import as_loss
        >>> half = torch.tensor([1.0, 2.0]).half()
        >>> loss = lowered(as_loss(lambda theta, presence: (half * presence) @ theta, 2), torch.float16)
        >>> loss(torch.ones(2).double(), torch.ones(2).double())
        tensor(3., dtype=torch.float64)
    """
    if precision == torch.float64:
        return loss
    if isinstance(loss, Composed) and not loss.outputs.selection:
        # Its parts stay known, so that whatever serves a loss of outputs still does.
        outputs = LoweredOutputs(loss.outputs, precision)
        outer = Lowered(loss.outer, precision) if isinstance(loss.outer, FunctionLoss) else loss.outer
        return loss.with_parts(outputs, outer, ridge=loss.ridge, constant=loss.constant)
    return Lowered(loss, precision)


class Lowered(Loss):
    """A loss of which nothing is known but its value in a lower precision."""

    def __init__(self, loss: Loss, precision: torch.dtype):
        self.loss, self.precision, self.n_objects, self.n_terms = loss, precision, loss.n_objects, loss.n_terms
        self.object_labels, self.parameter_names = loss.object_labels, loss.parameter_names
        self.penalty, self.treatment, self.owning = loss.penalty, loss.treatment, loss.owning

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        value = self.loss(cast(params, self.precision), presence.to(self.precision))
        # What is no tensor is told of by whoever asked.
        return value.to(presence.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        return self.loss.terms(cast(params, self.precision), presence.to(self.precision)).to(presence.dtype)

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " n"], vectors: Float[Tensor, "p k"]
    ) -> Float[Tensor, "p k"]:
        # Of length 1: a solver's last steps are so small that float16 would have zeros in their place.
        size = vectors.norm(dim=0).clamp_min(torch.finfo(vectors.dtype).tiny)
        return super().hessian_products(params, presence, vectors / size) * size

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return self.loss.owned(i)

    def null_directions(self, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        return self.loss.null_directions(params, presence)
