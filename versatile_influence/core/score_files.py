"""Scores in a folder: one `.npy` file written block by block and read lazily, beside files of all else."""

import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

import numpy as np
from torch import Tensor

from versatile_influence.core.files import alone, named, read_json, write_json

# The list of blocks of 10⁵ targets, one a block, is a tenth of this.
MOST_BYTES = 2**26


class ScoreFile:
    """A `scores.npy` of known shape, column after column, that is filled by blocks of columns.

    Columns, because what is asked of scores is asked target by target: then only those columns are read. Plain
    writes, not a memory map: the pages of a map count as this process's memory until the system drops them.
    `blocks.json` has the checksum of each block. `rest.npz`, which makes the folder readable, is written last, so that
    a folder is whole or no result.
    """

    def __init__(self, folder: Path, shape: tuple[int, int]):
        self.path, self.shape, self.blocks = folder / "scores.npy", shape, []
        header = {"descr": "<f8", "fortran_order": True, "shape": shape}
        with named(self.path), open(self.path, "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            self.offset = file.tell()
        self.blocks.append((0, self.offset, zlib.crc32(self.path.read_bytes())))

    def write(self, start: int, columns: Tensor) -> None:
        """Write columns `start` and on."""
        # In float64 on disk whatever the device computed in.
        lines = columns.T.contiguous().cpu().double().numpy()
        place = self.offset + 8 * start * self.shape[0]
        with named(self.path), open(self.path, "r+b") as file:
            file.seek(place)
            file.write(lines.data)
        self.blocks.append((place, place + lines.nbytes, zlib.crc32(lines.data)))

    def finish(self) -> None:
        """Write the checksums, once the scores are on disk."""
        with named(self.path), open(self.path, "r+b") as file:
            os.fsync(file.fileno())
        write_json(self.path.with_name("blocks.json"), sorted(self.blocks))


@contextmanager
def score_file(folder: str | PathLike, shape: tuple[int, int]) -> Iterator[ScoreFile]:
    """Yield the file of a folder that no other run fills; it goes where the block ends in an error.

    Raises:
        ValueError: If the folder holds scores, or another run fills it.
        OSError: If it cannot be written.
    """
    folder = Path(folder)
    with alone(folder):
        if (folder / "rest.npz").exists():
            raise ValueError(f"{folder} already holds scores. Name another folder, or delete this one.")
        try:
            yield ScoreFile(folder, shape)
        except BaseException:
            if not (folder / "rest.npz").exists():
                (folder / "scores.npy").unlink(missing_ok=True)
            raise


def read_scores(folder: str | PathLike, *, checked: bool) -> np.ndarray:
    """Return the scores in the folder; they stay on disk until they are used.

    Args:
        folder: The folder.
        checked: Whether all of them are read once to compare checksums: about a second for 2 GB that are in memory,
            else as long as the disk takes.

    Raises:
        ValueError: If a checksum is wrong.
    """
    path = Path(folder) / "scores.npy"
    if checked:
        _check(path, read_json(path.with_name("blocks.json"), most=MOST_BYTES))
    # Copy on write: PyTorch wants memory it may write to, and the file must not change.
    return np.load(path, mmap_mode="c", allow_pickle=False)


def _check(path: Path, blocks: list[list[int]]) -> None:
    """Compare all bytes of a file with the checksums of its blocks."""
    with open(path, "rb") as file:
        for start, stop, checksum in blocks:
            found, whole = 0, file.tell() == start
            while block := file.read(min(1 << 20, stop - file.tell())):
                found = zlib.crc32(block, found)
            if not (whole and file.tell() == stop and found == checksum):
                raise ValueError(f"bytes {start:,} to {stop:,} of {path.name} are not those that were written")
        if file.read(1):
            raise ValueError(f"{path.name} is longer than it was written")
