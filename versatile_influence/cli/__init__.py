"""The command `vif`: `parsers.py` has the words of every sub-command, and a file each what it does."""

import os
import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper

from versatile_influence.cli.parsers import command_line, parsed
from versatile_influence.cli.tables import plain
from versatile_influence.core.warn import UntrustedWarning


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vif` and return its exit status, or leave with it where the words of the call are wrong.

    What can be told from the words alone is status 2; what takes a look at data or files is 1, a column that a flag
    names and the file has not among it. An interrupt is 130, and output that nobody reads any more 141, without a word.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        # What a terminal cannot show is `?` there; files are always UTF-8.
        sys.stdout.reconfigure(errors="replace")
    try:
        try:
            return _run(sys.argv[1:] if argv is None else argv)
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        # What is left in the buffer is written when Python ends: to nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return _told("interrupted", 130)


def _run(argv: Sequence[str]) -> int:
    if not argv:
        command_line().print_help(sys.stderr)
        return 2
    args = parsed([*argv[1:2], "--help"] if argv[0] == "help" else argv)
    try:
        with warnings.catch_warnings():
            # How far scores are to be trusted is part of what is printed.
            warnings.simplefilter("ignore", UntrustedWarning)
            said: set[str] = set()
            # What several steps meet is said once.
            warnings.showwarning = lambda message, *_: (
                str(message) in said or (said.add(str(message)) or _told(f"warning: {message}"))
            )
            # Only now PyTorch is imported.
            return import_module(f"{__name__}.{args.command}").run(args)
    except BrokenPipeError:
        raise
    except UnicodeDecodeError as error:
        return _told(f"A file of the call is no text in UTF-8: {error}.")
    except OSError as error:
        return _told(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    except (ValueError, TypeError, ImportError, MemoryError) as error:
        return _told(str(error))


def _told(words: str, status: int = 1) -> int:
    print(f"vif: {plain(words)}", file=sys.stderr)
    return status
