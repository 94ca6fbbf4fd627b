"""Pictures of attributions: each draws on the axes given, or on new ones, and returns them.

All say with an IndexError that there is no such target, and with an ImportError that matplotlib is missing. Nothing is
shown or saved, and no global setting is touched: colours are those of the style in use.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.checks import instance, number, whole
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
    drawn = {"alpha": opacity(len(x)), "zorder": 2, "rasterized": len(x) > MANY_DOTS}
    ax.scatter(x[filled], y[filled], s=14, linewidths=0, **drawn)
    ax.scatter(x[~filled], y[~filled], s=14, facecolors="none", edgecolors="C0", **drawn)
    name_largest(ax, x, y, by=y, names=names)
    ax.set(xlim=limits, ylim=limits, aspect="equal")
    ax.locator_params(nbins=6)

    name = target_name(estimate, target)
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
    rows, column = _largest(attribution, target, whole(k, "k", least=1))
    values, names = column[rows], attribution.names()
    ax = axes(ax, figsize=(6.0, 1.1 + 0.24 * len(rows)))
    place = np.arange(len(rows))
    colours = np.where(values > 0, "C0", "C1")
    filled = np.where(attribution.trusted[rows].cpu().numpy(), colours, "none")
    ax.barh(place, values, color=filled, edgecolor=colours, linewidth=1, height=0.66)
    ax.axvline(0.0, color="0.3", linewidth=0.8)
    ax.set_yticks(place, [plain(names[row]) for row in rows], fontsize=9)
    ax.tick_params(axis="y", length=0)
    ax.set(ylim=(len(rows) - 0.4, -0.6), xlabel=f"change of {target_name(attribution, target)} without this object")
    ax.margins(x=0.06)
    ax.locator_params(axis="x", nbins=6)
    frame(ax, left=False)
    shown = f"the {len(rows)} largest of {len(column):,}" if len(rows) < len(column) else f"all {len(rows)}"
    ax.set_title(f"What moves {target_name(attribution, target)}: {shown}{_unchecked(attribution, rows)}", fontsize=10)
    return ax


def waterfall(
    attribution: Attribution, *, target: object = 0, k: int = 10, value: float = 0.0, ax: "Axes | None" = None
) -> "Axes":
    """Draw who pushed one answer up, and who down: the k largest, each a step that ends where the one above begins.

    The topmost step ends at the answer, the lowest begins at what it would be without these k. A step is −score: what
    is there with the object, less what is there without it. Steps add to first order, as do the scores of `attribute`;
    `refit` with `objects=[[…]]` says what removing them together does. Hollow: not trusted; of those that were not
    checked the title tells.

    Args:
        attribution: Scores.
        target: Number or name of the target.
        k: How many steps.
        value: The answer with everybody there; at 0 the axis is of changes.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If k < 1.

    Example:
        >>> import matplotlib, torch
        >>> matplotlib.use("agg")
        >>> a = Attribution(torch.tensor([[0.1], [-0.5], [0.2]]), torch.arange(3), n_objects=3)
        >>> [round(float(bar.get_width()), 1) for bar in waterfall(a, k=2, value=1.0).patches]
        [0.5, 0.2]
    """
    target, value = checked(attribution).column(target), number(value, "value")
    rows, column = _largest(attribution, target, whole(k, "k", least=1))
    pushes, names, place = -column[rows], attribution.names(), np.arange(len(rows))
    ends = value - np.concatenate([[0.0], np.cumsum(pushes)])
    ax = axes(ax, figsize=(6.4, 1.5 + 0.26 * len(rows)))
    colours = np.where(pushes > 0, "C1", "C0")
    filled = np.where(attribution.trusted[rows].cpu().numpy(), colours, "none")
    ax.barh(place, np.abs(pushes), left=np.minimum(ends[:-1], ends[1:]), color=filled, edgecolor=colours, height=0.66)
    ax.vlines(ends[1:-1], place[:-1] + 0.33, place[1:] - 0.33, color="0.6", linewidth=0.8)
    for line, words, high in ((ends[0], "as it is", True), (ends[-1], f"without these {len(rows)}", False)):
        ax.axvline(line, color="0.3", linewidth=0.8, linestyle="-" if high else "--", zorder=0)
        left = line <= (ends.max() + ends.min()) / 2
        beside = {"xytext": (3 if left else -3, 0), "ha": "left" if left else "right", "fontsize": 8, "color": "0.3"}
        ax.annotate(words, (line, -1 if high else len(rows)), textcoords="offset points", va="center", **beside)
    words = [plain(names[row]) + f"  {push:+.2g}".replace("-", "−") for row, push in zip(rows, pushes, strict=True)]
    ax.set_yticks(place, words, fontsize=9)
    ax.tick_params(axis="y", length=0)
    name = target_name(attribution, target)
    ax.set(ylim=(len(rows) + 0.4, -1.4), xlabel=name if value else f"change of {name}")
    ax.margins(x=0.06)
    ax.locator_params(axis="x", nbins=6)
    for colour, words in (("C1", "pushed it up"), ("C0", "pushed it down")):
        ax.scatter([], [], marker="s", s=36, color=colour, label=words)
    beneath = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "ncols": 2, "borderaxespad": 0.2}
    ax.legend(frameon=False, fontsize=9, handletextpad=0.2, **beneath)
    frame(ax, left=False)
    shown = f"the {len(rows)} largest of {len(column):,}" if len(rows) < len(column) else f"all {len(rows)}"
    ax.set_title(f"What made {name} so: {shown}{_unchecked(attribution, rows)}", fontsize=10, pad=20)
    return ax


def _largest(attribution: Attribution, target: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of the k largest changes that have a result, and all changes of the target."""
    column = attribution.scores[:, target].detach().cpu().double()
    count = min(k, int(column.isfinite().sum()))
    rows = column.abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:count]
    return rows.numpy(), column.numpy()


def _unchecked(attribution: Attribution, rows: Sequence[int] | np.ndarray) -> str:
    """Return how many of the removals drawn were not checked, where it is not none."""
    count = attribution.part(rows).verdicts().count("not checked")
    return f", {count:,} not checked" if count else ""


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


def target_name(attribution: Attribution, target: int) -> str:
    """Return what a target is called in a picture."""
    return f"target {target}" if attribution.targets is None else plain(attribution.targets[target])


def opacity(number: int) -> float:
    """Return how opaque dots are, so that a cloud shows where it is dense."""
    return float(np.clip(60 / max(number, 1) ** 0.65, 0.15, 0.9))


def frame(ax: "Axes", *, left: bool = True) -> None:
    """Leave the axes the sides that carry numbers."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines["left"].set_visible(left)


def name_largest(ax: "Axes", x: np.ndarray, y: np.ndarray, *, by: np.ndarray, names: list[str]) -> None:
    """Write the names of the largest changes beside their dots, on the side towards the middle."""
    middle = (np.nanmax(x) + np.nanmin(x)) / 2
    largest = np.argsort(-np.nan_to_num(np.abs(by), nan=-1.0), kind="stable")[:NAMED_DOTS]
    for row in largest[np.isfinite(by[largest])]:
        right = x[row] > middle
        place = {"xytext": (-6 if right else 6, 0), "ha": "right" if right else "left"}
        ax.annotate(plain(names[row]), (x[row], y[row]), textcoords="offset points", va="center", fontsize=8, **place)
