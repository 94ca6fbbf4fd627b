"""Write the README's table of results from the committed records, or check that it, and what pages quote, is theirs.

python experiments/readme_table.py            # rewrites the table in README.md
python experiments/readme_table.py --check    # exit status 1 where it, or a quoted number, differs

A number quoted in README or docs has behind it a comment that names its record, the way to it and its format, as
`1.5 s<!-- cox_scale:runs/patients=1000000/seconds:time -->` (see `experiments/report/records.py`).
"""

import json
import re
import sys
from pathlib import Path

from experiments.report import Records

ROOT = Path(__file__).parent.parent
FOLDERS = (ROOT / "experiments" / "results", ROOT / "benchmarks" / "results")
# Other tasks than Cox regression, in the columns of the second table; a row whose record is missing is left out.
KARATE = "karate:prediction against warm refits, pair losses over those present/without node 0"
ROWS = (
    (
        "Listwise ranking, Delicious",
        "paper:table1/delicious/vif:.3f",
        "delicious:marginalised/direct + parameter:.5f",
        "delicious:marginalised/parameter effect:.4f",
        "delicious:seconds/marginalised:time",
        "delicious:seconds/refit:time",
    ),
    (
        "Node embedding, Karate, without node 0",
        "paper:table1/karate/vif:.3f",
        f"{KARATE}/mean Pearson:.3f",
        "–",
        "karate:seconds/34 × 1156 scores:time",
        "karate:seconds/34 refits:time",
    ),
    (
        "Cox regression, network (tanh, 4 units), METABRIC",
        "paper:table5/network/explicit:.3f",
        "table5:tanh/explicit, warm refits:.4f",
        "–",
        "–",
        "–",
    ),
)
# What stands before the comment, and the reference in it.
QUOTED = re.compile(r"([^<>]{0,40})<!-- (\w+:[^ >][^>]*) -->")
BEGIN, END = "<!-- results: written by experiments/readme_table.py -->", "<!-- end of results -->"


def numbers(path: str) -> dict:
    """Return the numbers of a record."""
    return json.loads((ROOT / path).read_text())["numbers"]


def as_text(cells: tuple[str, ...]) -> str:
    """Return a row whose references are in braces."""
    return f"| {' | '.join(f'{{{cell}}}' if ':' in cell else cell for cell in cells)} |"


def table() -> str:
    """Return the table as Markdown."""
    accuracy = numbers("experiments/results/cox_accuracy.json")["runs"]
    speed = {(run["data"], run["ties"]): run for run in numbers("benchmarks/results/cox_speed.json")["runs"]}
    scale = numbers("benchmarks/results/cox_scale.json")["runs"][-1]
    slopes = numbers("experiments/results/theorem_3_2.json")["slopes"]
    lines = [
        "Cox regression, relative risk of every test patient without every training patient, against exactly refitted",
        "models (Efron ties, two threads; scores alone, `check=False`; r pooled over all pairs, and the mean over test",
        "patients; `experiments/cox_accuracy.py`, `benchmarks/cox_speed.py`):",
        "",
        "| data | train × test | `attribute`, pooled r | mean r | `newton_step`, pooled r | paper, mean r "
        "| all scores cost | all exact refits |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for data in ("metabric", "support"):
        rows = {run["estimator"]: run for run in accuracy if (run["data"], run["ties"]) == (data, "efron")}
        linear, newton, timed = rows["attribute"], rows["newton_step"], speed[data, "efron"]
        lines.append(
            f"| {data.upper()} | {linear['train']:,} × {linear['test']:,} | {linear['pooled_pearson']:.5f}, slope "
            f"{linear['slope']:.3f} | {linear['mean_pearson']:.5f} | {newton['pooled_pearson']:.6f} "
            f"| {linear['paper']} | {1e3 * timed['scores seconds']:.0f} ms = "
            f"{timed['scores in gradients']:.0f} loss gradients | {timed['all refits seconds']:.2f} s |"
        )
    r_times = [
        f"{run['R refits']['seconds']:.2f} s ({run['data'].upper()})"
        for (_, ties), run in speed.items()
        if ties == "efron" and run["R refits"]
    ]
    if r_times:
        lines += ["", f"R's `survival` takes {' and '.join(r_times)} for the same warm-started refits in the same run."]
    if rows := [row for row in map(Records.read(FOLDERS).filled, map(as_text, ROWS)) if row]:
        lines += [
            "",
            "The other tasks of the paper, mean correlation with exact refits over targets:",
            "",
            "| task | paper | `attribute` | its part through the parameters | all scores cost | all exact refits |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    lines += [
        "",
        f"Changes of all parameters for every one of {scale['patients']:,} simulated patients (10 covariates): "
        f"{scale['seconds']:.1f} s and {scale['peak memory GB']:.1f} GB (`benchmarks/cox_scale.py`). The difference to "
        f"the classical influence function falls as n^{slopes['mean']:.2f} (`experiments/theorem_3_2.py`).",
    ]
    return "\n".join(lines)


def written(readme: str) -> str:
    """Return the README with the table in its place."""
    before, rest = readme.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


def misquoted(page: str, records: Records) -> list[str]:
    """Return the references of a page whose record says another number than stands before them."""
    wrong = []
    for before, reference in QUOTED.findall(page):
        number = records.number(reference)
        if number is None or not re.search(rf"(?<![\w.−]){re.escape(number.text)}$", before):
            said = " ".join(before.split()[-2:])
            wrong.append(f"{reference}: “{said}” in the page, {number.text if number else 'nothing'} in the record")
    return wrong


def main() -> int:
    """Write the table, or check it."""
    path = ROOT / "README.md"
    readme = path.read_text()
    if "--check" in sys.argv:
        records, texts = Records.read(FOLDERS), [readme, *(page.read_text() for page in (ROOT / "docs").glob("*.md"))]
        wrong = [each for text in texts for each in misquoted(text, records)]
        print(*wrong, sep="\n")
        return int(written(readme) != readme or bool(wrong))
    path.write_text(written(readme))
    return 0


if __name__ == "__main__":
    sys.exit(main())
