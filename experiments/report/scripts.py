"""The scripts that measure: which there are, and running one of them in a process of its own."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("experiments", "benchmarks")
MARK = "Run.of(__file__"


@dataclass(frozen=True)
class Script:
    """A script on the shared command line of `experiments.run`."""

    path: Path

    @property
    def name(self) -> str:
        """Its name, and that of its records, or the beginning of their names."""
        return self.path.stem

    def finished(self, out: Path, *, quick: bool, seed: int) -> list[Path]:
        """Return its records in a folder that were made with these settings."""
        ending = "-quick.json" if quick else ".json"
        found = [path for path in out.glob(f"{self.name}*{ending}") if quick or not path.stem.endswith("-quick")]
        return [path for path in found if _settings(path) == (quick, seed)]

    def run(self, out: Path, *, quick: bool, seed: int, data: str | None) -> str | None:
        """Run it, its words going to `out/logs`, and return None, or its last words where it failed."""
        log = out / "logs" / f"{self.name}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        words = ["--out", str(out), "--seed", str(seed), *(["--quick"] if quick else [])]
        words += ["--data", data] if data else []
        with open(log, "w", encoding="utf-8") as file:
            done = subprocess.run(
                [sys.executable, str(self.path), *words],
                stdout=file,
                stderr=subprocess.STDOUT,
                env=os.environ | {"MPLBACKEND": "agg"},
                check=False,
            )
        if done.returncode == 0:
            return None
        lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
        return f"{lines[-1] if lines else 'no word'} (all of it: {log})"


def scripts() -> dict[str, Script]:
    """Return the scripts there are, by name.

    Example:
        >>> "paper_cox" in scripts()
        True
    """
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]
    return {path.stem: Script(path) for path in paths if MARK in path.read_text(encoding="utf-8")}


def _settings(path: Path) -> tuple[bool, int] | None:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return content["numbers"]["quick"], content["about"]["seed"]
    except (ValueError, KeyError, TypeError):
        return None
