"""`vif retrain`: leave-one-out by retraining, with functions of your own."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.sizes import SHOWN
from versatile_influence.verbs.leave_one_out import leave_one_out


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "retrain",
        help="retrain without each object, with a fit and a target of your own",
        description="Retrain without each object and print what changes most. FIT and TARGET are module:function, "
        "found in this folder: fit(presence) -> parameters, target(parameters) -> numbers. With --seeds it is "
        "fit(presence, seed=…).",
    )
    parser.add_argument("fit", metavar="FIT", help="module:function that trains")
    parser.add_argument("target", metavar="TARGET", help="module:function that is explained")
    parser.add_argument("--n-objects", type=int, required=True, help="how many objects there are")
    parser.add_argument("--objects", type=int, nargs="+", metavar="I", help="only these (default: each)")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="repeat with these seeds; scores are means")
    parser.add_argument("--jobs", type=int, metavar="K", help="trainings at once (default: 1; -1: all cores)")
    parser.add_argument("--store", metavar="FOLDER", help="keep every finished training here")
    parser.add_argument("--resume", action="store_true", help="go on with what --store holds")
    parser.add_argument("--out", metavar="CSV", help="write all scores, an object a row")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Retrain, print the largest changes of the first target, and write all."""
    sources = [f"{name.partition(':')[0].replace('.', '/')}.py" for name in (args.fit, args.target)]
    check_out(args.out, [*sources, *(Path(args.store).glob("*") if args.store else ())])
    if args.resume and not args.store:
        raise ValueError("--resume goes on with a folder: name it with --store FOLDER.")
    if args.store and not args.resume and (Path(args.store) / "run.json").exists():
        raise ValueError(f"{args.store} already holds trainings. Add --resume to go on, or name another folder.")
    result = leave_one_out(
        imported(args.fit),
        imported(args.target),
        n_objects=args.n_objects,
        objects=args.objects,
        seeds=args.seeds,
        n_jobs=args.jobs,
        store=args.store,
    )
    frame = result.to_frame()
    if args.out:
        write_text(args.out, frame.to_csv())
    print(f"largest changes of target {frame.columns[0]}, of {len(frame)} removals")
    names = result.names()
    order = result.scores[:, 0].abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:SHOWN].tolist()
    for row in order:
        print(f"{names[row]!s:>10}  {result.scores[row, 0].item():.6g}")
    return 0


def imported(name: str) -> Callable:
    """Return the function that `module:function` names.

    Raises:
        ValueError: If there is no such module or function, or it is something else.
    """
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise ValueError(
            f"{name!r} names no function: write module:function, like training:fit for fit in training.py."
        )
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ValueError(f"There is no module {error.name!r} here ({os.getcwd()}) or installed.") from error
    except AttributeError as error:
        raise ValueError(f"{module} has no function {function!r}.") from error
    if not callable(found):
        raise ValueError(f"{name} is no function but {found!r}.")
    return found
