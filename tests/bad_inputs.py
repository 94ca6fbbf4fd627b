"""The list of bad inputs: what each call must say, or give.

Run as a program it tries a list without any checker of types around the library, as its users have it, and prints a
line of JSON a case: `python tests/bad_inputs.py bad_inputs_losses`. tests/test_bad_inputs.py holds every line.
"""

import importlib
import json
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# One file of cases an area, each with CASES: a list of Case.
LISTS = [
    "bad_inputs_verbs",
    "bad_inputs_losses",
    "bad_inputs_models",
    "bad_inputs_reading",
]
SECONDS = 20


@dataclass(frozen=True)
class Case:
    """One call.

    Attributes:
        name: What is bad, in words; `public name: what`.
        call: The call.
        says: What the error, or the warning, must say: a regular expression.
        right: Where a right answer is wanted: whether it is.
    """

    name: str
    call: Callable[[], Any]
    says: str = ""
    right: Callable[[Any], bool] | None = None


def outcome(case: Case) -> str:
    """Return "right", "named", "warned", or what is wrong with the answer."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            answer = case.call()
        except Exception as error:
            return judged(case, error)
    told = " ".join(str(warning.message) for warning in caught)
    if case.says:
        return "warned" if caught and re.search(case.says, told) else f"silent: {answer!r:.200} {told:.200}"
    if case.right is None:
        return f"silent: {answer!r:.200}"
    return "right" if case.right(answer) else f"wrong: {answer!r:.200}"


def judged(case: Case, error: Exception) -> str:
    """Return "named" where an error is the library's own, of a plain class, and says what it must."""
    raised = traceback.extract_tb(error.__traceback__)[-1].filename
    words = f"{type(error).__name__}: {error}"
    own_class = type(error).__module__ == "builtins" or type(error).__module__.startswith("versatile_influence")
    if "versatile_influence" not in raised or not own_class:
        return f"raw, from {Path(raised).name}: {words:.300}"
    if not case.says or not re.search(case.says, str(error)):
        return f"unclear: {words:.300}"
    return "named"


def main(area: str) -> None:
    """Try every case of a list."""
    signal.signal(signal.SIGALRM, _too_long)
    for case in importlib.import_module(area).CASES:
        signal.alarm(SECONDS)
        found = outcome(case)
        signal.alarm(0)
        print(json.dumps([case.name, found]), flush=True)


def _too_long(*_: object) -> None:
    raise TimeoutError(f"no answer in {SECONDS} s")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main(sys.argv[1])
