"""How well one set of scores agrees with another: predicted with measured, as a rule.

Every function takes two attributions of the same removals and targets (or two (k, t) tensors), and works in float64,
target by target across removals. Correlation hides scale, so slope and relative error stand beside it. A target on
which all removals score the same has no correlation: it gives NaN and is counted in a warning, never dropped in
silence. So is a removal without a result (a refit that failed): it is left out of every target, and named. What becomes
of a target without an object that it is itself about (`Target.about`: a node of its pair) is no influence on it, though
often by far the largest number: it is left out too, and counted in `Agreement`.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.sizes import BLOCK_NUMBERS
from versatile_influence.core.warn import warn
from versatile_influence.reading.pairs import Pair, Scores, few


def pearson(a: Scores, b: Scores) -> Float[Tensor, " t"]:
    """Return the Pearson correlation across removals, one number a target.

    Equivalent to `scipy.stats.pearsonr` on each column.

    Args:
        a: Scores, an `Attribution` or (k, t).
        b: Scores of the same removals and targets.

    Raises:
        ValueError: If the two are about different things.

    Warns:
        UserWarning: If a target is constant (NaN), or a removal without a result was left out.

    Example:
        >>> pearson(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[2.0], [4.0], [8.0]])).item()
        1.0
    """
    return _told(pair := Pair.of(a, b), pair.moments().correlation)


def spearman(a: Scores, b: Scores) -> Float[Tensor, " t"]:
    """Return the Spearman rank correlation across removals, one number a target; ties share their mean rank.

    Equivalent to `scipy.stats.spearmanr` on each column. Arguments, errors and warnings are those of `pearson`.

    Example:
        >>> a, b = torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[1.0], [10.0], [100.0]])
        >>> spearman(a, b).round(decimals=12).item()
        1.0
    """
    return _told(pair := Pair.of(a, b), _rank_correlation(pair))


def slope(estimate: Scores, truth: Scores) -> Float[Tensor, " t"]:
    """Return the least-squares slope of truth on estimate, with an intercept, one number a target.

    1 where the estimate has the right scale, above 1 where it is too small: the calibration slope of prediction
    models. Equivalent to `scipy.stats.linregress(estimate, truth).slope` on each column. Errors and warnings are those
    of `pearson`.

    References:
        Cox (1958), "Two further applications of a model for binary regression": slope and intercept of calibration.

    Example:
        >>> slope(torch.tensor([[1.0], [2.0], [4.0]]), torch.tensor([[2.0], [4.0], [8.0]])).item()
        2.0
    """
    return _told(pair := Pair.of(estimate, truth), pair.moments().slope)


def relative_error(estimate: Scores, truth: Scores) -> Float[Tensor, " t"]:
    """Return ‖estimate − truth‖ / ‖truth‖ across removals, one number a target; NaN where the truth is all zero.

    Errors and warnings are those of `pearson`.

    Example:
        >>> relative_error(torch.tensor([[3.0], [4.4]]), torch.tensor([[3.0], [4.0]])).item()
        0.08...
    """
    distance, size = _squares(pair := Pair.of(estimate, truth))
    return _told(pair, torch.where(size > 0, (distance / size).sqrt(), torch.nan))


@dataclass(frozen=True)
class Agreement:
    """How well estimate and truth agree; `print` it.

    Attributes:
        n_removals: Removals compared.
        n_targets: Targets, undefined ones included.
        n_undefined: Targets without a correlation, because a column is constant. They are in no mean or median.
        n_failed: Removals left out, because either side has no result for them.
        n_own: Pairs of removal and target left out, because the target is about what is removed itself.
        mean_pearson, median_pearson: Over targets, of the correlation across removals.
        mean_spearman, median_spearman: The same of the rank correlation.
        pooled_pearson: Over all pairs of a removal and a target at once.
        slope: Of truth on estimate over all pairs; see `slope`.
        relative_error: ‖estimate − truth‖ / ‖truth‖ over all pairs.
    """

    n_removals: int
    n_targets: int
    n_undefined: int
    n_failed: int
    n_own: int
    mean_pearson: float
    median_pearson: float
    mean_spearman: float
    median_spearman: float
    pooled_pearson: float
    slope: float
    relative_error: float

    def __str__(self) -> str:
        """Return a few lines to read."""
        failed = f", {self.n_failed} without a result left out" if self.n_failed else ""
        own = f"; {counted(self.n_own, 'pair')} of a target with an object it is about left out" if self.n_own else ""
        lines = [f"{counted(self.n_removals, 'removal')}{failed}; {counted(self.n_targets, 'target')}{own}"]
        if self.n_targets > 1:
            undefined = f", of the {self.n_targets - self.n_undefined} that vary" if self.n_undefined else ""
            lines += [
                f"  Pearson   {self.mean_pearson:.6f} mean over targets{undefined}, {self.median_pearson:.6f} median",
                f"  Spearman  {self.mean_spearman:.6f} mean, {self.median_spearman:.6f} median",
                f"  Pearson   {self.pooled_pearson:.6f} over all pairs of removal and target",
            ]
        else:
            lines += [f"  Pearson   {self.mean_pearson:.6f}", f"  Spearman  {self.mean_spearman:.6f}"]
        lines.append(f"  slope     {self.slope:.4f} of truth on estimate; relative error {self.relative_error:.2%}")
        return "\n".join(lines)


def agreement(estimate: Scores, truth: Scores) -> Agreement:
    """Return every measure at once; what is undefined or failed is counted in the result, without a warning.

    Args:
        estimate: Predicted scores, an `Attribution` or (k, t).
        truth: Measured scores of the same removals and targets.

    Raises:
        ValueError: If the two are about different things.

    Example:
        >>> truth = torch.tensor([[1.0, 0.0], [2.0, 0.5], [4.0, -1.0]])
        >>> print(agreement(0.9 * truth, truth))
        3 removals; 2 targets
          Pearson   1.000000 mean over targets, 1.000000 median
          Spearman  1.000000 mean, 1.000000 median
          Pearson   1.000000 over all pairs of removal and target
          slope     1.1111 of truth on estimate; relative error 10.00%
    """
    pair = Pair.of(estimate, truth)
    moments = pair.moments()
    by_value, by_rank = moments.correlation, _rank_correlation(pair)
    pooled, seen = moments.pooled(), moments.count > 0
    distance, size = _squares(pair)
    return Agreement(
        n_removals=len(pair.a),
        n_targets=len(by_value),
        n_undefined=int(by_value.isnan().sum()),
        n_failed=len(pair.left_out),
        n_own=int((len(pair.a) - moments.count[seen]).sum()),
        mean_pearson=by_value.nanmean().item(),
        median_pearson=torch.nanquantile(by_value, 0.5).item(),
        mean_spearman=by_rank.nanmean().item(),
        median_spearman=torch.nanquantile(by_rank, 0.5).item(),
        pooled_pearson=pooled.correlation.item(),
        slope=pooled.slope.item(),
        relative_error=(distance.sum() / size.sum()).sqrt().item(),
    )


def _squares(pair: Pair) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Return ‖a − b‖² and ‖b‖² of each target."""
    # What is left out is NaN in both.
    sums = [torch.stack([(a - b).square().nansum(0), (b + 0 * a).square().nansum(0)]) for a, b in pair.blocks()]
    distance, size = torch.stack(sums).sum(0)
    return distance, size


def _rank_correlation(pair: Pair) -> Float[Tensor, " t"]:
    """Return Spearman's correlation, some columns at a time."""
    columns = max(1, BLOCK_NUMBERS // len(pair.a))
    parts = zip(pair.a.split(columns, dim=1), pair.b.split(columns, dim=1), strict=True)
    return torch.cat([Pair(_ranks(a), _ranks(b), ()).moments().correlation for a, b in parts])


def _ranks(values: Float[Tensor, "k c"]) -> Float[Tensor, "k c"]:
    """Return ranks from 0 down each column, the mean rank where values are equal; NaN where they are not numbers."""
    ordered, order = values.T.contiguous().sort(dim=1)
    k = ordered.shape[1]
    place = torch.arange(k, device=values.device).expand_as(ordered)
    new = torch.ones_like(ordered, dtype=torch.bool)
    new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    first = torch.where(new, place, 0).cummax(dim=1).values
    ends = torch.cat([new[:, 1:], torch.ones_like(new[:, :1])], dim=1)
    last = torch.where(ends, place, k).flip(1).cummin(dim=1).values.flip(1)
    mean_rank = (first + last).double() / 2
    ranks = torch.empty_like(mean_rank).scatter_(1, order, mean_rank)
    return torch.where(values.T.isfinite(), ranks, torch.nan).T


def _told(pair: Pair, values: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Return the values, after a warning that counts what is undefined and names what was left out."""
    if pair.left_out:
        warn(f"{counted(len(pair.left_out), 'removal')} without a result left out: {few(pair.left_out)}.")
    if number := int(values.isnan().sum()):
        where = few(tuple(map(str, values.isnan().nonzero()[:, 0].tolist())))
        warn(
            f"{number} of {counted(len(values), 'target')} undefined (NaN): all removals score the same there, or "
            f"zero. Number {where}.",
        )
    return values


def counted(number: int, thing: str) -> str:
    """Return the number with the noun, in the plural where it is one.

    Example:
        >>> counted(1, "death"), counted(1200, "patient")
        ('1 death', '1,200 patients')
    """
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def decimals(size: float) -> int:
    """Return how many decimals show a number of this size to three digits.

    Example:
        >>> decimals(0.0123), decimals(45.0)
        (4, 1)
    """
    return 3 if not size or not math.isfinite(size) else min(12, max(0, 2 - math.floor(math.log10(abs(size)))))
