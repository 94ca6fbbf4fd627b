"""`vif cox`: which patients made a Cox model say this: refits, or predictions of which some are checked."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from versatile_influence.cli.answers import answered
from versatile_influence.cli.cox_tables import coefficient_table, largest_changes, moved_predictions, one_by_one
from versatile_influence.cli.patients import read_table, require_columns, require_filled, require_numbers
from versatile_influence.cli.tables import plain, renamed
from versatile_influence.cli.words import check_out
from versatile_influence.core.files import write_text
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.target import LabelledTarget
from versatile_influence.losses import CoxLoss
from versatile_influence.reading.metrics import counted
from versatile_influence.training.minimize import minimize

if TYPE_CHECKING:
    import pandas as pd


def run(args: argparse.Namespace) -> int:
    """Fit, attribute, print, check; return the exit status."""
    check_out(args.out, [args.patients, args.test])
    frame = _patients(args)
    loss = _loss(args, frame)
    test = None if args.test is None else _test_patients(args, loss)
    params = minimize(loss, loss.zeros())
    assert isinstance(params, Tensor)
    # From the inverse of the information, as `coxph` without `robust` prints them.
    errors = torch.linalg.inv(Hessian(loss, params, params.new_ones(loss.n_objects)).dense()).diagonal().sqrt()
    print(_headline(args, loss, frame))
    print(coefficient_table(loss.columns, params, errors))

    target, now = _target(loss, params, test)
    answer = answered(args, loss, params, target, things="patients")
    scores, shown = answer.scores, answer.there
    # First of all: nobody may read to the end of what is printed.
    if args.out:
        written = renamed(scores.to_frame(error=True), args)
        write_text(args.out, written.to_csv(index_label="patient", float_format="%.10g"))
    d = len(params)
    print(f"\nChanges without each of {counted(loss.n_objects, 'patient')}.\n{plain(answer)}\n")
    if args.top:
        print(largest_changes(shown, errors, top=args.top))
    if args.top and test is not None:
        risks = replace(shown, scores=shown.scores[:, d:], targets=list(shown.targets or [])[d:])
        print(moved_predictions(risks, now[d:], top=args.top))
    if answer.check is not None:
        print(one_by_one(answer.check, errors))
    if args.out:
        size = f"{counted(len(scores.scores), 'patient')} × {counted(scores.scores.shape[1], 'number')}"
        print(f"\nAll changes are in {args.out}: {size}, and how far each is to be trusted.")
    return 0


def _patients(args: argparse.Namespace) -> "pd.DataFrame":
    """Return the rows, with the columns the model needs and no others."""
    frame = read_table(args.patients)
    numeric = {args.duration_col: "--duration-col", args.event_col: "--event-col"}
    optional = {args.entry_col: "--entry-col", args.weights_col: "--weights-col"}
    numeric |= {name: flag for name, flag in optional.items() if name is not None}
    naming = dict.fromkeys(args.strata or [], "--strata") | ({args.id_col: "--id-col"} if args.id_col else {})
    roles = numeric | naming
    require_columns(frame, roles | dict.fromkeys(args.covariates or [], "--covariates"), args.patients)
    covariates = args.covariates or [name for name in frame.columns if name not in roles]
    needed = {name: f"{flag} needs numbers." for name, flag in numeric.items()}
    for name in covariates:
        needed[name] = (
            f"If it names the patients, add --id-col {name}; if it groups them, --strata {name}; otherwise encode it "
            "as numbers, or name the columns to use with --covariates."
        )
    require_numbers(frame, needed, args.patients)
    require_filled(frame, naming, args.patients)
    return frame.loc[:, [*dict.fromkeys([*covariates, *roles])]]


def _loss(args: argparse.Namespace, frame: "pd.DataFrame") -> CoxLoss:
    return CoxLoss.from_frame(
        frame,
        duration_col=args.duration_col,
        event_col=args.event_col,
        entry_col=args.entry_col,
        strata_cols=args.strata,
        weights_col=args.weights_col,
        subject_col=args.id_col,
        ties=args.ties,
    )


def _test_patients(args: argparse.Namespace, loss: CoxLoss) -> "pd.DataFrame":
    frame = read_table(args.test)
    require_columns(frame, dict.fromkeys(loss.columns, "a covariate of the model"), args.test)
    require_numbers(frame, dict.fromkeys(loss.columns, "The model was fitted to numbers there."), args.test)
    if args.id_col in frame.columns:
        frame = frame.set_index(args.id_col)
    return frame.loc[:, loss.columns]


def _target(loss: CoxLoss, params: Tensor, test: "pd.DataFrame | None") -> tuple[LabelledTarget, Tensor]:
    """Return the coefficients and the test patients' relative risks as one target, with its present values.

    Risks are relative to the average training patient, as R and lifelines predict them: exp((x − x̄)θ).
    """
    parts = [loss.coefficients()] + ([] if test is None else [loss.relative_risk(test - loss.x.mean(0).numpy())])
    labels = [*loss.columns] + ([] if test is None else [f"relative_risk({name})" for name in parts[1].labels or []])
    target = LabelledTarget(lambda theta: torch.cat([part(theta) for part in parts]), labels)
    return target, target(params)


def _headline(args: argparse.Namespace, loss: CoxLoss, frame: "pd.DataFrame") -> str:
    rows = f" in {len(frame):,} rows" if loss.n_objects != len(frame) else ""
    strata = f", stratified by {', '.join(args.strata)}" if args.strata else ""
    return (
        f"Cox model of `{args.duration_col}` in {args.patients}: {counted(loss.n_objects, 'patient')}{rows}, "
        f"{counted(int(frame[args.event_col].sum()), 'event')}, {args.ties.capitalize()}'s ties{strata}\n"
    )
