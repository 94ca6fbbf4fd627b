"""Outputs: what the parameters enter a loss through, as values that know their own derivatives."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vjp, vmap

from versatile_influence.core.jacobian import ByRow, Derived, Jacobian
from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import Params, flat, shaper

Pull = Callable[[Tensor], Float[Tensor, " p"]]


class Outputs(ABC):
    """From parameters to outputs of any shape; whoever is present, they are the same.

    Attributes:
        linear: Whether they are linear in the parameters.
        owning: Whether objects may own parameters.
        identity: Whether they are the parameters.
        selection: Whether they are the parameters, or those with some held.
        module: The network whose layers they pass, or None.
        by_row: (function, x) where they are function(params, x), each row of x by itself, or None.
        precision: What they are evaluated in.
        units: (p,) The size of a natural step of each parameter, or None.
    """

    linear: bool = False
    owning: bool = False
    identity: bool = False
    selection: bool = False
    module: torch.nn.Module | None = None
    by_row: ByRow | None = None
    precision: torch.dtype = torch.float64
    units: Float[Tensor, " p"] | None = None

    @abstractmethod
    def __call__(self, params: Params) -> Any:
        """Return the outputs."""

    @abstractmethod
    def start(self) -> Params:
        """Return parameters to start from."""

    def at_each(self, params: Params) -> Any:
        """Return the outputs at k parameters stacked along a first dimension."""
        return vmap(self.__call__)(params)

    def jacobian(self, params: Params) -> Jacobian:
        """Return their Jacobian there."""
        return Derived(lambda some: flat(self(some)), params, self.by_row)

    def pull(self, params: Params) -> tuple[Any, Pull]:
        """Return the outputs and u ↦ Jᵀu, from flat derivatives along the outputs to those along the parameters."""
        unravel = shaper(params)
        # One tape for value and derivative: a network is not run a second time on the way back.
        outputs, back = vjp(lambda vector: self(unravel(vector)), flat(params))  # pyright: ignore[reportAssignmentType]
        return outputs, lambda slopes: back(shaper(outputs)(slopes))[0]

    def pull_each(self, params: Params, slopes: Float[Tensor, "k m"]) -> Float[Tensor, "k p"]:
        """Return Jᵀu at k stacked parameters."""
        return vmap(lambda one, slope: self.pull(one)[1](slope))(params, slopes)

    def written_out(self, outer: Loss) -> bool:  # noqa: ARG002
        """Return whether `curvature` holds for any presence, and `removal_gradients` are closed, for an outer loss."""
        return False

    def curvature(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"]:
        """Return Jᵀ ∇²outer J."""
        return outer.curvature_along(self(params), presence, self.jacobian(params).dense())

    def removal_gradients(self, outer: Loss, params: Params) -> Float[Tensor, "n p"]:
        """Return ∇ΔL of each object, where `written_out`."""
        raise NotImplementedError

    def owned(self, i: int) -> Int[Tensor, " m"]:  # noqa: ARG002
        """Return the positions in the flat parameters that only object i trains."""
        return torch.arange(0)

    def null_directions(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:  # noqa: ARG002
        """Return, by name, directions of the parameters along which the outer loss of them is constant."""
        return {}

    def rows(self, chosen: Int[Tensor, " r"]) -> "Outputs":
        """Return some of their rows."""
        return Function(lambda params: self(params)[chosen], None)

    def holding(self, params: dict[str, Tensor], free: Sequence[str]) -> "Outputs":
        """Return them as a function of the parameters named `free` alone, the others held at `params`."""
        return Held(self, params, tuple(free))


@dataclass(frozen=True, eq=False)
class Parameters(Outputs):
    """The parameters themselves, where nothing is known of what they enter a loss through.

    Attributes:
        given: Parameters to start from, or None.
        owner: The loss that says what an object owns of them, or None.
    """

    given: Params | None = None
    owner: Loss | None = None
    linear = identity = selection = True

    def __call__(self, params: Params) -> Params:
        return params

    def start(self) -> Params:
        """Return parameters to start from.

        Raises:
            ValueError: If none are known.
        """
        if self.given is None:
            raise ValueError("This loss has no start: pass start=… where it is made, or your own to vif.minimize.")
        return self.given

    def pull(self, params: Params) -> tuple[Params, Pull]:
        return params, lambda slopes: slopes

    @property
    def owning(self) -> bool:
        return self.owner is not None and self.owner.owning

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return torch.arange(0) if self.owner is None else self.owner.owned(i)

    def null_directions(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        return outer.null_directions(params, presence)


@dataclass(frozen=True, eq=False)
class Function(Outputs):
    """Outputs by any function of the parameters, perhaps with parameters to start from."""

    function: Callable[[Any], Any]
    given: Params | None = None

    def __call__(self, params: Params) -> Any:
        return self.function(params)

    def start(self) -> Params:
        return Parameters(self.given).start()


@dataclass(frozen=True, eq=False)
class Held(Outputs):
    """Outputs as a function of some parameters, the others held.

    Attributes:
        whole: The outputs of all parameters.
        params: All parameters, of which those not `free` are held at these values.
        free: The names of the others.
    """

    whole: Outputs
    params: dict[str, Tensor]
    free: tuple[str, ...]

    def joined(self, params: Params) -> dict[str, Tensor]:
        """Return all parameters, those held in the dtype of those given."""
        assert isinstance(params, dict)
        # Parameters are tried in float64 whatever they were trained in; what is held must follow.
        like = next(iter(params.values()))
        return {name: params[name] if name in self.free else value.to(like) for name, value in self.params.items()}

    def __call__(self, params: Params) -> Any:
        return self.whole(self.joined(params))

    @property
    def linear(self) -> bool:
        return self.whole.linear

    @property
    def selection(self) -> bool:
        return self.whole.selection

    @property
    def module(self) -> torch.nn.Module | None:
        return self.whole.module

    @property
    def by_row(self) -> ByRow | None:
        if self.whole.by_row is None:
            return None
        function, x = self.whole.by_row
        return (lambda params, rows: function(self.joined(params), rows)), x

    def start(self) -> dict[str, Tensor]:
        return {name: self.params[name] for name in self.free}

    @property
    def owning(self) -> bool:
        return self.whole.owning

    def owned(self, i: int) -> Int[Tensor, " m"]:
        """Return the positions of what is owned, among the parameters not held."""
        positions = self.whole.owned(i)
        if not len(positions):
            return positions
        # Owned positions count along all parameters; those of the rest count without what is held.
        free = torch.cat([torch.full((value.numel(),), name in self.free) for name, value in self.params.items()])
        place = torch.where(free, free.cumsum(0) - 1, -1)[positions]
        return place[place >= 0]

    def null_directions(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        """Return those of all parameters that leave the held ones where they are."""
        named = self.whole.null_directions(outer, self.joined(params), presence)
        return {
            name: {free: direction[free] for free in self.free}
            for name, direction in named.items()
            # One that moves what is held is no direction of the rest alone.
            if isinstance(direction, dict) and not any(direction[held].any() for held in direction.keys() - self.free)
        }

    def rows(self, chosen: Int[Tensor, " r"]) -> "Held":
        return replace(self, whole=self.whole.rows(chosen))
