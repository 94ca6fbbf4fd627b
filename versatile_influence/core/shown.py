"""How an attribution is shown in a notebook, and its scores by the names of targets."""

from abc import abstractmethod
from collections.abc import Sequence
from html import escape
from typing import Any

from jaxtyping import Float
from torch import Tensor

# Removals and targets of a table in a notebook.
SHOWN_ROWS, SHOWN_TARGETS = 10, 6


class Shown:
    """What `Attribution` is in a notebook: as many as its removals, by target, and a table."""

    scores: Float[Tensor, "k t"]
    targets: Sequence[Any] | None

    @abstractmethod
    def column(self, asked: object) -> int:
        """Return the place of a target."""

    @abstractmethod
    def names(self) -> list[object]:
        """Return the name of each removal."""

    @abstractmethod
    def verdicts(self) -> list[str]:
        """Return how far each is trusted."""

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, target: object) -> Float[Tensor, " k"]:
        return self.scores[:, self.column(target)]

    def _repr_html_(self) -> str:
        """Return the removals that move a target most, as a table."""
        t = self.scores.shape[1]
        columns = range(min(t, SHOWN_TARGETS))
        # In units of each target's largest change, so that none is left out for its units.
        size = (self.scores / self.scores.abs().nan_to_num(0.0).amax(dim=0).clamp_min(1e-300)).abs().nan_to_num(0.0)
        rows = size.amax(dim=1).argsort(descending=True, stable=True)[:SHOWN_ROWS].tolist() if t else []
        names, verdicts = self.names(), self.verdicts()
        heads = ["without", *(str(column if self.targets is None else self.targets[column]) for column in columns), ""]
        lines = [
            [str(names[row]), *(f"{self.scores[row, column].item():+.4g}" for column in columns), verdicts[row]]
            for row in rows
        ]
        body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in line)}</tr>" for line in lines)
        head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
        left = [f"{len(self) - len(rows):,} more removals"] * (len(self) > len(rows))
        left += [f"{t - SHOWN_TARGETS:,} more targets"] * (t > SHOWN_TARGETS)
        rest = f"<caption>{'; '.join(left)}</caption>" if left else ""
        return f"<p>{escape(repr(self))}</p><table>{rest}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
