"""The one result type: predicted or measured, a score is what it is a score of."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from operator import index
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import instance, names, position, whole
from versatile_influence.core.files import read_arrays, write_arrays
from versatile_influence.core.removals import Objects
from versatile_influence.core.score_files import read_scores
from versatile_influence.core.solution import Solution

if TYPE_CHECKING:
    import pandas as pd

FIRST_FORMAT, FORMAT = "versatile-influence attribution 1", "versatile-influence attribution 2"
ARRAYS = ("scores", "direct", "parameter", "by_seed", "objects", "value", "residual", "dropped")


@dataclass(frozen=True)
class Attribution:
    """What each target would change by without each object: `f(θ without i) − f(θ)`, in the target's units.

    Predicted (`attribute`, `newton_step`) and measured (`leave_one_out`, `refit`) scores have this same type, sign
    and unit, so that any two can be compared. Positive means: without the object, the target would be larger.

    A group's score is what happens without all its members at once. `attribute` of a loss that is a sum over objects
    makes it the sum of its members' scores, exactly; a loss that is none (Cox, a ranking, contrastive pairs) has terms
    that several members share, and there, as in all that is measured, the difference from that sum is what they do
    together. `vif.evaluation.summed` gives the sums.

    Attributes:
        scores: (k, t), one row a removal, one column a target.
        objects: The k object numbers; for groups a tuple of tuples.
        n_objects: n, how many objects there are in all.
        labels: The user's names of all n objects, or None.
        targets: Names of the t targets, or None.
        solution: How well H x = b was solved, for predicted scores.
        direct: Of a `PresenceTarget`, the part f(θ, 1₋ᵢ) − f(θ, 1).
        parameter: Of a `PresenceTarget`, the part through the parameters.
        failed: Removals without a result, by row, with the reason; their scores are NaN.
        by_seed: Where trainings were repeated over seeds, the scores of each seed; `scores` is their mean.
        made: What made it: the verb (`by`), version, date, and settings as seeds, solver, damping and thresholds.

    Example:
        >>> import torch
        >>> a = Attribution(torch.tensor([[0.1], [-0.5], [0.2]]), torch.arange(3), n_objects=3)
        >>> a.top(2).tolist()
        [1, 2]
        >>> a.vif[0].item()  # Eq. 10: −n times the change
        -0.3...
    """

    scores: Float[Tensor, "k t"]
    objects: Objects
    n_objects: int
    labels: Sequence[object] | None = None
    targets: Sequence[object] | None = None
    solution: Solution | None = None
    direct: Float[Tensor, "k t"] | None = None
    parameter: Float[Tensor, "k t"] | None = None
    failed: dict[int, str] | None = None
    by_seed: Float[Tensor, "s k t"] | None = None
    made: dict[str, object] | None = field(default=None, repr=False, compare=False)

    def __post_init__(self):
        instance(self.scores, "scores", Tensor, "a tensor (k, t)")
        instance(self.objects, "objects", Tensor | tuple, "torch.arange(k), or a tuple of groups")
        if self.scores.dim() != 2 or len(self.objects) != len(self.scores):
            shape = tuple(self.scores.shape)
            raise ValueError(f"`scores` must be (k, t) for the {len(self.objects)} removals in `objects`, got {shape}.")
        members = [self.objects] if isinstance(self.objects, Tensor) else map(torch.as_tensor, self.objects)
        for end in (end for some in members if some.numel() for end in torch.aminmax(some)):
            whole(end, "objects", most=whole(self.n_objects, "n_objects", least=1) - 1)
        names(self.labels, self.n_objects)
        # What stands beside scores on disk has none of its own.
        if self.scores.shape[1]:
            names(self.targets, self.scores.shape[1], "target", "targets")

    @property
    def vif(self) -> Float[Tensor, "k t"]:
        """The paper's number, ∇fᵀ VIF(i) of Eqs. 10–11: −n times the change through the parameters."""
        return -self.n_objects * (self.scores if self.parameter is None else self.parameter)

    def column(self, asked: object) -> int:
        """Return the place of a target, given by its number (from the end where negative) or its name.

        Raises:
            IndexError: If there is no such number.
            ValueError: If there is no such name.
        """
        if not isinstance(asked, int | np.integer) or isinstance(asked, bool):
            return position(asked, self.targets or [], "target")  # pyright: ignore[reportArgumentType]
        if not -self.scores.shape[1] <= asked < self.scores.shape[1]:
            raise IndexError(f"There is no target {asked}: there are {self.scores.shape[1]}, numbered from 0.")
        return int(asked)

    def top(self, k: int = 10, *, target: object = 0) -> Int[Tensor, " m"]:
        """Return the rows of the k largest changes of one target, by number or name, largest first, either sign.

        They are object numbers where single objects were removed, and positions in `objects` for groups.

        Raises:
            IndexError: If there is no such target.
        """
        scores, count = self.scores[:, self.column(target)], whole(k, "k")
        # Failed removals come last; equal ones in the order of the objects.
        rows = scores.abs().nan_to_num(-1.0).argsort(descending=True, stable=True)[:count].cpu()
        return self.objects[rows] if isinstance(self.objects, Tensor) else rows

    def names(self) -> list[object]:
        """Return the user's name of each removal: a label, or for a group its labels joined by `+`."""
        labels = self.labels if self.labels is not None else range(self.n_objects)
        if isinstance(self.objects, Tensor):
            return [labels[number] for number in self.objects.tolist()]
        return ["+".join(str(labels[number]) for number in group) for group in self.objects]

    def to_frame(self) -> "pd.DataFrame":
        """Return the scores as a pandas frame: objects by name down, targets across."""
        import pandas as pd

        columns: list = list(self.targets) if self.targets is not None else list(range(self.scores.shape[1]))
        # A tuple is one name, and not one a level.
        index = pd.Index(self.names(), name="object", tupleize_cols=False)
        return pd.DataFrame(self.scores.cpu().numpy(), index=index, columns=pd.Index(columns, tupleize_cols=False))

    def save(self, path: str | PathLike) -> None:
        """Write everything to one `.npz` file: arrays, a JSON header and a checksum, no pickle.

        Raises:
            OSError: If it cannot be written; a file that was there is then as it was.
            ValueError: If its parts do not agree, so that it could not be loaded.
        """
        _check(self)
        arrays = {name: getattr(self, name) for name in ("scores", "direct", "parameter", "by_seed")}
        if isinstance(self.objects, Tensor):
            arrays["objects"] = self.objects
        solution = self.solution
        if solution is not None:
            arrays |= {"value": solution.value, "residual": solution.residual, "dropped": solution.dropped}
        header = {
            # A file says what wrote it, so that a later form can read this one.
            "format": FORMAT,
            "n_objects": self.n_objects,
            "groups": None if isinstance(self.objects, Tensor) else self.objects,
            "labels": _plain(self.labels),
            "targets": _plain(self.targets),
            "failed": self.failed,
            "made": self.made,
            "solution": None
            if solution is None
            else {"num_steps": solution.num_steps, "smallest_curvature": solution.smallest_curvature},
        }
        kept = {name: array.detach().cpu().numpy() for name, array in arrays.items() if array is not None}
        write_arrays(path, header, kept)

    @classmethod
    def load(cls, path: str | PathLike) -> "Attribution":
        """Return what `save` wrote, or what is in the folder of `vif.write_scores`, read as it is used.

        Checksums are compared; of a folder, by reading all of it once (`core.score_files.read_scores`).

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, or is not such a file.
        """
        file, folder = Path(path), Path(path) if Path(path).is_dir() else None
        if folder is not None and not (file := folder / "rest.npz").is_file():
            raise ValueError(f"{path} holds no finished scores: the run that wrote it was stopped. Run it again.")
        with open(file, "rb") as opened:
            try:
                header, arrays, sealed = read_arrays(opened, ARRAYS)
                # Files of 0.1 have no checksum; of others none is missing.
                if not sealed and header["format"] != FIRST_FORMAT:
                    raise ValueError("its checksum is missing")
                if folder is not None:
                    arrays["scores"] = read_scores(folder, checked=sealed)
                return _attribution(header, {name: torch.from_numpy(array) for name, array in arrays.items()})
            except MemoryError:
                raise
            # Whatever goes wrong in bytes that anybody may have changed is one thing: they are not ours.
            except Exception as error:
                said = f"{type(error).__name__}: {error}"
                raise ValueError(f"{path} is damaged, or is not a file written by Attribution.save. {said}") from error


def _attribution(header: dict, arrays: dict[str, Tensor]) -> Attribution:
    """Return the parts of a file put together.

    Raises:
        ValueError: If they do not agree.
    """
    scores, groups, solution = arrays["scores"], header["groups"], header["solution"]
    if solution is not None:
        parts = {name: arrays.get(name) for name in ("value", "residual", "dropped")}
        solution = Solution(**parts, **solution)  # pyright: ignore[reportArgumentType]
    result = Attribution(
        scores,
        arrays["objects"] if groups is None else tuple(map(tuple, groups)),
        n_objects=header["n_objects"],
        labels=header["labels"],
        targets=header["targets"],
        solution=solution,
        direct=arrays.get("direct"),
        parameter=arrays.get("parameter"),
        by_seed=arrays.get("by_seed"),
        failed=None if header["failed"] is None else {int(row): why for row, why in header["failed"].items()},
        made=header.get("made"),
    )
    _check(result)
    return result


def _check(result: Attribution) -> None:
    """Refuse what could not be read again.

    Raises:
        ValueError: If its parts do not agree.
    """
    (k, t), n, objects = result.scores.shape, result.n_objects, result.objects
    if not isinstance(objects, Tensor):
        objects = torch.tensor([index(number) for number in chain(*objects)], dtype=torch.long)
    agree = {
        "objects": len(result.objects) == k and objects.dim() == 1 and not objects.is_floating_point(),
        "n_objects": isinstance(n, int) and bool(((objects >= 0) & (objects < n)).all()),
        "labels": result.labels is None or (not isinstance(result.labels, str) and len(result.labels) == n),
        # Where scores are in a file of their own, there are none here.
        "targets": result.targets is None
        or (not isinstance(result.targets, str) and (t == 0 or len(result.targets) == t)),
        "direct": result.direct is None or result.direct.shape == (k, t),
        "parameter": result.parameter is None or result.parameter.shape == (k, t),
        "by_seed": result.by_seed is None or result.by_seed.shape[1:] == (k, t),
        "failed": all(0 <= row < k for row in result.failed or {}),
        "made": result.made is None or isinstance(result.made, dict),
    }
    if wrong := [name for name, fits in agree.items() if not fits]:
        raise ValueError(f"`{wrong[0]}` does not go with {k} × {t} scores of {n} objects")


def _plain(labels: Sequence[object] | None) -> list | None:
    """Return labels as JSON can hold them: numbers and text as they are, anything else as text."""
    if labels is None:
        return None
    values = (label.item() if isinstance(label, np.generic) else label for label in labels)
    return [value if isinstance(value, str | int | float) else str(value) for value in values]
