"""What a command says of each removal: refits where all of them take seconds, else predictions, a few refitted."""

import argparse
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.loss import Loss
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import PROBED, REFIT_SECONDS
from versatile_influence.core.target import PresenceTarget, Target
from versatile_influence.core.words import CHECKING, ESTIMATING, MENDING
from versatile_influence.reading.metrics import counted
from versatile_influence.reading.spot_check import SpotCheck, spot_check
from versatile_influence.reading.wald_table import beside
from versatile_influence.verbs.attribute import attribute
from versatile_influence.verbs.newton_step import newton_step
from versatile_influence.verbs.refit import refit

# What a verb's words on its result say to do, in those of a command.
IN_SHELL = {
    MENDING: "--by refit trains without each",
    ESTIMATING: "",
    CHECKING: "--check K trains without a few",
}
VERBS = {"attribute": attribute, "newton_step": newton_step}


@dataclass(frozen=True)
class Answer:
    """The scores to show, and what is known of them.

    Attributes:
        scores: What tables and files hold: refits, or predictions.
        check: Predictions beside refits, of all removals or of some; None where none was refitted.
        thing: What is removed, in the singular.
    """

    scores: Attribution
    check: SpotCheck | None
    thing: str

    def __str__(self) -> str:
        """Return how far the scores are to be trusted, and how predictions and refits agree."""
        checked = "" if self.check is None else f"\nPredictions against refits: {self.check}"
        names = self.scores.names()
        failed = [
            f"\nWithout {self.thing} {names[row]} there is no fit: {why}"
            for row, why in (self.scores.failed or {}).items()
        ]
        trust = self.scores.trust()
        for words, here in IN_SHELL.items():
            trust = trust.replace(words, here)
        return f"{trust}{checked}{''.join(failed)}"


def answered(
    args: argparse.Namespace,
    loss: Loss,
    params: Any,
    target: Target | PresenceTarget,
    *,
    thing: str,
    things: str = "",
    groups: dict[str, list[int]] | None = None,
) -> Answer:
    """Return the scores as `args.by` asks for them, after one line on what all refits take where nobody asks.

    Args:
        args: With `by`, a verb or None, and `check`, how many predictions are held against refits.
        loss: The loss, of a linear model.
        params: At its minimum.
        target: What is explained.
        thing: What is removed, in the singular.
        things: In the plural, where that is no s more.
        groups: By name, objects of the loss that are removed together; None for each alone.
    """
    exact, objects = args.by == "refit", None if groups is None else list(groups.values())
    n = loss.n_objects if objects is None else len(objects)

    def named(scores: Attribution) -> Attribution:
        return scores if groups is None else replace(scores, objects=torch.arange(n), n_objects=n, labels=[*groups])

    if args.by is None:
        seconds = seconds_of_refits(loss, params, target, objects)
        exact = seconds <= REFIT_SECONDS
        instead = "--by attribute predicts it" if exact else "predicted instead; --by refit does it"
        many = f"{n:,} {things}" if things and n > 1 else counted(n, thing)
        print(f"Refitting without each of {many}: about {spoken(seconds)} ({instead}).", flush=True)
    # The predictions also where refits are shown: whoever goes on with more data knows then how near they come.
    predicted = VERBS["attribute" if exact or args.by is None else args.by](loss, params, target, objects=objects)
    if exact:
        truth = named(refit(loss, params, target, objects=objects))
        return Answer(truth, SpotCheck.of(named(predicted), truth), thing)
    check = spot_check(predicted, loss, params, target, k=args.check) if args.check else None
    return Answer(named(predicted), check, thing)


def seconds_of_refits(
    loss: Loss, params: Any, target: Target | PresenceTarget, objects: list[list[int]] | None = None
) -> float:
    """Return about how long refits without each object or group take, by twice as many as before until that is seen."""
    n = loss.n_objects if objects is None else len(objects)

    def timed(count: int) -> float:
        start, worked = time.perf_counter(), time.process_time()
        with warnings.catch_warnings():
            # What is to be said of a refit is said of the one that is shown.
            warnings.simplefilter("ignore")
            # Spread over all: neighbours may be of one kind.
            some = torch.linspace(0, n - 1, count).long().tolist()
            refit(loss, params, target, objects=some if objects is None else [objects[one] for one in some])
        # Whatever else the machine does now is no part of it.
        return min(time.perf_counter() - start, time.process_time() - worked)

    # Nor is what PyTorch loads at its first derivatives.
    if (first := timed(1)) < REFIT_SECONDS:
        first = timed(1)
    count, took = 1, first
    while count < min(n, PROBED) and took < 1:
        count = min(2 * count, n)
        took = timed(count)
    # What is the same for few and many is had once.
    return first + (n - 1) * (took if count == 1 else max(took - first, 0.0) / (count - 1))


def spoken(seconds: float) -> str:
    """Return a time to two digits.

    Example:
        >>> spoken(0.1234), spoken(48.0), spoken(5000.0)
        ('0.12 s', '48 s', '83 min')
    """
    return f"{seconds:.2g} s" if seconds < 100 else f"{seconds / 60:.0f} min"


def moved_most(
    pair: tuple[Attribution, Attribution], errors: Float[Tensor, " d"], count: int
) -> Iterator[tuple[int, int, list[str]]]:
    """Yield those who move some coefficient most, in standard errors: row, coefficient, it predicted and refitted.

    First are those without whom a coefficient has no fit.
    """
    predicted, refitted = (scores.scores[:, : len(errors)] for scores in pair)
    size = (predicted / errors).abs().masked_fill(refitted.isnan(), float("inf"))
    for row in largest_first(size.amax(1))[:count]:
        place = int(size[row].argmax())
        changes = (scores[row, place].item() for scores in (predicted, refitted))
        error = errors[place].item()
        yield row, place, [beside(one, error, "+") if math.isfinite(one) else "no fit" for one in changes]


def largest_first(found: Tensor) -> list[int]:
    """Return rows by the size of their numbers, largest first, NaN last."""
    return found.abs().nan_to_num(-1.0).argsort(descending=True, stable=True).tolist()
