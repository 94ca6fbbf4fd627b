"""What is concluded from a Cox model's coefficients, sign and significance, and what would overturn each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.reading.wald_table import LEVEL, WIDTH, beside, effects, tail, two_sided
from versatile_influence.verbs import conclusions
from versatile_influence.verbs.overturned import Sensitivity
from versatile_influence.verbs.sensitivity import sensitivity


@dataclass(frozen=True)
class Verdict:
    """A conclusion, and the smallest set found that overturns it.

    Attributes:
        covariate: Whose coefficient it is about.
        words: What is concluded.
        found: What overturns it.
        now, then: The number that it rests on, with everybody and without those.
    """

    covariate: str
    words: str
    found: Sensitivity
    now: str
    then: str

    @property
    def texts(self) -> list[str]:
        """Covariate, conclusion, fewest found, what first order says, and the number before and after."""
        found = self.found
        first = "none" if found.first_order is None else f"{found.first_order:,}"
        fewest = f"{len(found):,} of {found.n:,} ({len(found) / found.n:.1%})"
        fewest = fewest if found.overturned else f"none up to {len(found):,} of {found.n:,}"
        then = "nothing determines it" if math.isnan(found.without) else self.then
        return [self.covariate, self.words, fewest, first, f"{self.now} → {then}"]


def verdicts(
    loss: CoxLoss, params: Tensor, names: Sequence[str] | None = None, *, most: int | None = None
) -> list[Verdict]:
    """Return, for each covariate or those named, whether its sign and its significance at 0.05 survive.

    Args:
        loss: A linear Cox loss.
        params: Its minimum.
        names: Covariates; None for all.
        most: Largest set that is tried; half of all by default.

    Raises:
        ValueError: If there is no such covariate.
    """
    asked = [str(name) for name in loss.coefficients(names).labels or []]
    found = []
    for effect in effects(loss, params):
        if effect.name not in asked:
            continue
        name, side = [effect.name], 1 if effect.coefficient > 0 else -1
        if effect.coefficient:
            flipped = sensitivity(loss, params, conclusions.sign(loss.coefficients(name), params), most=most)
            numbers = [f"coef {beside(side * value, effect.error, '+')}" for value in (flipped.holds, flipped.without)]
            found.append(Verdict(effect.name, f"{'raises' if side > 0 else 'lowers'} the hazard", flipped, *numbers))
        holds = effect.p < LEVEL
        ready = conclusions.significant if holds else conclusions.insignificant
        flipped = sensitivity(loss, params, ready(loss.z_values(name), level=LEVEL), most=most)
        side = 1 if holds else -1
        numbers = [f"p {tail(two_sided(WIDTH + side * value))}" for value in (flipped.holds, flipped.without)]
        found.append(Verdict(effect.name, "is significant" if holds else "is not significant", flipped, *numbers))
    return found
