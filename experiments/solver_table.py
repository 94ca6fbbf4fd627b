"""Write the tables of docs/choosing_a_solver.md from the committed records, or check that they are theirs.

python experiments/solver_table.py            # rewrites them
python experiments/solver_table.py --check    # exit status 1 where they differ
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "choosing_a_solver.md"
BEGIN, END = "<!-- measured: written by experiments/solver_table.py -->", "<!-- end of measured -->"


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
    return cell.replace(" of processor time", "")


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


def written(page: str) -> str:
    """Return the page with the tables in their place."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{chr(10).join([*scale(), '', *effort()])}\n{END}{rest.split(END)[1]}"


def main() -> int:
    """Write the tables, or check them."""
    page = PAGE.read_text()
    if "--check" in sys.argv:
        return int(written(page) != page)
    PAGE.write_text(written(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
