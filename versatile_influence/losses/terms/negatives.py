"""Items that stand beside an interaction: those that its user never had to do with."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from versatile_influence.core.checks import whole
from versatile_influence.core.memory import check_room
from versatile_influence.core.tables import whole_numbers


def known(given: int | None, numbers_of: Int[Tensor, " R"], name: str, plural: str) -> int:
    """Return how many users or items there are.

    Raises:
        ValueError: If one has a larger number.
    """
    least = int(numbers_of.max()) + 1
    if given is not None and whole(given, name, least=1) < least:
        raise ValueError(f"`{name}` is {given}, but `{plural}` name number {least - 1}. They are numbered from 0.")
    return least if given is None else given


def negative_items(
    negatives: object, users: Int[Tensor, " R"], items: Int[Tensor, " R"], *, n_items: int, seed: int
) -> Int[Tensor, "R k"]:
    """Return items beside each interaction that its user has nothing to do with, each once: as given, or drawn.

    Raises:
        ValueError: If a user has to do with so many that too few are left, or one is named that may not be.
    """
    places = (int(users.max()) + 1) * n_items
    # A byte each; room is asked for in doubles.
    check_room(
        places // 8,
        torch.zeros(0, dtype=torch.float64),
        what=f"A table of {int(users.max()) + 1:,} users × {n_items:,} items",
        instead="Number `users` and `items` from 0 without gaps, as `datasets.interactions.from_frame` does.",
    )
    had = torch.zeros(int(users.max()) + 1, n_items, dtype=torch.bool)
    had[users, items] = True
    if isinstance(negatives, Sequence | Tensor | np.ndarray):
        table = whole_numbers(negatives, "negatives", shape=[len(users), None], most=n_items - 1)
        if not table.shape[1]:
            raise ValueError("`negatives` must name one item at least beside each interaction.")
        ordered = table.sort(dim=1).values
        if (wrong := had[users[:, None], table].any(1) | (ordered[:, 1:] == ordered[:, :-1]).any(1)).any():
            row = int(wrong.nonzero()[0])
            raise ValueError(
                f"`negatives` of interaction {row} name an item twice, or one that user {int(users[row])} had to do "
                "with. Name others."
            )
        return table
    k = whole(negatives, "negatives", least=1)
    left = n_items - had.sum(1)
    if (few := left[users] < k).any():
        user = int(users[few][0])
        raise ValueError(
            f"User {user} has had to do with all but {int(left[user])} of {n_items} items: {k} `negatives` cannot be "
            "drawn. Ask for fewer, or leave the user out."
        )
    draw = torch.Generator().manual_seed(seed)
    # The largest of noise, row by row: uniform without repetition.
    blocks = torch.arange(len(users)).split(max(1, 8_000_000 // n_items))
    return torch.cat(
        [
            torch.rand(len(rows), n_items, generator=draw).masked_fill(had[users[rows]], -1.0).topk(k, dim=1).indices
            for rows in blocks
        ]
    )
