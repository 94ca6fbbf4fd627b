"""The command `vif`: one sub-command a file."""

import argparse
import sys
import warnings
from collections.abc import Sequence

from versatile_influence.cli import cox, graph, rank, retrain

COMMANDS = (cox, rank, graph, retrain)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `vif` and return its exit status: 0 done, 1 the data or files are wrong, 2 the words of the call are."""
    parser = argparse.ArgumentParser(
        prog="vif", description="Which training objects made a model say this, and what would it say without them?"
    )
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="command")
    for command in COMMANDS:
        command.add_parser(subparsers)
    arguments = parser.parse_args(argv)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: print(f"vif: warning: {message}", file=sys.stderr)
            return arguments.run(arguments)
    except UnicodeDecodeError as error:
        print(f"vif: A file of the call is no text in UTF-8: {error}.", file=sys.stderr)
    except OSError as error:
        print(f"vif: {f'{error.filename}: {error.strerror}' if error.filename else error}", file=sys.stderr)
    except (ValueError, TypeError, ImportError, MemoryError) as error:
        print(f"vif: {error}", file=sys.stderr)
    return 1
