"""The command line that every experiment and benchmark script shares, and where its record goes.

    python experiments/NAME.py [--quick] [--out FOLDER] [--data FOLDER] [--seed N] [--draw]

A quick run has smaller settings, which the script declares in its numbers; its files end in `-quick`, so that it can
never stand in for the full one. Pictures are drawn from the record and carry its digest; `--draw` draws them anew
without measuring.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.record import digest, write_record
from versatile_influence.datasets.files import FOLDER_VARIABLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Run:
    """One run of a script.

    Attributes:
        name: The script's name, and that of its record.
        quick: Whether smaller settings are asked for.
        out: Folder for records and pictures.
        seed: The seed.
        started: When the run began, by `time.perf_counter`.
        drawn_only: Whether pictures of the record that is there are asked for, and no measurement.

    Example:
        >>> run = Run.of("experiments/table9.py", "Table 9.", argv=["--quick"])
        >>> run.name, run.quick, run.path(".json").as_posix()
        ('table9', True, 'experiments/results/table9-quick.json')
    """

    name: str
    quick: bool
    out: Path
    seed: int
    started: float
    drawn_only: bool = False

    @classmethod
    def of(cls, script: str | PathLike, doc: str | None, *, argv: Sequence[str] | None = None) -> "Run":
        """Return the run that the command line asks for.

        Args:
            script: The script's `__file__`.
            doc: Its docstring, shown by `--help`.
            argv: The words of the command line, or None for those of the process.
        """
        parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
        parser.add_argument("--quick", action="store_true", help="smaller settings, declared in the record")
        parser.add_argument("--out", type=Path, default=Path(script).parent / "results", help="folder for the record")
        parser.add_argument("--data", help=f"folder of the data files (or set {FOLDER_VARIABLE})")
        parser.add_argument("--seed", type=int, default=0, help="seed of what is drawn (default 0)")
        parser.add_argument("--draw", action="store_true", help="draw the record that is there, measure nothing")
        args = parser.parse_args(argv)
        if args.data:
            os.environ[FOLDER_VARIABLE] = args.data
        return cls(Path(script).stem, args.quick, args.out, args.seed, time.perf_counter(), args.draw)

    def path(self, ending: str) -> Path:
        """Return the path of one of the run's files: `.json`, `.png`, or `_figure1.png`."""
        stem, dot, suffix = ending.rpartition(".")
        return self.out / f"{self.name}{stem}{'-quick' if self.quick else ''}{dot}{suffix}"

    def record(self, numbers: dict) -> Path:
        """Write the record, with the seconds since the run began, and return its path."""
        seconds = round(time.perf_counter() - self.started, 2)
        write_record(self.path(".json"), numbers | {"quick": self.quick, "run seconds": seconds}, seed=self.seed)
        return self.path(".json")

    def numbers(self) -> dict:
        """Return the numbers of the record that is there."""
        return json.loads(self.path(".json").read_text(encoding="utf-8"))["numbers"]

    def savefig(self, figure: "Figure", ending: str, *, dpi: int) -> None:
        """Write a picture of the record that is there: it names the record, and carries the digest of its numbers."""
        source = f"{self.path('.json').name} {digest(self.numbers())}"
        figure.savefig(self.path(ending), dpi=dpi, metadata={"Source": source})
