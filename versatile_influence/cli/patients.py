"""Patients from a CSV or Parquet file: which column is what, checked in the words of the command."""

import re
from argparse import Namespace
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from versatile_influence.core.sizes import NAMED
from versatile_influence.core.warn import warn
from versatile_influence.core.words import missing
from versatile_influence.losses.cox.formula import formula_rows
from versatile_influence.losses.cox.frames import FrameRows, Words, frame_rows, listed

if TYPE_CHECKING:
    import pandas as pd

Layout = Callable[[str], dict[str, Any]]
NAMELESS = re.compile(r"Unnamed: \d+(\.\d+)?|__index_level_\d+__")
# Names of columns that name patients.
IDS = re.compile(
    r"(.*[_. ])?(id|ids|pid|uid|mrn|usubjid|subjid)|(patient|subject|person)([_. ]?(id|no|nr|number))?", re.I
)
# Which argument of `CoxLoss` an option of the command is.
OPTIONS = {"duration_col": "--duration-col", "event_col": "--event-col", "entry_col": "--entry-col"}
OPTIONS |= {"strata_cols": "--strata", "weights_col": "--weights-col", "subject_col": "--id-col"}


def fitted_rows(args: Namespace) -> "tuple[FrameRows, pd.Series | None]":
    """Return the rows of the call's file, their columns by what they are, and their groups; all faults said at once.

    Raises:
        ValueError: If the file is no table, or a row or column is not to be used.
        TypeError: If text stands where numbers are needed.
    """
    clusters = re.findall(r"\bcluster\s*\(\s*`?([^()`]+?)`?\s*\)", args.formula or "")
    frame = read_table(args.patients, text=[*clusters, *([args.id_col] if args.id_col else [])])
    words = _words(args)
    # argparse names a value as its option, with underscores.
    given = {role: vars(args)[option[2:].replace("-", "_")] for role, option in OPTIONS.items()}
    known = {"na": args.na, "event_value": args.event_value, "words": words}
    named = {name: OPTIONS[role] for role, names in given.items() for name in listed(names)}
    require_columns(frame, named | dict.fromkeys(listed(args.groups), "--groups"), args.patients)
    if args.formula:
        beside = {role: given[role] for role in ("weights_col", "subject_col")}
        rows = formula_rows(args.formula, frame, beside, **known)
    else:
        require_columns(frame, dict.fromkeys(args.covariates or [], "--covariates"), args.patients)
        chosen = args.covariates or [name for name in frame.columns if name not in {*named, args.groups}]
        used = frame.loc[:, [*dict.fromkeys([*chosen, *named])]]
        rows = frame_rows(used, given, **known, also=[] if args.covariates else _like_ids(used, chosen, args.patients))
    if rows.roles.get("entry_col") and rows.roles.get("subject_col") is None:
        _hint(frame)
    return rows, None if args.groups is None else frame[args.groups].loc[rows.frame.index]


def read_table(path: str, *, text: Sequence[str] = (), layout: Layout | None = None) -> "pd.DataFrame":
    """Return the rows of a CSV or Parquet file, numbered from 1; the columns of `text` as they are written.

    Args:
        path: The file.
        text: Columns that hold names.
        layout: From the first line of a file that is no Parquet to what pandas must know to read it; None for commas
            and a header.

    Raises:
        ValueError: If there is no such file, or it is no table.
        ImportError: If pandas, or what reads Parquet, is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise missing(error, "tables need pandas", "frames") from error
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder. Name a CSV or Parquet file.")
    if not Path(path).exists():
        raise ValueError(f"There is no file {path}.")
    frame = _parquet(path, text) if path.lower().endswith((".parquet", ".pq")) else _csv(path, text, layout)
    if frame.empty:
        raise ValueError(f"{path} has no rows below its header.")
    if nameless := [name for name in frame.columns if NAMELESS.fullmatch(str(name))]:
        places = ", ".join(str(list(frame.columns).index(name) + 1) for name in nameless)
        warn(f"{path}: column {places} has no name, as row numbers of R and pandas have none, and is left out.")
        frame = frame.drop(columns=nameless)
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return frame


def _parquet(path: str, text: Sequence[str]) -> "pd.DataFrame":
    import pandas as pd

    try:
        frame = pd.read_parquet(path if Path(path).is_file() else BytesIO(Path(path).read_bytes()))
    except ImportError as error:
        raise ImportError(f"{path} needs pyarrow. Run `pip install versatile-influence[parquet]`.") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a Parquet file: {' '.join(str(error).split())}") from error
    frame = frame.reset_index() if frame.index.names != [None] else frame
    written = {name: frame[name].astype(str).where(frame[name].notna()) for name in text if name in frame}
    return frame.assign(**written)


def _csv(path: str, text: Sequence[str], layout: Layout | None) -> "pd.DataFrame":
    import pandas as pd

    # Patients 01, 1 and 1.0 are three, and NA may be a name.
    as_written: dict[Any, Any] = dict.fromkeys(text, lambda cell: cell or None)
    try:
        # While pandas waits for a pipe, it would take an interrupt for a fault of the file.
        source = path if Path(path).is_file() else BytesIO(Path(path).read_bytes())
        given: dict[str, Any] = layout(_first_line(source)) if layout else {}
        frame = pd.read_csv(source, converters=as_written, **given)
    except (ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a CSV file with a header line: {reason}") from error
    for name in map(str, frame.columns):
        if (found := re.fullmatch(r"(.+)\.\d+", name)) and found[1] in frame.columns:
            warn(
                f"{path}: column `{name}` is a second `{found[1]}` if the header has that twice. Name each column once."
            )
    if not isinstance(frame.index, pd.RangeIndex):
        # Pandas takes a field too many for names of the rows, and moves every column by one.
        if not _numbered_by_r(path, frame.index):
            raise ValueError(
                f"{path} has rows with more fields than its header names. Separate fields by commas and write decimals "
                "with points; name each column, also the first if it is the row's name, as R writes it."
            )
        warn(
            f"{path}: the header is one shorter than the rows, whose first fields are R's row names: they are left out."
        )
    return frame


def _first_line(source: "str | BytesIO") -> str:
    if isinstance(source, BytesIO):
        return source.getvalue().partition(b"\n")[0].decode()
    with open(source, encoding="utf-8") as file:
        return file.readline()


def _numbered_by_r(path: str, index: Any) -> bool:
    """Return whether the first fields are row names as R's `write.table` writes them: different whole numbers, quoted.

    Numbers of a study are written without quotes, so that a field too many at the end is none of these.
    """
    if index.nlevels > 1 or index.dtype.kind != "i" or not index.is_unique or not Path(path).is_file():
        return False
    with open(path, "rb") as file:
        return all(re.match(rb'"\d+"', line) for line in file.readlines()[1:] if line.strip())


def require_columns(frame: "pd.DataFrame", columns: dict[str, str], path: str) -> None:
    """Raise a ValueError unless the file has each column; `columns` holds the words that ask for it."""
    for name, asked in columns.items():
        if name not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            alone = " Is it separated by commas?" if len(frame.columns) == 1 else ""
            raise ValueError(f"{path} has no column `{name}` ({asked}). Its columns are: {known}.{alone}")


def require_numbers(frame: "pd.DataFrame", columns: Sequence[object], path: str) -> None:
    """Raise a ValueError unless each column holds numbers, as those that the model was fitted to do."""
    for name in columns:
        if frame[name].dtype.kind not in "biuf":
            raise ValueError(f"Column `{name}` of {path} is not numeric. The model was fitted to numbers there.")


def _words(args: Namespace) -> Words:
    left = f"Surv({args.duration_col or 'months'}, {args.event_col or 'died'})"

    def text(name: object) -> str:
        return (
            f"If it names the patients, add --id-col {name}; if it groups them, --strata {name}; if it is a category, "
            f'use --formula "{left} ~ C({name}) + …"; otherwise name the columns to use with --covariates.'
        )

    def event(value: object) -> str:
        return f"--event-value {value:g}" if isinstance(value, float) else f"--event-value {quote(str(value))}"

    return Words(args.patients, "--na drop", event, text, lambda role: OPTIONS.get(role, role))


def _like_ids(frame: "pd.DataFrame", covariates: Sequence[str], path: str) -> list[str]:
    """Return what is to be said of covariates that look like names of patients, and tell of row numbers."""
    found = []
    for name in covariates:
        column = frame[name]
        if IDS.fullmatch(str(name)) and column.dtype.kind in "iuf":
            found.append(
                f"Column `{name}` looks like a name of patients, and is no covariate. Add --id-col {name}, or name the "
                "columns to use with --covariates."
            )
        elif column.dtype.kind in "iu" and len(column) > NAMED and (column.diff().iloc[1:] == 1).all():
            warn(f"{path}: column `{name}` counts the rows, and is taken for a covariate. If it is none, --covariates.")
    return found


def _hint(frame: "pd.DataFrame") -> None:
    likely = next((name for name in map(str, frame.columns) if IDS.fullmatch(name)), "COL")
    warn(
        f"Start–stop rows without --id-col: each row counts as a patient of its own. If patients have several rows, "
        f"--id-col {likely} leaves them out together."
    )
