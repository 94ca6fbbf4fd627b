"""Finished trainings in a folder, so that a run that was killed goes on where it stopped.

One file a training, written beside its final name and then renamed, so that a file is there whole or not at all; each
carries its own checksum. `run.json` says what the run is: a folder is used again only for the same one. What a `fit`
depends on cannot be read off a function, so it is recognised by what it does: the targets with everyone present, and
one finished retraining, are computed again and compared. `key` is for what these two would not show.
"""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from versatile_influence.core.warn import warn
from versatile_influence.verbs.retrainings import Outcome

Finished = dict[tuple[int, int], Outcome]


@dataclass(frozen=True)
class Store:
    """The folder of one run.

    Attributes:
        folder: Where it is.
        settings: What the run is: anything JSON can hold.
    """

    folder: Path
    settings: dict

    def compare_settings(self) -> None:
        """Refuse a folder whose run was called differently.

        Raises:
            ValueError: If it was; the message says what differs.
        """
        known = self._header()
        if known is not None:
            # As JSON gives them back: tuples and lists are one.
            there, here = known["settings"], json.loads(json.dumps(self.settings))
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
        known = self._header()
        if known is None:
            body = {"settings": self.settings, "full": [[*_json(outcome)] for outcome in full]}
            text = json.dumps(body)
            content = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "run": text}).encode()
            self.folder.mkdir(parents=True, exist_ok=True)
            self._write("run.json", lambda file: file.write(content))
            return full
        stored = [Outcome(np.array(values), reason, digest) for values, reason, digest in known["full"]]
        for there, here in zip(stored, full, strict=True):
            self.compare(there, here, which="with everyone present", rtol=rtol)
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

    def finished(self) -> Finished:
        """Return all outcomes in the folder; warns of files that are damaged, whose trainings are then repeated."""
        found, damaged = {}, []
        for path in sorted(self.folder.glob("refit-*.npz")):
            _, position, row = path.stem.split("-")
            try:
                found[int(position), int(row)] = _read(path)
            except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
                damaged.append(path.name)
        if damaged:
            warn(
                f"{len(damaged)} files in {self.folder} are damaged and their trainings are repeated: {damaged[0]}, ….",
            )
        return found

    def write(self, position: int, row: int, outcome: Outcome) -> None:
        """Write one finished training.

        Raises:
            OSError: If it could not be written; what was written before is whole.
        """
        about = json.dumps({"reason": outcome.reason, "digest": outcome.digest}).encode()
        parts = {"values": outcome.values, "about": np.frombuffer(about, dtype=np.uint8)}
        checksum = np.frombuffer(_checksum(outcome.values, about), dtype=np.uint8)
        self._write(f"refit-{position}-{row}.npz", lambda file: np.savez(file, **parts, sha256=checksum))

    def _write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        # By process: two runs on one folder must not write into one file.
        part = self.folder / f"{name}.{os.getpid()}.part"
        try:
            with open(part, "wb") as file:
                fill(file)
                file.flush()
                # Else the new name may be on disk before the contents are.
                os.fsync(file.fileno())
            part.replace(self.folder / name)
        except OSError as error:
            part.unlink(missing_ok=True)
            raise OSError(
                error.errno,
                f"{self.folder / name} could not be written ({error.strerror or error}). What was finished before is "
                "whole: make room and run again with the same folder",
            ) from error

    def _header(self) -> dict | None:
        path = self.folder / "run.json"
        if not path.is_file():
            if self.folder.is_dir() and any(self.folder.glob("refit-*.npz")):
                raise ValueError(f"{self.folder} holds trainings, but no run.json of what. Name another folder.")
            return None
        try:
            outer = json.loads(path.read_bytes())
            if hashlib.sha256(outer["run"].encode()).hexdigest() != outer["sha256"]:
                raise ValueError("its checksum is wrong")
            return json.loads(outer["run"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is damaged ({error}). Delete the folder, or name another.") from error

    def _refuse(self, differences: list[str]) -> None:
        if differences:
            raise ValueError(
                f"{self.folder} holds the trainings of another run. What differs: {'; '.join(differences)}. Name "
                "another folder, or delete this one."
            )


def _read(path: Path) -> Outcome:
    with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
        values, about, checksum = file["values"], bytes(file["about"]), bytes(file["sha256"])
    if _checksum(values, about) != checksum:
        raise ValueError(f"{path} has a wrong checksum.")
    return Outcome(values, **json.loads(about))


def _checksum(values: np.ndarray, about: bytes) -> bytes:
    return hashlib.sha256(values.tobytes() + about).digest()


def _json(outcome: Outcome) -> tuple[list[float], str | None, str]:
    return outcome.values.tolist(), outcome.reason, outcome.digest


def _short(value: object) -> str:
    text = json.dumps(value)
    if len(text) <= 60 or not isinstance(value, list | dict):
        return text
    return f"{text[:57]}… ({len(value)} of them)"
