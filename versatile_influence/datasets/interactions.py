"""Interactions of users with items, from long frames: what a recommender is trained on."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import instance, numbers, told
from versatile_influence.core.tables import codes
from versatile_influence.core.words import missing

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Interactions:
    """Who had to do with what, row by row.

    Attributes:
        users, items: (R,) numbers of user and item of each row, in order of first appearance.
        user_names, item_names: Their names, by number.
        ratings, times: (R,) of each row, or None.
    """

    users: Int[Tensor, " R"]
    items: Int[Tensor, " R"]
    user_names: list
    item_names: list
    ratings: Float[Tensor, " R"] | None = None
    times: Float[Tensor, " R"] | None = None

    @property
    def labels(self) -> list[tuple]:
        """The names of user and item of each row."""
        pairs = zip(self.users.tolist(), self.items.tolist(), strict=True)
        return [(self.user_names[user], self.item_names[item]) for user, item in pairs]


def from_frame(
    frame: "pd.DataFrame", *, user: str = "user", item: str = "item", rating: str | None = None, time: str | None = None
) -> Interactions:
    """Return the interactions of a long frame, a row each, in the order of `time` where there is one.

    Args:
        frame: The frame.
        user: The column that names users.
        item: The column that names items.
        rating: The column of ratings, or None.
        time: The column of times, or None.

    Raises:
        ValueError: If a column is missing, or holds no name or number in a row.

    Example:
        >>> import pandas as pd
        >>> seen = pd.DataFrame({"user": ["ann", "bob", "ann"], "item": [7, 7, 9], "stars": [5, 3, 4]})
        >>> found = from_frame(seen, rating="stars")
        >>> found.items.tolist(), found.labels[2], found.ratings.tolist()
        ([0, 0, 1], ('ann', 9), [5.0, 3.0, 4.0])
    """
    try:
        import pandas as pd
    except ImportError as error:
        raise missing(error, "frames need pandas", "frames") from error
    instance(frame, "frame", pd.DataFrame, "a pandas frame with a row an interaction")
    for role, name in {"user": user, "item": item, "rating": rating, "time": time}.items():
        if name is not None and name not in frame.columns:
            raise ValueError(
                f"There is no column `{name}` (given as {role}). The columns are: {told([*frame.columns])}."
            )
    if not len(frame):
        raise ValueError("`frame` has no rows.")
    for name in (user, item):
        rows_hold(frame, name, frame[name].notna(), "name")
    for name in filter(None, (rating, time)):
        found: Any = pd.to_numeric(frame[name], errors="coerce")
        rows_hold(frame, name, found.abs() < float("inf"), "number")
    ordered = frame if time is None else frame.sort_values(time, kind="stable")
    n = len(ordered)
    (users, user_names), (items, item_names) = (codes(ordered[name].tolist(), n, "row", name) for name in (user, item))
    rated, timed = (
        None if name is None else numbers(ordered[name].to_numpy(), name, shape=[n]) for name in (rating, time)
    )
    return Interactions(users, items, user_names, item_names, rated, timed)


def rows_hold(frame: "pd.DataFrame", name: str, good: Any, what: str) -> None:
    """Raise a ValueError where a column does not hold what it must; the row is named as the frame names it."""
    if len(bad := (~good.to_numpy()).nonzero()[0]):
        held, row, rows = frame[name].tolist()[bad[0]], frame.index[bad[0]], f"{len(bad):,} of {len(frame):,} rows"
        raise ValueError(
            f"`{name}` is {told(held)} in row {row}: {rows} hold no {what} there. Fill it, or leave such rows out."
        )
