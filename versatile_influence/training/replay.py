"""A training run backwards: states kept at some steps, and repeated between them, so that few are held at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.sizes import ALLOWED, STATE_BYTES, kept
from versatile_influence.training.optimizers import State
from versatile_influence.training.training import Training, finite

# A step, the state before it, and the gradient there.
Mark = tuple[int, State, Float[Tensor, " p"]]


@dataclass(frozen=True)
class Replay:
    """A finished training with everybody, and where it can be taken up again.

    Attributes:
        training: The training.
        marks: Every step, or some, so far apart that what is between fits in the room that is left.
        end: The state after the last step.
        room: How many more states are held at once.
    """

    training: Training
    marks: list[Mark]
    end: State
    room: int

    @classmethod
    def of(cls, training: Training) -> "Replay":
        """Train, and keep states: as many as fit by `vif.memory_budget`; without it, some, or twice √T.

        Raises:
            ValueError: If the training diverged.
        """
        state, steps = training.begun(training.theta), len(training)
        room = kept((len(state) + 1) * training.theta.nbytes, most=STATE_BYTES)
        room = max(room, 2 * math.isqrt(steps) + 2 if ALLOWED.get() is None else 4)
        marks, end = _marked(training, 0, state, steps, room)
        finite(end[0])
        return cls(training, marks, end, max(2, room - len(marks)))

    @property
    def theta(self) -> Float[Tensor, " p"]:
        """What training gave."""
        return self.end[self.training.given]

    def backwards(self) -> Iterator[Mark]:
        """Yield each step, the state before it and the gradient there, last step first.

        Raises:
            ValueError: If steps that are repeated do not give what they gave; the last one always is.
        """
        step, state, gradient = self.marks[-1]
        _check((self.training.gradient(step, state[0]),), (gradient,), step, step)
        yield from _backwards(self.training, self.marks, (len(self.training), self.end), self.room)


def _backwards(training: Training, marks: list[Mark], end: tuple[int, State], room: int) -> Iterator[Mark]:
    last, after = end
    for mark in reversed(marks):
        first, state, _ = mark
        if last - first == 1:
            yield mark
        else:
            inner, reached = _marked(training, first, state, last, room)
            _check(reached, after, first, last - 1)
            yield from _backwards(training, inner, (last, after), max(2, room - len(inner)))
        last, after = first, state


def _marked(training: Training, first: int, state: State, last: int, room: int) -> tuple[list[Mark], State]:
    """Return steps first…last−1, or some of them, half the room kept for what is between; and the state after them."""
    spacing = 1 if last - first <= room else math.ceil((last - first) / max(2, room // 2))
    marks = []
    for step in range(first, last):
        gradient = training.gradient(step, state[0])
        if (step - first) % spacing == 0:
            marks.append((step, state, gradient))
        state = training.stepped(step, state, gradient)
    return marks, state


def _check(again: State, recorded: State, first: int, last: int) -> None:
    if not all(torch.equal(one, other) for one, other in zip(again, recorded, strict=True)):
        steps = f"Step {first}" if first == last else f"One of steps {first} to {last}"
        raise ValueError(
            f"{steps} of the training gave something else when it was repeated: `step_loss` is random, or changes. Put "
            "what is drawn into the batch, as numbers or a seed (dropout off with model.eval(), or drawn by a "
            "generator seeded inside); see torch.use_deterministic_algorithms."
        )
