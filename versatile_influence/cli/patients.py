"""Patients from a CSV file: which column is what, checked in the words of the command."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd


def read_table(path: str) -> "pd.DataFrame":
    """Return the CSV file's rows, numbered from 1.

    Raises:
        ValueError: If there is no such file, or it is no table.
        ImportError: If pandas is missing.
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise ImportError(f"{error}: CSV files need pandas. Run `pip install versatile-influence[frames]`.") from error
    if Path(path).is_dir():
        raise ValueError(f"{path} is a folder. Name a CSV file.")
    if not Path(path).exists():
        raise ValueError(f"There is no file {path}.")
    try:
        # While pandas waits for a pipe, it would take an interrupt for a fault of the file.
        frame = pd.read_csv(path if Path(path).is_file() else BytesIO(Path(path).read_bytes()))
    except (ValueError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} cannot be read as a CSV file with a header line: {reason}") from error
    if frame.empty:
        raise ValueError(f"{path} has no rows below its header.")
    if not isinstance(frame.index, pd.RangeIndex):
        # Pandas takes what is too much for names of the rows, and moves every column by one.
        raise ValueError(f"{path} has rows with more fields than its header names. Name each column.")
    frame.index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return frame


def require_columns(frame: "pd.DataFrame", columns: dict[str, str], path: str) -> None:
    """Raise a ValueError unless the file has each column; `columns` holds the words that ask for it."""
    for name, asked in columns.items():
        if name not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            alone = " Is it separated by commas?" if len(frame.columns) == 1 else ""
            raise ValueError(f"{path} has no column `{name}` ({asked}). Its columns are: {known}.{alone}")


def require_numbers(frame: "pd.DataFrame", columns: dict[str, str], path: str) -> None:
    """Raise a ValueError, with the first such row, unless each column holds numbers; `columns` says what to do."""
    for name, advice in columns.items():
        if frame[name].dtype.kind in "biuf":
            continue
        words = ((row, value) for row, value in frame[name].items() if isinstance(value, str) and not _is_number(value))
        where = next((f" (row {row} holds {value!r})" for row, value in words), "")
        raise ValueError(f"Column `{name}` of {path} is not numeric{where}. {advice}")


def require_filled(frame: "pd.DataFrame", columns: dict[str, str], path: str) -> None:
    """Raise a ValueError unless each column is filled in every row; `columns` holds the words that ask for it."""
    for name, asked in columns.items():
        empty = frame.index[frame[name].isna().to_numpy()]
        if len(empty):
            raise ValueError(
                f"Column `{name}` of {path} ({asked}) is empty in row {empty[0]}. Fill it, or drop the row."
            )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
