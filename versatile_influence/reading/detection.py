"""Finding bad training objects by their scores, and how well it went where the bad ones were planted."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.sizes import SUSPICIOUS


def suspicious(changes: Float[Tensor, " n"]) -> Bool[Tensor, " n"]:
    """Return which objects a trusted loss is better without by far: below 0 and far below the median change.

    Far is 3.5 robust standard deviations, 1.4826 times the median absolute deviation.

    Args:
        changes: Predicted change of the trusted loss without each object, f(θ without i) − f(θ).

    Example:
        >>> suspicious(torch.tensor([0.1, 0.2, -0.1, 0.0, -9.0])).tolist()
        [False, False, False, False, True]
    """
    deviation = 1.4826 * (changes - changes.median()).abs().median()
    return (changes < 0) & (changes < changes.median() - SUSPICIOUS * deviation)


def area(score: Float[Tensor, " n"], planted: Bool[Tensor, " n"]) -> float:
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
    _checked(planted)
    others, found = score[~planted].sort().values, score[planted]
    below, upto = (torch.searchsorted(others, found, right=right).double() for right in (False, True))
    return ((below + upto) / 2 / len(others)).mean().item()


def precision(score: Float[Tensor, " n"], planted: Bool[Tensor, " n"], *, k: int | None = None) -> float:
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
    _checked(planted)
    k = int(planted.sum()) if k is None else k
    if not 1 <= k <= len(score):
        raise ValueError(f"`k` must be from 1 to {len(score)}, the number of objects, got {k}.")
    last = score.topk(k).values[-1]
    sure, tied = score > last, score == last
    return ((planted[sure].sum() + (k - sure.sum()) * planted[tied].double().mean()) / k).item()


def _checked(planted: Bool[Tensor, " n"]) -> None:
    if not planted.any() or planted.all():
        raise ValueError(f"{int(planted.sum())} of {len(planted)} objects are planted: nothing can be told apart.")
