"""Scores in a folder: one `.npy` file written block by block and read lazily, beside a file of all else."""

from os import PathLike
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


class ScoreFile:
    """A `scores.npy` of known shape, column after column, that is filled by blocks of columns.

    Columns, because what is asked of scores is asked target by target: then only those columns are read. Plain
    writes, not a memory map: the pages of a map count as this process's memory until the system drops them.
    `rest.npz`, which makes the folder readable, is written last, so that a folder is whole or no result.
    """

    def __init__(self, folder: str | PathLike, shape: tuple[int, int]):
        self.folder, self.shape = Path(folder), shape
        if (self.folder / "rest.npz").exists():
            raise ValueError(f"{self.folder} already holds scores. Name another folder, or delete this one.")
        self.folder.mkdir(parents=True, exist_ok=True)
        header = {"descr": "<f8", "fortran_order": True, "shape": shape}
        with open(self.folder / "scores.npy", "wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            self.offset = file.tell()

    def write(self, start: int, columns: Tensor) -> None:
        """Write columns `start` and on."""
        # In float64 on disk whatever the device computed in.
        lines = columns.T.contiguous().cpu().double().numpy()
        with open(self.folder / "scores.npy", "r+b") as file:
            file.seek(self.offset + 8 * start * self.shape[0])
            file.write(lines.data)


def read_scores(folder: str | PathLike) -> Tensor:
    """Return the scores in the folder; they stay on disk until they are used."""
    # Copy on write: PyTorch wants memory it may write to, and the file must not change.
    return torch.from_numpy(np.load(Path(folder) / "scores.npy", mmap_mode="c", allow_pickle=False))
