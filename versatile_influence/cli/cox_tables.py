"""What `vif cox` prints."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.cli.tables import beside, decimals, plain, table
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import AGREES, LISTED
from versatile_influence.reading.metrics import Agreement, agreement, counted

VERDICTS = ["agree almost exactly", "agree closely", "agree, though not to the digit"]


def coefficient_table(names: Sequence[str], coefficients: Float[Tensor, " d"], errors: Float[Tensor, " d"]) -> str:
    """Return coefficients with standard errors, hazard ratios with 95 % confidence intervals, z and p."""
    rows = []
    for name, coefficient, error in zip(names, coefficients.tolist(), errors.tolist(), strict=True):
        digits, z = decimals(error), coefficient / error
        low, high = (math.exp(min(coefficient + sign * 1.959964 * error, 700.0)) for sign in (-1, 1))
        p = math.erfc(abs(z) / math.sqrt(2))
        rows.append(
            [
                str(name),
                f"{coefficient:.{digits}f}",
                f"{error:.{digits}f}",
                f"{math.exp(min(coefficient, 700.0)):.4g}",
                f"{low:.4g} … {high:.4g}",
                f"{z:.2f}",
                f"{p:.3f}" if p >= 0.001 else "<0.001",
            ]
        )
    return table(["covariate", "coef", "SE", "HR", "95 % interval", "z", "p"], rows)


def largest_changes(scores: Attribution, errors: Float[Tensor, " d"], *, top: int) -> str:
    """Return, for each coefficient, the patients without whom it would change most, coefficients side by side."""
    names, blocks = scores.names(), []
    for place, error in enumerate(errors.tolist()):
        column = scores.scores[:, place]
        order = column.abs().argsort(descending=True, stable=True)[:top].tolist()
        title = str((scores.targets or [])[place])
        rows = [
            [str(names[row]), f"{column[row]:+.{decimals(error)}f}", f"({column[row] / error:+.2f})"] for row in order
        ]
        blocks.append(table([title, "change", ""], rows))
    shown = min(top, len(names))
    return f"For each coefficient the {shown} largest, in brackets in standard errors:\n\n{beside(blocks)}\n"


def moved_predictions(scores: Attribution, now: Float[Tensor, " m"], *, top: int) -> str:
    """Return the test patients whose relative risk a single training patient would change most, relative to itself."""
    relative = scores.scores / now
    largest, who = relative.abs().max(dim=0)
    order = largest.argsort(descending=True, stable=True)[:top].tolist()
    names, rows = scores.names(), []
    for patient in order:
        label = str((scores.targets or [])[patient]).removeprefix("relative_risk(").removesuffix(")")
        others = relative[:, patient].abs().argsort(descending=True, stable=True)[:3].tolist()
        risk = now[patient].item()
        without = risk + scores.scores[who[patient], patient].item()
        listed = [f"{names[row]} {relative[row, patient].item():+.1%}" for row in others]
        rows.append([label, f"{risk:.4g}", f"{without:.4g}", *listed, *[""] * (3 - len(listed))])
    shown = "each" if len(now) <= len(order) else f"the {len(order)} that one patient moves most, of {len(now):,}"
    title = (
        f"Risk of test patients relative to the average patient ({shown}),\n"
        "what it would be without the most influential patient, and its change without each of the three most so:\n\n"
    )
    return title + table(["test patient", "risk", "without 1st", "1st", "2nd", "3rd"], rows) + "\n"


def check_report(
    predicted: Attribution,
    refitted: Attribution,
    scale: Float[Tensor, " t"],
    *,
    coefficients: int,
    seconds: float,
    advice: str,
) -> str:
    """Return how predicted changes compare with really refitting, in words and numbers, and some of them one by one.

    The first `coefficients` targets are coefficients, the others predictions; each is divided by its `scale` before all
    are pooled. Refitting took some `seconds`, and `advice` says what to do where they do not agree.
    """
    k = len(predicted.scores)
    largest = f"those with the {math.ceil(k / 2)} largest changes, and others at random"
    lines = [
        f"Check: {counted(k, 'patient')} really left out, one at a time, and the model fitted again in {seconds:.2g} s",
        f"({'every patient' if k == predicted.n_objects else largest}).",
    ]
    parts = [("coefficient", "standard errors", slice(None, coefficients))]
    if len(scale) > coefficients:
        parts.append(("relative risk", "relative to itself", slice(coefficients, None)))
    for what, unit, part in parts:
        if torch.isfinite(refitted.scores[:, part]).all(dim=1).any():
            found = agreement(*(scores.scores[:, part] / scale[part] for scores in (predicted, refitted)))
            lines.append(_in_words(found, what=what, unit=unit, advice=advice))
    names = predicted.names()
    lines += [f"  {plain(names[row])} could not be left out: {why}" for row, why in (refitted.failed or {}).items()]
    lines += ["", _one_by_one(predicted, refitted, scale[:coefficients], names=names)]
    return "\n".join(lines)


def _in_words(found: Agreement, *, what: str, unit: str, advice: str) -> str:
    otherwise = "differ in size, though their order is right" if found.pooled_pearson > 0.9 else "disagree"
    limits = zip(AGREES, VERDICTS, strict=True)
    verdict = next((words for limit, words in limits if found.relative_error <= limit), otherwise)
    if not found.relative_error <= AGREES[1]:
        verdict += f". {advice}"
    off = f"predictions are {abs(found.slope - 1):.1%} too {'small' if found.slope > 1 else 'large'} on the whole"
    if not 0.5 < found.slope < 2:
        off = f"refitted changes are {found.slope:.3g} times the predicted on the whole"
    pairs = f"{counted(found.n_removals, 'patient')} × {counted(found.n_targets, what)}"
    return (
        f"  {what.capitalize()}s: predicted and refitted changes {verdict}.\n"
        f"    r = {found.pooled_pearson:.5f} over {pairs} ({unit});\n"
        f"    relative error {found.relative_error:.1%}, {off}."
    )


def _one_by_one(predicted: Attribution, refitted: Attribution, errors: Float[Tensor, " d"], *, names: list) -> str:
    """Return the first patients with the coefficient that each moves most, predicted and refitted."""
    rows = []
    for row in range(min(LISTED, len(names))):
        place = int((predicted.scores[row, : len(errors)] / errors).abs().argmax())
        digits = decimals(errors[place].item())
        values = [f"{scores.scores[row, place].item():+.{digits}f}" for scores in (predicted, refitted)]
        rows.append([str(names[row]), str((predicted.targets or [])[place]), *values])
    return table(["patient", "coefficient", "predicted", "refitted"], rows, left=2)
