"""The benchmark of crashes in small: nothing is mixed, lost or blocked."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_kills_fights_full_disks_and_flipped_bits_mix_lose_and_block_nothing(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "benchmarks/crashes.py", "--quick", "--out", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    numbers = json.loads((tmp_path / "crashes-quick.json").read_text())["numbers"]
    assert {word: numbers[word] for word in ("mixed", "lost", "blocked")} == {"mixed": 0, "lost": 0, "blocked": 0}
    assert numbers["killed trainings"]["kills"] >= 1
    assert numbers["full disk"]["said"] >= 3
    assert numbers["flipped bits"]["flips"] >= 70
