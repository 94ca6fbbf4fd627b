"""The pictures of a report, each drawn small enough for a telephone, as SVG inside the page."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import CARRIERS, CURVES, MANY_DOTS, NAMED_DOTS
from versatile_influence.losses.cox.kaplan_meier import kaplan_meier
from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.reading.plots_one import plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Name, times, share without an event, and the rows it is of.
Curve = tuple[str, np.ndarray, np.ndarray, np.ndarray]
BLUE, ORANGE = "#1f5fa8", "#c2571a"
WIDTH = 3.5


@dataclass(frozen=True)
class Picture:
    """A picture and the words that stand for it.

    Attributes:
        svg: The picture.
        words: What is in it.
    """

    svg: str
    words: str


class Pictures:
    """Pictures of a Cox model and of the patients who carry it.

    Args:
        loss: The loss.
        errors: Standard errors of the coefficients, the unit of their changes.
        carriers: Predicted and refitted changes by the same patients.
        labels: Names of all patients.
    """

    def __init__(self, loss: CoxLoss, errors: Tensor, carriers: tuple[Attribution, Attribution], labels: list[str]):
        self.loss, self.errors, self.labels = loss, errors.numpy(), labels
        self.predicted, self.truth = carriers
        self.count = 0
        sets, owner = loss.outer.sets, loss.outer.object_of_row.numpy()
        self.time, self.event = np.zeros(loss.n_objects), np.zeros(loss.n_objects, dtype=bool)
        np.maximum.at(self.time, owner, sets.stops)
        np.logical_or.at(self.event, owner, sets.event.numpy() > 0)

    def carriers(self, place: int) -> Picture:
        """Return who moves a coefficient most: predicted changes, hollow where not trusted, and refitted ones."""
        name, error = str((self.predicted.targets or [])[place]), self.errors[place]
        column = self.predicted.scores[:, place].numpy() / error
        order = np.argsort(-np.abs(np.nan_to_num(column)), kind="stable")[:CARRIERS]
        refitted, trusted = self.truth.scores[:, place].numpy() / error, self.predicted.trusted.numpy()
        names = self.predicted.names()

        def draw(ax: "Axes") -> None:
            for y, row in enumerate(order):
                ax.plot([0, column[row]], [y, y], color="0.85", linewidth=1, zorder=1)
                face = BLUE if trusted[row] else "white"
                ax.plot(column[row], y, "o", color=BLUE, markerfacecolor=face, markersize=6, zorder=2)
                ax.plot(refitted[row], y, "|", color=ORANGE, markersize=13, markeredgewidth=2, zorder=3)
            ax.axvline(0, color="0.5", linewidth=0.8)
            ax.set_yticks(range(len(order)), [plain(_short(names[row])) for row in order])
            ax.set(ylim=(len(order) - 0.5, -0.5), xlabel="change without the patient, in SE")
            ax.set_title(plain(_short(name, 40)), fontsize=10, loc="left")
            ax.margins(x=0.1)
            ax.locator_params(axis="x", nbins=5)

        said = [f"{names[row]} {column[row]:+.2f} predicted, {refitted[row]:+.2f} refitted" for row in order]
        return self._drawn(draw, 2.3, f"Change of {name} in standard errors: {'; '.join(said)}.")

    def influence(self, size: Tensor, leverage: Float[np.ndarray, " n"] | None) -> list[Picture]:
        """Return the largest change in standard errors of every patient, against time and against leverage."""
        values = size.numpy()
        top = np.argsort(-values, kind="stable")[:NAMED_DOTS]
        found = []
        for x, label in ((self.time, "time observed"), (leverage, "leverage: share of the information")):
            if x is not None:
                words = f"Largest change of a coefficient, in standard errors, against {label}, patient by patient."
                found.append(
                    self._drawn(lambda ax, x=x, label=label: self._cloud(ax, x, values, top, label), 2.6, words)
                )
        return found

    def survival(self) -> Picture:
        """Return Kaplan–Meier curves, one a stratum up to six, with those who carry a coefficient."""
        outer = self.loss.outer
        curves, of_row = self._curves(), outer.object_of_row.numpy()

        def draw(ax: "Axes") -> None:
            marks = []
            for number, (name, times, alive, some) in enumerate(curves):
                colour = BLUE if len(curves) == 1 else f"C{number}"
                ax.step(times, alive, where="post", color=colour, label=plain(_short(name)))
                for one in (one for one in self._marked() if one in of_row[some]):
                    at = (self.time[one], alive[np.searchsorted(times, self.time[one], side="right") - 1])
                    ax.plot(*at, "o" if self.event[one] else "+", color=ORANGE, markersize=6, zorder=3)
                    marks.append((self.labels[one], at))
            ax.set(xlabel="time", ylabel="without event", ylim=(0, 1.05))
            for name, at in _together(ax, marks):
                _named(ax, name, at, xytext=(3, 5))
            if len(curves) > 1:
                ax.legend(fontsize=8, frameon=False)

        ends = "; ".join(
            f"{name}: {alive[-1]:.3f} at {times[-1]:.4g}" for name, times, alive, _ in curves if len(times)
        )
        return self._drawn(draw, 2.8, f"Kaplan–Meier curves, at the last event {ends}; marked are the carriers.")

    def _curves(self) -> list[Curve]:
        outer, strata = self.loss.outer, self.loss.strata_labels or []
        sets, split = outer.sets, 1 < len(strata) <= CURVES
        found = []
        for code in range(len(strata) if split else 1):
            some = sets.strata == code if split else np.ones(len(sets.stops), dtype=bool)
            entry = None if sets.entries is None else sets.entries[some]
            curve = kaplan_meier(sets.stops[some], sets.event.numpy()[some], outer.weights.numpy()[some], entry)
            found.append((str(strata[code]) if split else "everybody", *curve, some))
        return found

    def _marked(self) -> list[int]:
        """Return the patients who are named beside curves: those who move a coefficient most, in standard errors."""
        sizes = np.abs(self.predicted.scores.numpy() / self.errors).max(axis=1)
        objects = np.asarray(self.predicted.objects)
        return [int(objects[row]) for row in np.argsort(-sizes, kind="stable")[: 2 * NAMED_DOTS]]

    def _cloud(self, ax: "Axes", x: np.ndarray, y: np.ndarray, top: np.ndarray, label: str) -> None:
        for some, mark, word in ((self.event, "o", "event"), (~self.event, "+", "censored")):
            colour = ORANGE if mark == "o" else "0.45"
            ax.scatter(
                x[some],
                y[some],
                s=12,
                marker=mark,
                color=colour,
                linewidths=0.8,
                alpha=0.7,
                label=word,
                rasterized=len(x) > MANY_DOTS,
            )
        middle = (x.max() + x.min()) / 2
        for name, at in _together(ax, [(self.labels[row], (x[row], y[row])) for row in top]):
            right = at[0] > middle
            place = {"xytext": (-5 if right else 5, 0), "ha": "right" if right else "left", "va": "center"}
            _named(ax, name, at, **place)
        ax.set(xlabel=label, ylabel="largest change, in SE")
        ax.legend(fontsize=8, frameon=False)

    def _drawn(self, draw: Callable[["Axes"], None], height: float, words: str) -> Picture:
        """Return a picture whose names inside the page are its own."""
        import matplotlib as mpl
        from matplotlib.figure import Figure

        figure, file = Figure(figsize=(WIDTH, height), layout="constrained"), StringIO()
        # The letters stay letters, in the font of the page.
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "vif"}):
            ax = figure.subplots()
            ax.spines[["top", "right"]].set_visible(False)
            draw(ax)
            figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None}, transparent=True)
        self.count += 1
        svg = file.getvalue()
        svg = svg[svg.index("<svg") :]
        return Picture(re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>p{self.count}-", svg), words)


def _together(ax: "Axes", marks: list[tuple[str, tuple[Any, Any]]]) -> list[tuple[str, tuple[Any, Any]]]:
    """Return names and places of marks, those of marks whose names would lie on each other joined."""
    joined: list[tuple[str, tuple[Any, Any]]] = []
    wide, high = (abs(end - start) for start, end in (ax.get_xlim(), ax.get_ylim()))
    for name, (x, y) in marks:
        near = (n for n, (_, at) in enumerate(joined) if abs(at[0] - x) < 0.2 * wide and abs(at[1] - y) < 0.07 * high)
        if (place := next(near, None)) is None:
            joined.append((name, (x, y)))
        else:
            joined[place] = (f"{joined[place][0]}, {name}", joined[place][1])
    return joined


def _named(ax: "Axes", name: object, at: tuple[Any, Any], **place: Any) -> None:
    ax.annotate(plain(_short(name)), at, textcoords="offset points", fontsize=8, **place)


def _short(name: object, most: int = 16) -> str:
    text = str(name)
    return text if len(text) <= most else f"{text[: most - 1]}…"
