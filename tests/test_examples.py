"""The examples run and say what they promise."""

import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, folder: Path) -> str:
    program = [sys.executable, str(EXAMPLES / name)]
    return subprocess.run(program, check=True, capture_output=True, text=True, cwd=folder).stdout


def test_the_demo_finds_the_wrongly_recorded_patients_and_agrees_with_refitting(tmp_path):
    said = run("demo.py", tmp_path)
    assert "4 are the wrongly recorded ones" in said
    assert "Without all of them the coefficient is +0.394" in said
    assert (tmp_path / "demo-output" / "influence.png").stat().st_size > 10_000
    assert len((tmp_path / "demo-output" / "scores.csv").read_text().splitlines()) == 401


def test_any_loss_agrees_with_retraining(tmp_path):
    correlation = float(run("any_loss.py", tmp_path).rsplit(maxsplit=1)[1])
    assert correlation > 0.98
