"""What the README says is what the code does and the records hold."""

import json
import re
import subprocess
import sys
import textwrap
import warnings
from pathlib import Path

import pytest

from experiments import theorem_3_2

ROOT = Path(__file__).parent.parent


def test_the_results_table_is_that_of_the_records():
    run = subprocess.run([sys.executable, str(ROOT / "experiments" / "readme_table.py"), "--check"], check=False)
    assert run.returncode == 0, "run `python experiments/readme_table.py`"


def test_the_page_on_solvers_shows_the_records():
    run = subprocess.run([sys.executable, str(ROOT / "experiments" / "solver_table.py"), "--check"], check=False)
    assert run.returncode == 0, "run `python experiments/solver_table.py`"


def test_the_first_example_runs(capsys):
    program = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), flags=re.S)[0]
    exec(compile(program, "README.md", "exec"), {})
    assert "Pearson" in capsys.readouterr().out


@pytest.mark.parametrize(("data", "attribute", "newton"), [("metabric", 0.9997, 0.9999), ("support", 0.9999, 0.99999)])
def test_recorded_accuracy_is_what_is_asked_of_it(data, attribute, newton):
    runs = json.loads((ROOT / "experiments/results/cox_accuracy.json").read_text())["numbers"]["runs"]
    asked = {"attribute": attribute, "newton_step": newton}
    for run in runs:
        if run["data"] == data:
            assert run["pooled_pearson"] >= asked[run["estimator"]]
            assert abs(run["slope"] - 1) < 0.02


def test_theorem_3_2_holds_on_fresh_draws():
    found = theorem_3_2.rows(sizes=(250, 500, 1000, 2000), repeats=3)
    slope = theorem_3_2.log_slope([row["n"] for row in found], [row["mean"] for row in found])
    assert -1.1 < slope < -0.9


def test_the_start_page_of_the_site_runs(capsys):
    page = (ROOT / "docs" / "index.md").read_text()
    programs = [textwrap.dedent(block) for block in re.findall(r"    ```python\n(.*?)    ```", page, flags=re.S)]
    assert len(programs) == 4
    for program in programs:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(compile(program, "index.md", "exec"), {})
    assert "tensor" in capsys.readouterr().out
