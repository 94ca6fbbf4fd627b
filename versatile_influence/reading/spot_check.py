"""The check that sees everything, on a few removals: refit them, and hold the scores against what comes out."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.boundary import as_loss
from versatile_influence.core.checks import whole
from versatile_influence.core.places import verb
from versatile_influence.core.ravel import Params
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import CORRELATED, INTERVALS, RESAMPLES, TRUSTED, WRONG
from versatile_influence.reading.evaluation import Interval, interval
from versatile_influence.reading.metrics import counted
from versatile_influence.reading.pairs import Moments, Pair, attribution, few
from versatile_influence.training.training import Training
from versatile_influence.verbs.leave_one_out import leave_one_out
from versatile_influence.verbs.refit import refit
from versatile_influence.verbs.trust import Scale


@dataclass(frozen=True)
class SpotCheck:
    """How scores agree with refits of some of their removals; `print` it for one line.

    Attributes:
        estimate: The scores of the removals refitted.
        truth: Their refits.
        correlation: Pearson's, over all pairs of removal and target in units of each target's spread, with a 95 %
            interval over removals, NaN for fewer than ten; NaN for fewer than three. Pairs about what is removed itself
            are left out.
        slope: Of truth on estimate, over the same.
        error: (k,) true relative error of each removal, measured as `Attribution.error` estimates it.
        jumps: Names of removals that were trusted and are wrong by more than half: as a rule training without them ends
            in another minimum, or goes another way at a kink, which nothing local sees.
    """

    estimate: Attribution
    truth: Attribution
    correlation: Interval
    slope: Interval
    error: Float[Tensor, " k"]
    jumps: tuple[str, ...]

    @property
    def slopes(self) -> Float[Tensor, " t"]:
        """What the part through the parameters is to be multiplied by, target by target: least squares through 0."""
        moved, measured = self.estimate.scores, self.truth.scores
        if self.estimate.parameter is not None and self.estimate.direct is not None:
            moved, measured = self.estimate.parameter, measured - self.estimate.direct
        pair = Pair.of(replace(self.estimate, scores=moved), replace(self.truth, scores=measured))
        size = pair.a.square().nansum(dim=0)
        # What is estimated to be 0 stays so.
        return torch.where(size > 0, (pair.a * pair.b).nansum(dim=0) / size, 1.0)

    def calibrated(self, estimate: Attribution) -> Attribution:
        """Return the scores times the slope of their target, which leaves correlations as they are.

        Where a first order is too small or too large it is so by much the same factor for alike removals.

        Raises:
            ValueError: If the scores are of other targets.

        Example:
            >>> import torch, versatile_influence as vif
            >>> x = torch.tensor([1.0, 2.0, 6.0, 9.0]).double()
            >>> step_loss = lambda theta, batch, presence: (presence * (batch - theta) ** 2).sum() / 2
            >>> start, optimizer = torch.tensor(0.0).double(), vif.SGD(lr=0.1)
            >>> training = vif.Training(step_loss, [(x, range(4))] * 4, start=start, optimizer=optimizer, n_objects=4)
            >>> scores = vif.unrolled(training, lambda theta: theta)
            >>> check = vif.spot_check(scores, training, target=lambda theta: theta)
            >>> round(check.slopes.item(), 3), check.calibrated(scores).scores.squeeze()
            (1.191, tensor([ 0.4441,  0.1849, -0.8520, -1.6298], dtype=torch.float64))
        """
        if (estimate.scores.shape[1], estimate.targets) != (len(self.slopes), self.estimate.targets):
            raise ValueError("`estimate` has other targets than what was checked.")
        moved = estimate.scores if estimate.parameter is None else estimate.parameter
        # The direct part is exact.
        scores = estimate.scores + (self.slopes - 1) * moved
        parameter = None if estimate.parameter is None else self.slopes * moved
        made = {**(estimate.made or {}), "calibrated": f"on {len(self.error)} removals"}
        return replace(estimate, scores=scores, parameter=parameter, made=made)

    @classmethod
    def of(cls, estimate: Attribution, truth: Attribution, scale: Scale | None = None) -> "SpotCheck":
        """Return the check of scores whose refits are there; `scale` of more removals than these, where known."""
        scale = scale or Scale.of(estimate.scores)
        error = scale.errors(estimate.scores, truth.scores)
        error = torch.where(truth.scores.isnan().any(1), float("nan"), error)
        # One that was not checked was never said to be near.
        assert estimate.error is not None
        names, jumped = estimate.names(), ((error > WRONG) & (estimate.error <= TRUSTED)).nonzero()[:, 0].tolist()
        return cls(
            estimate,
            truth,
            *_pooled(Pair.of(estimate, truth), scale),
            error,
            tuple(str(names[row]) for row in jumped),
        )

    def __str__(self) -> str:
        """Return one line."""
        agree = [
            f"{what} {one.value:.{digits}f}"
            + (f" ({one.low:.{digits}f} to {one.high:.{digits}f})" if not math.isnan(one.low) else "")
            for what, one, digits in (("correlation", self.correlation, 4), ("slope", self.slope, 3))
            if not math.isnan(one.value)
        ]
        if agree and math.isnan(self.correlation.low):
            agree[-1] += " (too few for intervals)"
        errors = self.error[~self.error.isnan()]
        sizes = (
            f"{errors.median().item():.2g} in the median, {errors.max().item():.2g} at most"
            if len(errors)
            else "unknown"
        )
        agree.append(f"relative error of a removal {sizes}")
        line = f"{counted(len(self.error), 'removal')} refitted: {', '.join(agree)}"
        jumps = f"; wrong though trusted, perhaps another minimum: {few(self.jumps)}" if self.jumps else ""
        failed = f"; {len(self.truth.failed)} have no minimum" if self.truth.failed else ""
        return f"{line}{jumps}{failed}."


@verb
def spot_check(
    estimate: Attribution,
    loss: object,
    params: Params | None = None,
    target: object = None,
    *,
    k: int = 20,
    seed: int = 0,
    gtol: float = 1e-10,
) -> SpotCheck:
    """Return how some scores agree with refits: of the largest, of those with the largest errors, and of all sizes.

    A quarter of the k removals are those with the largest scores, a quarter those with the largest estimated errors;
    the others are drawn, one from each of as many strata of the scores' size. Intervals are about removals like these.

    Args:
        estimate: The scores, of `attribute`, `newton_step` or `descend`; or of `unrolled`.
        loss: The loss they were computed with; or the `vif.Training`, which is then run again without some.
        params: The parameters; those of a training are its own.
        target: The target.
        k: How many removals are refitted; all where there are fewer.
        seed: Of the draw.
        gtol: As in `refit`.

    Raises:
        TypeError: If parameters are missing, or given beside a training.
        ValueError: If the scores are of another loss or target.

    Example:
        >>> import versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0, 9.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> scores = vif.attribute(loss, torch.tensor(4.5), lambda theta: theta, n_objects=4, check=False)
        >>> print(spot_check(scores, loss, torch.tensor(4.5), lambda theta: theta))
        4 removals refitted: correlation 1.0000, slope 1.333 (too few for intervals), relative error ...
    """
    scale = Scale.of(attribution(estimate, "estimate").scores)
    rows = _strata(estimate, whole(k, "k", least=1), whole(seed, "seed"))
    some = estimate.part(rows)
    return SpotCheck.of(some, _measured(some, loss, params, target, gtol), scale)


def _measured(some: Attribution, loss: object, params: Params | None, target: object, gtol: float) -> Attribution:
    if isinstance(loss, Training):
        if params is not None:
            raise TypeError("A training has parameters of its own: spot_check(scores, training, target=…).")
        return leave_one_out(loss, target, objects=some.objects, progress=False)
    if params is None:
        raise TypeError("Which parameters? spot_check(scores, loss, params, target).")
    return refit(as_loss(loss, some.n_objects), params, target, objects=some.objects, gtol=gtol)


def _strata(estimate: Attribution, k: int, seed: int) -> Int[Tensor, " k"]:
    """Return the rows to refit: a quarter the largest, a quarter the most doubtful, of the rest one a stratum."""
    assert estimate.error is not None
    size = (estimate.scores / Scale.of(estimate.scores).unit).norm(dim=1)
    largest = size.argsort(descending=True, stable=True)[: k // 4].tolist()
    error = estimate.error.nan_to_num(-1.0, posinf=float("inf"))
    worst = [row for row in error.argsort(descending=True, stable=True)[: k // 4].tolist() if error[row] >= 0]
    first, draw = dict.fromkeys(largest + worst), torch.Generator().manual_seed(seed)
    order = torch.tensor([row for row in size.argsort(stable=True).tolist() if row not in first])
    parts = order.tensor_split(min(k - len(first), len(order))) if len(order) else ()
    drawn = [int(part[torch.randint(len(part), (), generator=draw, device="cpu")]) for part in parts]
    return torch.tensor([*first, *drawn])


def _pooled(pair: Pair, scale: Scale, seed: int = 0) -> tuple[Interval, Interval]:
    """Return correlation and slope over all pairs of removal and target, each target in its unit."""
    if len(pair.a) < CORRELATED:
        return Interval(*[float("nan")] * 3), Interval(*[float("nan")] * 3)
    a, b = pair.a / scale.unit, pair.b / scale.unit
    there = a.isfinite() & b.isfinite()
    a, b = (torch.where(there, part - part[there].mean(), 0.0) for part in (a, b))
    # Of each removal what is summed, so that drawing removals again is adding rows up.
    sums = torch.stack([there.double(), a, b, a * a, b * b, a * b]).sum(2)
    rows = torch.randint(len(a), (RESAMPLES, len(a)), generator=torch.Generator().manual_seed(seed), device="cpu")
    drawn = torch.cat([sums.sum(1)[:, None], torch.stack([part[rows].sum(1) for part in sums])], dim=1)
    count, mean_a, mean_b = drawn[0], drawn[1] / drawn[0], drawn[2] / drawn[0]
    aa, bb, ab = drawn[3] - count * mean_a**2, drawn[4] - count * mean_b**2, drawn[5] - count * mean_a * mean_b
    found = Moments(count, mean_a, mean_b, aa.clamp_min(0), bb.clamp_min(0), ab)

    def of(values: Tensor, *, fisher: bool) -> Interval:
        spread = values[1:][~values[1:].isnan()]
        if len(spread) < 2 or len(a) < INTERVALS:
            return Interval(values[0].item(), float("nan"), float("nan"))
        return interval(values[0], spread, fisher=fisher)

    return of(found.correlation, fisher=True), of(found.slope, fisher=False)
