"""What the commands check in the words of a call before any work is done."""

import argparse
import os
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


def check_out(path: str | None) -> None:
    """Raise a ValueError, before hours of work, where the file of `--out` cannot be written at the end."""
    if path is None:
        return
    file, folder = Path(path), Path(path).parent
    if file.is_dir():
        raise ValueError(f"--out {path} is a folder. Name a file, such as {file / 'scores.csv'}.")
    if not folder.is_dir():
        raise ValueError(f"--out {path}: there is no folder {folder}. Make it first.")
    if not os.access(file if file.exists() else folder, os.W_OK):
        raise ValueError(f"--out {path} cannot be written. Name a file in a folder of yours.")
