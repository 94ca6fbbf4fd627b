"""A training run backwards: states kept at some steps, and repeated between them, so that few are held at once."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.sizes import ALLOWED, LIVE_ARRAYS, STATE_NUMBERS
from versatile_influence.training.optimizers import State
from versatile_influence.training.training import Training, finite

Mark = tuple[int, State]


@dataclass(frozen=True)
class Replay:
    """A finished training with everybody, and where it can be taken up again.

    Attributes:
        training: The training.
        marks: (step, state before it), so far apart that what is between fits in the room that is left.
        end: The state after the last step.
        room: How many more states are held at once.
    """

    training: Training
    marks: list[Mark]
    end: State
    room: int

    @classmethod
    def of(cls, training: Training) -> "Replay":
        """Train, and keep states: as many as fit by `vif.memory_budget`; without it, some, or twice √T."""
        state, steps = training.begun(training.theta), len(training)
        # With each state goes the gradient there.
        each, allowed = (len(state) + 1) * len(training.theta), ALLOWED.get()
        room = STATE_NUMBERS // each if allowed is None else allowed * LIVE_ARRAYS // (2 * each)
        room = max(room, 2 * math.isqrt(steps) + 2 if allowed is None else 4)
        marks, end = _marked(training, (0, state), steps, room)
        finite(end[0])
        return cls(training, marks, end, max(2, room - len(marks)))

    @property
    def theta(self) -> Float[Tensor, " p"]:
        """What training gave."""
        return self.end[self.training.given]

    def backwards(self) -> Iterator[tuple[int, State, Float[Tensor, " p"]]]:
        """Yield each step, the state before it and the gradient there, last step first.

        Raises:
            ValueError: If a step that is repeated does not give the state it gave.
        """
        yield from _backwards(self.training, self.marks, (len(self.training), self.end), self.room)


def _backwards(training: Training, marks: list[Mark], end: Mark, room: int) -> Iterator[tuple[int, State, Tensor]]:
    for first, state in reversed(marks):
        last = end[0]
        if last - first > room:
            inner, reached = _marked(training, (first, state), last, room)
            _check(reached, end, first)
            yield from _backwards(training, inner, end, max(2, room - len(inner)))
        else:
            held, there = [], state
            for step in range(first, last):
                gradient = training.gradient(step, there[0])
                held.append((step, there, gradient))
                there = training.stepped(step, there, gradient)
            _check(there, end, first)
            while held:
                yield held.pop()
        end = (first, state)


def _marked(training: Training, begin: Mark, last: int, room: int) -> tuple[list[Mark], State]:
    """Return states from `begin` on, half of them kept for what is between, and the one before step `last`."""
    first, state = begin
    spacing = last - first if last - first <= room - 1 else math.ceil((last - first) / max(2, room // 2))
    marks = []
    for step in range(first, last):
        if (step - first) % spacing == 0:
            marks.append((step, state))
        state = training.stepped(step, state, training.gradient(step, state[0]))
    return marks, state


def _check(reached: State, recorded: Mark, first: int) -> None:
    # NaN of a state that is not used must not hide that others are the same.
    if not all(torch.equal(one, other) for one, other in zip(reached, recorded[1], strict=True)):
        raise ValueError(
            f"Steps {first} to {recorded[0] - 1} of the training gave other parameters when they were repeated: "
            "`step_loss` is random, or changes. Put what is drawn into the batch, as numbers or as a seed (dropout off "
            "with model.eval(), or drawn from a generator seeded inside), and call torch.use_deterministic_algorithms."
        )
