"""Attribution through some of the parameters only: the others are held at their trained values."""

from collections.abc import Sequence
from fnmatch import fnmatchcase

from versatile_influence.core.boundary import as_loss
from versatile_influence.core.checks import listed
from versatile_influence.core.given import Named, Subset
from versatile_influence.core.ravel import ravel


def subset(
    loss: object, params: Named, patterns: Sequence[str], *, n_objects: int | None = None
) -> tuple[Subset, Named]:
    """Return the loss as a function of the parameters that match, and those parameters; the others are held.

    Targets of all parameters are wrapped, `subset_loss.target(fn)`. What the held parameters would have changed in a
    retraining is not in the scores.

    Args:
        loss: A loss of a dict of parameters.
        params: All trained parameters.
        patterns: Names, or shell patterns of them such as `head.*`.
        n_objects: How many objects there are, where the loss does not say.

    Raises:
        TypeError: If the parameters are no dict.
        ValueError: If there is no pattern, or one matches no name.

    Example:
        >>> import torch
        >>> both = {"a": torch.zeros(2).double(), "b.c": torch.ones(1).double()}
        >>> loss = lambda p, presence: presence.sum() * (p["a"].sum() + p["b.c"].sum())
        >>> part, chosen = subset(loss, both, ["b.*"], n_objects=3)
        >>> list(chosen), part(chosen, torch.ones(3).double()).item()
        (['b.c'], 3.0)
    """
    if not isinstance(params, dict):
        raise TypeError("Some of the parameters are named in a dict of them; one tensor has no names.")
    patterns = [patterns] if isinstance(patterns, str) else listed(patterns, "patterns", "names of parameters")
    if not patterns:
        raise ValueError("`patterns` is empty. Name the parameters to keep free, as ['head.*'].")
    for pattern in patterns:
        if not isinstance(pattern, str) or not any(fnmatchcase(name, pattern) for name in params):
            raise ValueError(f"`patterns`: `{pattern}` matches none of the parameters: {', '.join(params)}.")
    chosen = {name: value for name, value in params.items() if any(fnmatchcase(name, p) for p in patterns)}
    ravel(chosen)
    return Subset(as_loss(loss, n_objects), params, tuple(chosen)), chosen
