"""Whatever device the parameters are on, everything works there: `tests/devices`, in a process of its own."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_every_loss_solver_and_verb_works_on_another_device():
    # A device that is made up stays for as long as its process does.
    words = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/devices"]
    # Types of arrays are checked where they are on the processor.
    words += ["-o", "addopts=--import-mode=importlib"]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout[-5000:]
    assert " passed" in found.stdout
