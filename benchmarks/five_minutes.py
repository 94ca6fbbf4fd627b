"""How long the first five minutes take: from `pip install` in a new environment to the first result, by who you are.

The programs are those of the site's first page, and of the pages it sends others to; each runs in a process of its own
in the new environment. What is downloaded is timed as it is here; the programs in wall seconds, imports and all.

    python benchmarks/five_minutes.py
"""

import re
import subprocess
import sys
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


def main() -> None:
    """Install, run each, and record."""
    run = Run.of(__file__, __doc__)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / "bin" / "python")
        install = [python, "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"), f"{ROOT}[all]"]
        subprocess.run(install, check=True)
        numbers: dict = {"pip install, seconds": round(time.perf_counter() - start, 1)}
        for name, program in programs().items():
            start = time.perf_counter()
            done = subprocess.run(
                [python, "-W", "ignore", "-c", program], cwd=folder, capture_output=True, text=True, check=False
            )
            seconds = round(time.perf_counter() - start, 1)
            numbers[name] = {
                "seconds": seconds,
                "with the installation": round(seconds + numbers["pip install, seconds"], 1),
            }
            numbers[name] |= {"ran": done.returncode == 0, "lines": len(program.strip().splitlines())}
            print(name, numbers[name], done.stderr[-300:], flush=True)
    run.record(numbers)


if __name__ == "__main__":
    sys.exit(main())
