"""Pictures of many targets, and of many steps, at once."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.checks import array, told, whole
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import NAMED_COLUMNS
from versatile_influence.reading.pairs import attribution as read
from versatile_influence.reading.plots_one import axes, frame, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def heatmap(attribution: Attribution, *, k: int = 20, ax: "Axes | None" = None) -> "Axes":
    """Draw the changes of all targets without each of the k objects that move any of them most.

    Red: without this object, the target would be larger; blue: smaller; white: none; grey: without a result.

    Args:
        attribution: Scores.
        k: How many objects, a row each, the largest on top.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If k < 1.

    Example:
        >>> import torch
        >>> a = Attribution(torch.tensor([[0.1, 0.2], [-0.5, 0.0]]), torch.arange(2), n_objects=2)
        >>> ax = heatmap(a)  # doctest: +SKIP
    """
    k = whole(k, "k", least=1)
    scores = read(attribution).scores.detach().cpu().double().numpy()
    largest = np.nan_to_num(np.abs(scores), nan=0.0).max(axis=1)
    rows = np.argsort(-largest, kind="stable")[:k]
    shown, names = scores[rows], attribution.names()
    targets = attribution.targets or list(range(scores.shape[1]))
    ax = axes(ax, figsize=(min(3.0 + 0.4 * len(targets), 9.0), 1.5 + 0.24 * len(rows)))
    limit = float(largest[rows].max()) or 1.0
    image = ax.imshow(np.ma.masked_invalid(shown), aspect="auto", cmap="RdBu_r", vmin=-limit, vmax=limit)
    ax.set_facecolor("0.8")
    ax.set_yticks(np.arange(len(rows)), [plain(names[row]) for row in rows], fontsize=9)
    if len(targets) <= NAMED_COLUMNS:
        long = max(len(str(name)) for name in targets) > 3
        turn = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if long else {}
        ax.set_xticks(np.arange(len(targets)), [plain(name) for name in targets], fontsize=9, **turn)
    ax.tick_params(length=0)
    ax.set(xlabel="target")
    ax.figure.colorbar(image, ax=ax, label="change without this object")
    few = f"the {len(rows)} largest of {len(scores):,}" if len(rows) < len(scores) else f"all {len(rows)}"
    ax.set_title(f"What moves the targets: {few}", fontsize=10)
    return ax


def convergence(
    curves: Mapping[str, tuple[Sequence[int | float], Sequence[int | float]]],
    *,
    effort: str = "steps",
    error: str = "relative residual",
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw how errors fall with effort, a curve a method, errors on a logarithmic axis.

    Args:
        curves: Effort and error at each point, by the method's name.
        effort: What effort is counted in, with its unit.
        error: What the error is.
        ax: Where to draw; new axes by default.

    Raises:
        ValueError: If a curve's two sides differ in length, or an error is not above 0.

    Example:
        >>> ax = convergence({"CG": ([1, 2, 4], [0.1, 0.01, 1e-4])})  # doctest: +SKIP
    """
    if not isinstance(curves, Mapping):
        raise TypeError(f"`curves` must be a dict from names to (efforts, errors), got {told(curves)}.")
    drawn = {name: [array(side, f"curves[{name!r}]").tolist() for side in pair] for name, pair in curves.items()}
    for name, (x, y) in drawn.items():
        if len(x) != len(y):
            raise ValueError(f"Curve {name!r} has {len(x)} efforts and {len(y)} errors; give one of each a point.")
        if not all(value > 0 for value in y):
            raise ValueError(f"Curve {name!r} has an error that is not above 0, which a logarithm cannot show.")
    ax = axes(ax, figsize=(6.0, 4.0))
    for name, (x, y) in drawn.items():
        ax.plot(x, y, "o-", markersize=4, linewidth=1.4, label=plain(name))
    ax.set_yscale("log")
    ax.set(xlabel=plain(effort), ylabel=plain(error))
    ax.grid(axis="y", color="0.9")
    ax.legend(frameon=False, fontsize=9)
    frame(ax)
    return ax
