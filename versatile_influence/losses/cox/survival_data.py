"""Survival data checked at the boundary: errors name the row and the column."""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import scipy
import torch
from torch import Tensor

from versatile_influence.core.checks import array
from versatile_influence.core.labels import names
from versatile_influence.core.tables import LARGEST, codes

# Times that differ by less, relative to themselves, are one time.
TIED = 1e-9


@runtime_checkable
class Frame(Protocol):
    """What is asked of a pandas frame of test patients."""

    index: Any
    columns: Any

    def __getitem__(self, names: list[str]) -> Any:
        """Return some columns."""


@dataclass(frozen=True)
class SurvivalRows:
    """Rows of survival data as clean float64 arrays.

    Attributes:
        x: (rows, d) covariates.
        stop: Time of event or censoring.
        event: True where the event happened.
        start: Entry times, −∞ where a row is at risk from the beginning, or None.
        stratum: Codes 0…; all 0 without strata.
        strata: What the codes stand for, or None without strata.
        weight: Case weights, > 0.
        subject: Object number of each row.
        shared: Whether the objects are subjects, who may share rows, and not the rows themselves.
        labels: The objects' names, or None.
        columns: Names of the covariates.
        cluster: What robust errors are summed over, a code for each object, or None: the objects themselves.
        leverage: (rows,) share of each in the covariates within strata, or None where they may be collinear.
    """

    x: np.ndarray
    stop: np.ndarray
    event: np.ndarray
    start: np.ndarray | None
    stratum: np.ndarray
    strata: list | None
    weight: np.ndarray
    subject: np.ndarray
    shared: bool
    labels: list | None
    columns: list
    cluster: np.ndarray | None
    leverage: np.ndarray | None


def survival_rows(
    x: object,
    durations: object,
    events: object,
    *,
    entry: object = None,
    strata: object = None,
    weights: object = None,
    subjects: object = None,
    clusters: object = None,
    columns: object = None,
    labels: object = None,
    collinear: bool = False,
) -> SurvivalRows:
    """Return checked rows.

    Args are those of `CoxLoss`; `collinear` covariates are harmless with a penalty.

    Raises:
        TypeError: If something is not numeric.
        ValueError: If lengths differ, or a value is not allowed.
    """
    x = array(x, "x").numpy()
    x = x[:, None] if x.ndim == 1 else x
    if x.ndim != 2 or not x.size:
        raise ValueError(f"`x` must be (rows, covariates) and not empty, got shape {x.shape}.")
    n, d = x.shape
    columns = names(columns, d, "covariate", "columns", unique=True) or [f"x{j}" for j in range(d)]
    labels = names(labels, n, "row")
    named = range(n) if labels is None else labels
    stop, event = _column(durations, "durations", n), _column(events, "events", n)
    wrong: np.ndarray = ~(np.abs(x) < LARGEST)
    _refuse(
        np.asarray(wrong.any(axis=1)),
        named,
        lambda i: f"covariate `{columns[_first(wrong[i])]}` is {x[i, _first(wrong[i])]}",
        "Drop or impute such rows first, and measure in units in which numbers can be squared",
    )
    _refuse(
        ~np.isfinite(stop) | (stop < 0),
        named,
        lambda i: f"the duration is {stop[i]}",
        "Durations must be ≥ 0",
    )
    _refuse(
        ~np.isin(event, (0, 1)),
        named,
        lambda i: f"the event is {event[i]}",
        "Code events as 1 (or True) for happened and 0 for censored; other causes are censored",
    )
    if not event.any():
        raise ValueError(
            "There is no event: all rows are censored, and nothing can be learned. Check the event column."
        )
    start = None if entry is None else _column(entry, "entry", n)
    stop, start = settled(stop, start)
    if start is not None:
        _refuse(
            np.isnan(start) | (start >= stop),
            named,
            lambda i: f"the entry time {start[i]} is not before the duration {stop[i]}",
            "A row is at risk from entry to duration: entry must be smaller",
        )
    weight = np.ones(n) if weights is None else _column(weights, "weights", n)
    _refuse(
        ~np.isfinite(weight) | (weight <= 0),
        named,
        lambda i: f"the weight is {weight[i]}",
        "Weights must be positive; drop rows of weight 0",
    )
    stratum, strata = (np.zeros(n, dtype=np.int64), None) if strata is None else _codes(strata, "strata", n)
    subject, objects = (np.arange(n), labels) if subjects is None else _codes(subjects, "subjects", n)
    leverage, own = None if collinear else _leverage(x, stratum, columns), subjects is not None
    cluster = None if clusters is None else _of_objects(*_codes(clusters, "clusters", n), subject, named)
    given = stratum, strata, weight, subject, own, objects, columns, cluster, leverage
    return SurvivalRows(x, stop, event.astype(bool), start, *given)


def _column(values: object, name: str, n: int) -> np.ndarray:
    found = array(values, name).reshape(-1).numpy()
    if len(found) != n:
        raise ValueError(f"`{name}` has {len(found)} entries, but `x` has {n} rows. Give one for each row.")
    return found


def _codes(values: object, name: str, n: int) -> tuple[np.ndarray, list]:
    found, labels = codes(values, n, "row", name)
    return found.numpy(), labels


def _of_objects(code: np.ndarray, labels: list, subject: np.ndarray, rows: Any) -> np.ndarray:
    """Return the cluster of each object, from that of each row."""
    found = np.zeros(subject.max() + 1, dtype=np.int64)
    found[subject] = code
    other = found[subject]
    said = "the cluster is {!r}, and of another row of the same subject {!r}".format
    advice = "Rows of one subject belong to one cluster: else subjects are not independent of each other"
    _refuse(other != code, rows, lambda i: said(labels[code[i]], labels[other[i]]), advice)
    return found


def _first(flags: np.ndarray) -> int:
    return int(np.flatnonzero(flags)[0])


def _refuse(bad: np.ndarray, rows, describe, advice: str) -> None:
    """Raise for the first bad row, naming it and counting the others."""
    if bad.any():
        i, more = _first(bad), int(bad.sum()) - 1
        others = f" (and {more} more row{'s' * (more > 1)} like it)" if more else ""
        raise ValueError(f"In row {rows[i]}, {describe(i)}{others}. {advice}.")


def centred(x: np.ndarray, stratum: np.ndarray) -> np.ndarray:
    """Return covariates less their means in each stratum."""
    counts = np.bincount(stratum)
    means = np.stack([np.bincount(stratum, weights=column) / np.maximum(counts, 1) for column in x.T], axis=1)
    return x - means[stratum]


def _leverage(x: np.ndarray, stratum: np.ndarray, columns: list) -> np.ndarray:
    """Return the leverage of each row on the covariates within strata, xᵢ(XᵀX)⁻¹xᵢ + 1/nₛ; 0 of one that is alone.

    Raises:
        ValueError: If a covariate is constant, or a combination of others, within every stratum.
    """
    counts, less = np.bincount(stratum), centred(x, stratum)
    spread = np.sqrt((less**2).mean(axis=0))
    flat = spread <= 1e-12 * np.maximum(np.abs(x).max(axis=0), 1e-300)
    if flat.any():
        where = " within every stratum" if len(counts) > 1 else ""
        raise ValueError(f"Column `{columns[_first(flat)]}` is constant{where}: it has no effect to estimate. Drop it.")
    # R of a QR decomposition of the (d, d) Gram factor would lose half the digits; (rows, d) is cheap enough.
    basis, triangle, order = scipy.linalg.qr(less / (spread * np.sqrt(len(x))), mode="economic", pivoting=True)
    short = np.abs(np.diagonal(triangle)) < 1e-9
    if short.any() or len(x) < x.shape[1]:
        name = columns[order[_first(short)]] if short.any() else columns[-1]
        raise ValueError(
            f"Column `{name}` is a linear combination of the others (collinear), so its coefficient is not defined. "
            "Drop it, or give a penalty > 0."
        )
    alone = np.abs(less).max(axis=1, initial=0.0) == 0
    return np.where(alone, 0.0, (basis**2).sum(axis=1) + 1 / counts[stratum])


def robust_by_default(rows: SurvivalRows) -> bool:
    """Return whether R's `coxph` would print robust errors: clusters, weights that are no counts, or repeated events.

    Example:
        >>> robust_by_default(survival_rows([[1.0], [0.0], [1.0]], [1, 2, 3], [1, 1, 1], weights=[0.5, 1, 2]))
        True
    """
    fractions = bool((rows.weight != np.round(rows.weight)).any())
    repeated = rows.shared and bool((np.bincount(rows.subject[rows.event]) > 1).any())
    return fractions or repeated or rows.cluster is not None


def settled(stop: np.ndarray, start: np.ndarray | None) -> tuple[np.ndarray, np.ndarray | None]:
    """Return times of which those equal to within rounding, a relative 1e-9, are equal.

    Follow-up in years out of days has ties that differ in their last digit, which R's `coxph` takes for ties too
    (`timefix`; Therneau, "Roundoff error and tied times"). Whole numbers have none.

    Example:
        >>> settled(np.array([0.1 + 0.2, 0.3, 1.0]), None)[0].tolist()
        [0.3, 0.3, 1.0]
    """
    both = stop if start is None else np.concatenate([stop, start[np.isfinite(start)]])
    if (both == np.round(both)).all():
        return stop, start
    times = np.unique(both)
    first = np.concatenate([[True], np.diff(times) > TIED * np.abs(times[1:])])
    known = times[first][np.cumsum(first) - 1]
    stop = known[np.searchsorted(times, stop)]
    if start is not None:
        inside = np.isfinite(start)
        start = np.where(inside, known[np.searchsorted(times, np.where(inside, start, times[0]))], start)
    return stop, start


def tensor(array: np.ndarray) -> Tensor:
    """Return a NumPy array as a contiguous tensor."""
    return torch.from_numpy(np.ascontiguousarray(array))
