"""`vif recommend`: who and what made this user see this item."""

import argparse
import csv
import io
import sys
from dataclasses import replace
from typing import Any

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
from versatile_influence.datasets.interactions import Interactions, from_frame
from versatile_influence.losses import MatrixFactorisationLoss
from versatile_influence.reading.metrics import counted, decimals
from versatile_influence.reading.spot_check import spot_check
from versatile_influence.solvers.cg import CG
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.attribute import attribute


def run(args: argparse.Namespace) -> int:
    """Learn, ask, print; return the exit status."""
    check_out(args.out, [args.interactions])
    data = _read(args)
    losses = {objects: _loss(args, data, objects) for objects in args.objects}
    loss = next(iter(losses.values()))
    params: Any = minimize(loss, loss.zeros())
    sizes = counted(len(data.user_names), "user"), counted(len(data.item_names), "item")
    print(f"{counted(len(data.users), 'interaction')} of {sizes[0]} with {sizes[1]}")
    question, lead = _question(args, data, params)
    rows: list[list[object]] = []
    for objects, one in losses.items():
        answer = _answer(args, one, params, one.preference([question]), objects)
        print(f"\nThat lead without each of {counted(one.n_objects, objects.removesuffix('s'))}:\n")
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


def _read(args: argparse.Namespace) -> Interactions:
    columns = {"--user-col": args.user_col, "--item-col": args.item_col, "--rating-col": args.rating_col}
    frame = read_table(args.interactions, text=[args.user_col, args.item_col])
    named = {name: option for option, name in columns.items() if name is not None}
    require_columns(frame, named, args.interactions)
    data = from_frame(frame, user=args.user_col, item=args.item_col, rating=args.rating_col)
    return data if data.ratings is None else replace(data, ratings=data.ratings - data.ratings.mean())


def _loss(args: argparse.Namespace, data: Interactions, objects: Any) -> MatrixFactorisationLoss:
    kind: Any = "squared" if args.rating_col else args.kind
    given = {"dim": args.dim, "penalty": args.penalty, "seed": args.seed, "negatives": args.negatives}
    pairs = [f"{user} × {item}" for user, item in data.labels] if objects == "interactions" else []
    labels = {"interactions": pairs, "users": data.user_names, "items": data.item_names}[objects]
    return MatrixFactorisationLoss(
        data.users, data.items, kind=kind, ratings=data.ratings, objects=objects, labels=labels, **given
    )


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
    args: argparse.Namespace, loss: MatrixFactorisationLoss, params: Any, target: LabelledTarget, objects: str
) -> Answer:
    if len(flat(params)) <= WRITTEN_PARAMETERS or args.by not in (None, "attribute"):
        return answered(args, loss, params, target, things=objects)
    # A dense Hessian of so many parameters takes minutes and gigabytes.
    scores = attribute(loss, params, target, solver=CG(rtol=1e-3))
    check = spot_check(scores, loss, params, target, k=args.check) if args.check else None
    return Answer(scores, check, objects.removesuffix("s"))


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
    print(table([objects.removesuffix("s"), "change without it", ""], shown))
    return [[objects, names[row], repr(changes[row].item()), f"{errors[row]:.4g}", verdicts[row]] for row in order]
