"""Survival data out of a pandas frame: which column is what, and all that keeps it from being fitted, said at once."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from versatile_influence.core.checks import one_of, told
from versatile_influence.core.sizes import NAMED
from versatile_influence.core.tables import covariates
from versatile_influence.core.warn import warn

LABELS = ("strata_cols", "subject_col", "cluster_col")


def _in_python(name: Hashable) -> str:
    """Return what to do about a column of text, in Python."""
    return (
        f"If it names categories, write it into a formula, CoxLoss.from_formula('Surv(…) ~ C({name}) + …', frame), or "
        f"encode it, pd.get_dummies(frame, columns=[{name!r}], drop_first=True, dtype=float); otherwise drop it."
    )


@dataclass(frozen=True)
class Words:
    """How cures are spelled: in Python, unless a command says them in its options.

    Attributes:
        whole: What is fitted.
        drop: What leaves rows with missing values out.
        event: What says which value of the event column means the event.
        text: What to do about a column of text.
        role: The name of an argument that names columns.
    """

    whole: str = "this frame"
    drop: str = "na='drop'"
    event: Callable[[object], str] = "event_value={!r}".format
    text: Callable[[Hashable], str] = _in_python
    role: Callable[[str], str] = str


PYTHON = Words()


@dataclass(frozen=True)
class FrameRows:
    """A frame's columns by what they are.

    Attributes:
        frame: The rows that are fitted.
        columns: The covariates.
        event: 1 where the event happened.
        roles: The column, or list of columns, of each other role.
        n_dropped: Rows left out for missing values.
        design: The covariates of a frame by a formula, or None: then they are `columns`.
        clustered: Whether a formula names clusters.
    """

    frame: Any
    columns: list[Hashable]
    event: np.ndarray
    roles: Mapping[str, Any]
    n_dropped: int = 0
    design: Callable[[Any], Any] | None = None
    clustered: bool = False

    @property
    def x(self) -> Any:
        """The covariates, a frame."""
        return self.frame[self.columns] if self.design is None else self.design(self.frame)

    def values(self, role: str) -> np.ndarray | None:
        """Return the numbers or labels of a role, None where no column has it."""
        name = self.roles.get(role)
        return None if name is None or name == [] else self.frame[name].to_numpy()


@dataclass
class Obstacles:
    """What keeps a frame from being fitted, each with its cure."""

    words: Words
    text: list[str] = field(default_factory=list)
    values: list[str] = field(default_factory=list)

    def refuse(self) -> None:
        """Raise for all of them in one message: a TypeError where only text is in the way."""
        if not (found := [*self.text, *self.values]):
            return
        kind = ValueError if self.values else TypeError
        if len(found) == 1:
            raise kind(found[0])
        listed = "".join(f"\n{place}. {one}" for place, one in enumerate(found, 1))
        raise kind(f"{len(found)} things keep {self.words.whole} from being fitted:{listed}")


def frame_rows(
    frame: Any,
    roles: Mapping[str, Any],
    *,
    na: str = "refuse",
    event_value: object = None,
    categories: bool = False,
    words: Words = PYTHON,
    also: Sequence[str] = (),
) -> FrameRows:
    """Return the columns of a frame by what they are; every column without a role is a covariate.

    Args:
        frame: The frame.
        roles: The column, or list of columns, of each argument that names some; None for none.
        na: "refuse" rows with missing values in a column that is used, or "drop" them and say how many.
        event_value: The value of the event column that means the event; None where it holds 1 and 0.
        categories: Whether covariates may be text, as a formula takes them.
        words: How cures are spelled.
        also: What the caller has found to be in the way.

    Raises:
        TypeError: If it is no frame, or text stands where numbers are needed.
        ValueError: If a column is missing or has two roles, or a row or value is not to be used; all of it at once.
    """
    one_of(na, "na", ["refuse", "drop"])
    columns = covariates(frame, roles)
    roles = {**roles, "strata_cols": listed(roles.get("strata_cols"))}
    used: list[Hashable] = [*columns]
    for given in roles.values():
        used += listed(given)
    found, empty = Obstacles(words, values=[*also]), frame[used].isna()
    rows = empty.any(axis=1).to_numpy()
    if rows.any() and na == "refuse":
        found.values += _missing(frame, empty, roles, words)
    kept = frame.loc[~rows]
    if rows.any() and na == "drop":
        if not len(kept):
            raise ValueError(f"Every one of {len(frame)} rows has a missing value. Drop columns that are mostly empty.")
        warn(f"{int(rows.sum())} of {len(frame)} rows have missing values and were dropped ({words.drop}).")
    numeric = {name: roles.get(name) for name in ("duration_col", "entry_col", "weights_col")}
    if not categories:
        found.text += [_text(kept, name, words) for name in columns if not _is_numeric(kept[name])]
    found.text += [
        f"Column `{name}` ({words.role(role)}) is not numeric ({_example(kept, name)}). It must hold numbers."
        for role, name in numeric.items()
        if name is not None and not _is_numeric(kept[name])
    ]
    event = _events(kept, roles["event_col"], event_value, found)
    found.refuse()
    return FrameRows(kept, columns, event, roles, int(rows.sum()))


def _is_numeric(column: Any) -> bool:
    return column.dtype.kind in "biuf"


def _numeric(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _example(frame: Any, name: Hashable) -> str:
    known = frame[name].dropna()
    if not len(known):
        return "it is empty"
    # A number that is written among text is not what is in the way.
    place = next((place for place, value in enumerate(known) if isinstance(value, str) and not _numeric(value)), 0)
    return f"row {known.index.tolist()[place]!r} holds {known.iloc[place]!r}"


def _text(frame: Any, name: Hashable, words: Words) -> str:
    return f"Column `{name}` is not numeric ({_example(frame, name)}). {words.text(name)}"


def _missing(frame: Any, empty: Any, roles: Mapping[str, Any], words: Words) -> Iterator[str]:
    """Yield what is missing where: covariates and numbers together, labels by themselves."""
    labels = [name for role in LABELS for name in listed(roles.get(role))]
    for names, what, otherwise in (
        ([name for name in empty.columns if name not in labels], "numbers", "or fill them first"),
        (labels, "labels", "or give each row one: rows without a label would be one subject, or one stratum"),
    ):
        some = empty[names]
        if not (counts := some.sum())[counts > 0].size:
            continue
        place = int(some.any(axis=1).to_numpy().argmax())
        first = frame.index.tolist()[place]
        where = ", ".join(f"`{name}` {count}" for name, count in counts[counts > 0].head(NAMED).items())
        more = int((counts > 0).sum()) - NAMED
        where += f" and {more} more columns" if more > 0 else ""
        column = next(name for name in names if empty[name].iloc[place])
        is_label = what == "labels"
        yield (
            f"In row {first!r}, {'' if is_label else 'covariate '}`{column}` is "
            f"{_shown(frame[column].iloc[place])}: {int(some.any(axis=1).sum())} of {len(frame)} rows have "
            f"missing {what} ({where}). Leave such rows out with {words.drop}, {otherwise}."
        )


def _shown(value: object) -> str:
    return "nan" if str(value) in ("nan", "<NA>") else str(value)


def listed(given: object) -> list:
    """Return the columns that an argument names: one, several, or none."""
    return given if isinstance(given, list) else [] if given is None else [given]


def _events(frame: Any, name: Hashable, event_value: object, found: Obstacles) -> np.ndarray:
    """Return the events as 1 and 0, or say what else the column holds."""
    column = frame[name]
    known = list(dict.fromkeys(column.dropna().tolist()))
    if event_value is not None:
        happened: Callable[[object], bool] = lambda value: value == event_value  # noqa: E731
        if not any(happened(value) for value in known):
            asked = found.words.event(event_value)
            found.values.append(f"No row of `{name}` holds the event ({asked}): it holds {told(known[:NAMED])}.")
        return np.array([float(happened(value)) for value in column])
    if all(not isinstance(value, str) and value in (0, 1) for value in known):
        return column.to_numpy(dtype=float, na_value=float("nan"))
    # Of 1 and 2, "alive" and "dead", "no" and "yes" it is the last.
    likely = max(known, key=lambda value: (isinstance(value, str), value))
    wrong = [place for place, value in enumerate(column) if isinstance(value, str) or value not in (0, 1)]
    found.values.append(
        f"The events in `{name}` are {' and '.join(repr(value) for value in known[:NAMED])}, not 1 and 0: in row "
        f"{column.index.tolist()[wrong[0]]!r} the event is {column.tolist()[wrong[0]]!r}. Say which value is the "
        f"event, as {found.words.event(likely)}; every other then counts as censored."
    )
    return np.zeros(len(column))
