"""`vif recommend`: who and what made this user see this item."""

import argparse
import csv
import io
import re
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from versatile_influence.cli.answers import Answer, answered, largest_first
from versatile_influence.cli.patients import read_table, require_columns
from versatile_influence.cli.tables import inert, plain, table
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.labels import position
from versatile_influence.core.ravel import flat
from versatile_influence.core.sizes import WRITTEN_PARAMETERS
from versatile_influence.core.target import LabelledTarget
from versatile_influence.datasets.interactions import Interactions, from_frame, rows_hold
from versatile_influence.losses import MatrixFactorisationLoss
from versatile_influence.reading.metrics import counted, decimals
from versatile_influence.reading.spot_check import spot_check
from versatile_influence.solvers.cg import CG
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.attribute import attribute

if TYPE_CHECKING:
    import pandas as pd

# What may be removed; any other word is a column, whose names say what an interaction is part of.
OBJECTS = ("interactions", "users", "items")
COLUMNS = ["user", "item", "rating", "timestamp"]
# As MovieLens writes them, in u.data and in ratings.dat.
HEADLESS = re.compile(r"\d+(\t|::)\d+(?:\1\d+(?:\.\d+)?(?:\1\d+)?)?")


def run(args: argparse.Namespace) -> int:
    """Learn, ask, print; return the exit status."""
    check_out(args.out, [args.interactions])
    data, table = _read(args)
    losses = {objects: _loss(args, data, objects, table) for objects in args.objects}
    loss = next(iter(losses.values()))
    params: Any = minimize(loss, loss.zeros())
    sizes = counted(len(data.user_names), "user"), counted(len(data.item_names), "item")
    print(f"{counted(len(data.users), 'interaction')} of {sizes[0]} with {sizes[1]}")
    question, lead = _question(args, data, params)
    rows: list[list[object]] = []
    for objects, one in losses.items():
        answer = _answer(args, one, params, one.preference([question]), _singular(objects))
        print(f"\nThat lead without each of {counted(one.n_objects, answer.thing)}:\n")
        rows += _printed(answer, question, lead, objects=objects, top=args.top)
        print(f"\n{plain(answer)}")
    if args.out:
        text = io.StringIO(newline="")
        writer = csv.writer(text)
        writer.writerow(["kind", "object", "change", "estimated error", "verdict"])
        writer.writerows([kind, inert(name) if args.spreadsheet else name, *rest] for kind, name, *rest in rows)
        write_text(args.out, text.getvalue())
        print(f"wrote {len(rows)} rows to {args.out}", file=sys.stderr)
    return 0


def _read(args: argparse.Namespace) -> "tuple[Interactions, pd.DataFrame]":
    """Return the interactions, ratings apart from their mean, with the table that they are from.

    Raises:
        ValueError: If a column is missing or holds no name or number, or there are too few other items for a user.
    """
    path, columns = args.interactions, [name for name in args.objects if name not in OBJECTS]
    frame = read_table(path, text=[args.user_col, args.item_col, *columns], layout=lambda line: _layout(args, line))
    named = {args.user_col: "--user-col", args.item_col: "--item-col"} | dict.fromkeys(columns, "--objects")
    require_columns(frame, named | ({args.rating_col: "--rating-col"} if args.rating_col else {}), path)
    for name in columns:
        rows_hold(frame, name, frame[name].notna(), "name")
    data = from_frame(frame, user=args.user_col, item=args.item_col, rating=args.rating_col)
    if data.ratings is not None:
        return replace(data, ratings=data.ratings - data.ratings.mean()), frame
    had, drawn = torch.stack([data.users, data.items]).unique(dim=1)[0].bincount(), args.negatives or 1
    if (left := len(data.item_names) - int(had.max())) < drawn:
        raise ValueError(
            f"User {data.user_names[int(had.argmax())]} has had to do with all but {left} of {len(data.item_names)} "
            f"items: {counted(drawn, 'other item')} beside each interaction cannot be drawn. Leave the user out"
            f"{', or give a smaller --negatives' if left else ''}."
        )
    return data, frame


def _layout(args: argparse.Namespace, line: str) -> dict[str, Any]:
    """Return how pandas is to read a file with this first line, and say what is assumed of one without a header."""
    if not (found := HEADLESS.fullmatch(line.strip())):
        return {"sep": "\t"} if "\t" in line and "," not in line else {}
    names = COLUMNS[: len(line.split(found[1]))]
    said = f"{args.interactions} has no header: its columns are taken for {', '.join(names)}, as in MovieLens."
    unused = "" if args.rating_col or len(names) < 3 else " Ratings are not learnt without --rating-col rating."
    print(f"vif: {plain(said)}{unused}", file=sys.stderr)
    return {"sep": found[1], "names": names, "engine": "python" if found[1] == "::" else "c"}


def _loss(args: argparse.Namespace, data: Interactions, objects: Any, table: "pd.DataFrame") -> MatrixFactorisationLoss:
    kind: Any = "squared" if args.rating_col else args.kind or "bpr"
    given = {"dim": args.dim, "penalty": args.penalty, "seed": args.seed, "negatives": args.negatives}
    labels = {"users": data.user_names, "items": data.item_names}.get(objects)
    if objects == "interactions":
        labels = [f"{user} × {item}" for user, item in data.labels]
    elif objects not in OBJECTS:
        objects = table[objects].tolist()
    return MatrixFactorisationLoss(
        data.users, data.items, kind=kind, ratings=data.ratings, objects=objects, labels=labels, **given
    )


def _singular(objects: str) -> str:
    return objects.removesuffix("s") if objects in OBJECTS else objects


def _question(args: argparse.Namespace, data: Interactions, params: Any) -> tuple[tuple[int, int, int], float]:
    """Return user, item and the first item below the user's list, after a line on where the item stands.

    Raises:
        ValueError: If there is no such user or item, or the list has no end.
    """
    user = position(args.user, data.user_names, "user")
    seen = data.items[data.users == user]
    scores = (params["item"] @ params["user"][user] + params["item_bias"]).index_fill(0, seen, -torch.inf)
    order = scores.argsort(descending=True).tolist()[: len(scores) - len(seen.unique())]
    if len(order) <= args.list:
        raise ValueError(
            f"User {args.user} has had to do with all but {len(order)} items, so that a list of {args.list} has no "
            "end. Give a smaller --list."
        )
    item = order[0] if args.item is None else position(args.item, data.item_names, "item")
    if item not in order:
        raise ValueError(f"User {args.user} has had to do with item {args.item} already: it is not recommended.")
    place = order.index(item) + 1
    # Of an item on the list, the one that would take its place; else the last of the list.
    beside = order[args.list] if place <= args.list else order[args.list - 1]
    lead = (scores[item] - scores[beside]).item()
    above = "above" if lead >= 0 else "below"
    print(
        f"user {plain(args.user)}: item {plain(data.item_names[item])} is number {place} of those recommended, "
        f"{abs(lead):.4g} {above} item {plain(data.item_names[beside])}, number {order.index(beside) + 1}"
    )
    return (user, item, beside), lead


def _answer(
    args: argparse.Namespace, loss: MatrixFactorisationLoss, params: Any, target: LabelledTarget, thing: str
) -> Answer:
    if len(flat(params)) <= WRITTEN_PARAMETERS or args.by not in (None, "attribute"):
        return answered(args, loss, params, target, thing=thing)
    # A dense Hessian of so many parameters takes minutes and gigabytes.
    scores = attribute(loss, params, target, solver=CG(rtol=1e-3))
    check = spot_check(scores, loss, params, target, k=args.check) if args.check else None
    return Answer(scores, check, thing)


def _printed(
    answer: Answer, question: tuple[int, int, int], lead: float, *, objects: str, top: int
) -> list[list[object]]:
    """Print the largest changes, and return all."""
    own = {"users": {question[0]}, "items": {*question[1:]}}.get(objects, set())
    changes, verdicts, names = answer.scores.scores[:, 0], answer.scores.verdicts(), answer.scores.names()
    errors = answer.scores.error.tolist() if answer.scores.error is not None else [float("nan")] * len(changes)
    order = [row for row in largest_first(changes) if row not in own]
    digits = decimals(changes[order].abs().nan_to_num(0.0).max().item()) if order else 0
    shown = []
    for row in order[:top]:
        turned = (lead + changes[row].item()) * lead < 0
        where = ("leaves the list" if lead > 0 else "comes onto the list") if turned else ""
        shown.append([str(names[row]), f"{changes[row].item():+.{digits}f}", where])
    print(table([answer.thing, "change without it", ""], shown))
    return [[objects, names[row], repr(changes[row].item()), f"{errors[row]:.4g}", verdicts[row]] for row in order]
