"""A loss with some of its parameters held: those left out by name, and those that were frozen in training."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.core.outputs import Held, Outputs, Parameters
from versatile_influence.core.ravel import Params, all_frozen, squared_norm

Named = dict[str, Tensor]


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


def everything(whole: Params, trained: Params) -> Params:
    """Return all parameters, as `whole` has them, with trained ones, perhaps stacked, in their place."""
    if not isinstance(whole, dict) or not isinstance(trained, dict) or len(whole) == len(trained):
        return trained
    name, like = next(iter(trained.items()))
    stack = like.shape[: like.dim() - whole[name].dim()]
    rest = {name: value.detach().to(like).expand(*stack, *value.shape) for name, value in whole.items()}
    return rest | trained
