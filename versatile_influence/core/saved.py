"""A result as a file: its arrays, a JSON header and a checksum, no pickle."""

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from versatile_influence.core.files import read_arrays, write_arrays
from versatile_influence.core.score_files import read_scores
from versatile_influence.core.solution import Solution

R = TypeVar("R")
FIRST_FORMAT, FORMAT = "versatile-influence attribution 1", "versatile-influence attribution 2"
OWN, OF_SOLUTION = ("scores", "direct", "parameter", "by_seed", "error", "about"), ("value", "residual", "dropped")
NUMBERS = ("num_steps", "smallest_curvature")
# What the header holds as it is.
WORDS = ("n_objects", "made", "rung")


def write(path: str | PathLike, parts: dict[str, Any]) -> None:
    """Write the parts of an `Attribution`.

    Raises:
        OSError: If it cannot be written; a file that was there is then as it was.
    """
    arrays, objects, solution = {name: parts[name] for name in OWN}, parts["objects"], parts["solution"]
    if isinstance(objects, Tensor):
        arrays["objects"] = objects
    if solution is not None:
        arrays |= {name: getattr(solution, name) for name in OF_SOLUTION}
    header = {
        # A file says what wrote it, so that a later form can read this one.
        "format": FORMAT,
        "groups": None if isinstance(objects, Tensor) else objects,
        "labels": _plain(parts["labels"]),
        "targets": _plain(parts["targets"]),
        "failed": parts["failed"],
        "solution": None if solution is None else {name: getattr(solution, name) for name in NUMBERS},
        **{name: parts[name] for name in WORDS},
    }
    kept = {name: array.detach().cpu().numpy() for name, array in arrays.items() if array is not None}
    write_arrays(path, header, kept)


def read(path: str | PathLike, made_of: Callable[..., R]) -> R:
    """Return what `write` wrote, put together by `made_of`, or what is in a folder of scores.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If the file is damaged, or is not such a file.
    """
    file, folder = Path(path), Path(path) if Path(path).is_dir() else None
    if folder is not None and not (file := folder / "rest.npz").is_file():
        raise ValueError(f"{path} holds no finished scores: the run that wrote it was stopped. Run it again.")
    with open(file, "rb") as opened:
        try:
            header, arrays, sealed = read_arrays(opened, (*OWN, *OF_SOLUTION, "objects"))
            # Files of 0.1 have no checksum; of others none is missing.
            if not sealed and header["format"] != FIRST_FORMAT:
                raise ValueError("its checksum is missing")
            if folder is not None:
                arrays["scores"] = read_scores(folder, checked=sealed)
            return made_of(**_parts(header, {name: torch.from_numpy(array) for name, array in arrays.items()}))
        except MemoryError:
            raise
        # Whatever goes wrong in bytes that anybody may have changed is one thing: they are not ours.
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            raise ValueError(f"{path} is damaged, or is not a file written by Attribution.save. {said}") from error


def _parts(header: dict, arrays: dict[str, Tensor]) -> dict[str, Any]:
    groups, solution, failed = header["groups"], header["solution"], header["failed"]
    if solution is not None:
        held = {name: arrays.get(name) for name in OF_SOLUTION}
        solution = Solution(**held, **{name: solution[name] for name in NUMBERS})  # pyright: ignore[reportArgumentType]
    return {
        **{name: arrays.get(name) for name in OWN},
        **{name: header.get(name) for name in WORDS},
        "objects": arrays["objects"] if groups is None else tuple(map(tuple, groups)),
        "labels": header["labels"],
        "targets": header["targets"],
        "failed": None if failed is None else {int(row): why for row, why in failed.items()},
        "solution": solution,
    }


def _plain(labels: Sequence[object] | None) -> list | None:
    """Return labels as JSON can hold them: numbers and text as they are, anything else as text."""
    if labels is None:
        return None
    values = (label.item() if isinstance(label, np.generic) else label for label in labels)
    return [value if isinstance(value, str | int | float) else str(value) for value in values]
