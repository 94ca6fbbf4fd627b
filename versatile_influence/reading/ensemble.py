"""Several attributions of the same things as one: models of several seeds or checkpoints, averaged."""

from collections.abc import Sequence

import torch
from torch import Tensor

from versatile_influence.core.checks import listed
from versatile_influence.core.made import made_by
from versatile_influence.core.result import Attribution
from versatile_influence.reading.pairs import attribution


def ensemble(attributions: Sequence[Attribution]) -> Attribution:
    """Return the mean of attributions of the same removals and targets; `by_seed` keeps each one's scores.

    A single network's scores are about that network; what retraining shows from another random start differs by as
    much as networks do. The mean over starts predicts the mean over retrainings. Standard errors follow from `by_seed`.

    Args:
        attributions: One for each seed or checkpoint, made with the same `objects` and targets.

    Returns:
        Mean scores, and the mean direct and parameter parts where all have them. A removal that failed in one has no
        result in the mean.

    Raises:
        ValueError: If there are none, or they are about different removals or targets.

    Example:
        >>> one = Attribution(torch.tensor([[1.0], [2.0]]), torch.arange(2), n_objects=2)
        >>> two = Attribution(torch.tensor([[3.0], [2.0]]), torch.arange(2), n_objects=2)
        >>> ensemble([one, two]).scores.squeeze().tolist()
        [2.0, 2.0]
    """
    given = listed(attributions, "attributions", "what vif.attribute returns, each")
    members = [attribution(one, f"attributions[{place}]") for place, one in enumerate(given)]
    if not members:
        raise ValueError("There is nothing to average: pass at least one attribution.")
    first = members[0]
    for number, other in enumerate(members[1:], start=1):
        same = first.n_objects == other.n_objects and first.names() == other.names()
        if not same:
            raise ValueError(f"Attribution {number} is about other removals than the first. Use the same `objects`.")
        if first.scores.shape != other.scores.shape or _names(first) != _names(other):
            raise ValueError(
                f"Attribution {number} is about other targets than the first: {other.scores.shape[1]} of them "
                f"({_names(other)}), where the first has {first.scores.shape[1]} ({_names(first)}). "
                "Use the same target."
            )
    failed = {row: why for member in members for row, why in (member.failed or {}).items()}
    return Attribution(
        torch.stack([member.scores for member in members]).mean(dim=0),
        first.objects,
        n_objects=first.n_objects,
        labels=first.labels,
        targets=first.targets,
        about=first.about,
        direct=_mean([member.direct for member in members]),
        parameter=_mean([member.parameter for member in members]),
        failed=failed or None,
        by_seed=torch.stack([member.scores for member in members]),
        made=made_by("ensemble", members=[member.made for member in members]),
    )


def _names(attribution: Attribution) -> list[object] | None:
    return None if attribution.targets is None else list(attribution.targets)


def _mean(parts: Sequence[Tensor | None]) -> Tensor | None:
    kept = [part for part in parts if part is not None]
    return torch.stack(kept).mean(dim=0) if len(kept) == len(parts) else None
