"""Outputs of a module whose batches are read one at a time, and their Jacobian.

Outputs, and sums over batches, are in the precision of the parameters handed in, float64, whatever the module runs in.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import jvp, vjp

from versatile_influence.core.jacobian import Jacobian, Stored
from versatile_influence.core.outputs import Outputs, Pull
from versatile_influence.core.ravel import Params, first, flat, parts_of, shaper, squared_norm
from versatile_influence.core.stream import Named, Stream, digest


@dataclass(frozen=True, eq=False)
class BatchedOutputs(Stream, Outputs):
    """The outputs of a module for batches, as one flat vector, batch after batch."""

    @property
    def module(self) -> nn.Module:
        return self.model

    def __call__(self, params: Params) -> Float[Tensor, " m"]:
        # The same outputs are asked for by the loss, its Jacobian and the outer loss's curvature: they are read once.
        where, last = self._where(params), vars(self).get("_last")
        if where is not None and last is not None and last[0] == where:
            return last[1]
        ready = self.ready(params)
        found = self.in_order(torch.cat([run(ready).to(first(params).dtype) for run, _ in self.passes()]))
        if where is not None:
            vars(self).update(_last=(where, found))
        return found

    def _where(self, params: Params) -> list[Any] | None:
        """Return digests of parameters and of what is frozen; None within a derivative."""
        if not isinstance(params, dict) or (torch.is_grad_enabled() and any(p.requires_grad for p in params.values())):
            return None
        try:
            return [*self.constants(), *((name, digest(one)) for name, one in params.items())]
        except RuntimeError:
            return None

    def start(self) -> Named:
        return {name: value.detach().double().clone() for name, value in self.trained().items()}

    def holding(self, params: Named, free: Sequence[str]) -> "BatchedOutputs":
        held = {name: value.detach() for name, value in params.items() if name not in free}
        return replace(self, held=self.held | held, free=tuple(free))

    def jacobian(self, params: Params) -> "BatchedJacobian":
        return BatchedJacobian(self, params)

    def pull(self, params: Params) -> tuple[Tensor, Pull]:
        jacobian = self.jacobian(params)
        # A second pass through the module on the way back: no graph outlives its batch.
        return self(params), lambda slopes: jacobian.transposed(slopes[:, None])[:, 0]


@dataclass(frozen=True)
class BatchedJacobian(Jacobian):
    """The Jacobian of outputs that are read batch by batch; each product reads them all."""

    stream: Stream
    params: Params

    @property
    def shape(self) -> tuple[int, int]:
        return sum(map(sum, self.stream._laid_out[1])), sum(part.numel() for part in parts_of(self.params))

    @cached_property
    def ready(self) -> Named:
        """The parameters in the precision of the module."""
        return self.stream.ready(self.params)

    def __matmul__(self, directions: Float[Tensor, "p k"]) -> Float[Tensor, "m k"]:
        along = self._differences if self.stream.by_differences else self._forward
        return self.stream.in_order(torch.stack([along(column) for column in directions.unbind(1)], dim=1))

    def transposed(self, outputs: Float[Tensor, "m k"]) -> Float[Tensor, "p k"]:
        slopes, start = self.stream.as_read(outputs), 0
        total = outputs.new_zeros(outputs.shape[1], self.shape[1])
        sums = [shaper(self.params)(row) for row in total.unbind(0)]
        for run, size in self.stream.passes():
            values, back = vjp(run, self.ready)  # pyright: ignore[reportAssignmentType]
            for column, into in enumerate(sums):
                (found,) = back(slopes[start : start + size, column].to(values))
                for name, part in into.items():  # pyright: ignore[reportAttributeAccessIssue]
                    part.add_(found[f"model.{name}"])
            start += size
        return total.T

    def gram(self) -> Float[Tensor, "m m"]:
        return Stored(self.dense()).gram()

    def blocks(self) -> Iterator[Float[Tensor, "m p"]]:
        yield self.dense()

    def dense(self) -> Float[Tensor, "m p"]:
        (m, p), like = self.shape, flat(self.params)
        return self @ torch.eye(p).to(like) if p < m else self.transposed(torch.eye(m).to(like)).T

    def _forward(self, direction: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        tangent = self.stream.ready(shaper(self.params)(direction))
        moved = [jvp(run, (self.ready,), (tangent,))[1].to(direction) for run, _ in self.stream.passes()]
        return torch.cat(moved)

    def _differences(self, direction: Float[Tensor, " p"]) -> Float[Tensor, " m"]:
        """Return (o(θ + hv) − o(θ − hv)) / 2h, with h such that outputs move by the cube root of their rounding."""
        goal, length = torch.finfo(self.stream.precision).eps ** (1 / 3), direction.norm()
        if not length > 0:
            return direction.new_zeros(self.shape[0])
        size = squared_norm(self.params).sqrt().clamp_min(1.0)
        step, ends, moved = goal * size / length, None, []
        for run, _ in self.stream.passes():
            plus, minus = (run(end).to(direction) for end in ends or self._ends(direction, step))
            # What the first shows of how far outputs move serves all.
            if ends is None and (change := (plus - minus).norm() / 2) > 0:
                factor = (goal * run(self.ready).double().norm() / change).clamp(1e-3, 1e3)
                if not 1 / 3 < factor < 3:
                    step = step * factor
                    ends = self._ends(direction, step)
                    plus, minus = (run(end).to(direction) for end in ends)
            ends = ends or self._ends(direction, step)
            moved.append((plus - minus) / (2 * step))
        return torch.cat(moved)

    def _ends(self, direction: Float[Tensor, " p"], step: Float[Tensor, ""]) -> tuple[Named, Named]:
        moves = shaper(self.params)(direction)
        assert isinstance(moves, dict)
        assert isinstance(self.params, dict)
        # One parameter at a time: no second vector of all in float64.
        plus, minus = {}, {}
        for name, value in self.params.items():
            for end, way in ((plus, step), (minus, -step)):
                end.update(self.stream.ready({name: value + way * moves[name]}, whole=False))
        return plus, minus
