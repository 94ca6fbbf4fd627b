"""How far each score is off: what the prediction leaves to be done, mapped to the targets.

Were the predicted change Δᵢ exact, the loss without i would be stationary at θ + Δᵢ. Its gradient there says how far it
is not, and H⁻¹ of that, owned parameters left out, where the minimum is to the next order:

    Cᵢ = −H⁻¹ ∇L(θ + Δᵢ, 1₋ᵢ)                                                             (a chord step)
    errorᵢ = ‖f(θ + Δᵢ + Cᵢ) − f(θ) − scoresᵢ‖ / max(‖f(θ + Δᵢ + Cᵢ) − f(θ)‖, ‖scoresᵢ‖, floor)

with each target in units of its root mean square over the removals, and a floor of 1 % of the typical removal's size: a
removal that does nothing is not wrong. A loss that is higher at θ + Δᵢ than at θ is a failure: ∞. All this is local: a
jump to another minimum is seen by refitting alone (`vif.spot_check`).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import stacked
from versatile_influence.core.sizes import FLOOR, SCALE_NUMBERS, SLOWEST, WRONG
from versatile_influence.core.target import PresenceTarget, Target, evaluated

# From ∇L without each removal, one a row, at the parameters of each to the step that would finish it.
Steps = Callable[[Problem, Float[Tensor, "k p"]], Float[Tensor, "k p"]]
Asked = Target | PresenceTarget


@dataclass(frozen=True)
class Scale:
    """What scores are measured by.

    Attributes:
        unit: Root mean square of each target's scores over the removals.
        floor: Size, in these units, below which a removal does nothing worth a relative error.
    """

    unit: Float[Tensor, " t"]
    floor: float

    @classmethod
    def of(cls, scores: Float[Tensor, "k t"]) -> "Scale":
        """Return the scale of scores."""
        # Of many numbers every so manyth row says how large they are.
        scores = scores[:: 1 + scores.numel() // SCALE_NUMBERS]
        scores = scores[scores.isfinite().all(1)]
        if not len(scores):
            return cls(torch.ones(scores.shape[1], dtype=scores.dtype), 0.0)
        # Squares of what is first brought to 1 neither overflow nor vanish.
        largest = scores.abs().amax(0)
        largest = torch.where(largest > 0, largest, 1.0)
        unit = largest * (scores / largest).square().mean(0).sqrt()
        unit = torch.where(unit > 0, unit, 1.0)
        return cls(unit, FLOOR * (scores / unit).norm(dim=1).median().item())

    def errors(self, scores: Float[Tensor, "k t"], better: Float[Tensor, "k t"]) -> Float[Tensor, " k"]:
        """Return the relative distance of scores to better ones; 0 where both are nothing."""
        distance = ((scores - better) / self.unit).norm(dim=1)
        size = torch.maximum((scores / self.unit).norm(dim=1), (better / self.unit).norm(dim=1))
        # NaN of an overflow is as wrong as can be.
        return torch.where(distance == 0, 0.0, distance / size.clamp_min(self.floor)).nan_to_num(float("inf"))

    def errors_of_series(
        self, first: Float[Tensor, "k t"], second: Float[Tensor, "k t"], third: Float[Tensor, "k t"]
    ) -> Float[Tensor, " k"]:
        """Return the relative distance of the first of three iterates to where a geometric series leads.

        Iterates that go apart lead nowhere: at least `WRONG`.
        """
        step, next_step = second - first, third - second
        rate = (next_step / self.unit).norm(dim=1) / (step / self.unit).norm(dim=1)
        bounded = rate.clamp(max=SLOWEST)[:, None]
        errors = self.errors(first, third + next_step * bounded / (1 - bounded))
        return torch.where(rate < 1, errors, errors.clamp_min(WRONG))


def scores_at(problem: Problem, target: Asked, moved: Float[Tensor, "k p"]) -> Float[Tensor, "k t"]:
    """Return f(θᵢ) − f(θ) for parameters θᵢ of each removal, without the removed object where the target asks."""
    if isinstance(target, PresenceTarget):
        return target.at(problem.params, moved, problem.removals)[0]
    return evaluated(target, problem.params, moved)


def gradients_at(problem: Problem, moved: Float[Tensor, "k p"]) -> Float[Tensor, "k p"]:
    """Return ∇L(θᵢ, 1₋ᵢ) at parameters θᵢ of each removal."""
    size, rows = problem.gradients_at_once, []
    for part, there in zip(problem.removals.split(size), moved.split(size), strict=True):
        rows.append(problem.loss.gradients(stacked(problem.unravel, there), part.presences(problem.theta)))
    return torch.cat(rows)


def rises(
    problem: Problem,
    moved: Float[Tensor, "k p"],
    slopes: Float[Tensor, "k p"],
    before: Float[Tensor, "k p"],
    tilt: Float[Tensor, " p"],
) -> list[int]:
    """Return the rows whose loss without the removal is higher at θᵢ than at θ, beyond its rounding.

    Args:
        problem: The removals.
        moved: θᵢ.
        slopes: ∇L(θᵢ, 1₋ᵢ), less the tilt.
        before: ∇L(θ, 1₋ᵢ), less the tilt.
        tilt: A gradient that is no removal's doing.
    """
    change = moved - problem.theta
    down, up = -(before * change).sum(1), (slopes * change).sum(1)

    def rose(row: int) -> bool:
        presence = problem.presence_without(row)
        now, then = (problem.loss(problem.unravel(theta), presence).item() for theta in (problem.theta, moved[row]))
        rounding = 4 * torch.finfo(problem.loss.precision).eps * abs(now)
        # Written so that NaN counts as risen.
        return not then - (tilt @ change[row]).item() <= now + rounding

    # By the trapezoid rule the loss fell if it rises less at the end of the way than it fell at its start. Only where
    # that leaves a doubt is it evaluated.
    return [row for row in (~(up < 0.5 * down)).nonzero()[:, 0].tolist() if rose(row)]


def estimated(
    problem: Problem,
    target: Asked,
    *,
    scale: Scale,
    steps: Steps,
    moved: Float[Tensor, "k p"],
    scores: Float[Tensor, "k t"],
    before: Float[Tensor, "k p"],
    tilt: Float[Tensor, " p"],
) -> tuple[Float[Tensor, " k"], Float[Tensor, "k p"], Float[Tensor, "k t"]]:
    """Return the estimated relative error of each removal's scores, and parameters and scores one step on.

    Args:
        problem: The removals.
        target: What is explained.
        scale: What scores are measured by.
        steps: The step that finishes, from ∇L of each at its parameters.
        moved: θ + Δᵢ.
        scores: The scores to be judged.
        before: ∇L(θ, 1₋ᵢ), less the tilt.
        tilt: A gradient that is no removal's doing, such as that of a training that was not finished.
    """
    slopes = gradients_at(problem, moved) - tilt
    further = moved + steps(problem, slopes)
    better = scores_at(problem, target, further)
    error = scale.errors(scores, better)
    error[rises(problem, moved, slopes, before, tilt)] = float("inf")
    return error, further, better
