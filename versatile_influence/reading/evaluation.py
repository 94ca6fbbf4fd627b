"""How far a prediction can be trusted: random subsets, removals that matter most, seeds, and intervals."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import number, told, whole
from versatile_influence.core.result import Attribution
from versatile_influence.core.tables import whole_numbers
from versatile_influence.core.warn import warn
from versatile_influence.reading.metrics import pearson, spearman
from versatile_influence.reading.pairs import Pair, attribution
from versatile_influence.reading.pairs import Scores as AnyScores

Groups = tuple[tuple[int, ...], ...]


def random_groups(n_objects: int, *, count: int = 50, fraction: float = 0.5, seed: int = 0) -> Groups:
    """Return groups of objects drawn at random without replacement, to be removed together.

    Args:
        n_objects: How many objects there are.
        count: How many groups.
        fraction: Share of the objects in each; at least one object, and not all.
        seed: Of the draw.

    Raises:
        ValueError: If there would be no such group.

    Example:
        >>> random_groups(6, count=2, fraction=0.5)
        ((2, 3, 5), (0, 3, 5))
    """
    n_objects, count = whole(n_objects, "n_objects", least=1), whole(count, "count", least=1)
    size = round(number(fraction, "fraction", above=0) * n_objects)
    if not 1 <= size < n_objects:
        raise ValueError(f"fraction={fraction} of {n_objects} objects is {size}: remove at least one, and not all.")
    draw = torch.Generator().manual_seed(whole(seed, "seed"))
    return tuple(tuple(torch.randperm(n_objects, generator=draw)[:size].sort().values.tolist()) for _ in range(count))


def lds(estimate: Attribution, truth: Attribution) -> Float[Tensor, " t"]:
    """Return the linear datamodelling score: the rank correlation over groups, one number a target.

    A group's prediction is the sum of its objects' scores, or its own score where `estimate` is of the same groups.

    Args:
        estimate: Predicted scores, of single objects or of the groups themselves.
        truth: Measured scores of groups removed together, random halves as a rule (`random_groups`).

    Raises:
        ValueError: If an object of a group has no score.

    References:
        Park et al. (2023), "TRAK: Attributing Model Behavior at Scale", Definition 2.4.

    Example:
        >>> one = Attribution(torch.tensor([[1.0], [2.0], [4.0]]), torch.arange(3), n_objects=3)
        >>> two = Attribution(torch.tensor([[3.1], [5.2], [5.9]]), ((0, 1), (0, 2), (1, 2)), n_objects=3)
        >>> lds(one, two).round(decimals=12).item()
        1.0
    """
    attribution(estimate, "estimate")
    return spearman(estimate if isinstance(estimate.objects, tuple) else summed(estimate, truth), truth)


def summed(estimate: Attribution, groups: Attribution) -> Attribution:
    """Return the scores that the sum over its objects predicts for each group.

    Raises:
        ValueError: If the two are of different data, or an object of a group has no score.
    """
    attribution(groups, "groups")
    if not isinstance(attribution(estimate, "estimate").objects, Tensor) or estimate.n_objects != groups.n_objects:
        raise ValueError("Give scores of single objects, of the same data as the groups.")
    row_of = torch.full((estimate.n_objects,), -1)
    row_of[estimate.objects] = torch.arange(len(estimate.objects))
    listed = groups.objects if isinstance(groups.objects, tuple) else groups.objects[:, None].tolist()
    rows = [row_of[list(group)] for group in listed]
    for position, members in enumerate(rows):
        if (members < 0).any():
            missing = listed[position][int((members < 0).nonzero()[0])]
            raise ValueError(f"Object {missing} of group {position} has no score. Predict with objects=None.")
    scores = torch.stack([estimate.scores[members].sum(dim=0) for members in rows])
    return Attribution(
        scores, groups.objects, n_objects=groups.n_objects, labels=estimate.labels, targets=estimate.targets
    )


def top_groups(estimate: Attribution, counts: Sequence[int], *, target: object = 0, lower: bool = True) -> Groups:
    """Return, for each count, the objects whose removal is predicted to move one target furthest one way.

    Retrained without them, they show how brittle a prediction is; `random_groups` of the same size stand beside them.

    Args:
        estimate: Predicted scores of single objects.
        counts: Sizes of the groups.
        target: Number or name of the target.
        lower: Whether to lower the target, or to raise it.

    Raises:
        ValueError: If a count is not in 1…k − 1, or the scores are of groups.

    References:
        Ilyas et al. (2022), "Datamodels: Predicting Predictions from Training Data", Section 4.1: brittleness.

    Example:
        >>> scores = Attribution(torch.tensor([[1.0], [-2.0], [-4.0]]), torch.arange(3), n_objects=3)
        >>> top_groups(scores, [1, 2])
        ((2,), (2, 1))
    """
    attribution(estimate, "estimate")
    if not isinstance(estimate.objects, Tensor):
        raise ValueError("Give scores of single objects, not of groups.")
    counts = whole_numbers(counts, "counts", shape=[None]).tolist()
    for count in counts:
        if not 1 <= count < len(estimate.objects):
            raise ValueError(f"Cannot remove {count} of {len(estimate.objects)} objects: at least one, and not all.")
    column = estimate.scores[:, attribution(estimate).column(target)].nan_to_num(0.0)
    order = estimate.objects[(column if lower else -column).argsort(stable=True)].tolist()
    return tuple(tuple(order[:count]) for count in counts)


def seed_ceiling(truth: Attribution) -> Float[Tensor, " t"]:
    """Return the mean Pearson correlation between retrainings of two seeds, one number a target.

    No prediction can be expected to agree with one seed's retraining better than another seed's does.

    Args:
        truth: What `leave_one_out(…, seeds=…)` returned for two seeds or more.

    Raises:
        ValueError: If there are fewer than two seeds.

    Example:
        >>> by_seed = torch.tensor([[[1.0], [2.0], [4.0]], [[2.0], [4.0], [8.0]]])
        >>> seed_ceiling(Attribution(by_seed.mean(0), torch.arange(3), n_objects=3, by_seed=by_seed))
        tensor([1.], dtype=torch.float64)
    """
    attribution(truth, "truth")
    if truth.by_seed is None or len(truth.by_seed) < 2:
        raise ValueError("A ceiling needs two seeds or more: leave_one_out(…, seeds=[0, 1]).")
    pairs = torch.combinations(torch.arange(len(truth.by_seed)))
    return torch.stack([pearson(truth.by_seed[a], truth.by_seed[b]) for a, b in pairs.tolist()]).mean(dim=0)


def pearson_where(a: Float[Tensor, "k t"], b: Float[Tensor, "k t"], used: Bool[Tensor, "k t"]) -> Float[Tensor, " t"]:
    """Return the Pearson correlation across the removals used for each target; NaN where it has none.

    For targets that some removals concern otherwise than the rest, as a query that lists the removed item.

    Example:
        >>> a, b = torch.tensor([[1.0], [2.0], [4.0], [9.0]]), torch.tensor([[2.0], [4.0], [8.0], [-5.0]])
        >>> pearson_where(a, b, torch.tensor([[True], [True], [True], [False]])).round(decimals=6).item()
        1.0
    """
    if not a.shape == b.shape == used.shape:
        shapes = ", ".join(str(tuple(part.shape)) for part in (a, b, used))
        raise ValueError(f"`a`, `b` and `used` must be of one shape, (removals, targets), got {shapes}.")
    count = used.sum(dim=0)
    left, right = (torch.where(used, scores.double(), 0.0) for scores in (a, b))
    left, right = (torch.where(used, scores - scores.sum(dim=0) / count, 0.0) for scores in (left, right))
    return (left * right).sum(dim=0) / (left.norm(dim=0) * right.norm(dim=0))


@dataclass(frozen=True)
class Interval:
    """A number with the ends of its interval."""

    value: float
    low: float
    high: float


def bootstrap_interval(
    estimate: AnyScores,
    truth: AnyScores,
    *,
    statistic: Callable[[Tensor, Tensor], Tensor] = pearson,
    fisher: bool = False,
    level: float = 0.95,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Return a statistic's mean over targets, with an interval from its spread when removals are drawn again.

    The interval is the normal one about the value, with the bootstrap's standard error; for `pearson` and `spearman`
    on Fisher's scale, artanh. Percentiles would be off: drawing with replacement ties ranks, which lowers a high rank
    correlation, so that a percentile interval can lie beneath the value itself.

    Args:
        estimate: Predicted scores.
        truth: Measured scores of the same removals.
        statistic: `statistic(a, b) -> (t,)` of (k, t) scores: `pearson`, `spearman`, `slope`.
        fisher: Whether it is a correlation: `pearson` and `spearman` are.
        level: Coverage.
        n_resamples: How often the k removals are drawn with replacement.
        seed: Of the draws.

    Raises:
        ValueError: If `level` is not between 0 and 1, or there is nothing to draw.

    Warns:
        UserWarning: Once, of what `statistic` warns of; and if a resample has no target with a defined statistic.

    References:
        Efron & Tibshirani (1993), "An Introduction to the Bootstrap", Sections 12.4 and 12.6; Fisher (1921).

    Example:
        >>> a = torch.arange(30.0)[:, None]
        >>> interval = bootstrap_interval(a, a + torch.sin(3 * a))
        >>> 0.99 < interval.low < interval.value < interval.high < 1
        True
    """
    if number(level, "level", above=0) >= 1:
        raise ValueError(f"`level` must be a coverage between 0 and 1, got {level}.")
    n_resamples = whole(n_resamples, "n_resamples", least=2)
    if not callable(statistic):
        raise TypeError(f"`statistic` must be a function of two tensors of scores, got {told(statistic)}.")
    k = len((pair := Pair.of(estimate, truth)).a)
    draw = torch.Generator().manual_seed(whole(seed, "seed"))
    value, drawn = statistic(pair.a, pair.b).nanmean().double(), []
    # What the statistic has to say of the scores it said of all of them, and need not of each resample.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(n_resamples):
            rows = torch.randint(k, (k,), generator=draw)
            drawn.append(statistic(pair.a[rows], pair.b[rows]).nanmean())
    spread = torch.stack(drawn).double()
    if undefined := int(spread.isnan().sum()):
        warn(
            f"{undefined} of {n_resamples} resamples have no target with a defined statistic; the interval is from the "
            "others. Measure more removals.",
        )
        spread = spread[~spread.isnan()]
    return interval(value, spread, fisher=fisher or statistic in (pearson, spearman), level=level)


def interval(value: Tensor, spread: Float[Tensor, " r"], *, fisher: bool, level: float = 0.95) -> Interval:
    """Return the normal interval about a value by the spread of resamples, on Fisher's scale where asked."""
    if fisher:
        value, spread = (numbers.clamp(-1 + 1e-15, 1 - 1e-15).atanh() for numbers in (value, spread))
    reach = NormalDist().inv_cdf((1 + level) / 2) * spread.std().item()
    ends = torch.stack([value, value - reach, value + reach])
    return Interval(*(ends.tanh() if fisher else ends).tolist())
