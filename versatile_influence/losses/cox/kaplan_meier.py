"""The estimate of Kaplan & Meier."""

from typing import Literal

import numpy as np


def kaplan_meier(
    stop: np.ndarray, event: np.ndarray, weight: np.ndarray, entry: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return 0 and the times of events, and the estimated share without an event from each on (Kaplan & Meier 1958).

    Example:
        >>> kaplan_meier(np.array([1.0, 2, 3]), np.array([1, 0, 1]), np.ones(3), None)
        (array([0., 1., 3.]), array([1. ..., 0.66..., 0. ...]))
    """
    times, place = np.unique(stop[event > 0], return_inverse=True)
    happened = np.bincount(place, weights=weight[event > 0], minlength=len(times))
    at_risk = _from(stop, weight, times, side="left")
    if entry is not None:
        at_risk -= _from(entry, weight, times, side="left")
    return np.append(0.0, times), np.append(1.0, np.cumprod(1 - happened / at_risk))


def _from(when: np.ndarray, weight: np.ndarray, times: np.ndarray, *, side: Literal["left", "right"]) -> np.ndarray:
    """Return the weight of those whose time is each of `times` or later."""
    order = np.argsort(when, kind="stable")
    total = np.append(np.cumsum(weight[order][::-1])[::-1], 0.0)
    return total[np.searchsorted(when[order], times, side=side)]
