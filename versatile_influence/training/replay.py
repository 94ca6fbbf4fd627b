"""A training run backwards: states kept at some steps, and repeated between them, so that few are held at once."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import ALLOWED, STATE_BYTES, kept
from versatile_influence.training.optimizers import State
from versatile_influence.training.states import States, digest
from versatile_influence.training.stepping import Mark, Steps, finite


@dataclass(frozen=True)
class Replay:
    """A finished training with everybody, and where it can be taken up again.

    Attributes:
        training: The training.
        marks: Every step, or some, so far apart that what is between fits in the room that is left; none where a folder
            holds them.
        end: The state after the last step.
        room: How many more states are held at once.
        states: That folder, or None.
    """

    training: Steps
    marks: list[Mark]
    end: State
    room: int
    states: States | None = None

    @classmethod
    def of(cls, training: Steps, kept_states: tuple[States, State] | None = None) -> "Replay":
        """Train, and keep states: as many as fit by `vif.memory_budget`; without it, some, or twice √T.

        Args:
            training: The training.
            kept_states: The folder that holds the states, `Training.kept`, of which memory then holds few.

        Raises:
            ValueError: If the training diverged.
        """
        state, steps = training.begun(training.theta), len(training)
        room = kept((len(state) + 1) * training.theta.nbytes, most=STATE_BYTES)
        if kept_states is not None:
            states, end = kept_states
            finite(end[0])
            return cls(training, [], end, max(4, room), states)
        room = max(room, 2 * math.isqrt(steps) + 2 if ALLOWED.get() is None else 4)
        marks, end = _marked(training, 0, state, steps, room)
        finite(end[0])
        return cls(training, marks, end, max(2, room - len(marks)))

    @property
    def theta(self) -> Float[Tensor, " p"]:
        """What training gave."""
        return self.end[self.training.given]

    def backwards(self, before: int | None = None) -> Iterator[Mark]:
        """Yield each step before one, the state before it and the gradient there, last step first.

        Raises:
            ValueError: If steps that are repeated do not give what they gave; the last one always is.
        """
        if self.states is not None:
            last, after = len(self.training), self.end
            if before is not None:
                found = self.states.read(before)
                last, after = before, None if found is None else found[0]
            marks = _in_folder(self.training, self.states, last)
            yield from _backwards(self.training, marks, (last, after), self.room)
            return
        step, state, gradient = self.marks[-1]
        _check((self.training.gradient(step, state[0]),), (gradient,), step, step)
        yield from _backwards(self.training, reversed(self.marks), (len(self.training), self.end), self.room)


@dataclass(frozen=True)
class WayBack:
    """How far an adjoint has come, in the folder of the states: a kill loses no more than what lies between two."""

    replay: Replay
    name: str

    @classmethod
    def of(cls, replay: Replay, gradients: Float[Tensor, "q p"], removals: Removals, asked: list) -> "WayBack":
        """Return that of these targets and removals, and of what else is asked."""
        which = "" if replay.states is None else digest([gradients, removals.members, removals.rows, *asked])
        return cls(replay, f"back-{which}.npz")

    def taken_up(self, adjoint: list[Tensor], scores: Float[Tensor, "k q"]) -> int:
        """Return the step before which to go on, and write the adjoint and scores there over these."""
        states = self.replay.states
        found = None if states is None else states.read_as(self.name)
        if found is None:
            return len(self.replay.training)
        header, parts = found
        scores.copy_(parts["scores"])
        for number, part in enumerate(adjoint if header["step"] else []):
            part.copy_(parts[f"adjoint{number}"])
        return header["step"]

    def reached(self, step: int, adjoint: list[Tensor], scores: Float[Tensor, "k q"]) -> None:
        """Write the adjoint and scores where the state before a step is kept too; at the end the scores alone."""
        states = self.replay.states
        if states is not None and (not step or step in states.steps()):
            parts = {f"adjoint{number}": part for number, part in enumerate(adjoint if step else [])}
            states.write_as(self.name, {"step": step}, {"scores": scores, **parts})


def _in_folder(training: Steps, states: States, before: int) -> Iterator[Mark]:
    """Yield the marks of a folder before a step, last first, read one by one, and the start, whether there or not."""
    for step in reversed(states.steps()):
        found = states.read(step) if 0 < step < before else None
        if found is not None and found[1] is not None:
            yield step, found[0], found[1]
    if before:
        yield next(training.walk(training.begun(training.theta), last=1))


def _backwards(training: Steps, marks: Iterable[Mark], end: tuple[int, State | None], room: int) -> Iterator[Mark]:
    """Yield each step before the end, from marks that come last first."""
    last, after = end
    for mark in marks:
        first, state, _ = mark
        if last - first == 1:
            yield mark
        else:
            inner, reached = _marked(training, first, state, last, room)
            if after is not None:
                _check(reached, after, first, last - 1)
            # Large, and not needed where each step is there.
            after = reached if len(inner) < last - first else None
            del reached
            yield from _backwards(training, reversed(inner), (last, after), max(2, room - len(inner)))
        last, after = first, state


def _marked(training: Steps, first: int, state: State, last: int, room: int) -> tuple[list[Mark], State]:
    """Return steps first…last−1, or some of them, half the room kept for what is between; and the state after them."""
    spacing = 1 if last - first <= room else math.ceil((last - first) / max(2, room // 2))
    marks, mark = [], None
    for mark in training.walk(state, first=first, last=last):
        if (mark[0] - first) % spacing == 0:
            marks.append(mark)
    assert mark is not None
    return marks, training.stepped(*mark)


def _check(again: State, recorded: State, first: int, last: int) -> None:
    if not all(torch.equal(one, other) for one, other in zip(again, recorded, strict=True)):
        steps = f"Step {first}" if first == last else f"One of steps {first} to {last}"
        raise ValueError(
            f"{steps} of the training gave something else when it was repeated: `step_loss` is random, or changes. Put "
            "what is drawn into the batch, as numbers or a seed (dropout off with model.eval(), or drawn by a "
            "generator seeded inside); see torch.use_deterministic_algorithms."
        )
