"""How long the first five minutes take: from `pip install` in a new environment to the first result, by who you are.

The programs are those of the site's first page, and of the pages it sends others to; each runs in a process of its own
in the new environment. What is downloaded is timed as it is here; wall seconds, and processor seconds,
which a busy machine does not stretch; imports and all.

    python benchmarks/five_minutes.py
"""

import os
import re
import resource
import subprocess
import tempfile
import textwrap
import time
import venv
from pathlib import Path

from experiments.run import Run

ROOT = Path(__file__).parent.parent


def programs() -> dict[str, str]:
    """Return each kind of user's first program."""
    page = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    found = {
        name: textwrap.dedent(block)
        for name, block in re.findall(r'^=== "([^"]+)"\n\n    ```python\n(.*?)^    ```', page, flags=re.S | re.M)
    }
    elsewhere = {
        "Embeddings": ("a_model_as_it_is", "class Towers"),
        "Trained in a loop": ("through_training", "Training("),
    }
    for name, (file, words) in elsewhere.items():
        blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / f"{file}.md").read_text("utf-8"), flags=re.S)
        found[name] = next(block for block in blocks if words in block)
    return found


def timed(words: list[str], *, folder: str, check: bool) -> tuple[dict[str, float], subprocess.CompletedProcess]:
    """Return wall and processor seconds of a command."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=check)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter() - start
    processor = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": round(wall, 1), "processor seconds": round(processor, 1)}, done


def main() -> None:
    """Install, run each, and record."""
    run = Run.of(__file__, __doc__)
    numbers: dict = {"processes that wanted a core, of the last minute": os.getloadavg()[0]}
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), f"{ROOT}[all]"]
        numbers["pip install"], _ = timed(install, folder=folder, check=True)
        for name, program in programs().items():
            seconds, done = timed([python, "-W", "ignore", "-c", program], folder=folder, check=False)
            whole = numbers["pip install"]["seconds"] + seconds["seconds"]
            numbers[name] = seconds | {"with the installation, seconds": round(whole, 1), "ran": done.returncode == 0}
            print(name, numbers[name], flush=True)
    run.record(numbers)


if __name__ == "__main__":
    main()
