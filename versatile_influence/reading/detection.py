"""Finding bad training objects by their scores, and how well it went where the bad ones were planted."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import numbers, whole
from versatile_influence.core.sizes import SUSPICIOUS
from versatile_influence.core.tables import flags


def suspicious(changes: object) -> Bool[Tensor, " n"]:
    """Return which objects a trusted loss is better without by far: below 0 and far below the median change.

    Far is 3.5 robust standard deviations, 1.4826 times the median absolute deviation.

    Args:
        changes: Predicted change of the trusted loss without each object, f(θ without i) − f(θ).

    Example:
        >>> suspicious(torch.tensor([0.1, 0.2, -0.1, 0.0, -9.0])).tolist()
        [False, False, False, False, True]
    """
    found = numbers(changes, "changes", shape=[None], finite=False)
    middle = found.nanmedian()
    return (found < 0) & (found < middle - SUSPICIOUS * 1.4826 * (found - middle).abs().nanmedian())


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
