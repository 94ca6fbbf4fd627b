"""Bad inputs end in a right answer, an error of the library's own that names the culprit, or a warning that does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs import LISTS

HERE = Path(__file__).parent


def said_by(*command: str) -> list[str]:
    """Return the lines that a program of this folder prints: users have no checker of types around the library."""
    run = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=HERE)
    assert run.returncode == 0, run.stderr[-2000:]
    return run.stdout.splitlines()


@pytest.mark.parametrize("area", LISTS)
def test_every_bad_input_is_answered_rightly_or_named(area):
    found = dict(json.loads(line) for line in said_by("bad_inputs.py", area) if line.startswith('["'))
    assert len(found) >= 50
    assert {name: said for name, said in found.items() if said not in ("right", "named", "warned")} == {}


def test_every_argument_of_every_public_name_has_bad_inputs_or_a_reason_for_none():
    assert said_by("-c", "import bad_inputs_verbs as verbs; print(*verbs.uncovered(), sep='\\n')") == [""]
