"""Plain tables for the terminal."""

import math
import shutil
from collections.abc import Sequence


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """Return aligned columns under their names: the first `left` columns to the left, numbers to the right.

    Example:
        >>> print(table(["patient", "change"], [["P1", "+0.5"], ["P10", "-12.0"]]))
          patient  change
          P1         +0.5
          P10       -12.0
    """
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


def decimals(size: float) -> int:
    """Return how many decimals show a number of this size to three digits.

    Example:
        >>> decimals(0.0123), decimals(45.0)
        (4, 1)
    """
    return 3 if not size or not math.isfinite(size) else min(12, max(0, 2 - math.floor(math.log10(abs(size)))))
