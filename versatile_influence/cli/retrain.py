"""`vif retrain`: leave-one-out by retraining, with functions of your own."""

import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from versatile_influence.cli.tables import plain, renamed
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.sizes import SHOWN
from versatile_influence.verbs.leave_one_out import leave_one_out


def run(args: argparse.Namespace) -> int:
    """Retrain, print the largest changes of the first target, and write all."""
    sources = [f"{module.replace('.', '/')}.py" for module, _ in (args.fit, args.target)]
    check_out(args.out, [*sources, *(Path(args.store).glob("*") if args.store else ())])
    if args.store and not args.resume and (Path(args.store) / "run.json").exists():
        raise ValueError(f"{args.store} already holds trainings. Add --resume to go on, or name another folder.")
    result = leave_one_out(
        imported(*args.fit),
        imported(*args.target),
        n_objects=args.n_objects,
        objects=args.objects,
        seeds=args.seeds,
        n_jobs=args.jobs,
        store=args.store,
    )
    frame = result.to_frame()
    if args.out:
        write_text(args.out, renamed(frame, args).to_csv())
    print(f"largest changes of target {plain(frame.columns[0])}, of {len(frame)} removals")
    names = result.names()
    order = result.scores[:, 0].abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:SHOWN].tolist()
    for row in order:
        print(f"{plain(names[row]):>10}  {result.scores[row, 0].item():.6g}")
    return 0


def imported(module: str, function: str) -> Callable:
    """Return a function of a module of this folder, or an installed one.

    Raises:
        ValueError: If there is no such module or function, or it is something else.
    """
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found = getattr(importlib.import_module(module), function)
    except ModuleNotFoundError as error:
        raise ValueError(f"There is no module {error.name!r} here ({os.getcwd()}) or installed.") from error
    except AttributeError as error:
        raise ValueError(f"{module} has no function {function!r}.") from error
    if not callable(found):
        raise ValueError(f"{module}:{function} is no function but {found!r}.")
    return found
