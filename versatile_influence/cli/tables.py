"""Plain tables for the terminal, and the names in them and in tables for spreadsheets."""

import re
import shutil
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

# Colours and whatever else a terminal obeys, and the marks that turn the direction of writing.
ORDERS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# What a cell begins with that a spreadsheet runs.
FORMULAS = ("=", "+", "-", "@", "\t", "\r", "\n")


def plain(text: object) -> str:
    r"""Return a text without what a terminal would obey instead of showing it.

    Example:
        >>> plain("\x1b[31mP1\x1b[0m\a")
        'P1'
    """
    return ORDERS.sub("", str(text))


def inert(name: object) -> object:
    """Return a name that a spreadsheet shows where it would run a formula.

    Example:
        >>> inert("=1+1"), inert("P1"), inert(-1)
        ("'=1+1", 'P1', -1)
    """
    return f"'{name}" if isinstance(name, str) and name.startswith(FORMULAS) else name


def renamed(frame: "pd.DataFrame", args: Namespace) -> "pd.DataFrame":
    """Return the rows of `--out`, with inert names where `--spreadsheet` asks for them."""
    return frame.rename(index=inert, columns=inert) if args.spreadsheet else frame


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return aligned columns under their names: the first `left` columns to the left, numbers to the right.

    Example:
        >>> print(table(["patient", "change"], [["P1", "+0.5"], ["P10", "-12.0"]]))
          patient  change
          P1         +0.5
          P10       -12.0
    """
    header, *rows = ([plain(cell).replace("\n", " ") for cell in cells] for cells in (header, *rows))
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        return ("  " + "  ".join(aligned)).rstrip()

    return "\n".join(line(cells) for cells in (header, *rows))


def beside(blocks: Sequence[str], *, gap: int = 3) -> str:
    r"""Return blocks of lines beside each other, as many as the terminal is wide, then the next below them.

    Example:
        >>> print(beside(["a\nb", "c\nd"]))
        a   c
        b   d
    """
    limit, rows, width = shutil.get_terminal_size((100, 24)).columns, [[]], 0
    for block in blocks:
        lines = block.split("\n")
        own = max(map(len, lines))
        if rows[-1] and width + gap + own > limit:
            rows.append([])
            width = 0
        width += own + (gap if rows[-1] else 0)
        rows[-1].append([line.ljust(own) for line in lines])
    joined = ["\n".join((" " * gap).join(parts).rstrip() for parts in zip(*row, strict=True)) for row in rows if row]
    return "\n\n".join(joined)
