"""States of a training in a folder: where it goes on after a kill, and what is walked backwards in little memory.

One file a state, there whole or not at all, which says under its checksum of which training and which step it is. One
that is damaged is told and deleted: the training goes on from the one before.
"""

import hashlib
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.utils import _pytree

from versatile_influence.core.files import alone, read_arrays, write_arrays
from versatile_influence.core.warn import warn

Kept = tuple[dict, dict[str, Tensor]]
# What parameters may be in, by name.
DTYPES = {
    str(kind).removeprefix("torch."): kind for kind in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
}


@dataclass(frozen=True)
class States:
    """The folder of one training; `opened` gives it.

    Attributes:
        folder: Where it is.
        about: What says which training it is, by what one sets.
    """

    folder: Path
    about: dict[str, object]

    def steps(self) -> list[int]:
        """Return the steps before which there is a state, in order."""
        return sorted(int(path.stem.removeprefix("state-")) for path in self.folder.glob(f"state-{'[0-9]' * 9}.npz"))

    def write(self, step: int, state: tuple[Tensor, ...], gradient: Tensor | None) -> None:
        """Write the state before a step, and its gradient; None after the last step.

        Raises:
            OSError: If it could not be written; what was written before is whole.
        """
        arrays = {f"state{number}": part for number, part in enumerate(state)}
        self.write_as(_name(step), {"step": step}, arrays | ({} if gradient is None else {"gradient": gradient}))

    def read(self, step: int) -> tuple[tuple[Tensor, ...], Tensor | None] | None:
        """Return the state before a step and its gradient, or None where the file is damaged, which is told.

        Raises:
            ValueError: If it is of another training.
        """
        if (kept := self.read_as(_name(step))) is None or kept[0].get("step") != step:
            return None
        arrays = kept[1]
        return tuple(arrays[name] for name in sorted(arrays) if name != "gradient"), arrays.get("gradient")

    def newest(self, before: int) -> tuple[int, tuple[Tensor, ...], Tensor] | None:
        """Return the last step before one of which the state is whole, that state, and the gradient there."""
        for step in reversed(self.steps()):
            if step < before and (found := self.read(step)) is not None and found[1] is not None:
                return step, found[0], found[1]
        return None

    def write_as(self, name: str, header: dict, arrays: Mapping[str, Tensor]) -> None:
        """Write tensors under a name of one's own."""
        # Bytes: NumPy knows no bfloat16.
        parts = {part: tensor.detach().cpu().contiguous().view(torch.uint8).numpy() for part, tensor in arrays.items()}
        forms = {part: [str(tensor.dtype).removeprefix("torch."), *tensor.shape] for part, tensor in arrays.items()}
        write_arrays(self.folder / name, header | {"about": self.about, "forms": forms}, parts)

    def read_as(self, name: str) -> Kept | None:
        """Return what was written under a name: header and tensors; None where there is none, or it is damaged.

        Raises:
            ValueError: If it is of another training.
        """
        path = self.folder / name
        if not path.exists():
            return None
        try:
            with open(path, "rb") as file:
                header, parts, sealed = read_arrays(file)
            if not sealed:
                raise ValueError("it has no checksum")
            forms, about = header["forms"], header["about"]
            tensors = {
                part: torch.from_numpy(parts[part]).view(DTYPES[dtype]).reshape(shape)
                for part, (dtype, *shape) in forms.items()
            }
        # Whatever goes wrong in bytes that anybody may have changed, they are no state.
        except Exception as error:
            warn(f"{path} is damaged ({error}), and what it held is computed again.")
            with suppress(OSError):
                path.unlink()
            return None
        differ = [key for key in self.about if about.get(key) != self.about[key]]
        self.refuse(f"What differs: {', '.join(differ)}" if differ else "")
        return header, tensors

    def refuse(self, difference: str) -> None:
        """Refuse the folder if it is of another training."""
        if difference:
            raise ValueError(
                f"{self.folder} holds the states of another training. {difference}. Name another folder, or delete it."
            )


@contextmanager
def opened(folder: Path, about: dict[str, object]) -> Iterator[States]:
    """Yield the folder of a training, which no other run may fill meanwhile.

    Raises:
        ValueError: If another fills it, or its states are of another training.
    """
    with alone(folder):
        for part in folder.glob("*.npz.*.part"):
            # What a kill left half written.
            part.unlink(missing_ok=True)
        yield States(folder, about)


def digest(things: object) -> str:
    """Return a checksum of all tensors in a nested structure, and of what else is in it as it is pickled.

    Example:
        >>> digest([torch.ones(2), 3]) == digest([torch.ones(2), 3]), digest(torch.ones(2)) == digest(torch.zeros(2))
        (True, False)
    """
    total = hashlib.sha256()
    for leaf in _pytree.tree_leaves(things):
        if isinstance(leaf, Tensor):
            total.update(f"{leaf.dtype} {tuple(leaf.shape)}".encode())
            total.update(leaf.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        else:
            # Arrays and objects by all that is in them, which printing shortens.
            total.update(pickle.dumps(leaf))
    return total.hexdigest()[:32]


def _name(step: int) -> str:
    return f"state-{step:09d}.npz"
