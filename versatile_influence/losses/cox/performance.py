"""How well a Cox model predicts held-out patients, and what it predicts of them, as targets."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import instance, number, numbers
from versatile_influence.core.ravel import Params
from versatile_influence.core.tables import flags
from versatile_influence.core.target import LabelledTarget, PresenceTarget
from versatile_influence.losses.cox.kaplan_meier import kaplan_meier
from versatile_influence.losses.cox.loss import CoxLoss


def smooth_concordance(
    loss: CoxLoss, x: object, durations: object, events: object, *, width: float = 0.1
) -> LabelledTarget:
    """Return the target of a smooth C-index: the mean of σ((ηᵢ − ηⱼ)/width) over pairs of which i dies first.

    As the width goes to 0 it is Harrell's C, whose derivative is 0 wherever it has one; `concordance` is that itself.

    Args:
        loss: The Cox loss.
        x: Held-out patients, a frame or (m, d).
        durations: Their times.
        events: Their events.
        width: Differences in log-risk below which a pair counts as nearly tied.

    Raises:
        ValueError: If no pair can be compared.

    Example:
        >>> trial = CoxLoss([[1.0], [0.0], [1.0], [0.0]], durations=[1, 2, 3, 4], events=[1, 1, 0, 1])
        >>> target = smooth_concordance(trial, [[2.0], [0.0]], [1, 2], [1, 1])
        >>> round(target(torch.tensor([0.1]).double()).item(), 3)  # σ(0.2/0.1)
        0.881
    """
    width = number(width, "width", above=0)
    rows, first, second = _pairs(loss, x, durations, events)

    def concordant(params: Params) -> Tensor:
        eta = loss.log_risks(params, rows)
        return torch.sigmoid((eta[first] - eta[second]) / width).mean().reshape(1)

    return LabelledTarget(concordant, ["smooth C-index"])


def concordance(loss: CoxLoss, x: object, durations: object, events: object) -> LabelledTarget:
    """Return the target of Harrell's C-index: the share of pairs in which who dies first has the higher risk.

    It is a step function, without a derivative: ask `vif.refit` for it, or `vif.newton_step`; `vif.attribute` says 0.
    """
    rows, first, second = _pairs(loss, x, durations, events)

    def concordant(params: Params) -> Tensor:
        eta = loss.log_risks(params, rows)
        lead = eta[first] - eta[second]
        return ((lead > 0).double() + 0.5 * (lead == 0).double()).mean().reshape(1)

    return LabelledTarget(concordant, ["C-index"])


def brier_score(loss: CoxLoss, x: object, durations: object, events: object, time: float) -> PresenceTarget:
    """Return the target of the Brier score at a time, with weights for those censored before it (IPCW).

        1/m Σᵢ [ S(t|xᵢ)² 1(Tᵢ ≤ t, Δᵢ = 1)/G(Tᵢ−) + (1 − S(t|xᵢ))² 1(Tᵢ > t)/G(t) ]

    G is the Kaplan–Meier estimate of not being censored among the held-out patients.

    Raises:
        ValueError: If nobody is followed past the time.

    References:
        Graf et al. (1999), "Assessment and comparison of prognostic classification schemes for survival data".
    """
    rows, times, happened = _held_out(loss, x, durations, events)
    moment = number(time, "time", above=0)
    if not (times > moment).any():
        raise ValueError(f"Nobody is followed past `time` {moment:g}: the last is at {times.max():g}. Ask for earlier.")
    uncensored, left = _not_censored(times, happened, times), _not_censored(times, happened, [moment], through=True)
    dead = torch.from_numpy(np.where((times <= moment) & happened, 1 / uncensored, 0.0))
    alive = torch.from_numpy(np.where(times > moment, 1 / left[0], 0.0))
    survival = loss.survival(x, [moment])

    def score(params: Params, presence: Tensor) -> Tensor:
        chance = survival(params, presence)
        return (dead * chance.square() + alive * (1 - chance).square()).sum().reshape(1) / len(rows)

    return PresenceTarget(score, [f"Brier score at {moment:g}"])


def restricted_mean(loss: CoxLoss, x: object, horizon: float) -> PresenceTarget:
    """Return the target of the restricted mean survival time of each patient: ∫ S(t|x) dt from 0 to the horizon.

    Of a stratified model the patients are a frame that has the columns of the strata.
    """
    end = number(horizon, "horizon", above=0)
    known = np.unique(loss.outer.sets.time_values)
    grid = np.concatenate([[0.0], known[(known > 0) & (known < end)]])
    widths = torch.from_numpy(np.diff(np.append(grid, end)))
    survival = loss.survival(x, grid)
    labels = [f"RMST({label})" for label in loss.test_rows(x)[1]]
    return PresenceTarget(lambda params, presence: survival(params, presence).reshape(-1, len(grid)) @ widths, labels)


def survival_quantile(loss: CoxLoss, x: object, share: float = 0.5) -> PresenceTarget:
    """Return the target of the time by which a share of patients like each will have died: the median at 0.5.

    Between event times the cumulative hazard is taken to be linear, so that the time moves with the parameters; where
    the share is not reached it is the last event time.
    """
    goal = -np.log1p(-number(share, "share", above=0, below=1))
    known = np.unique(loss.outer.sets.time_values)
    grid = torch.from_numpy(np.concatenate([[0.0], known[known > 0]]))
    survival = loss.survival(x, grid)
    labels = [f"quantile {share:g} of {label}" for label in loss.test_rows(x)[1]]

    def times(params: Params, presence: Tensor) -> Tensor:
        hazard = -survival(params, presence).reshape(-1, len(grid)).log()
        after = (hazard < goal).sum(1).clamp(1, len(grid) - 1)
        low, high = (hazard.gather(1, (after - side)[:, None])[:, 0] for side in (1, 0))
        share_of = ((goal - low) / (high - low).clamp_min(1e-300)).clamp(0, 1)
        return grid[after - 1] + share_of * (grid[after] - grid[after - 1])

    return PresenceTarget(times, labels)


def _held_out(
    loss: CoxLoss, x: object, durations: object, events: object
) -> tuple[Float[Tensor, "m d"], np.ndarray, np.ndarray]:
    instance(loss, "loss", CoxLoss, "vif.losses.CoxLoss(…)")
    rows, _ = loss.test_rows(x)
    times = numbers(durations, "durations", shape=[len(rows)], least=0).numpy()
    return rows, times, flags(events, "events", len(rows)).numpy()


def _pairs(loss: CoxLoss, x: object, durations: object, events: object) -> tuple[Float[Tensor, "m d"], Tensor, Tensor]:
    """Return held-out rows, and the pairs of which the first is known to die before the second."""
    rows, times, happened = _held_out(loss, x, durations, events)
    later = (times[:, None] < times) | ((times[:, None] == times) & ~happened)
    first, second = np.nonzero(later & happened[:, None])
    if not len(first):
        raise ValueError("No pair can be compared: nobody is known to die before another. Look at `events`.")
    return rows, torch.from_numpy(first), torch.from_numpy(second)


def _not_censored(times: np.ndarray, happened: np.ndarray, at: object, *, through: bool = False) -> np.ndarray:
    """Return the Kaplan–Meier estimate of not being censored before some times, or `through` them."""
    moments, order = np.asarray(at, dtype=float), np.unique(times)
    # Events come before censoring at the same time: half a place apart.
    place = 2 * np.searchsorted(order, times) + ~happened
    steps, left = kaplan_meier(place.astype(float), ~happened, np.ones(len(times)))
    known = order[steps[1:].astype(int) // 2]
    return left[np.searchsorted(known, moments, side="right" if through else "left")]
