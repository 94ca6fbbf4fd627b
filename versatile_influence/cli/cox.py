"""`vif cox`: which patients made a Cox model say this: refits, or predictions of which some are checked."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from versatile_influence.cli.answers import answered
from versatile_influence.cli.cox_tables import (
    coefficient_table,
    flip_table,
    largest_changes,
    moved_predictions,
    one_by_one,
)
from versatile_influence.cli.patients import fitted_rows, read_table, require_columns, require_numbers
from versatile_influence.cli.report import report_of, required
from versatile_influence.cli.tables import plain, renamed
from versatile_influence.cli.verdicts import verdicts
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.target import LabelledTarget
from versatile_influence.losses import CoxLoss
from versatile_influence.losses.cox.formula import Design
from versatile_influence.losses.cox.frames import FrameRows
from versatile_influence.reading.metrics import counted
from versatile_influence.reading.wald_table import effects
from versatile_influence.training.minimize import minimize

if TYPE_CHECKING:
    import pandas as pd


def run(args: argparse.Namespace) -> int:
    """Fit, attribute, print, check; return the exit status."""
    check_out(args.out, [args.patients, args.test])
    check_out(args.report, [args.patients, args.test, args.out], "--report")
    if args.report:
        required()
    rows, group = fitted_rows(args)
    loss = CoxLoss.of_rows(rows, ties=args.ties, penalty=args.penalty)
    flip = None if args.flip is None else [str(name) for name in loss.coefficients(args.flip or None).labels or []]
    # What is removed, which cluster(…) alone says.
    thing = "cluster" if rows.clustered and not args.id_col else "patient"
    test = None if args.test is None else _test_patients(args, loss)
    params = minimize(loss, loss.zeros())
    assert isinstance(params, Tensor)
    found = effects(loss, params)
    errors = torch.tensor([effect.error for effect in found]).to(params)
    headline = _headline(args, loss, rows, thing)
    print(f"{headline}\n")
    print(coefficient_table(found, robust=loss.robust))

    target, now = _target(loss, params, test)
    answer = answered(args, loss, params, target, thing=thing)
    scores = answer.scores
    # First of all: nobody may read to the end of what is printed.
    if args.out:
        written = renamed(scores.to_frame(error=True), args)
        write_text(args.out, written.to_csv(index_label=thing, float_format="%.10g"))
    d = len(params)
    print(f"\nChanges without each of {counted(loss.n_objects, thing)}.\n{plain(answer)}\n")
    if args.top:
        print(largest_changes(scores, errors, top=args.top))
    if args.top and test is not None:
        risks = replace(scores, scores=scores.scores[:, d:], targets=list(scores.targets or [])[d:])
        print(moved_predictions(risks, now[d:], top=args.top))
    if answer.check is not None:
        print(one_by_one(answer.check, errors, thing=thing))
    found_to_flip = None if flip is None else verdicts(loss, params, flip)
    if found_to_flip is not None:
        print(f"\n{flip_table(found_to_flip, thing=thing)}")
    if args.report:
        asked = {"groups": _groups(loss, group) or {}, "anonymous": args.anonymous, "thing": thing}
        most = max(1, loss.n_objects // (10 if found_to_flip is None else 2))
        page = report_of(loss, params, title=headline, found=found_to_flip, most=most, **asked)
        write_text(args.report, page.html)
        print(f"\nThe report is in {args.report}, {'without' if args.anonymous else 'with'} names of {thing}s.")
    if args.out:
        size = f"{counted(len(scores.scores), thing)} × {counted(scores.scores.shape[1], 'number')}"
        print(f"\nAll changes are in {args.out}: {size}, and how far each is to be trusted.")
    return 0


def _test_patients(args: argparse.Namespace, loss: CoxLoss) -> tuple[Tensor, list]:
    """Return the covariates of the test patients, less those of the average patient, and their names."""
    frame = read_table(args.test, text=[args.id_col] if args.id_col else [])
    needed = loss.design.variables if isinstance(loss.design, Design) else loss.columns
    require_columns(frame, dict.fromkeys(needed, "a covariate of the model"), args.test)
    if loss.design is None:
        require_numbers(frame, loss.columns, args.test)
    frame = frame.set_index(args.id_col) if args.id_col in frame.columns else frame
    rows, names = loss.test_rows(frame)
    return rows - loss.x.mean(0), names


def _groups(loss: CoxLoss, group: "pd.Series | None") -> dict[str, list[int]] | None:
    """Return the patients of each group, by its name."""
    if group is None:
        return None
    of_row = torch.empty_like(loss.outer.object_of_row)
    of_row[loss.outer.sets.order] = loss.outer.object_of_row
    patients = group.astype(str).groupby(group.astype(str).to_numpy()).indices
    return {str(name): of_row[torch.as_tensor(rows)].unique().tolist() for name, rows in patients.items()}


def _target(loss: CoxLoss, params: Tensor, test: tuple[Tensor, list] | None) -> tuple[LabelledTarget, Tensor]:
    """Return the coefficients and the test patients' relative risks as one target, with its present values.

    Risks are relative to the average training patient, as R and lifelines predict them: exp((x − x̄)θ).
    """
    rows, names = test or (None, [])
    parts = [loss.coefficients()] + ([] if rows is None else [loss.relative_risk(rows)])
    labels = [*loss.columns, *(f"relative_risk({name})" for name in names)]
    target = LabelledTarget(lambda theta: torch.cat([part(theta) for part in parts]), labels)
    return target, target(params)


def _headline(args: argparse.Namespace, loss: CoxLoss, rows: FrameRows, thing: str) -> str:
    n = len(rows.frame)
    more = f" in {n:,} rows" if loss.n_objects != n else ""
    strata = f", stratified by {', '.join(map(str, loss.strata_cols))}" if loss.strata_cols else ""
    dropped = f", {counted(rows.n_dropped, 'row')} with missing values left out" if rows.n_dropped else ""
    robust = ", robust standard errors" if loss.robust else ""
    return (
        f"Cox model of `{rows.roles['duration_col']}` in {args.patients}: {counted(loss.n_objects, thing)}{more}, "
        f"{counted(int(rows.event.sum()), 'event')}, {args.ties.capitalize()}'s ties{strata}{robust}{dropped}"
    )
