"""What `vif cox` prints."""

import math
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from versatile_influence.cli.answers import largest_first, moved_most
from versatile_influence.cli.tables import beside as side_by_side
from versatile_influence.cli.tables import plain, table
from versatile_influence.cli.verdicts import Verdict
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import LISTED, SHOWN
from versatile_influence.reading.spot_check import SpotCheck
from versatile_influence.reading.wald_table import Effect, beside


def coefficient_table(found: Sequence[Effect], *, robust: bool) -> str:
    """Return coefficients with standard errors, hazard ratios with 95 % confidence intervals, z and p."""
    header = ["covariate", "coef", "robust SE" if robust else "SE", "HR", "95 % interval", "z", "p"]
    return table(header, [effect.texts for effect in found])


def flip_table(found: Sequence[Verdict], *, thing: str = "patient") -> str:
    """Return conclusions with the fewest found without whom each is overturned, and who they are."""
    header = ["covariate", "conclusion", "overturned without", "first order says", "refitted"]
    who = "".join(
        f"  {one.covariate} {one.words}: {', '.join(map(plain, one.found.names[:SHOWN]))}"
        f"{', …' if len(one.found) > SHOWN else ''}\n"
        for one in found
        if one.found.overturned
    )
    whom = "whom" if thing == "patient" else f"which {thing}s"
    told = f"\nWithout {whom}:\n{who}" if who else ""
    shown = table(header, [one.texts for one in found], left=2)
    return f"Do the conclusions survive (sign, and significance at 0.05)?\n\n{shown}\n{told}"


def largest_changes(scores: Attribution, errors: Float[Tensor, " d"], *, top: int) -> str:
    """Return, for each coefficient, the patients without whom it would change most, coefficients side by side."""
    names, blocks = scores.names(), []
    for place, error in enumerate(errors.tolist()):
        column = scores.scores[:, place].tolist()
        order = largest_first(scores.scores[:, place].nan_to_num(float("inf")))[:top]
        title = str((scores.targets or [])[place])
        rows = [
            [str(names[row]), "no fit", ""]
            if math.isnan(column[row])
            else [str(names[row]), beside(column[row], error, "+"), f"({column[row] / error:+.2f})"]
            for row in order
        ]
        blocks.append(table([title, "change", ""], rows))
    shown = min(top, len(names))
    lost = " (first those without whom it has no fit)" if scores.scores.isnan().any() else ""
    return (
        f"For each coefficient the {shown} largest{lost}, in brackets in standard errors:\n\n{side_by_side(blocks)}\n"
    )


def moved_predictions(scores: Attribution, now: Float[Tensor, " m"], *, top: int) -> str:
    """Return the test patients whose relative risk a single training patient would change most, relative to itself."""
    relative = scores.scores / now
    largest, who = relative.abs().nan_to_num(-1.0).max(dim=0)
    order = largest_first(largest)[:top]
    names, rows = scores.names(), []
    for patient in order:
        label = str((scores.targets or [])[patient]).removeprefix("relative_risk(").removesuffix(")")
        others = largest_first(relative[:, patient])[:3]
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


def one_by_one(check: SpotCheck, errors: Float[Tensor, " d"], *, thing: str = "patient") -> str:
    """Return the patients that move some coefficient most, in standard errors, with it predicted and refitted."""
    names, targets = check.estimate.names(), check.estimate.targets or []
    rows = [
        [str(names[row]), str(targets[place]), *texts]
        for row, place, texts in moved_most((check.estimate, check.truth), errors, LISTED)
    ]
    return table([thing, "coefficient", "predicted", "refitted"], rows, left=2)
