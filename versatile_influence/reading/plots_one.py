"""Pictures of attributions: each draws on the axes given, or on new ones, and returns them.

All say with an IndexError that there is no such target, and with an ImportError that matplotlib is missing. Nothing is
shown or saved, and no global setting is touched: colours are those of the style in use.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.checks import array, instance, whole
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import MANY_DOTS, NAMED_DOTS
from versatile_influence.core.words import missing
from versatile_influence.reading.metrics import agreement
from versatile_influence.reading.pairs import Pair
from versatile_influence.reading.pairs import attribution as checked

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scatter(estimate: Attribution, truth: Attribution, *, target: object = 0, ax: "Axes | None" = None) -> "Axes":
    """Draw the predicted change of one target against the measured one, a dot a removal, with the line of identity.

    The title holds Pearson's r and the slope of measured on predicted; removals without a result are counted there.
    The largest measured changes are named; what is not trusted (`Attribution.trusted`) is hollow, and what was not
    checked is counted too.

    Args:
        estimate: Predicted scores.
        truth: Measured scores of the same removals and targets.
        target: Number or name of the target.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If the two are about different things.

    Example:
        >>> import torch
        >>> a = Attribution(torch.tensor([[0.1], [-0.5], [0.2]]), torch.arange(3), n_objects=3)
        >>> ax = scatter(a, a)  # doctest: +SKIP
    """
    target = checked(estimate).column(target)
    pair = Pair.of(estimate, truth)
    x, y = (scores[:, target].cpu().numpy() for scores in (pair.a, pair.b))
    ax = axes(ax, figsize=(5.2, 5.0))

    both = np.concatenate([x, y])
    middle, reach = (both.max() + both.min()) / 2, (both.max() - both.min()) / 2 or 1.0
    limits = (middle - 1.08 * reach, middle + 1.08 * reach)
    ax.plot(limits, limits, color="0.6", linewidth=1, zorder=1)
    gone = set(pair.left_out)
    kept = [row for row, name in enumerate(map(str, estimate.names())) if name not in gone]
    everybody, filled = estimate.names(), estimate.trusted[kept].cpu().numpy()
    names = [str(everybody[row]) for row in kept]
    drawn = {"alpha": _opacity(len(x)), "zorder": 2, "rasterized": len(x) > MANY_DOTS}
    ax.scatter(x[filled], y[filled], s=14, linewidths=0, **drawn)
    ax.scatter(x[~filled], y[~filled], s=14, facecolors="none", edgecolors="C0", **drawn)
    _name_largest(ax, x, y, by=y, names=names)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.locator_params(nbins=6)

    name = _target_name(estimate, target)
    ax.set(xlabel=f"predicted change of {name}", ylabel=f"measured change of {name}")
    found = agreement(pair.a[:, target], pair.b[:, target])
    failed = f", {len(gone)} without a result" if gone else ""
    said = f"r = {found.mean_pearson:.4f}, slope {found.slope:.3f}, {len(x):,} removals{failed}"
    ax.set_title(said + _unchecked(estimate, kept), fontsize=10)
    return ax


def top(attribution: Attribution, *, target: object = 0, k: int = 20, ax: "Axes | None" = None) -> "Axes":
    """Draw the k largest changes of one target as bars, largest on top, with the objects' names.

    A bar to the right: without this object, the target would be larger. One that is not trusted is hollow;
    of those that were not checked the title tells.

    Args:
        attribution: Scores.
        target: Number or name of the target.
        k: How many bars.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If k < 1.

    Example:
        >>> import torch
        >>> a = Attribution(torch.tensor([[0.1], [-0.5], [0.2]]), torch.arange(3), n_objects=3)
        >>> ax = top(a, k=2)  # doctest: +SKIP
    """
    target = checked(attribution).column(target)
    k = whole(k, "k", least=1)
    column = attribution.scores[:, target].detach().cpu().double()
    number = min(k, int(column.isfinite().sum()))
    rows = column.abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:number].numpy()
    values, names = column.numpy()[rows], attribution.names()
    ax = axes(ax, figsize=(6.0, 1.1 + 0.24 * number))
    place = np.arange(number)
    colours = np.where(values > 0, "C0", "C1")
    filled = np.where(attribution.trusted[rows].cpu().numpy(), colours, "none")
    ax.barh(place, values, color=filled, edgecolor=colours, linewidth=1, height=0.66)
    ax.axvline(0.0, color="0.3", linewidth=0.8)
    ax.set_yticks(place, [plain(names[row]) for row in rows], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(number - 0.4, -0.6), xlabel=f"change of {_target_name(attribution, target)} without this object")
    ax.margins(x=0.06)
    ax.locator_params(axis="x", nbins=6)
    _frame(ax, left=False)
    shown = f"the {number} largest of {len(column):,}" if number < len(column) else f"all {number}"
    ax.set_title(f"What moves {_target_name(attribution, target)}: {shown}{_unchecked(attribution, rows)}", fontsize=10)
    return ax


def _unchecked(attribution: Attribution, rows: Sequence[int] | np.ndarray) -> str:
    """Return how many of the removals drawn were not checked, where it is not none."""
    count = attribution.part(rows).verdicts().count("not checked")
    return f", {count:,} not checked" if count else ""


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
    if isinstance(attribution.objects, tuple):
        raise ValueError("Patients were removed in groups, which have no time of their own. Remove them one at a time.")
    times, happened = array(durations, "durations").numpy().reshape(-1), array(events, "events").numpy().reshape(-1) > 0
    if len(times) != attribution.n_objects or len(happened) != attribution.n_objects:
        raise ValueError(
            f"There are {attribution.n_objects} patients, but {len(times)} durations and {len(happened)} events. "
            "Give one of each for every patient of the training data."
        )
    rows = attribution.objects.cpu().numpy()
    times, happened = times[rows], happened[rows]
    change = attribution.scores[:, target].detach().cpu().double().numpy()
    ax = axes(ax, figsize=(6.4, 4.2))
    ax.axhline(0.0, color="0.6", linewidth=1, zorder=1)
    drawn = {"alpha": _opacity(len(times)), "rasterized": len(times) > MANY_DOTS}
    ax.scatter(times[~happened], change[~happened], s=16, facecolors="none", edgecolors="C0", label="censored", **drawn)
    ax.scatter(times[happened], change[happened], s=18, color="C1", linewidths=0, label="event", **drawn)
    _name_largest(ax, times, change, by=change, names=list(map(str, attribution.names())))
    name = _target_name(attribution, target)
    ax.set(xlabel="observed time", ylabel=f"change of {name} without the patient")
    ax.legend(frameon=False, fontsize=9, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=2, borderaxespad=0.2)
    _frame(ax)
    return ax


def axes(ax: object, *, figsize: tuple[float, float]) -> "Axes":
    """Return the axes to draw on, new ones for None.

    Raises:
        ImportError: If there is no matplotlib.
        TypeError: If they are no axes.
    """
    try:
        import matplotlib.pyplot as plt
        from matplotlib.axes import Axes
    except ImportError as error:
        raise missing(error, "plots need matplotlib", "plots") from error
    if ax is None:
        return plt.subplots(figsize=figsize, layout="constrained")[1]
    return instance(ax, "ax", Axes, "plt.subplots()[1]")


def plain(name: object) -> str:
    """Return a name as text that matplotlib shows as it is: a dollar begins no formula."""
    return str(name).replace("$", r"\$")


def _target_name(attribution: Attribution, target: int) -> str:
    return f"target {target}" if attribution.targets is None else plain(attribution.targets[target])


def _opacity(number: int) -> float:
    """Return how opaque dots are, so that a cloud shows where it is dense."""
    return float(np.clip(60 / max(number, 1) ** 0.65, 0.15, 0.9))


def _frame(ax: "Axes", *, left: bool = True) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_visible(left)


def _name_largest(ax: "Axes", x: np.ndarray, y: np.ndarray, *, by: np.ndarray, names: list[str]) -> None:
    """Write the names of the largest changes beside their dots, on the side towards the middle."""
    middle = (np.nanmax(x) + np.nanmin(x)) / 2
    largest = np.argsort(-np.nan_to_num(np.abs(by), nan=-1.0), kind="stable")[:NAMED_DOTS]
    for row in largest[np.isfinite(by[largest])]:
        right = x[row] > middle
        place = {"xytext": (-6 if right else 6, 0), "ha": "right" if right else "left"}
        ax.annotate(plain(names[row]), (x[row], y[row]), textcoords="offset points", va="center", fontsize=8, **place)
