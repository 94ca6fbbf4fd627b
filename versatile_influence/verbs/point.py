"""A loss at a point, and how what it gives there is held to what is right."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params, all_finite

# Relative to the largest number compared; digits lost to another order of sums are far fewer.
RTOL = 1e-7


@dataclass(frozen=True)
class Point:
    """A loss at a point, with what it is held to."""

    loss: Loss
    params: Params

    @property
    def presences(self) -> dict[str, Float[Tensor, " n"]]:
        """Everybody; the first gone; and one in the middle with the last."""
        everyone, n = self.loss.everyone(self.params), self.loss.n_objects
        some = {"with everybody there": everyone}
        for gone in ([0], sorted({n // 2, n - 1})) if n > 1 else ():
            some[f"without object {' and '.join(map(str, gone))}"] = everyone.index_fill(0, torch.tensor(gone), 0.0)
        return some

    def same(self, method: str, given: object, right: Tensor, where: str = "", *, objects: Sequence | None = None):
        """Raise a ValueError unless a method gave what is right; it names the object, where rows are objects."""
        name = f"{type(self.loss).__name__}.{method}"
        if not isinstance(given, Tensor) or given.shape != right.shape:
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            asked = "" if objects is None or isinstance(objects, range) else f"for objects={objects} "
            raise ValueError(
                f"{name} gives {shape} {asked}{where}".rstrip() + f": shape {tuple(right.shape)} is right."
            )
        if given.dtype != right.dtype:
            raise ValueError(f"{name} gives {given.dtype} {where}, where the parameters are {right.dtype}.")
        if not all_finite(right):
            raise ValueError(f"{type(self.loss).__name__} is not finite: no {method} {where}".rstrip() + ".")
        far = (given - right).abs().nan_to_num(float("inf"))
        # Beside the largest number of all: single entries may be zero, and be right with rounding in them.
        if not far.numel() or far.max() <= RTOL * right.abs().max().clamp_min(1e-6):
            return
        place = (far == far.max()).nonzero()[0].tolist()
        if objects is not None:
            where = f"for object {objects[place[0]]}" + (f", entry {place[1:]}" if place[1:] else "") + f" {where}"
        elif place:
            where = f"{where}, entry {place}"
        raise ValueError(
            f"{name} disagrees with the automatic answer {where.strip()}: {given[tuple(place)].item():.6g} where "
            f"{right[tuple(place)].item():.6g} is right. See vif.Loss.{method} for what it must give."
        )
