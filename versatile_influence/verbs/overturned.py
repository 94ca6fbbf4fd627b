"""What `vif.sensitivity` finds."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from versatile_influence.core.sizes import NAMED

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, repr=False)
class Sensitivity:
    """The smallest set found whose removal overturns a conclusion.

    Attributes:
        holds: The conclusion's number with everybody, > 0.
        without: The same refitted without the set; ≤ 0 where the conclusion is overturned, NaN where nothing determines
            it any more, as the coefficient of a category that is gone.
        removed: Object numbers of the set; where it is not overturned, of the largest tried.
        names: The user's names of them; of groups that were removed together, a name each.
        overturned: Whether the refitted conclusion is.
        first_order: How many the sum of predicted single changes asks for, None where all together do not suffice.
        path: (number removed, predicted, refitted) of each step of the search.
        n: How many objects, or groups, could have been removed.

    Example:
        >>> Sensitivity(0.4, -0.1, (3, 7), ["Ann", "Bob"], True, 3, [(2, -0.05, -0.1)], 100)
        Sensitivity: overturned without 2 of 100 (2.0%; first order says 3), refitted from 0.4 to -0.1: Ann, Bob
    """

    holds: float
    without: float
    removed: tuple[int, ...]
    names: list[object]
    overturned: bool
    first_order: int | None
    path: list[tuple[int, float, float]]
    n: int

    def __len__(self) -> int:
        """Return how many objects, or groups, are in the set."""
        return len(self.names)

    def __repr__(self) -> str:
        shown = ", ".join(map(str, self.names[:NAMED])) + (", …" if len(self.names) > NAMED else "")
        first = "no set" if self.first_order is None else f"{self.first_order}"
        if not self.overturned:
            return (
                f"Sensitivity: not overturned by removing up to {len(self)} of {self.n:,} (first order says {first})."
            )
        then = f"refitted from {self.holds:.3g} to {self.without:.3g}"
        then = "nothing determines it without them" if math.isnan(self.without) else then
        return (
            f"Sensitivity: overturned without {len(self)} of {self.n:,} ({len(self) / self.n:.1%}; first order says "
            f"{first}), {then}: {shown}"
        )

    def to_frame(self) -> "pd.DataFrame":
        """Return the path of the search, predicted and refitted, one row a step."""
        import pandas as pd

        return pd.DataFrame(self.path, columns=pd.Index(["removed", "predicted", "refitted"])).set_index("removed")
