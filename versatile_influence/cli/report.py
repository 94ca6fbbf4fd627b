"""A Cox model on one page that a clinician can read: its table, who carries it, whether its conclusions hold."""

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from versatile_influence import __version__
from versatile_influence.cli.answers import largest_first, moved_most
from versatile_influence.cli.report_pictures import Pictures
from versatile_influence.cli.verdicts import Verdict, verdicts
from versatile_influence.core.arguments import flag
from versatile_influence.core.checks import instance, told
from versatile_influence.core.files import write_text
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import CARRIERS, DELETED, DRAWN, ROWS, TESTED
from versatile_influence.core.words import MENDING, errors_named, missing
from versatile_influence.losses.cox.dfbeta import dfbeta, standard_errors
from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.reading.metrics import counted
from versatile_influence.reading.spot_check import SpotCheck, spot_check
from versatile_influence.reading.wald_table import Effect, effects, hazard, tail
from versatile_influence.verbs.attribute import attribute
from versatile_influence.verbs.influence_frame import influence_frame
from versatile_influence.verbs.refit import refit

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Report:
    """A page, and the numbers in it; a notebook shows it by itself.

    Attributes:
        html: The page, with everything it needs inside.
        effects: The model's table.
        carriers: Predicted changes of the coefficients by those who carry them, beside refits.
        verdicts: What overturns each conclusion.
        check: Predictions against refits of patients of all kinds.
        frame: `vif.influence_frame`, or None of more than 5,000 patients.
    """

    html: str
    effects: list[Effect]
    carriers: tuple[Attribution, Attribution]
    verdicts: list[Verdict]
    check: SpotCheck
    frame: "pd.DataFrame | None"

    def write(self, path: str) -> None:
        """Write the page to a file."""
        write_text(path, self.html)

    def __repr__(self) -> str:
        return f"Report of {counted(len(self.effects), 'coefficient')}: write(path), or show it in a notebook"

    def _repr_html_(self) -> str:
        # A frame of its own: the page's style stays in it.
        return f'<iframe srcdoc="{html.escape(self.html)}" style="width:100%;height:80vh;border:0"></iframe>'


@errors_named()
def report(
    loss: CoxLoss,
    params: Params,
    *,
    title: str | None = None,
    flip: Sequence[str] | None = None,
    groups: Mapping[str, Sequence[int]] | None = None,
    anonymous: bool = True,
) -> Report:
    """Return a Cox model on one page: for a browser or paper, without scripts, and without names unless asked.

    It has the model's table, with robust errors where R prints them; the patients who carry each coefficient, predicted
    and refitted; the fewest found without whom a sign or a significance would be another, up to a tenth of all;
    influence against time and leverage; Kaplan–Meier curves with those patients; and the check of all predictions.

    Args:
        loss: A linear Cox loss.
        params: Its minimum.
        title: What stands on top.
        flip: Covariates whose conclusions are put to the test; None for all where there are up to 2,000 patients.
        groups: Patients of each hospital or the like, by its name: what the model would be without each.
        anonymous: Whether patients are numbered by their influence; otherwise they are named as the loss names them.

    Raises:
        TypeError: If the loss is none of Cox regression.
        ValueError: If it is of a network, or has no such covariate.
        ImportError: If jinja2, pandas or matplotlib is missing.

    Example:
        >>> trial = CoxLoss([[1.0], [0.0], [1.0], [0.0], [1], [0]], range(1, 7), [1, 1, 1, 1, 0, 1], columns=["drug"])
        >>> from versatile_influence.training.minimize import minimize
        >>> page = report(trial, minimize(trial, trial.zeros()), title="A trial")
        >>> page, "A trial" in page.html
        (Report of 1 coefficient: write(path), or show it in a notebook, True)
    """
    required()
    instance(loss, "loss", CoxLoss, "vif.losses.CoxLoss(…)")
    heading = instance(title, "title", str | None, 'text, as "Rossi: arrests"') or "Cox regression"
    if flip is not None and (isinstance(flip, str) or not isinstance(flip, Sequence)):
        raise TypeError(f"`flip` must be a list of covariates, or None, got {told(flip)}.")
    sites = {} if groups is None else instance(groups, "groups", Mapping, 'a dict, as {"Leeds": [0, 1]}') or {}
    anonymous, _ = flag(anonymous, "anonymous"), loss.coefficients(flip)
    theta, most = Problem.of(loss, params).theta, max(1, loss.n_objects // 10)
    found = None if flip is None else verdicts(loss, theta, flip, most=most)
    return report_of(loss, theta, title=heading, found=found, most=most, groups=sites, anonymous=anonymous)


def required() -> None:
    """Raise an ImportError unless everything that reports need is there."""
    try:
        import jinja2  # noqa: F401
        import matplotlib as mpl  # noqa: F401
    except ImportError as error:
        raise missing(error, "reports need it", "report") from error


def report_of(
    loss: CoxLoss,
    theta: Tensor,
    *,
    title: str,
    found: list[Verdict] | None,
    most: int,
    groups: Mapping[str, Sequence[int]],
    anonymous: bool,
    thing: str = "patient",
) -> Report:
    """Return the page of `report`, from what is known.

    Args:
        loss: A linear Cox loss.
        theta: Its minimum.
        title: What stands on top.
        found: What overturns its conclusions; None to look where there are up to 2,000 objects.
        most: The largest sets that are looked for.
        groups: Objects of each group by its name.
        anonymous: Whether objects are numbered.
        thing: What an object is, in the singular.
    """
    from jinja2 import Environment

    if found is None and loss.n_objects <= TESTED:
        found = verdicts(loss, theta, most=most)
    target = loss.coefficients()
    naive = standard_errors(loss, theta, robust=False)
    size = (dfbeta(loss, theta) / naive).abs().amax(1)
    labels = _labels(loss, size, anonymous=anonymous)
    scores = attribute(loss, theta, target)
    named = replace(scores, labels=labels)
    who = _carriers(named)
    truth = replace(refit(loss, theta, target, objects=who), labels=labels)
    carriers = (named.part(torch.tensor(who)), truth)
    frame = influence_frame(loss, theta) if loss.n_objects <= DELETED else None
    check, called = spot_check(scores, loss, theta, target), dict(zip(map(str, scores.names()), labels, strict=True))
    check = replace(check, jumps=tuple(called[name] for name in check.jumps))
    table = effects(loss, theta)
    pictures = Pictures(loss, naive, carriers, labels)
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(
        files("versatile_influence.cli").joinpath("report.html").read_text(encoding="utf-8")
    )
    page = template.render(
        title=title,
        loss=loss,
        n_events=int(loss.outer.sets.event.sum()),
        effects=[[effect.texts[place] for place in (0, 3, 4, 6, 1, 2, 5)] for effect in table],
        carriers=[pictures.carriers(place) for place in range(min(DRAWN, len(table)))],
        more=max(0, len(table) - DRAWN),
        rows=_rows(carriers, carriers[0].names(), table, naive, frame),
        groups=_by_group(loss, theta, groups, table, naive),
        deleted=frame is not None,
        shown=CARRIERS,
        tested=found is not None,
        most=most,
        verdicts=[
            (*one.texts, ", ".join(labels[row] for row in one.found.removed) if one.found.overturned else "–")
            for one in found or []
        ],
        influence=pictures.influence(size, None if frame is None else frame["leverage"].to_numpy()),
        survival=pictures.survival(),
        check=str(check),
        trust=named.trust().replace(f": {MENDING}", ""),
        thing=thing,
        anonymous=anonymous,
        version=__version__,
    )
    return Report(page, table, carriers, found or [], check, frame)


def _labels(loss: CoxLoss, size: Tensor, *, anonymous: bool) -> list[str]:
    """Return the names of the patients: their own, or numbers by influence, the largest first."""
    if not anonymous:
        own = range(loss.n_objects) if loss.object_labels is None else loss.object_labels
        return [str(name) for name in own]
    rank = size.argsort(descending=True, stable=True).argsort()
    return [f"#{place + 1}" for place in rank.tolist()]


def _carriers(scores: Attribution) -> list[int]:
    """Return the patients who move some coefficient most, in the order of the coefficients."""
    return list(
        dict.fromkeys(
            row for column in scores.scores.T for row in largest_first(column.nan_to_num(float("inf")))[:CARRIERS]
        )
    )


def _by_group(
    loss: CoxLoss, theta: Tensor, groups: Mapping[str, Sequence[int]], table: list[Effect], naive: Tensor
) -> list[list[str]]:
    """Return the same of groups that go together."""
    if not groups:
        return []
    objects, target = [list(members) for members in groups.values()], loss.coefficients()
    pair = (attribute(loss, theta, target, objects=objects, check=False), refit(loss, theta, target, objects=objects))
    names = [f"{name} ({len(members):,})" for name, members in groups.items()]
    return _rows(pair, names, table, naive, None)


def _rows(
    carriers: tuple[Attribution, Attribution],
    names: Sequence[object],
    table: list[Effect],
    naive: Tensor,
    frame: "pd.DataFrame | None",
) -> list[list[str]]:
    """Return, of those who move a coefficient most, what becomes of it without them, predicted and refitted."""
    rows = []
    for row, place, texts in moved_most(carriers, naive, ROWS):
        effect, change = table[place], carriers[1].scores[row, place].item()
        ratio = hazard(effect.coefficient + change) if math.isfinite(change) else "–"
        texts.append(f"{hazard(effect.coefficient)} → {ratio}")
        if frame is not None:
            one = frame.iloc[int(torch.as_tensor(carriers[0].objects[row]))]
            p = torch.as_tensor(effect.p + one[f"p_{effect.name}"]).clamp(0, 1).item()
            moved = "–" if math.isnan(one["displacement"]) else f"{one['displacement']:.3f}"
            texts += [f"{tail(effect.p)} → {tail(p)}", f"{one['leverage']:.3f}", moved]
        rows.append([str(names[row]), effect.name, *texts])
    return rows
