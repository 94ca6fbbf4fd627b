"""R's and lifelines' formulas of survival models: "Surv(months, died) ~ age + C(stage) + strata(site)"."""

import re
from ast import literal_eval
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from versatile_influence.core.checks import told
from versatile_influence.core.tables import covariates
from versatile_influence.core.words import missing
from versatile_influence.losses.cox.frames import PYTHON, FrameRows, Words, frame_rows, listed

EXAMPLE = '"Surv(months, died) ~ age + C(stage) + strata(site)"'
ROLES = {"duration": "duration_col", "event": "event_col", "entry": "entry_col"}
# What R's `coxph` knows beside covariates, strata and clusters, and what it is here.
ELSEWHERE = {
    "offset": "Write a loss of your own, or a network as `model`",
    "tt": "Split rows in time, Surv(start, stop, event)",
    "frailty": "Use cluster(…) for robust errors, or strata(…)",
    "pspline": "Use bs(…) or cr(…) with a penalty",
    "ridge": "Use penalty=…",
}


@dataclass(frozen=True)
class SurvivalFormula:
    """A formula taken apart.

    Attributes:
        duration, event, entry: Column names or expressions; entry None without delayed entry.
        event_value: From `event == value`, or None.
        strata: The columns of `strata(…)`.
        cluster: The column of `cluster(…)`, or None.
        terms: formulaic's terms of the covariates.
    """

    duration: str
    event: str
    entry: str | None
    event_value: object
    strata: list[str]
    cluster: str | None
    terms: Any


def parsed(formula: object, frame: Any) -> SurvivalFormula:
    """Return a formula taken apart.

    Args:
        formula: `Surv(time, event) ~ …` or `Surv(start, stop, event) ~ …`; `.` stands for every other column, `factor`
            for `C`, and a column name such as `ph.ecog` may stand without backticks.
        frame: The frame that it is about, for the names of its columns.

    Raises:
        TypeError: If it is no text.
        ValueError: If it cannot be read, or asks for what is not served.
        ImportError: If formulaic is missing.
    """
    if not isinstance(formula, str):
        raise TypeError(f"`formula` must be text like {EXAMPLE}, got {told(formula)}.")
    try:
        import formulaic
        from formulaic.errors import FormulaicError
    except ImportError as error:
        raise missing(error, "formulas need formulaic", "frames") from error
    found = re.fullmatch(r"\s*Surv\s*\((.*?)\)\s*~\s*(.+)", formula, re.DOTALL)
    if not found:
        raise ValueError(f"`formula` must be like {EXAMPLE}, got {told(formula)}.")
    parts = _arguments(found[1])
    if len(parts) not in (2, 3):
        raise ValueError(f"Surv takes (time, event) or (start, stop, event), got {len(parts)} in {told(formula)}.")
    event, value = _event(parts[-1])
    right = found[2]
    strata, clusters = (
        [one for inside in re.findall(rf"\b{name}\s*\(([^()]*)\)", right) for one in _arguments(inside)]
        for name in ("strata", "cluster")
    )
    roles = {event, *parts[:-1], *strata, *clusters}
    right = _quoted(right, frame, roles)
    make: Any = formulaic.Formula
    try:
        terms = list(make(right))
    except (FormulaicError, SyntaxError) as error:
        raise ValueError(f"`formula` cannot be read: {' '.join(str(error).split())}") from error
    return SurvivalFormula(
        parts[-2],
        event,
        parts[0] if len(parts) == 3 else None,
        value,
        strata,
        _one(clusters),
        make(["1", *(term for term in terms if _is_covariate(term))]),
    )


def _is_covariate(term: Any) -> bool:
    """Return whether a term is one of the covariates, and refuse what is none and stands for nothing else.

    Raises:
        ValueError: If it is not served, or strata meet a covariate.
    """
    for factor in term.factors:
        called = re.match(r"(\w+)\s*\(", factor.expr)
        if called and called[1] in ELSEWHERE:
            raise ValueError(f"`{factor.expr}` is not served. {ELSEWHERE[called[1]]}.")
        if called and called[1] in ("strata", "cluster"):
            if len(term.factors) > 1:
                raise ValueError(f"`{term}`: {called[1]}(…) stands by itself, with + before it.")
            return False
    return str(term) not in ("0", "1")


def _arguments(text: str) -> list[str]:
    """Return what stands between commas, backticks off."""
    parts, depth = [""], 0
    for letter in text:
        depth += (letter in "([") - (letter in ")]")
        if letter == "," and not depth:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip().strip("`") for part in parts if part.strip()]


def _event(text: str) -> tuple[str, object]:
    """Return the event column, and the value that it is compared with.

    Example:
        >>> _event("status == 2"), _event("died")
        (('status', 2), ('died', None))
    """
    name, equals, value = text.partition("==")
    if not equals:
        return name.strip().strip("`"), None
    try:
        return name.strip().strip("`"), literal_eval(value.strip())
    except (ValueError, SyntaxError) as error:
        raise ValueError(f"The event must be a column, or `column == value`; got {text!r}.") from error


def _quoted(right: str, frame: Any, roles: set[str]) -> str:
    """Return the right side as formulaic spells it: odd names in backticks, `factor` as C, `.` as all other columns."""
    right = re.sub(r"\b(as\.)?factor\s*\(", "C(", right)
    names = [name for name in map(str, frame.columns) if not name.isidentifier()]
    for name in sorted(names, key=len, reverse=True):
        right = re.sub(rf"(?<![\w.`]){re.escape(name)}(?![\w.`])", f"`{name}`", right)
    others = [f"`{name}`" for name in map(str, frame.columns) if name not in roles]
    return re.sub(r"(?<![\w.`)])\.(?![\w.`(])", lambda _: f"({' + '.join(others)})", right)


def _one(clusters: Sequence[str]) -> str | None:
    if len(clusters) > 1:
        raise ValueError(f"cluster(…) names one column, got {', '.join(clusters)}. Join them into one first.")
    return clusters[0] if clusters else None


class Design:
    """Covariates of a frame by a formula: fitted once, and the same for test patients.

    Args:
        formula: The formula.
        frame: The frame that categories and scales are learnt from.

    Raises:
        ValueError: If a column is missing, or a term cannot be made.
    """

    def __init__(self, formula: SurvivalFormula, frame: Any):
        from formulaic import ModelSpec

        # Inside a function formulaic looks for `ph.ecog` under the name ph_ecog.
        odd = {re.sub(r"\W", "_", name): name for name in map(str, frame.columns) if not name.isidentifier()}
        self.aliases = {alias: name for alias, name in odd.items() if alias not in frame.columns}
        self.spec = ModelSpec.from_spec(formula.terms, na_action="ignore", output="pandas")
        matrix = self._made(frame)
        self.spec = matrix.model_spec
        self.columns = [name for name in matrix.columns if name != "Intercept"]
        if not self.columns:
            raise ValueError("The formula names no covariate.")

    @property
    def variables(self) -> list[str]:
        """The columns of the frame that it is made of."""
        known = self.spec.variables_by_source
        return [self.aliases.get(name, str(name)) for source in ("data", None) for name in known.get(source, ())]

    def __call__(self, frame: Any) -> Any:
        """Return the covariates of a frame's rows."""
        return self._made(frame)[self.columns]

    def _made(self, frame: Any) -> Any:
        try:
            known = {alias: frame[name] for alias, name in self.aliases.items() if name in frame.columns}
            with np.errstate(all="ignore"):  # A logarithm of 0 is refused with its row.
                return self.spec.get_model_matrix(frame.assign(**known) if known else frame)
        except Exception as error:
            reason = " ".join(str(error).split())
            raise ValueError(f"`formula` cannot be made of this frame's columns: {reason}") from error


def formula_rows(
    formula: object, frame: Any, given: Mapping[str, Any], *, na: str, event_value: object, words: Words = PYTHON
) -> FrameRows:
    """Return the rows that a formula is about, with the design of its covariates.

    Args:
        formula: The formula.
        frame: The frame.
        given: The columns that are named beside it, by argument.
        na: What becomes of rows with missing values.
        event_value: The value that means the event, where the formula does not say.
        words: How cures are spelled.

    Raises:
        TypeError: If it is no text, or the frame none.
        ValueError: If a column is missing or has two roles, or a row is not to be used.
    """
    covariates(frame, {})  # A frame at all, with names of its own.
    asked = parsed(formula, frame)
    roles = {"duration": asked.duration, "event": asked.event, "entry": asked.entry, "strata_cols": asked.strata}
    subject = given.get("subject_col") or asked.cluster
    # Clusters are removed as one where nothing else is named.
    roles |= {**given, "subject_col": subject, "cluster_col": None if subject == asked.cluster else asked.cluster}
    for name in (asked.duration, asked.entry):
        if name is not None and name not in frame.columns:
            frame = frame.assign(**{name: _evaluated(name, frame)})
    variables = Design(asked, frame).variables
    named = {name: role for role, names in roles.items() for name in listed(names)}
    if both := [name for name in named if name in variables]:
        raise ValueError(f"Column `{both[0]}` is a covariate and {named[both[0]]} of the formula at once. Drop one.")
    columns = [name for name in frame.columns if name in {*variables, *named}]
    value = asked.event_value if event_value is None else event_value
    roles = {ROLES.get(role, role): names for role, names in roles.items()}
    used = frame[columns] if {*named} <= {*columns} else frame
    rows = frame_rows(used, roles, na=na, event_value=value, categories=True, words=words)
    return replace(rows, design=Design(asked, rows.frame), clustered=asked.cluster is not None)


def _evaluated(expression: str, frame: Any) -> Any:
    """Return a time that is computed, such as days / 365.25."""
    try:
        return frame.eval(expression)
    except Exception as error:
        raise ValueError(
            f"There is no column `{expression}`, and it cannot be computed: {' '.join(str(error).split())}. The "
            f"columns are: {told([*frame.columns])}."
        ) from error
