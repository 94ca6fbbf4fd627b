"""From what trainings gave to an attribution."""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from versatile_influence.core.ravel import Params
from versatile_influence.core.removals import Removals
from versatile_influence.core.result import Attribution
from versatile_influence.core.target import PresenceTarget
from versatile_influence.core.warn import warn
from versatile_influence.verbs.retrainings import Outcome, Retraining
from versatile_influence.verbs.store import Finished


def assembled(
    training: Retraining,
    removals: Removals,
    repeats: list[int | None],
    full: list[tuple[Params, Outcome]],
    outcomes: Finished,
) -> Attribution:
    """Return the scores, means over seeds, with what failed."""
    before = np.stack([outcome.values for _, outcome in full])
    after = np.full((len(repeats), removals.count, before.shape[1]), np.nan)
    failed = {}
    for (position, row), outcome in sorted(outcomes.items()):
        if outcome.reason is not None:
            failed[row] = outcome.reason if repeats[position] is None else f"seed {repeats[position]}: {outcome.reason}"
        else:
            after[position, row] = outcome.values
    _warn(removals.count, failed, full, outcomes)
    by_seed = torch.from_numpy(after - before[:, None])
    result = Attribution(
        by_seed.mean(dim=0),
        removals.objects(),
        n_objects=removals.n_objects,
        targets=training.target.labels,
        about=training.target.about,
        failed=failed or None,
        by_seed=by_seed if repeats != [None] else None,
        error=torch.where(by_seed.isnan().any(2).any(0), float("nan"), 0.0).double(),
    )
    if not isinstance(training.target, PresenceTarget):
        return result
    direct = torch.stack([_direct(training, removals, params, outcome) for params, outcome in full]).mean(dim=0)
    return replace(result, direct=direct, parameter=result.scores - direct)


def _direct(training: Retraining, removals: Removals, params: Params, full: Outcome) -> Tensor:
    """Return f(θ, 1₋ᵢ) − f(θ, 1) of each removal."""
    rows = []
    for row in range(removals.count):
        presence = removals.part(row, row + 1).presences(torch.empty(0, dtype=torch.float64))[0]
        rows.append(training.value(params, presence) - full.values)
    return torch.from_numpy(np.stack(rows))


def _warn(count: int, failed: dict[int, str], full: list, outcomes: Finished) -> None:
    """Say what went wrong, once.

    Raises:
        ValueError: If no training succeeded.
    """
    if failed:
        row, reason = next(iter(failed.items()))
        said = f"{len(failed)} of {count} retrainings failed; the first, row {row}: {reason}"
        if len(failed) == count:
            raise ValueError(f"{said}. Try fit(presence) with one entry of presence 0.0.")
        warn(f"{said}. Their scores are NaN; see Attribution.failed.")
    # The commonest mistake of all: a `fit` that ignores its argument gives scores of exactly zero.
    elif all(outcome.digest == full[position][1].digest for (position, _), outcome in outcomes.items()):
        warn(
            f"All {count} retrainings gave exactly the parameters of the full training. Does `fit` use `presence`? "
            "Where the objects removed truly take no part, this is right.",
        )
