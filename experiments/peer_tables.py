"""The tables of the pages on other libraries, as Markdown from the committed records (experiments/solver_table.py)."""

import json
from pathlib import Path

from experiments.report.records import written

RESULTS = Path(__file__).parent.parent / "benchmarks" / "results"
OWN = "Versatile Influence"
NO_SUM = "Cox regression on METABRIC, not expressible as rows"


def record(name: str) -> dict:
    """Return a record, whole."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def origin(name: str) -> str:
    """Return in words where a record comes from."""
    about = record(name)["about"]
    versions = ", ".join(f"{library} {version}" for library, version in about["versions"].items())
    return (
        f"`{about['command']}`: {about['date']}, {about['cpu']}, {about['threads']} thread(s), "
        f"Python {about['python']}, {versions}."
    )


def rows_alone() -> list[str]:
    """Return the job that all can do."""
    found = record("peers")["numbers"]["logistic regression"]
    lines = [
        f"{found['rows']:,} rows, {found['features']} features, the losses of {found['test rows']} test rows. "
        + origin("peers"),
        "",
        "| library | prepare, processor time | scores | pooled r with the exact influence | its relative error "
        "| pooled r with exact refits |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in found.items():
        if isinstance(one, dict) and "exact refits" in one:
            exact, refits = one["exact influence"], one["exact refits"]
            times = [written(one[f"{part} seconds"], "time") for part in ("prepare", "score")]
            lines.append(
                f"| {bold(name)} | {' | '.join(times)} | {exact['pearson']:.6f} | {exact['relative error']:.0e} "
                f"| {refits['pearson']:.6f} |"
            )
    return lines


def network() -> list[str]:
    """Return the same of a small network."""
    whole = record("solvers_beside_peers")["numbers"]
    versions, lines = whole.get("versions of others", {}), [origin("solvers_beside_peers")]
    both = {"r, refits": "exact refits", "r, dense Hessian": "the dense Hessian"}
    for found, truths in ((whole, both), (whole.get("large", {}), {"r, Gauss-Newton": "the Gauss-Newton matrix"})):
        if not found:
            continue
        lines += [
            "",
            f"{found['parameters']:,} parameters, the losses of 200 test digits; r is the mean over them:",
            "",
            f"| library, method | processor seconds | {' | '.join(f'r with {one}' for one in truths.values())} |",
            f"|---|---|{'---|' * len(truths)}",
        ]
        for name, one in found.items():
            if isinstance(one, dict) and "user" in one:
                library, _, method = name.partition(", ")
                version = f" {versions[library]}" if library in versions else ""
                agreement = " | ".join(f"{one[r]:.3f}" for r in truths)
                lines.append(f"| {bold(f'{library}{version}, {method}')} | {one['user']:.2f} | {agreement} |")
    return lines


def no_sum() -> list[str]:
    """Return what each says of a loss that is no sum over rows."""
    found = record("peers")["numbers"][NO_SUM]
    lines = [
        f"Cox regression, {found['patients']:,} patients of METABRIC, the relative risks of {found['test patients']} "
        "test patients, against exact refits without each patient:",
        "",
        "| library | pooled r | relative error | |",
        "|---|---|---|---|",
    ]
    for name, one in found.items():
        if isinstance(one, str):
            lines.append(f"| {bold(name)} | – | – | refuses: {one.replace('|', '/')} |")
        elif isinstance(one, dict):
            said = one.get("all scores") or ("" if name.startswith(OWN) else "an answer, and a wrong one")
            said = said.replace("0 up to", "**cannot take it**: all scores are 0 up to").replace(
                "an ans", "**cannot take it**: an ans"
            )
            numbers = [f"{one[key]:.5f}" if key in one else "–" for key in ("pearson", "relative error")]
            lines.append(f"| {bold(name)} | {' | '.join(numbers)} | {said} |")
    return lines


def refits() -> list[str]:
    """Return exact leave-one-out of Cox regression beside R."""
    lines = [
        origin("cox_speed"),
        "",
        "| data, ties | all scores | all exact refits | R's `survival`, the same refits | largest difference |",
        "|---|---|---|---|---|",
    ]
    for run in record("cox_speed")["numbers"]["runs"]:
        other = run["R refits"]
        theirs = [f"{written(other['seconds'], 'time')} ({other['survival']})", f"{other['largest difference']:.0e}"]
        own = [written(run[f"{what} seconds"], "time") for what in ("scores", "all refits")]
        name = f"{run['data'].upper()}, {run['ties']}: {run['objects']:,} × {run['targets']:,}"
        lines.append(f"| {name} | {' | '.join([*own, *(theirs if other else ['–', '–'])])} |")
    return lines


def delta_beta() -> list[str]:
    """Return lifelines' residuals and the right numbers, against lifelines' own fits without each patient."""
    found = record("delta_beta")["numbers"]
    data = {name: one for name, one in found.items() if isinstance(one, dict)}
    ways = [name for name, one in next(iter(data.values())).items() if isinstance(one, dict)]
    heads = " | ".join(f"{name}, {one['patients']} patients" for name, one in data.items())
    lines = [
        f"lifelines {found['lifelines']}. {origin('delta_beta')}",
        "",
        f"| least and largest r over covariates | {heads} |",
        f"|---|{'---|' * len(data)}",
    ]
    for way in ways:
        cells = [f"{one[way]['least r']:.4f} to {one[way]['largest r']:.4f}" for one in data.values()]
        lines.append(f"| {bold(way)} | {' | '.join(cells)} |")
    return lines


def bold(name: str) -> str:
    """Return a name, this library's in bold."""
    return f"**{name}**" if name.startswith(OWN) else name
