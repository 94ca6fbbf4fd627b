"""What the commands check in the words of a call before any work is done."""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path


def count(text: str) -> int:
    """Return a number of things given on the command line, or say that it is none."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return number


def check_out(path: str | None, inputs: Iterable[str | Path | None] = ()) -> None:
    """Raise a ValueError, before hours of work, where the file of `--out` cannot be written at the end, or is an input.

    Args:
        path: The file, or None.
        inputs: Files that the call reads; None and what does not exist are passed over.
    """
    if path is None:
        return
    file, folder = Path(path), Path(path).parent
    if file.is_dir():
        raise ValueError(f"--out {path} is a folder. Name a file, such as {file / 'scores.csv'}.")
    if not folder.is_dir():
        raise ValueError(f"--out {path}: there is no folder {folder}. Make it first.")
    # A file is written beside and then renamed, so that its folder counts; a device or pipe is written to.
    if not os.access(file.resolve().parent if file.is_file() or not file.exists() else file, os.W_OK):
        raise ValueError(f"--out {path} cannot be written. Name a file in a folder of yours.")
    for read in inputs:
        # Also by another path, or a link. A terminal may be both.
        if read is not None and os.path.isfile(read) and file.exists() and file.samefile(read):
            raise ValueError(f"--out {path} is {read}, which the call reads. Name another file.")
