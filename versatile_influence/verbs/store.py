"""Finished trainings in a folder, so that a run that was killed goes on where it stopped.

One file a training, there whole or not at all, which says under its checksum of which run and which removal it is: one
that is damaged, or comes from elsewhere, costs its own training and no other. `run.json` says what the run is, and
`run-copy.json` the same: a folder is used again only for the same run, and by one process at a time. What a `fit`
depends on cannot be read off a function, so it is recognised by what it does: the targets with everyone present, and
one finished retraining, are computed again and compared. `key` is for what these two would not show.

Why no database: of an SQLite file of 300 trainings a flipped bit costs more than 20 of them in 73 of 78 pages, and all
in the first. diskcache is one, and it and joblib.Memory read pickles, which run code; zarr has neither a lock nor an
identity of the run.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import product
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from versatile_influence.core.files import alone, read_json, write_json
from versatile_influence.core.made import made_by
from versatile_influence.core.warn import warn
from versatile_influence.verbs.retrainings import Outcome

Finished = dict[tuple[int, int], Outcome]

FORMAT = "versatile-influence trainings 2"
HEADERS = ("run.json", "run-copy.json")
# Most bytes of a number in JSON with its comma, of all else in the file of a training, and of a header.
NUMBER_BYTES, REST_BYTES, HEADER_BYTES = 26, 2**16, 2**28


class Store:
    """The folder of one run; `opened` gives it."""

    def __init__(self, folder: Path, settings: dict):
        # As JSON gives them back: tuples and lists are one.
        self.folder, self.settings = folder, json.loads(json.dumps(settings))
        self.damaged: list[str] = []
        self.headers = self._read_headers()
        self.run = next(iter(self.headers.values()), {})

    def compare_settings(self) -> None:
        """Refuse a folder whose run was called differently.

        Raises:
            ValueError: If it was; the message says what differs.
        """
        there, here = self.run.get("settings", self.settings), self.settings
        differ = [name for name in here if here[name] != there.get(name)]
        self._refuse([f"`{name}`: {_short(there.get(name))} there, {_short(here[name])} here" for name in differ])

    def agreed(self, full: list[Outcome], *, rtol: float) -> list[Outcome]:
        """Return the outcomes with everyone present that the folder holds, or write these where it is new.

        Args:
            full: The outcomes just computed.
            rtol: Relative difference at which two trainings count as the same, for the rounding of another machine.

        Raises:
            ValueError: If they differ from what the folder holds.
        """
        if not self.run:
            about = {"format": FORMAT, "id": secrets.token_hex(16), "made": made_by("leave_one_out")}
            self.run = about | {"settings": self.settings, "full": [_plain(outcome) for outcome in full]}
        stored = [_outcome(plain) for plain in self.run["full"]]
        for there, here in zip(stored, full, strict=True):
            self.compare(there, here, which="with everyone present", rtol=rtol)
        # Now that the folder is known to be this run's: what a kill left half written, or damage took, is put right.
        for part in self.folder.glob("r*.json.*.part"):
            part.unlink(missing_ok=True)
        for name in HEADERS:
            if name not in self.headers:
                (self.folder / name).unlink(missing_ok=True)
                write_json(self.folder / name, self.run)
        return stored

    def compare(self, there: Outcome, here: Outcome, *, which: str, rtol: float) -> None:
        """Refuse a folder in which the same training gave something else.

        Raises:
            ValueError: If it did.
        """
        if there.values.shape != here.values.shape:
            self._refuse([f"targets {which}: {len(there.values)} there, {len(here.values)} here {here.reason or ''}"])
        # Beside the typical target: one that happens to be near zero has no digits to compare.
        size = np.abs(there.values)
        distance = np.abs(there.values - here.values)
        if (wrong := distance > rtol * (size + size.mean())).any():
            worst = int(np.argmax(np.where(wrong, distance / (size + size.mean()), 0.0)))
            self._refuse(
                [
                    f"target {worst} {which}: {there.values[worst]:.12g} there, {here.values[worst]:.12g} here, "
                    "so that the loss, the data or a setting of `fit` is another, or `fit` is random (give it seeds=…)"
                ]
            )

    def finished(self, repeats: int, rows: int) -> Finished:
        """Return all outcomes in the folder, and warn of files that are damaged, whose trainings are then repeated."""
        found, there = {}, set(os.listdir(self.folder))
        numbers = len(self.run["full"][0][0])
        # Other names than these are not looked at.
        for place in product(range(repeats), range(rows)):
            if (name := _name(place)) in there:
                try:
                    body = read_json(self.folder / name, most=NUMBER_BYTES * numbers + REST_BYTES)
                    found[place] = self._own(body, place, numbers)
                # Whatever goes wrong in bytes that anybody may have changed, they are not this run's.
                except Exception:
                    self.damaged.append(name)
                    # Not written into: it may be a link or a pipe.
                    with suppress(OSError):
                        (self.folder / name).unlink()
        if self.damaged:
            warn(
                f"{len(self.damaged)} files in {self.folder} are damaged, or not of this run and removal, and are made "
                f"again: {self.damaged[0]}, ….",
            )
        return found

    def write(self, place: tuple[int, int], outcome: Outcome) -> None:
        """Write one finished training.

        Raises:
            OSError: If it could not be written; what was written before is whole.
        """
        write_json(self.folder / _name(place), {"run": self.run["id"], "place": place, "outcome": _plain(outcome)})

    def _own(self, body: dict, place: tuple[int, int], numbers: int) -> Outcome:
        """Return the outcome of a file, if it is that of this removal in this run."""
        outcome = _outcome(body["outcome"])
        if (body["run"], body["place"]) != (self.run["id"], list(place)):
            raise ValueError("it is of another run or removal")
        if outcome.values.shape != (0 if outcome.reason else numbers,) or not np.isfinite(outcome.values).all():
            raise ValueError("it has other targets")
        return outcome

    def _read_headers(self) -> dict[str, dict]:
        """Return those of the headers that are whole."""
        found, wrong = {}, []
        for name in HEADERS:
            if (path := self.folder / name).exists():
                try:
                    found[name] = _header(path)
                except Exception as error:
                    wrong.append(f"{path} is damaged, or from a version before 0.2 ({error})")
                    self.damaged.append(name)
        if len({body["id"] for body in found.values()}) > 1:
            raise ValueError(
                f"{' and '.join(found)} in {self.folder} are of two runs. Delete the one of the other run."
            )
        if not found and (wrong or any(self.folder.glob("refit-*.json"))):
            said = "; ".join(wrong) or f"{self.folder} holds trainings, but no run.json of what"
            raise ValueError(f"{said}. Delete the folder, or name another.")
        return found

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            raise ValueError(
                f"{self.folder} holds the trainings of another run. What differs: {'; '.join(differences)}. Name "
                "another folder, or delete this one."
            )


@contextmanager
def opened(folder: str | PathLike, settings: dict) -> Iterator[Store]:
    """Yield the folder of a run, which no other may fill meanwhile.

    Args:
        folder: Where it is.
        settings: What the run is: anything JSON can hold.

    Raises:
        ValueError: If another fills it, or the folder is of a run that was called differently.
    """
    with alone(Path(folder)):
        store = Store(Path(folder), settings)
        # Before anything is trained: a wrong folder must cost no time.
        store.compare_settings()
        yield store


def _header(path: Path) -> dict:
    body = read_json(path, most=HEADER_BYTES)
    known = body.get("format") == FORMAT and isinstance(body["settings"], dict) and isinstance(body["id"], str)
    if not (known and [_outcome(plain) for plain in body["full"]]):
        raise ValueError("it is no header of this version")
    return body


def _name(place: tuple[int, int]) -> str:
    return f"refit-{place[0]}-{place[1]}.json"


def _plain(outcome: Outcome) -> list[Any]:
    return [outcome.values.tolist(), outcome.reason, outcome.digest]


def _outcome(plain: list[Any]) -> Outcome:
    values, reason, digest = plain
    return Outcome(np.array(values, dtype=np.float64), reason, digest)


def _short(value: object) -> str:
    text = json.dumps(value)
    if len(text) <= 60 or not isinstance(value, list | dict):
        return text
    return f"{text[:57]}… ({len(value)} of them)"
