"""Tables of features, checked once."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def features(x: object, *, rows: str = "query", qid: object = None) -> Float[Tensor, "R d"]:
    """Return features in float64; with `qid` the query of a bad row is named too.

    Raises:
        ValueError: If they are no table or no numbers, or a number is missing; row and column are named.
    """
    try:
        values = torch.as_tensor(np.asarray(x, dtype=np.float64)) if not isinstance(x, Tensor) else x.detach().double()
    except (ValueError, TypeError) as error:
        raise ValueError(f"`x` must be a table of numbers: {error}. Encode words and categories as numbers.") from error
    if values.dim() != 2 or not values.numel():
        raise ValueError(f"`x` must be a table of features (rows, columns), got shape {tuple(values.shape)}.")
    bad = (~torch.isfinite(values)).nonzero()
    if len(bad):
        row, column = bad[0].tolist()
        query = "" if qid is None else f" (query {np.asarray(qid)[row].item()!r})"
        raise ValueError(
            f"`x` is {values[row, column].item()} for {rows} {row}{query}, column {column}. Fill or drop missing "
            "features."
        )
    return values
