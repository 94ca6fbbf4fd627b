"""What a training is made of, and each of its steps."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.arguments import function
from versatile_influence.core.boundary import FunctionLoss, check_value
from versatile_influence.core.checks import instance, whole
from versatile_influence.core.given import unfrozen
from versatile_influence.core.ravel import Params, ravel, shaper, stacked
from versatile_influence.core.settings import Settings, setting
from versatile_influence.core.sizes import CHUNK_NUMBERS, MOST_OBJECTS
from versatile_influence.training.optimizers import Optimizer, State, by_group, clipped
from versatile_influence.training.steps import Batches, Piece, Terms, checked_steps

# A step, the state before it, and the gradient there.
Mark = tuple[int, State, Float[Tensor, " p"]]


@dataclass(frozen=True, repr=False, eq=False)
class Steps(Settings):
    """The steps of a training, one after another; `Training` says what is set."""

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
    groups: Sequence[dict[str, Any]] = ()

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
        # What is wrong with the start, or the groups, is said now.
        _ = self.theta, self.stretches

    def __len__(self) -> int:
        """Return how many steps the optimiser takes."""
        return len(self.steps) // self.accumulation

    def walk(
        self, state: State, presence: Float[Tensor, "*k n"] | None = None, *, first: int = 0, last: int | None = None
    ) -> Iterator[Mark]:
        """Yield steps first…last−1, each with the state before it, at first this one, and the gradient there."""
        end = len(self) if last is None else last
        for step in range(first, end):
            gradient = self.gradient(step, state[0], presence)
            yield step, state, gradient
            if step + 1 < end:
                state = self.stepped(step, state, gradient)

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
        return self.moved(step, *state, self.clipped(gradient))

    def clipped(self, gradient: Float[Tensor, "*k p"]) -> Float[Tensor, "*k p"]:
        """Return the gradient that the optimiser sees."""
        if self.max_norm is None:
            return gradient
        return clipped(gradient, list(self.sizes.values()), self.max_norm)

    def moved(self, step: int, *parts: Tensor, width: float = 0.0) -> State:
        """Return the state after a step from (*state, clipped gradient); `width`: the optimiser's."""
        # Fresh arrays of millions of numbers cost more than what is done to them.
        size = max(1, CHUNK_NUMBERS * parts[0].shape[-1] // max(1, parts[0].numel()))
        given = [move(*(part[..., some] for part in parts)) for some, move in self.moves(step, size, width)]
        return given[0] if len(given) == 1 else tuple(torch.cat(some, dim=-1) for some in zip(*given, strict=True))

    def moves(self, step: int, size: int, width: float = 0.0) -> Iterator[tuple[slice, Callable[..., State]]]:
        """Yield stretches of at most `size` parameters, each with the function that steps it, number by number."""
        for stretch, optimizer in self.stretches:
            move = partial(self._moved, step, optimizer, width)
            for first in range(stretch.start, stretch.stop, size):
                yield slice(first, min(first + size, stretch.stop)), move

    def _moved(self, step: int, optimizer: Optimizer, width: float, *parts: Tensor) -> State:
        theta, *kept, gradient = parts
        average = [] if self.averaging is None else [kept.pop()]
        lr = optimizer.lr * (1 if self.schedule is None else self.schedule(step))
        theta, new = optimizer.step(theta, gradient, tuple(kept), number=step + 1, lr=lr, width=width)
        if self.averaging is not None:
            average = [theta if step == 0 else torch.lerp(average[0], theta, 1 - self.averaging)]
        return (theta, *new, *average)

    @cached_property
    def stretches(self) -> list[tuple[slice, Optimizer]]:
        """What steps which of the flat parameters."""
        return by_group(self.optimizer, self.groups, self.sizes, self.start if isinstance(self.start, dict) else ())

    @cached_property
    def sizes(self) -> dict[str, int]:
        """How many numbers each parameter has that is trained; a lone one has no name."""
        named = self.trained if isinstance(self.trained, dict) else {"": self.trained}
        return {name: value.numel() for name, value in named.items()}

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
