"""What the words of a call may be, and what is checked before any work is done."""

import argparse
import csv
import os
from ast import literal_eval
from collections.abc import Iterable
from pathlib import Path

STANDARD_INPUT = "/dev/stdin"


def count(text: str) -> int:
    """Return a number of things given on the command line, or say that it is none."""
    try:
        number = int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"must be a whole number, got {text!r}") from error
    if number < 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return number


def literal(text: str) -> object:
    """Return a value of a table as pandas reads it: a number, a truth, or text.

    Example:
        >>> literal("2"), literal("True"), literal("dead")
        (2, True, 'dead')
    """
    try:
        return literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def source(text: str) -> str:
    """Return the path of an input file, which `-` says is the standard input."""
    return STANDARD_INPUT if text == "-" else text


def sources(text: str) -> str:
    """Return the paths of input files joined by commas."""
    return ",".join(map(source, text.split(",")))


def pair(text: str) -> tuple[str, ...]:
    """Return two names joined by a comma."""
    # As in CSV: a name that holds a comma is quoted.
    names = tuple(word.strip() for word in next(csv.reader([text], skipinitialspace=True), []))
    if len(names) != 2:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no pair. Write two names joined by a comma, as in 12,10; one that holds a comma in quotes."
        )
    return names


def function_name(text: str) -> tuple[str, str]:
    """Return module and function of `module:function`."""
    module, _, function = text.partition(":")
    if not (module and function):
        raise argparse.ArgumentTypeError(
            f"{text!r} names no function: write module:function, like training:fit for fit in training.py."
        )
    return module, function


def check_out(path: str | None, inputs: Iterable[str | Path | None] = (), option: str = "--out") -> None:
    """Raise a ValueError, before hours of work, where the file of `--out` cannot be written at the end, or is an input.

    Args:
        path: The file, or None.
        inputs: Files that the call reads; None and what does not exist are passed over.
        option: What names the file.
    """
    if path is None:
        return
    file, folder = Path(path), Path(path).parent
    if file.is_dir():
        raise ValueError(f"{option} {path} is a folder. Name a file, such as {file / 'scores.csv'}.")
    if not folder.is_dir():
        raise ValueError(f"{option} {path}: there is no folder {folder}. Make it first.")
    # A file is written beside and then renamed, so that its folder counts; a device or pipe is written to.
    if not os.access(file.resolve().parent if file.is_file() or not file.exists() else file, os.W_OK):
        raise ValueError(f"{option} {path} cannot be written. Name a file in a folder of yours.")
    for read in inputs:
        # Also by another path, or a link. A terminal may be both.
        if read is not None and os.path.isfile(read) and file.exists() and file.samefile(read):
            raise ValueError(f"{option} {path} is {read}, which the call reads. Name another file.")
