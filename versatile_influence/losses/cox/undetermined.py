"""What of a Cox model hangs on one object alone."""

import numpy as np
import scipy
from torch import Tensor

from versatile_influence.losses.cox.survival_data import SurvivalRows, centred, tensor


def undetermined_without(rows: SurvivalRows) -> dict[int, dict[str, Tensor]] | None:
    """Return directions of the coefficients that nothing determines without an object, by object and covariate.

    Without it a covariate is constant, or a combination of others, within every stratum: such an object's leverage is
    1. Or there is no event. None where a penalty determines all, or a network.
    """
    if rows.leverage is None:
        return None
    # Without the only events there are, nothing determines any.
    events = np.bincount(rows.subject, weights=rows.event)
    every = {str(name): tensor(unit) for name, unit in zip(rows.columns, np.eye(rows.x.shape[1]), strict=True)}
    found = {int(one): every for one in np.flatnonzero(events == events.sum())}
    for one in np.flatnonzero(np.bincount(rows.subject, weights=rows.leverage) > 1 - 1e-9):
        there = rows.subject != one
        spread = rows.x.std(axis=0)
        _, sizes, ways = scipy.linalg.svd(
            centred(rows.x[there], rows.stratum[there]) / spread, full_matrices=len(rows.x) <= rows.x.shape[1]
        )
        flat = ways[np.append(sizes, np.zeros(len(ways) - len(sizes))) <= 1e-9 * sizes.max(initial=0.0)] / spread
        if len(flat) and int(one) not in found:
            found[int(one)] = {str(rows.columns[np.abs(way * spread).argmax()]): tensor(way) for way in flat}
    return found
