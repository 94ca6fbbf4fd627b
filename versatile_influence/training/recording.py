"""A training loop as it runs: which batches it saw, and how its optimiser stepped."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree
from torch.utils.data import DataLoader

from versatile_influence.core.arguments import module
from versatile_influence.core.checks import instance, number, told
from versatile_influence.core.tables import whole_numbers
from versatile_influence.core.warn import warn
from versatile_influence.training.optimizers import SGD, Adam, Optimizer
from versatile_influence.training.training import Training
from versatile_influence.training.watched import watched

# Distance between the end that was recorded and that of the repeated training, beside the whole way, that is told: the
# first steps of Adam blow up what is near 0, and fused attention rounds otherwise than the formula.
OFF_THE_WAY = 0.1
# Arguments of `torch.optim` that change a step and have no counterpart here, where they are set.
UNKNOWN = ("amsgrad", "maximize")


class Recording:
    """What a loop did, from where it is begun; `recording` and the adapters make it.

    Attributes:
        steps: (batch, objects) of each batch, in order.
        start: The parameters before the first step.
    """

    def __init__(self, model: nn.Module, *, field: str | None = None, max_norm: float | None = None):
        self.model, self.field, self.max_norm = model, field, max_norm
        self.steps: list[tuple[Any, Tensor]] = []
        self.start: dict[str, Tensor] = {}
        self._ends: dict[str, Tensor] = {}
        self._rates: list[list[float]] = []
        self._kinds: set[str] = set()
        self._batches: list[int] = []
        self._optimizer: torch.optim.Optimizer | None = None
        self._undo: list[Callable[[], None]] = []
        self.n_objects: int | None = None

    def begin(self, optimizer: torch.optim.Optimizer, loader: DataLoader | None = None) -> None:
        """Record from here on, until `end`.

        Raises:
            TypeError: If the optimiser or the loader is none that is known.
            ValueError: If the optimiser is not the module's, or has stepped before.
        """
        self._optimizer = optimizer
        stepped = {id(value) for group in optimizer.param_groups for value in group["params"]}
        if not stepped <= {id(value) for value in self.model.parameters()}:
            raise ValueError("`optimizer` steps parameters that `model` does not have. Give the module of all of them.")
        _ = self._settings([1.0] * len(optimizer.param_groups))
        if optimizer.state:
            raise ValueError("`optimizer` has stepped before. Record from its first step on.")
        # What no step changes is as good as frozen.
        self.start = {name: _copy(value, id(value) in stepped) for name, value in self.model.named_parameters()}
        self._undo.append(optimizer.register_step_pre_hook(self._stepping).remove)
        if loader is not None:
            self._undo.append(watched(loader, self.note, self.field))
            self.n_objects = len(loader.dataset)  # pyright: ignore[reportArgumentType]

    def note(self, batch: Any, objects: Any) -> None:
        """Record a batch by hand, where no loader gives it, before the step on it."""
        kept = _pytree.tree_map_only(Tensor, lambda tensor: tensor.detach().clone(), batch)
        self.steps.append((kept, whole_numbers(objects, "objects", shape=[None])))

    def end(self) -> None:
        """Record no more."""
        while self._undo:
            self._undo.pop()()
        self._ends = {name: value.detach().clone() for name, value in self.model.named_parameters()}

    def training(self, step_loss: Callable[..., Tensor], *, n_objects: int | None = None) -> Training:
        """Return what was recorded as a training, run once to see that it ends where the loop did.

        To a tenth of the loop's way: Adam's first steps blow up the rounding of what is near 0.

        Args:
            step_loss: As of `Training`, on the batches as the loop saw them; parameters are those of the module, by
                name: `torch.func.functional_call(model, params, …)`.
            n_objects: How many objects there are, where no loader says.

        Raises:
            ValueError: If nothing was recorded, or steps are made of different numbers of batches.

        Warns:
            UserWarning: If the repeated training ends elsewhere.
        """
        counts = {after - before for before, after in zip([0, *self._batches], self._batches, strict=False)}
        if not self._batches or len(counts) != 1 or 0 in counts:
            made = f"of {sorted(counts)} batches" if counts else "none"
            raise ValueError(
                f"The steps that were recorded: {made}. Each must be made of as many batches, and at least one: give "
                "the loader that the loop reads, or note(batch, objects) each; step once for each batch, or for as "
                "many as an epoch is a multiple of; evaluate on a loader of its own, and leave no batch without a step."
            )
        if len(self._kinds) > 1:
            raise ValueError(
                "The optimiser's settings change from step to step, and not the learning rate alone (OneCycleLR: "
                "cycle_momentum=False), which has no counterpart here."
            )
        highest = [max(rates) for rates in zip(*self._rates, strict=True)]
        if not all(highest):
            raise ValueError("A learning rate is 0 in every step: nothing was trained. Freeze what does not train.")
        shares = [[rate / most for rate, most in zip(rates, highest, strict=True)] for rates in self._rates]
        if any(max(some) - min(some) > 1e-9 for some in shares):
            raise ValueError(
                "The learning rates of groups of parameters change by different factors, which has no counterpart here."
            )
        optimizer, groups = self._settings(highest)
        given = self.n_objects if n_objects is None else n_objects
        training = Training(
            step_loss,
            self.steps[: self._batches[-1]],
            start=self.start,
            optimizer=optimizer,
            groups=groups,
            n_objects=given if given is not None else 1 + max(int(some.max()) for _, some in self.steps if len(some)),
            schedule=None if all(some[0] == 1 for some in shares) else lambda step: shares[step][0],
            max_norm=self.max_norm,
            accumulation=counts.pop(),
        )
        self._compare(training.run())
        return training

    def _compare(self, found: Any) -> None:
        square = lambda one, other: sum(  # noqa: E731
            float((one[name].double() - value.double()).square().sum()) for name, value in other.items()
        )
        off, way = square(found, self._ends) ** 0.5, square(self.start, self._ends) ** 0.5
        if off > OFF_THE_WAY * way:
            warn(
                f"Repeated, the training ends {100 * off / max(way, 1e-300):.3g} % of its way from where the loop "
                "ended, and is another: dropout is on (model.eval() switches it off), augmentations are drawn in the "
                "step, gradients are clipped (max_norm=…), parameters train that the model does not name, or "
                "`step_loss` is not the loop's loss."
            )

    def _stepping(self, optimizer: torch.optim.Optimizer, args: tuple, kwargs: dict) -> None:  # noqa: ARG002
        groups = optimizer.param_groups
        rest = [{name: value for name, value in group.items() if name not in ("lr", "params")} for group in groups]
        self._kinds.add(str(rest))
        self._rates.append([float(group["lr"]) for group in groups])
        self._batches.append(len(self.steps))

    def _settings(self, rates: list[float]) -> tuple[Optimizer, list[dict[str, Any]]]:
        """Return the optimiser as a value, at these learning rates of its groups, and what is other in later groups.

        Raises:
            TypeError: If it is no SGD, Adam or AdamW, or groups differ in more than learning rate and weight decay.
        """
        assert self._optimizer is not None
        optimizer, groups = self._optimizer, self._optimizer.param_groups
        if not isinstance(optimizer, torch.optim.SGD | torch.optim.Adam):
            raise TypeError(f"`optimizer` must be torch's SGD, Adam or AdamW, got {told(optimizer)}.")
        named = ["momentum", "dampening", "weight_decay", "nesterov"]
        if not isinstance(optimizer, torch.optim.SGD):
            named = ["betas", "eps", "weight_decay", "decoupled_weight_decay"]
        alike = [name for name in [*named, *UNKNOWN] if name != "weight_decay"]
        differ = [name for name in alike if len({str(group.get(name)) for group in groups}) > 1]
        if differ or any(groups[0].get(name) for name in UNKNOWN):
            what = f"Groups of parameters differ in {differ[0]}" if differ else f"One of {UNKNOWN} is set"
            raise TypeError(f"`optimizer` steps in a way that has no counterpart here. {what}.")
        kind = SGD if isinstance(optimizer, torch.optim.SGD) else Adam
        settings = {name: _plain(groups[0][name]) for name in named if name in groups[0]}
        names = {id(value): name for name, value in self.model.named_parameters()}
        others = [
            {
                "params": [names[id(value)] for value in group["params"]],
                "lr": rate,
                "weight_decay": group["weight_decay"],
            }
            for group, rate in list(zip(groups, rates, strict=True))[1:]
        ]
        return kind(**settings, lr=rates[0]), others


@contextmanager
def recording(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: DataLoader | None = None,
    *,
    field: str | None = None,
    max_norm: float | None = None,
) -> Iterator[Recording]:
    """Record the training loop inside, and yield what then gives a `vif.Training`: `.training(step_loss)`.

    The loop stays as it is: batches are noted as they leave the loader, learning rates as the optimiser steps. For
    trainers of other libraries: `vif.adapters.from_trainer`.

    Args:
        model: The module that trains; what of it is frozen stays.
        optimizer: `torch.optim.SGD`, `Adam` or `AdamW`, of all its parameters.
        loader: The DataLoader that the loop reads; None where the loop calls `.note(batch, objects)` itself.
        field: The entry of a batch that numbers its objects; None for the numbers of the sampler.
        max_norm: What the loop clips the norm of gradients to, if it does.

    Raises:
        TypeError: If the optimiser or the loader is none that can be recorded.
        ValueError: If the optimiser is not the module's, or a batch has no such field.

    Example:
        >>> import torch, versatile_influence as vif
        >>> from torch.utils.data import DataLoader, TensorDataset
        >>> x = torch.tensor([[1.0], [2.0], [3.0], [4.0]])
        >>> model, data = torch.nn.Linear(1, 1), TensorDataset(x, 2 * x)
        >>> optimizer, loader = torch.optim.AdamW(model.parameters()), DataLoader(data, batch_size=2, shuffle=True)
        >>> with recording(model, optimizer, loader) as record:
        ...     for _ in range(3):
        ...         for x, y in loader:
        ...             optimizer.zero_grad()
        ...             (model(x) - y).square().mean().backward()
        ...             _ = optimizer.step()
        >>> def step_loss(params, batch, presence):
        ...     predicted = torch.func.functional_call(model, params, batch[0])
        ...     return (presence[:, None] * (predicted - batch[1]).square()).sum() / len(presence)
        >>> record.training(step_loss)
        Training(6 steps of Adam(lr=0.001, ...), 4 objects)
    """
    module(model)
    instance(optimizer, "optimizer", torch.optim.Optimizer, "torch.optim.AdamW(…)")
    most = None if max_norm is None else number(max_norm, "max_norm", above=0)
    made = Recording(model, field=field, max_norm=most)
    try:
        made.begin(optimizer, loader)
        yield made
    finally:
        made.end()


def _plain(setting: Any) -> Any:
    """Return a number as a float: torch takes whole ones and tensors too."""
    return setting if isinstance(setting, bool | tuple) else float(setting)


def _copy(value: nn.Parameter, stepped: bool) -> Tensor:
    """Return a copy, frozen where nothing trains it."""
    copy = value.detach().clone()
    return copy if stepped and value.requires_grad else nn.Parameter(copy, requires_grad=False)
