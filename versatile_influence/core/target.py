"""What to explain: t numbers that depend on the parameters, and perhaps on who is present."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp, vmap

from versatile_influence.core.derivatives import numbers_held
from versatile_influence.core.jacobian import ByRow, Derived, Jacobian
from versatile_influence.core.ravel import Params, all_finite, first, flat, shaper
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import at_once

View = Callable[[Params], Params]
Effects = tuple[Float[Tensor, "k t"], Float[Tensor, "k t"]]


class Target(ABC):
    """A function from parameters to t numbers, with names, test data closed over; any function becomes one by itself.

    Attributes:
        labels: Names of the numbers, or None.
        by_row: (function, x) where the numbers are function(params, x), each row of x by itself, or None.
        about: (t, m) the objects that each number is about (a pair of nodes: both), -1 where they are fewer than m, or
            None. What becomes of it without one of those says nothing of how others move it.
    """

    labels: Sequence[object] | None = None
    by_row: ByRow | None = None
    about: Int[Tensor, "t m"] | None = None

    @abstractmethod
    def __call__(self, params: Any) -> Float[Tensor, "*t"]:
        """Return the t numbers."""

    def seeing(self, view: View) -> "LabelledTarget":
        """Return the target of parameters that it sees through `view`: with others beside them, in other precision."""
        return LabelledTarget(
            lambda some: flat_target(self(view(some))).to(first(some).dtype), self.labels, None, self.about
        )

    def jacobian(self, params: Params) -> Jacobian:
        """Return the gradients of the numbers as one operator."""
        return Derived(self._numbers, params, self.by_row)

    def gradients(self, params: Params) -> Float[Tensor, "t p"]:
        """Return the gradient of each number."""
        jacobian = self.jacobian(params)
        # Rows and factors only pay where the numbers are fewer than the parameters.
        few = jacobian.shape[0] < jacobian.shape[1]
        return (jacobian if few else Derived(self._numbers, params)).dense()

    def now(self, params: Params, some: int | Tensor) -> Float[Tensor, " t"]:  # noqa: ARG002
        """Return the numbers, as a `PresenceTarget` does those with so many, or with some, there."""
        return flat_target(self(params))

    def _numbers(self, params: Params) -> Float[Tensor, " t"]:
        return flat_target(self(params)).to(first(params).dtype)


@dataclass(frozen=True)
class LabelledTarget(Target):
    """A target with names for its numbers.

    Attributes:
        fn: From parameters to t numbers.

    Example:
        >>> both = LabelledTarget(lambda theta: theta[:2], ["age", "dose"])
        >>> both(torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 2.])
    """

    fn: Callable[[Any], Tensor]
    labels: Sequence[object] | None = None
    by_row: ByRow | None = None
    about: Int[Tensor, "t m"] | None = None

    def __call__(self, params: Any) -> Float[Tensor, "*t"]:
        return self.fn(params)


@dataclass(frozen=True)
class LinearTarget(Target):
    """A target that is linear in one vector of parameters: values + rows (θ − at).

    Attributes:
        values: The numbers at `at`.
        rows: Their gradients, one a row.
        at: Where.
    """

    values: Float[Tensor, " t"]
    rows: Float[Tensor, "t r"]
    at: Float[Tensor, " r"]
    labels: Sequence[object] | None = None

    def __call__(self, params: Any) -> Float[Tensor, " t"]:
        return self.values + self.rows @ (params - self.at)

    def gradients(self, params: Any) -> Float[Tensor, "t r"]:  # noqa: ARG002
        return self.rows


@dataclass(frozen=True)
class PresenceTarget:
    """A target that itself depends on who is present: `fn(params, presence) -> (t,)`.

    A removed item also leaves the test list; a removed patient also leaves the baseline hazard. The score is then
    the *direct* effect f(θ, 1₋ᵢ) − f(θ, 1), which needs no influence function, plus the effect through the
    parameters, ∇f(θ, 1₋ᵢ)ᵀ Δθᵢ. An `Attribution` keeps both.

    Attributes:
        fn: The function.
        labels: Names of the t numbers, for tables.
        closed: (params, changes (k, p), objects (k,)) -> both effects, (k, t) each, for all removals of single objects
            at once, where they are written out by hand, or None.
        about: As in `Target`.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> mean_of_others = vif.PresenceTarget(lambda theta, presence: theta + presence @ x / 3)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> scores = vif.newton_step(loss, torch.tensor(3.0), mean_of_others, n_objects=3)
        >>> scores.direct.squeeze().tolist()
        [-0.333..., -0.666..., -2.0]
        >>> scores.parameter.squeeze().tolist()
        [1.0, 0.5, -1.5]
    """

    fn: Callable[[Any, Tensor], Tensor]
    labels: Sequence[object] | None = None
    closed: Callable[[Any, Tensor, Tensor], Effects] | None = None
    about: Int[Tensor, "t m"] | None = None

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "*t"]:
        """Return the t numbers when those with presence 1 are there."""
        return self.fn(params, presence)

    def seeing(self, view: View) -> "PresenceTarget":
        """Return the target of parameters that it sees through `view`: with others beside them, in other precision."""

        def seen(some: Params, presence: Tensor) -> Tensor:
            there = view(some)
            return flat_target(self(there, presence.to(first(there).dtype))).to(presence.dtype)

        return PresenceTarget(seen, self.labels, None, self.about)

    def now(self, params: Params, some: int | Tensor) -> Float[Tensor, " t"]:
        """Return the numbers with so many objects there, checked, or with the presence of some."""
        values = flat_target(self(params, first(params).new_ones(some) if isinstance(some, int) else some))
        return checked_target(values) if isinstance(some, int) else values

    def effects(self, params: Params, changes: Float[Tensor, "k p"], removals: Removals) -> Effects:
        """Return f(θ, 1₋ᵢ) − f(θ, 1) and ∇f(θ, 1₋ᵢ)ᵀ Δθᵢ of each removal."""
        now = self.now(params, removals.n_objects)
        # Written out by hand for one object at a time.
        if self.closed is not None and not removals.grouped:
            return self.closed(params, changes, removals.members)
        theta, unravel = flat(params), shaper(params)

        def both(presence: Tensor, change: Tensor) -> tuple[Tensor, ...]:
            return jvp(lambda vector: flat_target(self(unravel(vector), presence)), (theta,), (change,))

        direct, parameter = [], []
        for part, step in zip(parts := self.parts(params, removals), _split(changes, parts), strict=True):
            without, moved = vmap(both)(part.presences(theta), step)
            direct.append(without - now)
            parameter.append(moved)
        return torch.cat(direct), torch.cat(parameter)

    def at(
        self, params: Params, moved: Float[Tensor, "k p"], removals: Removals
    ) -> tuple[Float[Tensor, "k t"], Float[Tensor, "k t"]]:
        """Return f(θᵢ, 1₋ᵢ) − f(θ, 1) and f(θ, 1₋ᵢ) − f(θ, 1) for parameters θᵢ of each removal."""
        now, unravel = self.now(params, removals.n_objects), shaper(params)
        before, after = [], []
        for part, there in zip(parts := self.parts(params, removals), _split(moved, parts), strict=True):
            presences = part.presences(moved)
            before.append(vmap(lambda presence: flat_target(self(params, presence)))(presences))
            after.append(vmap(lambda vector, b: flat_target(self(unravel(vector), b)))(there, presences))
        return torch.cat(after) - now, torch.cat(before) - now

    def parts(self, params: Params, removals: Removals) -> list[Removals]:
        """Return the removals in parts that can be evaluated at once."""
        return removals.parts(max(numbers_held(self, params, first(params).new_ones(removals.n_objects)), 1))


def _split(rows: Tensor, parts: list[Removals]) -> Sequence[Tensor]:
    return rows.split([part.count for part in parts])


def evaluated(target: Target, params: Params, moved: Float[Tensor, "k p"]) -> Float[Tensor, "k t"]:
    """Return f(θᵢ) − f(θ) for each row of parameters."""
    now, unravel = target_values(target, params), shaper(params)
    # Each row of parameters is a whole evaluation of the target.
    size = at_once(max(numbers_held(target, params), len(now))) if len(moved) > 1 else 1
    return vmap(lambda vector: flat_target(target(unravel(vector))), chunk_size=size)(moved) - now


def target_values(target: Target, params: Params) -> Float[Tensor, " t"]:
    """Return the target's numbers, checked.

    Raises:
        ValueError: If there is none, one is not finite, or they are random.
    """
    drawn = torch.default_generator.get_state()
    values = checked_target(flat_target(target(params)))
    # Whether anything was drawn costs less to see than a second evaluation, which only then is made.
    if not torch.equal(drawn, torch.default_generator.get_state()) and (flat_target(target(params)) != values).any():
        raise ValueError(
            "The target is random: for the same parameters it gives other numbers. Fix what is drawn: dropout off with "
            "model.eval(), samples drawn once outside."
        )
    return values


def flat_target(values: object) -> Float[Tensor, " t"]:
    """Return what a target returned as a vector.

    Raises:
        TypeError: If it is no tensor of real, floating-point numbers.
    """
    if not isinstance(values, Tensor):
        raise TypeError(f"The target must return a tensor, but it returned {type(values).__name__}.")
    if not values.is_floating_point():
        advice = "Take real parts, or sizes: .real, .abs()." if values.is_complex() else "They have no derivative."
        raise TypeError(f"The target returned {values.dtype}; it must be real, floating-point numbers. {advice}")
    return values.reshape(-1)


def checked_target(values: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Return the target's values if there are any, all finite.

    Raises:
        ValueError: If there is none, or one is not finite.
    """
    if not len(values):
        raise ValueError("The target returned no numbers. Ask for at least one.")
    if not all_finite(values):
        worst = int((~torch.isfinite(values)).nonzero()[0])
        raise ValueError(f"Target {worst} is {values[worst].item()}. Remove it, or look for NaN in its test data.")
    return values
