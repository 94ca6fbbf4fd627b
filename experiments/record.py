"""Results on disk: numbers with the versions, machine, seed and commit they come from."""

import hashlib
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib import metadata
from os import PathLike
from pathlib import Path

import torch

CODE = ("versatile_influence", "experiments", "benchmarks", ":!*/results/*")


def write_record(path: str | PathLike, numbers: dict, *, seed: int | None = None) -> None:
    """Write `numbers` as JSON, beside all that is needed to read them: versions, CPU, threads, seed, commit, command.

    Args:
        path: The file; its folder is made where it is missing.
        numbers: What was measured; anything JSON can hold.
        seed: The seed it was measured with, or None where nothing was drawn.
    """
    here = [word.removeprefix(str(Path.cwd()) + os.sep) for word in sys.argv]
    about = {
        # Folders of one machine say nothing on another.
        "command": " ".join([Path(sys.executable).stem, *(Path(w).name if Path(w).is_absolute() else w for w in here)]),
        "commit": _commit(),
        "date": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "threads": torch.get_num_threads(),
        "cpu": _cpu(),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("versatile-influence", "torch", "numpy", "scipy")},
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"numbers": numbers, "about": about}, indent=2) + "\n")


def digest(numbers: dict) -> str:
    """Return what tells these numbers from any others; a picture carries that of those it was drawn from.

    Example:
        >>> digest({"r": 0.5, "n": 3}) == digest({"n": 3, "r": 0.5}) != digest({"n": 3, "r": 0.6})
        True
    """
    return hashlib.sha256(json.dumps(numbers, sort_keys=True).encode()).hexdigest()[:16]


def _commit() -> str:
    """Return the commit of the code in use, with `+` where files differ from it; results are no code."""
    git = ["git", "-C", str(Path(__file__).parents[1])]
    try:
        commit = subprocess.run(
            [*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        ).stdout
        changed = subprocess.run(
            [*git, "status", "--porcelain", *CODE], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.strip() + ("+" if changed.strip() else "")


def _cpu() -> str:
    """Return the processor's name and the number of cores."""
    try:
        names = [
            line.split(":", 1)[1] for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line
        ]
    except OSError:
        names = []
    return f"{(names[0] if names else platform.processor() or platform.machine()).strip()}, {os.cpu_count()} cores"
