"""The records that scripts wrote, and numbers looked up in them by a reference.

A reference is `record:path:format`, such as `cox_accuracy:runs/data=support&ties=efron/slope:.3f`: the record's name;
the way to the number, a key a step, where `key=value&…` picks from a list the first entry that has these; and how it
is written, as `format` does or `time` for seconds. `{reference}` in a text stands for the number.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

QUICK = "-quick"
PLACEHOLDER = re.compile(r"\{([^{}]+)\}")
PAPER = Path(__file__).parent / "paper.toml"


@dataclass(frozen=True)
class Record:
    """What one script measured.

    Attributes:
        numbers: What was measured.
        about: Command, commit, date, seed, threads, processor and versions.
    """

    numbers: dict
    about: dict

    def look_up(self, path: str) -> object | None:
        """Return what stands at a path, or None.

        Example:
            >>> Record({"runs": [{"data": "a", "r": 1}, {"data": "b", "r": 2}]}, {}).look_up("runs/data=b/r")
            2
        """
        found: object = self.numbers
        for step in path.split("/"):
            if isinstance(found, list):
                wanted = dict(pair.split("=", 1) for pair in step.split("&") if "=" in pair)
                found = next((entry for entry in found if _has(entry, wanted)), None)
            elif isinstance(found, dict):
                found = found.get(step)
            else:
                return None
        return found


@dataclass(frozen=True)
class Number:
    """A number with its reference, as it is written."""

    value: object
    text: str
    source: str


@dataclass(frozen=True)
class Records:
    """All records and pictures of some folders, by name.

    Attributes:
        records: Those of the scripts, and `paper`: the numbers that the paper prints.
        pictures: Paths of PNG files.
        quick: Whether these are the records of quick runs, with smaller settings.
    """

    records: Mapping[str, Record]
    pictures: Mapping[str, Path]
    quick: bool = False

    @classmethod
    def read(cls, folders: Iterable[str | PathLike], *, quick: bool = False) -> "Records":
        """Return what the folders hold: of quick runs, or of full ones.

        Raises:
            ValueError: If there is no such folder, or a file is no record.
        """
        records, pictures = {"paper": Record(tomllib.loads(PAPER.read_text(encoding="utf-8")), {})}, {}
        for folder in map(Path, folders):
            if not folder.is_dir():
                raise ValueError(
                    f"There is no folder {folder}. `python -m experiments.reproduce` makes one, with records in it."
                )
            for path in sorted(folder.iterdir()):
                name = path.stem.removesuffix(QUICK)
                if path.stem.endswith(QUICK) != quick:
                    continue
                if path.suffix == ".json":
                    records[name] = read_record(path)
                elif path.suffix == ".png":
                    pictures[name] = path
        return cls(records, pictures, quick)

    def number(self, reference: str) -> Number | None:
        """Return the number of a reference, or None where there is none."""
        name, _, rest = reference.partition(":")
        path, _, spec = rest.rpartition(":") if ":" in rest else (rest, "", "")
        record = self.records.get(name)
        value = record.look_up(path) if record else None
        return None if value is None else Number(value, written(value, spec), f"{name}:{path}")

    def filled(self, text: str, *, write: Callable[[Number], str] = lambda number: number.text) -> str | None:
        """Return the text with its numbers, each as `write` writes it, or None where one is missing."""
        numbers = {reference: self.number(reference) for reference in PLACEHOLDER.findall(text)}
        known = {reference: write(number) for reference, number in numbers.items() if number is not None}
        return PLACEHOLDER.sub(lambda match: known[match[1]], text) if len(known) == len(numbers) else None


def read_record(path: str | PathLike) -> Record:
    """Return the record in a file.

    Raises:
        ValueError: If it is no record.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return Record(content["numbers"], content["about"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no record: it needs `numbers` and `about`, as `write_record` writes.") from error


def is_interval(value: object) -> bool:
    """Return whether this is an estimate with the ends of its interval."""
    return isinstance(value, dict) and {"value", "low", "high"} <= set(value)


def written(value: object, spec: str = "") -> str:
    """Return a value in words: by a format, as a time, or to about four digits.

    Example:
        >>> written(0.0123, "time"), written(1440.0, "time"), written(0.99998437), written(5678), written(True)
        ('12 ms', '24 min', '0.999984', '5,678', 'yes')
        >>> written({"value": 0.9, "low": 0.85, "high": 0.93}, ".2f")
        '0.90 (0.85–0.93)'
    """
    if isinstance(value, dict) and is_interval(value):
        return f"{written(value['value'], spec)} ({written(value['low'], spec)}–{written(value['high'], spec)})"
    if isinstance(value, list):
        return ", ".join(written(each, spec) for each in value)
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    return _number(value, spec).replace("-", "−") if isinstance(value, int | float) else str(value)


def _number(value: int | float, spec: str) -> str:
    if spec:
        return _time(value) if spec == "time" else format(value, spec)
    return _digits(value)


def _digits(value: int | float) -> str:
    if isinstance(value, int) or (float(value).is_integer() and abs(value) < 1e6):
        return f"{value:,.0f}"
    if 0.99 < abs(value) < 1:
        return f"{value:.6f}"
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def _time(seconds: int | float) -> str:
    if seconds >= 36000:
        return f"{seconds / 3600:.3g} h"
    if seconds >= 120:
        return f"{seconds / 60:.3g} min"
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{1e3 * seconds:.{0 if seconds >= 0.0095 else 1}f} ms"


def _has(entry: object, wanted: dict[str, str]) -> bool:
    return isinstance(entry, dict) and all(str(entry.get(key)) == value for key, value in wanted.items())
