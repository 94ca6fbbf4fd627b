"""Training as a value: a recorded stream of batches, and how an optimiser steps over it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.arguments import function
from versatile_influence.core.boundary import FunctionLoss, as_loss, as_presence, check_value
from versatile_influence.core.checks import instance, number, whole
from versatile_influence.core.derivatives import by_formula
from versatile_influence.core.given import unfrozen
from versatile_influence.core.ravel import Params, everything, ravel, shaper, stacked
from versatile_influence.core.settings import Settings, setting
from versatile_influence.core.sizes import CACHE_NUMBERS, CHUNK_NUMBERS, MOST_OBJECTS, at_once
from versatile_influence.core.words import errors_named
from versatile_influence.training.optimizers import Optimizer, State, clipped, in_columns
from versatile_influence.training.steps import Batches, Piece, Terms, checked_steps


@dataclass(frozen=True, repr=False, eq=False)
class Training(Settings):
    """What made the parameters, completely: a loss of each step, over a recorded stream, an optimiser and a start.

    `run()` is bit-equal to a loop that calls `torch.optim` on the same stream, `run(presence)` the same training
    without some. Attention is computed by the formula (`torch.nn.attention.SDPBackend.MATH`), here and in all that
    looks back at the training: fused kernels have no second derivative, and round otherwise.

    Attributes:
        step_loss: `step_loss(params, batch, presence) -> scalar`, with the presence of the batch's objects in their
            order, in the dtype of the parameters. Multiply by it; let no divisor count who is present. What is drawn in
            it must be in the batch, numbers or a seed.
        steps: (batch, objects) of each step: any nested structure of tensors, and the numbers of the objects in it.
        start: Where it starts, a tensor or a dict of tensors; what is frozen stays.
        optimizer: `vif.SGD(…)`, `vif.Adam(…)` or `vif.AdamW(…)`, with the arguments of `torch.optim`.
        n_objects: How many objects there are.
        schedule: The learning rate is lr · schedule(step), steps counted from 0: `torch.optim.lr_scheduler.LambdaLR`.
        max_norm: Gradients are clipped to this norm: `torch.nn.utils.clip_grad_norm_`.
        accumulation: Batches whose gradients are added up before the optimiser steps.
        averaging: Decay of a running mean of the parameters, which is then what training gives:
            `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an object is not one of n, or steps make no whole number of accumulations.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0, 7.0])
        >>> steps = [(x[some], some) for some in torch.tensor([[0, 3], [2, 1], [3, 1], [0, 2]])]
        >>> step_loss = lambda theta, batch, presence: (presence * (batch - theta) ** 2).sum() / 2
        >>> optimizer = vif.SGD(lr=0.2, momentum=0.5)
        >>> training = vif.Training(step_loss, steps, start=torch.tensor(0.0), optimizer=optimizer, n_objects=4)
        >>> training.run()
        tensor(4.8856)
        >>> training.run(presence=torch.tensor([1.0, 1.0, 1.0, 0.0]))
        tensor(3.4226)
    """

    step_loss: Any
    steps: Sequence
    _: KW_ONLY
    start: Params
    optimizer: Optimizer
    n_objects: int
    schedule: Callable[[int], float] | None = None
    max_norm: float | None = setting(None, above=0)
    accumulation: int = setting(1, least=1)
    averaging: float | None = setting(None, least=0, below=1)

    def __post_init__(self):
        super().__post_init__()
        n = whole(self.n_objects, "n_objects", least=1, most=MOST_OBJECTS)
        instance(self.optimizer, "optimizer", Optimizer, "vif.AdamW(lr=1e-3)")
        if self.schedule is not None:
            function(self.schedule, "schedule", "step")
        if not isinstance(self.step_loss, Terms):
            function(self.step_loss, "step_loss", "params", "batch", "presence")
            object.__setattr__(self, "steps", checked_steps(self.steps, n, self.accumulation))
        object.__setattr__(self, "n_objects", n)
        # What is wrong with the start is said now.
        _ = self.theta

    @classmethod
    def of(
        cls,
        loss: object,
        start: Params,
        *,
        epochs: int,
        optimizer: Optimizer,
        batch_size: int | None = None,
        seed: int = 0,
        scale: float = 1.0,
        n_objects: int | None = None,
    ) -> "Training":
        """Return the training that `vif.train` runs, with its arguments.

        Example:
            >>> import versatile_influence as vif
            >>> loss = vif.losses.PairwiseLoss([0, 1, 1], [1, 2, 2], penalty=1.0)
            >>> Training.of(loss, loss.zeros(), epochs=10, optimizer=vif.Adam(lr=0.1), batch_size=2)
            Training(20 steps of Adam(lr=0.1, ...), 3 objects)
        """
        epochs, seed = whole(epochs, "epochs", least=1), whole(seed, "seed")
        size = None if batch_size is None else whole(batch_size, "batch_size", least=1)
        checked, trained = unfrozen(as_loss(loss, n_objects), start)
        terms = Terms(checked, trained, number(scale, "scale", above=0))
        steps = terms.drawn(epochs, size, seed)
        return cls(terms, steps, start=start, optimizer=optimizer, n_objects=checked.n_objects)

    def __len__(self) -> int:
        """Return how many steps the optimiser takes."""
        return len(self.steps) // self.accumulation

    def __repr__(self) -> str:
        return f"Training({len(self)} steps of {self.optimizer}, {self.n_objects} objects)"

    @errors_named()
    def run(self, presence: object = None) -> Params:
        """Return the trained parameters, with those of presence 1.0: None for all, (n,), or (k, n) for k trainings.

        Several are trained together, and the parameters come stacked along a first dimension: each is what training
        alone gives, to rounding.

        Raises:
            ValueError: If every training diverged.
        """
        given = as_presence(presence, self.n_objects, rows=True)
        with by_formula():
            given = given.to(self.theta.device, self.precision)
            if given.dim() == 1:
                return self.whole(finite(self._trained(self.theta, given)))
            most = CACHE_NUMBERS if len(self.steps) and self.steps[0][0] is None else CHUNK_NUMBERS
            size = at_once(max(given.shape[1], len(self.theta)), most=most)
            rows = [self._trained(self.theta.expand(len(part), -1), part) for part in given.split(size)]
            return everything(self.start, vmap(self.unravel)(finite(torch.cat(rows))), frozen=True)

    def whole(self, theta: Float[Tensor, " p"]) -> Params:
        """Return all parameters, those that are frozen too."""
        return everything(self.start, self.unravel(theta), frozen=True)

    def _trained(self, theta: Float[Tensor, "*k p"], presence: Float[Tensor, "*k n"]) -> Float[Tensor, "*k p"]:
        state = self.begun(theta)
        for step in range(len(self)):
            state = self.stepped(step, state, self.gradient(step, state[0], presence))
        return state[self.given]

    @property
    def given(self) -> int:
        """Which part of the state training gives."""
        return 0 if self.averaging is None else -1

    def begun(self, theta: Float[Tensor, "*k p"]) -> State:
        """Return the state before the first step: θ, that of the optimiser, the average where there is one."""
        return (theta, *self.optimizer.start(theta), *([] if self.averaging is None else [theta]))

    def gradient(
        self, step: int, theta: Float[Tensor, "*k p"], presence: Float[Tensor, "*k n"] | None = None
    ) -> Float[Tensor, "*k p"]:
        """Return the gradient of a step, with everybody or those present; for one training, or one a row."""
        total, there = None, theta.to(self.precision)
        present = there.new_ones(self.n_objects) if presence is None else presence
        for loss, objects, weight in self.pieces(step):
            own = present if objects is None else present[..., objects]
            if theta.dim() == 1:
                gradient = loss.gradient(self.unravel(there), own)
            else:
                gradient = loss.gradients(stacked(self.unravel, there), own)
            gradient = (gradient if weight == 1 else weight * gradient).to(theta)
            total = gradient if total is None else total + gradient
        assert total is not None
        return total

    def pieces(self, step: int) -> Iterator[Piece]:
        """Yield the losses that a step takes the gradient of."""
        source = self.step_loss if isinstance(self.step_loss, Terms) else Batches(self.step_loss, self.start)
        for batch, objects in self.steps[step * self.accumulation : (step + 1) * self.accumulation]:
            yield source.at(batch, objects)

    def stepped(self, step: int, state: State, gradient: Float[Tensor, "*k p"]) -> State:
        """Return the state after a step along a gradient."""
        return in_columns(partial(self.moved, step), *state, self.clipped(gradient))

    def clipped(self, gradient: Float[Tensor, "*k p"]) -> Float[Tensor, "*k p"]:
        """Return the gradient that the optimiser sees."""
        if self.max_norm is None:
            return gradient
        like = self.trained
        sizes = [part.numel() for part in (like.values() if isinstance(like, dict) else [like])]
        return clipped(gradient, sizes, self.max_norm)

    def moved(self, step: int, *parts: Tensor) -> State:
        """Return the state after a step from (*state, clipped gradient), number by number."""
        theta, *kept, gradient = parts
        average = [] if self.averaging is None else [kept.pop()]
        lr = self.optimizer.lr * (1 if self.schedule is None else self.schedule(step))
        theta, new = self.optimizer.step(theta, gradient, tuple(kept), number=step + 1, lr=lr)
        if self.averaging is not None:
            average = [theta if step == 0 else torch.lerp(average[0], theta, 1 - self.averaging)]
        return (theta, *new, *average)

    @cached_property
    def trained(self) -> Params:
        """The start of what is trained."""
        if isinstance(self.step_loss, Terms):
            return self.step_loss.trained
        return unfrozen(FunctionLoss(self.step_loss, self.n_objects), self.start)[1]

    @property
    def object_labels(self) -> Sequence[object] | None:
        """The names of the objects that a ready loss has."""
        return self.step_loss.loss.object_labels if isinstance(self.step_loss, Terms) else None

    @cached_property
    def theta(self) -> Float[Tensor, " p"]:
        """The start, flat."""
        return ravel(self.trained)[0]

    @property
    def unravel(self) -> Callable[[Tensor], Params]:
        """What shapes a flat vector as what is trained."""
        return shaper(self.trained)

    @cached_property
    def precision(self) -> torch.dtype:
        """The dtype of θ if the loss can be evaluated in it, else float64."""
        loss, objects, _ = next(self.pieces(0))
        one = self.theta.new_ones(self.n_objects if objects is None else len(objects))
        try:
            value, dtype = loss(self.unravel(self.theta), one), self.theta.dtype
        except RuntimeError:
            value, dtype = loss(self.unravel(self.theta.double()), one.double()), torch.float64
        check_value(value)
        return dtype


def finite(theta: Float[Tensor, "*k p"]) -> Float[Tensor, "*k p"]:
    """Return θ; where some of many trainings diverged, their rows hold NaN, as the caller will see."""
    if not torch.isfinite(theta).all(dim=-1).any():
        raise ValueError("The training diverged: the parameters are NaN or infinite. Lower lr=…, or scale the data.")
    return theta
