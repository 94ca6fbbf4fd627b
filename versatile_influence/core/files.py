"""Files that are there whole or not at all, that tell when they are damaged, and folders that one run fills."""

import hashlib
import json
import math
import os
import secrets
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import filelock
import numpy as np

from versatile_influence.core.sizes import LOCK_SECONDS

# The last bytes of a sealed file, before its checksum: SHA-256 of all bytes before this line.
MARK = b"\nsha256 "
SEAL = len(MARK) + 2 * hashlib.sha256().digest_size


@contextmanager
def whole(path: str | PathLike) -> Iterator[BinaryIO]:
    """Yield a file to write to and read from, which becomes `path` where the block ends without an error.

    It stands beside `path` until it is on disk, and is renamed: whatever happens, `path` holds all of the old or all
    of the new. What can be no such file, as /dev/stdout or a pipe, is written to once the block has ended.

    Raises:
        OSError: If it cannot be written; `path` is then as it was.
    """
    # What a link leads to is replaced, not the link.
    target, standard = Path(os.path.realpath(path)), _standard(path)
    with named(path):
        if standard is not None or (target.exists() and not (target.is_file() or target.is_dir())):
            with tempfile.TemporaryFile() as file:
                yield file
                file.seek(0)
                sys.stdout.flush()
                with open(target if standard is None else os.dup(standard), "wb") as stream:
                    shutil.copyfileobj(file, stream)
            return
        # A name of its own: two writers of one path must not write into one file.
        part = target.with_name(f"{target.name}.{secrets.token_hex(4)}.part")
        try:
            with open(part, "x+b") as file:
                yield file
                file.flush()
                # Else the new name may be on disk before the contents are.
                os.fsync(file.fileno())
            if target.exists():
                # A file that was for its owner alone stays so.
                shutil.copymode(target, part)
            part.replace(target)
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def named(path: str | PathLike) -> Iterator[None]:
    """Say which file could not be written inside, and what to do.

    Raises:
        OSError: If one could not.
    """
    try:
        yield
    except OSError as error:
        raise OSError(
            error.errno,
            f"{path} could not be written ({error.strerror or error}). What was finished before is whole: make room, "
            "or name another place, and run again",
        ) from error


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make a folder and hold it: a second run that wants to fill it at the same time is refused.

    The lock is the operating system's, and ends with the process that holds it, however that ends.

    Raises:
        ValueError: If another run holds it, or it is no folder.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is no folder. Name one.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with filelock.FileLock(folder / "lock", timeout=LOCK_SECONDS):
            yield
    except filelock.Timeout as error:
        raise ValueError(
            f"Another run is filling {folder} right now. Wait until it has ended, or name another folder."
        ) from error


def seal(file: BinaryIO) -> None:
    """Append its checksum to a file."""
    file.flush()
    size = file.seek(0, os.SEEK_END)
    file.write(MARK + _digest(file, size))


def unseal(file: BinaryIO) -> bool:
    """Return whether a file ends in a checksum.

    Raises:
        ValueError: If the checksum is wrong.
    """
    size = max(0, file.seek(0, os.SEEK_END) - SEAL)
    file.seek(size)
    mark = file.read()
    if not mark.startswith(MARK):
        return False
    if mark != MARK + _digest(file, size):
        raise ValueError("its checksum is wrong")
    return True


def _digest(file: BinaryIO, size: int) -> bytes:
    """Return the checksum of the first bytes of a file, which it is left behind."""
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(min(1 << 20, size - file.tell())):
        digest.update(block)
    return digest.hexdigest().encode()


def write_text(path: str | PathLike, text: str) -> None:
    """Write a file of text in UTF-8."""
    with whole(path) as file:
        file.write(text.encode())


def write_json(path: Path, body: dict | list) -> None:
    """Write a file of JSON with its checksum."""
    text = json.dumps(body)
    write_text(path, json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "run": text}))


def read_json(path: Path, *, most: int) -> Any:
    """Return what `write_json` wrote.

    Raises:
        ValueError: If its checksum is wrong, or it is no file of at most `most` bytes; or others, whatever it holds.
    """
    # A pipe would be waited for, and what is larger than it can be is not read.
    if not path.is_file() or path.stat().st_size > most:
        raise ValueError(f"it is no file of at most {most} bytes")
    outer = json.loads(path.read_bytes())
    if hashlib.sha256(outer["run"].encode()).hexdigest() != outer["sha256"]:
        raise ValueError("its checksum is wrong")
    return json.loads(outer["run"])


def write_arrays(path: str | PathLike, header: dict, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays and a JSON header as one sealed `.npz` file that NumPy can open."""
    about = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    with whole(path) as file:
        # No pickle: opening somebody's numbers must not run somebody's code.
        np.savez(file, header=about, **arrays)  # pyright: ignore[reportArgumentType]
        # The checksum is the comment of the archive, whose length stands in its last two bytes.
        file.seek(-2, os.SEEK_END)
        file.write(SEAL.to_bytes(2, "little"))
        seal(file)


def read_arrays(file: BinaryIO, names: Sequence[str] | None = None) -> tuple[dict, dict[str, np.ndarray], bool]:
    """Return the header, those of the named arrays that are there, or all, and whether the file is sealed.

    Raises:
        ValueError: If its checksum is wrong; where it has none, or a false one was made for it, also others.
    """
    size, sealed = file.seek(0, os.SEEK_END), unseal(file)
    with zipfile.ZipFile(file) as archive:
        there = {part.filename: part for part in archive.infolist()}
        if any(part.compress_type != zipfile.ZIP_STORED or part.file_size > size for part in there.values()):
            raise ValueError("its parts are larger than the file")
        header = json.loads(bytes(_array(archive, there["header.npy"])))
        named = [f"{name}.npy" for name in names] if names is not None else [*(there.keys() - {"header.npy"})]
        arrays = {name.removesuffix(".npy"): _array(archive, there[name]) for name in named if name in there}
    return header, arrays, sealed


def _array(archive: zipfile.ZipFile, part: zipfile.ZipInfo) -> np.ndarray:
    """Return one array; nothing is allocated for a shape whose numbers are not there."""
    with archive.open(part) as stream:
        np.lib.format.read_magic(stream)
        shape, _, dtype = np.lib.format.read_array_header_1_0(stream)
        if math.prod(shape) * dtype.itemsize != part.file_size - stream.tell():
            raise ValueError(f"{part.filename} is not of the size that it says")
    with archive.open(part) as stream:
        return np.lib.format.read_array(stream, allow_pickle=False)


def _standard(path: str | PathLike) -> int | None:
    """Return the descriptor of this process's output that a path such as /dev/stdout names, or None.

    It may be a file, which renaming would take away from whoever reads it, and opening would write over.
    """
    for descriptor in (1, 2):
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
    return None
