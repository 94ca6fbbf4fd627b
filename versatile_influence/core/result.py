"""The one result type: predicted or measured, a score is what it is a score of."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core import saved
from versatile_influence.core.checks import instance, shaped, whole
from versatile_influence.core.labels import names, position
from versatile_influence.core.removals import Objects
from versatile_influence.core.shown import Shown
from versatile_influence.core.sizes import TRUSTED
from versatile_influence.core.solution import Solution
from versatile_influence.core.words import CHECKING, ESTIMATING, MENDING

if TYPE_CHECKING:
    import pandas as pd

# What has an entry for each removal, along its first dimension.
BY_ROW = ("scores", "direct", "parameter", "error")


@dataclass(frozen=True, repr=False)
class Attribution(Shown):
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
        error: (k,) estimated relative error of each removal's scores against retraining: 0 where they are retrained,
            NaN where it was not checked.
        about: (t, m) objects that each target is itself about, -1 for none, or None (`Target.about`): agreement leaves
            out what becomes of it without one of them.
        rung: Which method gave each removal's scores, where they are of several (`attribute(…, tolerance=…)`).

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
    error: Float[Tensor, " k"] | None = None
    about: Int[Tensor, "_t m"] | None = None
    rung: Sequence[str] | None = None
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
        k, t = self.scores.shape
        if t:  # What stands beside scores on disk has none of its own.
            names(self.targets, t, "target", "targets")
        shapes = {
            "direct": (k, t),
            "parameter": (k, t),
            "by_seed": (None, k, t),
            "error": (k,),
            "about": (t or None, None),
        }
        for name, shape in shapes.items():
            if (part := getattr(self, name)) is not None:
                shaped(tuple(part.shape), name, shape)
        names(self.rung, k, "removal", "rung")
        for row in self.failed or {}:
            whole(row, "failed", most=k - 1)
        if self.error is None:
            object.__setattr__(self, "error", torch.full((len(self.scores),), float("nan"), dtype=torch.float64))

    @property
    def trusted(self) -> Bool[Tensor, " k"]:
        """False for a removal whose error was checked and is above 0.15.

        What was not checked (NaN in `error`) is not doubted: `verdicts` tells it from what was checked and is near.
        """
        assert self.error is not None
        return ~(self.error > TRUSTED)

    def trust(self) -> str:
        """Return one line: how many removals are trusted, which is worst, and what to do.

        Example:
            >>> error = torch.tensor([0.01, 0.4, float("nan")])
            >>> Attribution(torch.ones(3, 1), torch.arange(3), n_objects=3, error=error).trust()
            '1 of 2 removals checked are trusted to 0.15. The worst is the one of 1, with an estimated error of 0.4...'
        """
        assert self.error is not None
        checked, bad = int((~self.error.isnan()).sum()), int((~self.trusted).sum())
        if (self.made or {}).get("by") in ("refit", "leave_one_out"):
            others = len(self.error) - checked
            every = "1 removal is" if checked == 1 else f"All {checked:,} removals are"
            said = f"{checked:,} of {checked + others:,} removals are" if others else every
            rest = f"; the other {others:,} lack a result, or are not known to be exact" * bool(others)
            return f"{said} exact: the model was trained without each{rest}."
        if not checked:
            through = (self.made or {}).get("by") == "unrolled"
            return f"Not checked: {'' if through else ESTIMATING}{CHECKING}."
        worst = self.error.nan_to_num(-1.0, posinf=float("inf")).argmax()
        of_all = " checked" if checked < len(self.error) else ""
        line = (
            f"{checked - bad:,} of {checked:,} removals{of_all} are trusted to {TRUSTED:g}. The worst is the one of "
            f"{self.names()[worst]}, with an estimated error of {self.error[worst].item():.2g}"
        )
        rest = f" The other {len(self.error) - checked:,} were not checked." if of_all else ""
        return line + (f": {MENDING}." if bad else ".") + rest

    def verdicts(self) -> list[str]:
        """Return of each removal "trusted", "not trusted" or "not checked"."""
        assert self.error is not None
        words = {True: "trusted", False: "not trusted"}
        known = zip(self.error.isnan().tolist(), self.trusted.tolist(), strict=True)
        return ["not checked" if unknown else words[good] for unknown, good in known]

    def __repr__(self) -> str:
        told = f"{(self.made or {}).get('chosen', '')}{self.trust()}"
        return f"Attribution({len(self):,} removals × {self.scores.shape[1]:,} targets; {told})"

    @property
    def vif(self) -> Float[Tensor, "k t"]:
        """The paper's number, ∇fᵀ VIF(i) of Eqs. 10–11: −n times the change through the parameters."""
        return -self.n_objects * (self.scores if self.parameter is None else self.parameter)

    def column(self, asked: object) -> int:
        """Return the place of a target, given by its number (from the end where negative) or its name.

        Raises:
            TypeError: If it is neither.
            IndexError: If there is no such number.
            ValueError: If there is no such name.
        """
        t = self.scores.shape[1]
        if isinstance(asked, str | tuple):
            return position(asked, list(range(t)) if self.targets is None else self.targets, "target")
        found = whole(asked, "target", least=-sys.maxsize)
        if not -t <= found < t:
            raise IndexError(f"There is no target {found}: there are {t}, numbered from 0.")
        return found % t

    def part(self, rows: Any) -> "Attribution":
        """Return some of the removals, by row: their numbers, or True for those that are wanted."""
        rows = torch.arange(len(self.scores))[torch.as_tensor(rows)]
        chosen, objects, failed = rows.tolist(), self.objects, self.failed or {}
        held = {name: value if (value := getattr(self, name)) is None else value[rows] for name in BY_ROW}
        return replace(
            self,
            **held,
            objects=objects[rows] if isinstance(objects, Tensor) else tuple(objects[row] for row in chosen),
            by_seed=None if self.by_seed is None else self.by_seed[:, rows],
            rung=None if self.rung is None else [self.rung[row] for row in chosen],
            failed={place: failed[row] for place, row in enumerate(chosen) if row in failed} or None,
            solution=None,
        )

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

    def to_frame(self, *, error: bool = False) -> "pd.DataFrame":
        """Return the scores as a pandas frame: objects down, targets across; with `error` how far each is off."""
        import pandas as pd

        columns: list = list(range(self.scores.shape[1]) if self.targets is None else self.targets)
        # A tuple is one name, and not one a level.
        index = pd.Index(self.names(), name="object", tupleize_cols=False)
        frame = pd.DataFrame(self.scores.cpu().numpy(), index=index, columns=pd.Index(columns, tupleize_cols=False))
        if error and self.error is not None:
            # Beside targets of any name.
            judged = self.error.cpu().numpy(), self.verdicts()
            for name, values in zip(("estimated error", "verdict"), judged, strict=True):
                free = (name + "_" * more for more in range(len(columns) + 1))
                frame[next(each for each in free if each not in columns)] = values
        return frame

    def save(self, path: str | PathLike) -> None:
        """Write everything to one `.npz` file: arrays, a JSON header and a checksum, no pickle.

        Raises:
            OSError: If it cannot be written; a file that was there is then as it was.
        """
        saved.write(path, {part.name: getattr(self, part.name) for part in fields(self)})

    @classmethod
    def load(cls, path: str | PathLike) -> "Attribution":
        """Return what `save` wrote, or what is in the folder of `vif.write_scores`, read as it is used.

        Checksums are compared; of a folder, by reading all of it once (`core.score_files.read_scores`).

        Raises:
            FileNotFoundError: If there is none.
            ValueError: If the file is damaged, or is not such a file.
        """
        return saved.read(path, cls)
