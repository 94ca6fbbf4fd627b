"""Write the tables of the pages in docs/ from the committed records, or check that they are theirs.

python experiments/solver_table.py            # rewrites them
python experiments/solver_table.py --check    # exit status 1 where they differ
"""

import json
import re
import sys
from pathlib import Path

from experiments import peer_tables

ROOT = Path(__file__).parent.parent
PAGE, OWN_LOSS = ROOT / "docs" / "solvers_measured.md", ROOT / "docs" / "a_loss_of_your_own.md"
GRAPHS = ROOT / "docs" / "graphs.md"
PEERS, DELTA_BETA = ROOT / "docs" / "peers.md", ROOT / "docs" / "lifelines_delta_beta.md"
THROUGH, TRUST = ROOT / "docs" / "through_training.md", ROOT / "docs" / "how_far_to_trust.md"
STAND_INS = {
    "explicit": "Hessian, explicit or CG",
    "Gauss-Newton": "Gauss–Newton, dense",
    "Gauss-Newton, blocks by layer": "Gauss–Newton without what couples the layers",
    "EK-FAC": "EK-FAC",
    "EK-FAC, rank 8": "EK-FAC, `rank=8`",
    "EK-FAC, rank 16": "EK-FAC, `rank=16`",
    "EK-FAC and 5 steps of CG": "EK-FAC and 5 steps of CG on the Hessian",
    "EK-FAC and 10 steps of CG": "EK-FAC and 10 steps of CG on the Hessian",
}
DIGITS = [
    "CG on the Hessian",
    "CG on Gauss-Newton",
    "EK-FAC",
    "EK-FAC, rank 16",
    "EK-FAC and 10 steps of CG",
]
WAYS = {"function": "a function", "parts": "parts", "class": "a class"}
AVERAGES = [
    ("ReLU, paper protocol", "scores", "ReLU, the paper's training: scores (paper, one network: 0.238)"),
    ("ReLU, paper protocol", "ceiling", "retraining against retraining (paper: 0.219)"),
    ("tanh, paper protocol", "scores", "tanh, the paper's training: scores"),
    ("softplus, stationary", "scores", "softplus, trained to a minimum: scores"),
]


def numbers(path: str) -> dict:
    """Return the numbers of a record."""
    return json.loads((ROOT / path).read_text())["numbers"]


def text(cell: dict | str) -> str:
    """Return a cell of Table 6 in a few words."""
    if isinstance(cell, dict):
        falls = " (curves down)" if "not positive definite" in " ".join(cell["warnings"]) else ""
        return f"{cell['seconds']:.3g} s, {cell['peak GB']:.2g} GB{falls}"
    if needed := re.search(r"about ([\d,.e+]+) GB", cell):
        return f"would need {float(needed[1].replace(',', '')):,.0f} GB"
    return "ran out of memory" if cell.startswith("MemoryError") else cell.replace(" of processor time", "")


def scale() -> list[str]:
    """Return Table 6's analogue as Markdown, nothing while there is no record."""
    if not (ROOT / "benchmarks/results/table6.json").exists():
        return []
    record = numbers("benchmarks/results/table6.json")
    sizes = list(record["training"])
    methods = dict.fromkeys(key.rsplit(", ", 1)[0] for key in record if key.rsplit(", ", 1)[-1] in sizes)
    paper = record["paper, seconds"]
    lines = [
        "Scores of 1,218 patients × 381 test patients on METABRIC by a network 9 → h → 1 of that many parameters,",
        f"seconds and peak memory of the process, {record['threads']} thread(s), at most {record['limits']} "
        "(`python benchmarks/table6.py`):",
        "",
        f"| curvature, solver | {' | '.join(sizes)} |",
        f"|---|{'---|' * len(sizes)}",
    ]
    for method in methods:
        cells = [text(record.get(f"{method}, {size}", "–")) for size in sizes]
        name = method if method.startswith("Gauss") else f"Hessian, {method}"
        lines.append(f"| {name} | {' | '.join(cells)} |")
    for name, seconds in paper.items():
        cells = [
            f"{seconds[size]} s" if isinstance(seconds.get(size), float) else seconds.get(size, "–") for size in sizes
        ]
        lines.append(f"| *paper, {name}* | {' | '.join(cells)} |")
    return lines


def effort() -> list[str]:
    """Return the least effort at which each solver came within 10 % and 0.1 % of the dense scores."""
    record = numbers("experiments/results/solver_effort.json")
    lines = [
        f"Loss gradients for one right-hand side until all scores of a network of {record['parameters']} parameters",
        "are within 10 % and 0.1 % of the dense answer, among those tried (`python experiments/solver_effort.py`; "
        "[plot](../experiments/results/solver_effort_figure.png)):",
        "",
        "| solver | 10 % | 0.1 % | smallest error |",
        "|---|---|---|---|",
    ]
    for name in dict.fromkeys(point["solver"] for point in record["points"]):
        own = [point for point in record["points"] if point["solver"] == name]
        cells = []
        for bound in (0.1, 0.001):
            within = [point["loss gradients"] for point in own if point["relative error of scores"] <= bound]
            cells.append(str(min(within)) if within else "–")
        least = min(point["relative error of scores"] for point in own)
        lines.append(f"| {name} | {' | '.join(cells)} | {least:.1g} |")
    return lines


def blocks() -> list[str]:
    """Return what stand-ins for the Hessian lose, from Table 5's record and that of the digits."""
    record = numbers("experiments/results/table5.json")
    networks = ["tanh", "softplus", "tanh, 64 units"]
    lines = [
        "On small neural Cox models (METABRIC, 9 → 4 → 1, weight decay 0.01; `experiments/table5.py`) scores correlate",
        "with warm refits as follows (mean r over test patients).",
        "",
        f"| | {' | '.join(networks)} |",
        f"|---|{'---|' * len(networks)}",
    ]
    for method, name in STAND_INS.items():
        cells = [f"{record[network][f'{method}, warm refits']:.3f}" for network in networks]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def encoder() -> list[str]:
    """Return the same of a contrastive encoder."""
    record = numbers("experiments/results/digits_contrastive.json")
    lines = [
        "On a contrastive encoder of digits (`experiments/digits_contrastive.py`: a convolution and a linear layer,",
        "InfoNCE, EK-FAC from 32 draws; mean r over targets with warm refits):",
        "",
        "| | similarities of test pairs | losses of test images |",
        "|---|---|---|",
    ]
    for method in DIGITS:
        cells = [f"{record[f'{method}, {target}, warm refits']:.2f}" for target in ("similarities", "losses")]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


def averages() -> list[str]:
    """Return how the means over several starts agree."""
    record = numbers("experiments/results/ensembles.json")
    sizes = [key for key in record["ReLU, paper protocol"] if key.startswith("K = ")]
    lines = [f"| K | {' | '.join(size.removeprefix('K = ') for size in sizes)} |", f"|---|{'---|' * len(sizes)}"]
    for network, kind, name in AVERAGES:
        cells = [f"{record[network][size][kind]['mean']:.3f}" for size in sizes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def ways() -> list[str]:
    """Return what a loss of one's own costs, written three ways."""
    record = numbers("benchmarks/results/own_loss.json")
    lines = [
        f"{record['persons']:,} persons in {record['sets']:,} sets, {record['threads']} thread "
        "(`python benchmarks/own_loss.py`):",
        "",
        "| | all scores | a Newton step for everybody | largest difference of scores |",
        "|---|---|---|---|",
    ]
    for name, words in WAYS.items():
        own = record[name]
        times = [own[f"{verb}, processor seconds"] * 1e3 for verb in ("attribute", "newton_step")]
        cells = [*(f"{time:.3g} ms" for time in times), f"{own['largest difference of scores']:.0e}"]
        lines.append(f"| {words} | {' | '.join(cells)} |")
    return lines


def through() -> list[str]:
    """Return how scores through training and at its end agree with retraining as Markdown."""
    record = numbers("experiments/results/through_training.json")
    rows = [
        "| training | r, through training | slope | metasmoothness | r, at its end "
        "| trainings for all scores, for all retrainings |",
        "|---|---|---|---|---|---|",
    ]
    # What is as good as 1 is not said to be 1.
    digits = lambda r: f"{r:.3f}" if r < 0.9995 else f"{r:.5f}"  # noqa: E731
    for name, found in record.items():
        for place, one in enumerate(found.get("starts", [found]) if isinstance(found, dict) else []):
            here, end = one["through training"], one.get("endpoint, Gauss-Newton")
            start = f", start {place}" if "starts" in found else ""
            cost = one["trainings for all scores"], one["seconds of all retrainings"] / one["seconds of a training"]
            last = digits(end["r"]) if end else "–"
            low, value, high = one["metasmoothness"]
            smooth = f"{value:.3f} [{low:.3f}, {high:.3f}]"
            of = f"{one['removals']:,} × {one['targets']}"
            rows.append(
                f"| {name}{start} ({of}) | {digits(here['r'])} | {here['slope']:.2f} | {smooth} | {last} "
                f"| {cost[0]:.0f}, {cost[1]:.0f} |"
            )
    return rows


def models() -> list[str]:
    """Return how scores through training agree with retraining for models of other kinds as Markdown."""
    rows = ["| model, removals × targets | r | trainings for all scores, for all retrainings |", "|---|---|---|"]
    ready = numbers("experiments/results/through_ready.json")
    said = {
        "Karate": [
            ("skip-gram by SGD, a node's pairs absent", "same walks"),
            ("… against walks drawn anew", "walks drawn anew"),
            ("… retraining against itself, so", "retraining on walks drawn anew, beside the same walks"),
        ],
        "Recommender": [
            ("BPR factorisation, pairs of other users", "pairs of others"),
            ("… pairs of the removed user", "pairs of the removed user"),
        ],
        "Delicious": [("ListMLE by the paper's protocol, parameter effect", "r, parameter effect")],
    }
    for name, lines in said.items():
        if (found := ready.get(name)) is None:
            continue
        of = f"{name}, {found['removals']} × {found['targets']}"
        cost = f"{found['trainings for all scores']:.0f}, {found['trainings for all retrainings']:.0f}"
        for what, key in lines:
            value = found[key]
            r = value if isinstance(value, float) else value.get("mean Pearson", value.get("r, pooled"))
            rows.append(f"| {of}: {what} | {r:.3f} | {cost} |")
    encoder = numbers("experiments/results/sentence_encoder.json")
    for name in ("smooth", "at a point"):
        found = [
            value["r"] for key, value in encoder.items() if key.startswith(f"{name}, ") and isinstance(value, dict)
        ]
        each = ", ".join(f"{r:.3f}" for r in found)
        cost = f"{len(found) * encoder[f'{name}, trainings a target']:.0f}, {encoder['pairs']}"
        how = "`smooth=True`" if name == "smooth" else "slope at a point"
        rows.append(f"| MiniLM, all 22.6 million parameters, 24 × {len(found)}: {how} | {each} | {cost} |")
    return rows


def long() -> list[str]:
    """Return what shorter ways through a long training say, and what the whole costs, as Markdown."""
    record = numbers("experiments/results/long_training.json")
    rows = ["| SimCLR by SGD, 240 steps | r with retraining | trainings for all 60 targets |", "|---|---|---|"]
    rows += [
        f"| {one['way']} | {one['r with retraining']:.3f} | {one['trainings']:.0f} |" for one in record["accuracy"]
    ]
    rows += ["", "| parameters, steps | trainings a target: of one | of eight together |", "|---|---|---|"]
    for one in record["cost"]:
        cells = " | ".join(f"{one[f'trainings a target, of {count}']:.1f}" for count in (1, 8))
        rows.append(f"| {one['parameters']:,}, {one['steps']:,} | {cells} |")
    return rows


def halves() -> list[str]:
    """Return linear datamodelling scores as Markdown."""
    ways = ["through training", "end, Gauss-Newton", "end, EK-FAC", "end, projected gradients"]
    rows = [f"| 50 random halves left out | {' | '.join(ways)} |", "|---|---|---|---|---|"]
    for name, found in numbers("experiments/results/linear_datamodeling.json").items():
        if isinstance(found, dict):
            said = [
                f"{one['LDS']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" if (one := found.get(way)) else "–"
                for way in ways
            ]
            rows.append(f"| {name} | {' | '.join(said)} |")
    return rows


def trust() -> list[str]:
    """Return how estimated errors and mended scores hold against refits as Markdown."""
    record = numbers("experiments/results/trust.json")
    rows = [
        "| problem | removals | rank correlation of the error with the true one | trusted, their true error (95 %) "
        "| wrong by half, of them trusted | r as they are | r with the tolerance | cost |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in record["problems"].items():
        mended, wide = found[f"tolerance {record['tolerance']}"], found["95th percentile of their true error"]
        rows.append(
            f"| {name} | {found['removals']:,} | {found['rank correlation of estimated and true error']:.2f} "
            f"| {found['trusted']:,}{'' if wide is None else f', {wide:.2f}'} "
            f"| {found['wrong by more than half']}, {found['of these trusted']} "
            f"| {found['as they are']['pooled r']:.3f} "
            f"| {mended['pooled r']:.4f} | {mended['seconds over refits']:.2f} |"
        )
    return rows


def networks() -> list[str]:
    """Return how removals from graph networks agree with retraining as Markdown."""
    rows = [
        "| graph, network | removed | r, graph of everybody | r, graph without it | trusted, their r | cost of scores "
        "to retrainings, to trainings from scratch |",
        "|---|---|---|---|---|---|",
    ]
    for graph, found in numbers("experiments/results/graph_networks.json").items():
        for name, one in found.items() if isinstance(found, dict) else ():
            for objects in ("edges", "nodes"):
                each = one[objects]
                r = [each[f"graph {which}"]["test loss, r"] for which in ("of everybody", "without it")]
                trusted = f"{each['trusted']} of {each['retrained']}, {each['test loss, r of the trusted']:.3f}"
                cost = each["all retrainings over all scores"], each["all trainings from scratch over all scores"]
                rows.append(
                    f"| {graph}, {name} | {each['objects']:,} {objects} | {r[0]:.4f} | {r[1]:.4f} | {trusted} "
                    f"| 1 : {cost[0]:.0f}, 1 : {cost[1]:.0f} |"
                )
    return rows


def filled(page: str, made: dict[str, list[str]]) -> str:
    """Return a page with the tables in their place."""
    for name, lines in made.items():
        begin, end = f"<!-- {name}: written by experiments/solver_table.py -->", f"<!-- end of {name} -->"
        before, rest = page.split(begin)
        page = f"{before}{begin}\n{chr(10).join(lines)}\n{end}{rest.split(end)[1]}"
    return page


def pages() -> dict[Path, str]:
    """Return each page as it should be."""
    tables = {"EK-FAC": blocks(), "digits": encoder(), "ensembles": averages(), "measured": [*scale(), "", *effort()]}
    peers = {"no sum": peer_tables.no_sum(), "rows": peer_tables.rows_alone(), "network": peer_tables.network()}
    return {
        PEERS: filled(PEERS.read_text(), peers | {"refits": peer_tables.refits()}),
        DELTA_BETA: filled(DELTA_BETA.read_text(), {"delta beta": peer_tables.delta_beta()}),
        PAGE: filled(PAGE.read_text(), tables),
        OWN_LOSS: filled(OWN_LOSS.read_text(), {"own loss": ways()}),
        GRAPHS: filled(GRAPHS.read_text(), {"graph networks": networks()}),
        TRUST: filled(TRUST.read_text(), {"trust": trust()}),
        THROUGH: filled(
            THROUGH.read_text(), {"through training": through(), "models": models(), "halves": halves(), "long": long()}
        ),
    }


def main() -> int:
    """Write the tables, or check them."""
    made = pages()
    if "--check" in sys.argv:
        return int(any(path.read_text() != page for path, page in made.items()))
    for path, page in made.items():
        path.write_text(page)
    return 0


if __name__ == "__main__":
    sys.exit(main())
