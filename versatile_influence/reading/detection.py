"""Finding bad training objects by their scores, and how well it went where the bad ones were planted."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import number, numbers, whole
from versatile_influence.core.sizes import FALSE_DISCOVERIES, SUSPICIOUS
from versatile_influence.core.tables import flags


def suspicious(changes: object, *, rate: float = FALSE_DISCOVERIES) -> Bool[Tensor, " n"]:
    """Return which objects a trusted loss is better without by far: below 0 and far below the median change.

    Far is 3.5 robust standard deviations, 1.4826 times the median absolute deviation, and further where tails are
    heavy: changes of ordinary objects lie as far on either side of the median, so that those above it by t or more tell
    how many of those below by t are there by chance. The nearest t is taken at which these are at most `rate` of them.

    Args:
        changes: Predicted change of the trusted loss without each object, f(θ without i) − f(θ).
        rate: Expected share of ordinary objects among those returned, up to 1, which asks for 3.5 deviations alone.

    References:
        Barber & Candès (2015), "Controlling the false discovery rate via knockoffs": the count of the other side,
        without their + 1, as few objects must do.

    Example:
        >>> suspicious(torch.tensor([0.1, 0.2, -0.1, 0.0, -9.0])).tolist()
        [False, False, False, False, True]
        >>> suspicious(torch.tensor([0.1, 9.5, -0.1, 0.0, -9.0])).any().item()
        False
    """
    found, rate = numbers(changes, "changes", shape=[None], finite=False), number(rate, "rate", least=0)
    below = found.nanmedian() - found
    far = (found < 0) & (below > SUSPICIOUS * 1.4826 * below.abs().nanmedian())
    if rate >= 1 or not far.any():
        return far
    distances = below[far].sort(descending=True).values
    above = (-below[below < 0]).sort().values
    as_far = len(above) - torch.searchsorted(above, distances)
    kept = (as_far <= rate * torch.arange(1, len(distances) + 1)).nonzero()
    return far & (below >= distances[kept[-1, 0]]) if len(kept) else torch.zeros_like(far)


def area(score: object, planted: object) -> float:
    """Return the area under the ROC curve: the probability that a planted object scores above another, ties half.

    Equivalent to `sklearn.metrics.roc_auc_score(planted, score)`.

    Args:
        score: Larger where an object looks worse.
        planted: Which objects are bad.

    Raises:
        ValueError: If no object or every object is planted.

    Example:
        >>> area(torch.tensor([3.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
        0.875
    """
    values, bad = _checked(score, planted)
    others, found = values[~bad].sort().values, values[bad]
    below, upto = (torch.searchsorted(others, found, right=right).double() for right in (False, True))
    return ((below + upto) / 2 / len(others)).mean().item()


def precision(score: object, planted: object, *, k: int | None = None) -> float:
    """Return the share of planted objects among the k with the largest scores, expected over the order of ties.

    Args:
        score: Larger where an object looks worse.
        planted: Which objects are bad.
        k: How many are looked at; None for as many as are planted.

    Raises:
        ValueError: If no object or every object is planted, or k is not from 1 to n.

    Example:
        >>> precision(torch.tensor([3.0, 1.0, 1.0, 0.0]), torch.tensor([True, True, False, False]))
        0.75
    """
    values, bad = _checked(score, planted)
    k = int(bad.sum()) if k is None else whole(k, "k", least=1, most=len(values))
    last = values.topk(k).values[-1]
    sure, tied = values > last, values == last
    return ((bad[sure].sum() + (k - sure.sum()) * bad[tied].double().mean()) / k).item()


def _checked(score: object, planted: object) -> tuple[Float[Tensor, " n"], Bool[Tensor, " n"]]:
    values = numbers(score, "score", shape=[None])
    bad = flags(planted, "planted", len(values))
    if not bad.any() or bad.all():
        raise ValueError(f"{int(bad.sum())} of {len(bad)} objects are planted: nothing can be told apart.")
    return values, bad
