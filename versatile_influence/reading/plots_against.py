"""Pictures of one attribution against what else is known of each object."""

from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.checks import array
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import MANY_DOTS
from versatile_influence.reading.pairs import attribution as checked
from versatile_influence.reading.plots_one import axes, frame, name_largest, opacity, target_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def influence_vs_time(
    attribution: Attribution, durations: object, events: object, *, target: object = 0, ax: "Axes | None" = None
) -> "Axes":
    """Draw the change of one target of a survival model against each patient's observed time, by event or censoring.

    Args:
        attribution: Scores; objects are patients, removed one at a time.
        durations: Observed time of each of the n patients, in the order of the training data: a frame's column, a
            tensor, an array.
        events: 1 or True where the event happened.
        target: Number or name of the target.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If patients were removed in groups, or lengths disagree.

    Example:
        >>> import torch
        >>> a = Attribution(torch.tensor([[0.1], [-0.5], [0.2]]), torch.arange(3), n_objects=3)
        >>> ax = influence_vs_time(a, torch.tensor([1.0, 2.0, 5.0]), torch.tensor([1.0, 0.0, 1.0]))  # doctest: +SKIP
    """
    target = checked(attribution).column(target)
    times, happened = _of_each(attribution, durations=durations, events=events)
    happened = happened > 0
    change = attribution.scores[:, target].detach().cpu().double().numpy()
    ax = axes(ax, figsize=(6.4, 4.2))
    ax.axhline(0.0, color="0.6", linewidth=1, zorder=1)
    drawn = {"alpha": opacity(len(times)), "rasterized": len(times) > MANY_DOTS}
    ax.scatter(times[~happened], change[~happened], s=16, facecolors="none", edgecolors="C0", label="censored", **drawn)
    ax.scatter(times[happened], change[happened], s=18, color="C1", linewidths=0, label="event", **drawn)
    name_largest(ax, times, change, by=change, names=list(map(str, attribution.names())))
    name = target_name(attribution, target)
    ax.set(xlabel="observed time", ylabel=f"change of {name} without the patient")
    ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
    frame(ax)
    return ax


def leverage(attribution: Attribution, leverage: object, *, target: object = 0, ax: "Axes | None" = None) -> "Axes":
    """Draw the change of one target without each object against its leverage, hollow where it is not trusted.

    On the right are those who are unlike the others, above and below those who move the answer: both at once is where a
    wrong unit or a slip of the pen is found, and where first order is trusted least.

    Args:
        attribution: Scores; objects are removed one at a time.
        leverage: A number for each of the n objects, such as the column of `vif.influence_frame`, or any other size.
        target: Number or name of the target.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If objects were removed in groups, or there is not a number each.

    Example:
        >>> import torch
        >>> a = Attribution(torch.tensor([[0.1], [-0.5], [0.2]]), torch.arange(3), n_objects=3)
        >>> ax = leverage(a, [0.1, 0.7, 0.2])  # doctest: +SKIP
    """
    target = checked(attribution).column(target)
    (shares,) = _of_each(attribution, leverage=leverage)
    change = attribution.scores[:, target].detach().cpu().double().numpy()
    filled = attribution.trusted.cpu().numpy()
    ax = axes(ax, figsize=(6.4, 4.2))
    ax.axhline(0.0, color="0.6", linewidth=1, zorder=1)
    drawn = {"alpha": opacity(len(shares)), "rasterized": len(shares) > MANY_DOTS, "s": 18}
    ax.scatter(shares[filled], change[filled], color="C0", linewidths=0, **drawn)
    ax.scatter(shares[~filled], change[~filled], facecolors="none", edgecolors="C0", **drawn)
    name_largest(ax, shares, change, by=change, names=list(map(str, attribution.names())))
    ax.set(xlabel="leverage", ylabel=f"change of {target_name(attribution, target)} without the object")
    hollow = f"; hollow: {int((~filled).sum()):,} not trusted or not checked" if not filled.all() else ""
    ax.set_title(f"Who is unlike the others, and who moves the answer{hollow}", fontsize=10)
    frame(ax)
    return ax


def _of_each(attribution: Attribution, **given: object) -> list[np.ndarray]:
    """Return what was given of all n objects for those removed, one after another."""
    if isinstance(attribution.objects, tuple):
        raise ValueError("Objects were removed in groups, which have nothing of their own. Remove them one at a time.")
    values = {name: array(value, name).numpy().reshape(-1) for name, value in given.items()}
    if any(len(value) != attribution.n_objects for value in values.values()):
        counts = " and ".join(f"{len(value)} `{name}`" for name, value in values.items())
        raise ValueError(
            f"There are {attribution.n_objects} objects, but {counts}. Give one of each for every object of the "
            "training data."
        )
    rows = attribution.objects.cpu().numpy()
    return [value[rows] for value in values.values()]
