"""Bad inputs end in a right answer, an error of the library's own that names the culprit, or a warning that does."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bad_inputs import LISTS

HERE = Path(__file__).parent


@pytest.mark.parametrize("area", LISTS)
def test_every_bad_input_is_answered_rightly_or_named(area):
    run = subprocess.run(
        [sys.executable, HERE / "bad_inputs.py", area], capture_output=True, text=True, check=False, cwd=HERE.parent
    )
    assert run.returncode == 0, run.stderr[-2000:]
    found = dict(json.loads(line) for line in run.stdout.splitlines() if line.startswith('["'))
    assert len(found) >= 50
    assert {name: said for name, said in found.items() if said not in ("right", "named", "warned")} == {}
