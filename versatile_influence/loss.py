"""What the method needs from a loss, and from a target that depends on who is present.

A loss is any function of the parameters and of which objects are present (Definition 3.1 of the paper):

    loss(params, presence) -> scalar

`presence` is a float vector, 1.0 where an object takes part and 0.0 where it does not. Multiply by it, do not index
with it: a boolean index changes shapes, and then many presences cannot be evaluated at once. The loss is a *sum*: a
divisor that counts who is present would change every term when one object goes.

A loss may offer more, and is served faster or better for it:

    n_objects                               how many objects there are
    object_labels                           their names, for tables
    parameter_names                         names of the parameters, for messages
    zeros()                                 parameters to start from
    removal_differences(params, objects)    ΔL_i = L(θ, 1) − L(θ, 1₋ᵢ) for object numbers `objects`, or all, at once
    removal_products(params, V, objects)    their derivative along the columns of V (p, q), or their Jacobian for None,
                                            where written out by hand; it may return None
    gradients(params, presence)             ∇L (k, p) at k parameters stacked along a first dimension, each with its
                                            own row of presence (k, n), where written out by hand; it may return None
    dense_hessian(params, presence)         ∇²L(θ, b), where written out by hand; it may return None
    n_terms, on_terms(params, presence, t)  how many terms the sum has, and the sum of the terms numbered t alone, for
                                            mini-batches: over a partition they add up to the loss, penalty included
    part(t)                                 with them, the loss of those terms alone, so that `gradients` serves there
    outputs(params)                         what the parameters enter the loss through (a network's outputs), any shape
    outer(outputs, presence)                with it, L(θ, b) = outer(outputs(θ), b) + (penalty/2)‖θ‖²; see GaussNewton
    outer_differences(outputs, objects)     ΔL_i as a function of the outputs alone
    by_row                                  (function, x) where the outputs are function(params, x), each row by itself
    outer_terms(outputs, presence)          (n_terms,) terms that add up to `outer`
    at(presence)                            the loss for that presence alone, cheaper where many parameters are tried
    owned(i)                                positions in the flat parameters that only object i trains; see `owned`
    size                                    how many numbers one evaluation holds, so that many at once fit in memory
    null_directions(params, presence)       by name, directions of the parameters along which the loss is constant
    removes_groups                          True if `objects` above may also be a list of index tensors, one a group
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from versatile_influence._ravel import Params
from versatile_influence.removals import Removals

# How many numbers evaluations done at once may hold, for a loss that says its size.
NUMBERS_AT_ONCE = 20_000_000
# How many numbers an array of many gradients holds, so that it stays in the processor's cache with a few others.
CACHE_NUMBERS = 125_000


@runtime_checkable
class Loss(Protocol):
    """Any differentiable function of parameters and presence; see the module's text for what more it may offer."""

    def __call__(self, params: Any, presence: Float[Tensor, " n"], /) -> Float[Tensor, ""]:
        """Return the summed loss of the objects present."""
        ...


@runtime_checkable
class Target(Protocol):
    """What to explain: t numbers that depend on the parameters. Test data are closed over.

    A target may also offer `gradients(params) -> (t, p)`, where they are written out by hand; it may return None.
    """

    def __call__(self, params: Any, /) -> Float[Tensor, "*t"]:
        """Return the t numbers."""
        ...


@dataclass(frozen=True)
class LabelledTarget:
    """A target with names for its numbers.

    Attributes:
        fn: From parameters to t numbers.
        labels: Their names.
        by_row: (function, x) where the numbers are function(params, x), each row of x by itself, or None.

    Example:
        >>> both = LabelledTarget(lambda theta: theta[:2], ["age", "dose"])
        >>> both(torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 2.])
    """

    fn: Callable[[Any], Tensor]
    labels: Sequence[object] | None = None
    by_row: tuple[Callable[[Any, Tensor], Tensor], Tensor] | None = None

    def __call__(self, params: Any) -> Float[Tensor, "*t"]:
        """Return the t numbers."""
        return self.fn(params)


@dataclass(frozen=True)
class PresenceTarget:
    """A target that itself depends on who is present: `fn(params, presence) -> (t,)`.

    A removed item also leaves the test list; a removed patient also leaves the baseline hazard. The score is then
    the *direct* effect f(θ, 1₋ᵢ) − f(θ, 1), which needs no influence function, plus the effect through the
    parameters, ∇f(θ, 1₋ᵢ)ᵀ Δθᵢ. An `Attribution` keeps both.

    Attributes:
        fn: The function.
        labels: Names of the t numbers, for tables.
        size: How many numbers one evaluation holds, where that is more than t; so many at once fit in memory.
        effects: (params, changes (k, p), objects (k,)) -> f(θ, 1₋ᵢ) − f(θ, 1) and ∇f(θ, 1₋ᵢ)ᵀ Δθᵢ, (k, t) each, for
            all removals of single objects at once, where written out by hand; it may return None.

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
    size: int | None = None
    effects: Callable[[Any, Tensor, Tensor], tuple[Tensor, Tensor] | None] | None = None

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "*t"]:
        """Return the t numbers when those with presence 1 are there."""
        return self.fn(params, presence)


@dataclass(frozen=True)
class Sampled:
    """Some terms of a loss, scaled up to stand for all of them: an unbiased estimate, penalty included.

    Attributes:
        loss: A loss with `n_terms` and `on_terms`; for its outputs also `outer_terms`.
        terms: Numbers of the terms.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.PairwiseLoss([0, 1], [1, 2])
        >>> Sampled(loss, torch.tensor([1]))(loss.zeros(), torch.ones(2).double()).item()  # 2 log 2
        1.386...
    """

    loss: Any
    terms: Int[Tensor, " m"]

    @property
    def scale(self) -> float:
        """How many terms each stands for."""
        return number_of_terms(self.loss) / len(self.terms)

    @property
    def penalty(self) -> float:
        """λ of the whole loss."""
        return self.loss.penalty

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the estimate of L(θ, b)."""
        return self.scale * self.loss.on_terms(params, presence, self.terms)

    def outputs(self, params: Params) -> Tensor:
        """Return the outputs of the whole loss."""
        return self.loss.outputs(params)

    def outer(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the estimate of the outer loss."""
        return self.scale * self.loss.outer_terms(outputs, presence).index_select(0, self.terms).sum()


def number_of_terms(loss: object) -> int:
    """Return how many terms the loss has.

    Raises:
        TypeError: If it cannot be evaluated on some of them.
    """
    if not (hasattr(loss, "n_terms") and hasattr(loss, "on_terms")):
        raise TypeError(
            f"Sampling terms needs a loss with `n_terms` and `on_terms(params, presence, terms)`, got "
            f"{getattr(loss, '__name__', type(loss).__name__)}. Offer both, or use what samples no terms (a training "
            "without `batch_size`, another solver)."
        )
    return int(loss.n_terms)  # pyright: ignore[reportAttributeAccessIssue]


def has_outputs(loss: object) -> bool:
    """Return whether the loss says what outputs the parameters enter it through."""
    return getattr(loss, "outputs", None) is not None and hasattr(loss, "outer")


def squared_norm(params: Params) -> Float[Tensor, ""]:
    """Return ‖θ‖²."""
    parts = params.values() if isinstance(params, dict) else [params]
    return torch.stack([part.square().sum() for part in parts]).sum()


def at_presence(loss: Loss, presence: Float[Tensor, " n"]) -> Loss:
    """Return the loss for one presence alone, where it offers a cheaper one, or itself."""
    return loss.at(presence) if hasattr(loss, "at") else loss  # pyright: ignore[reportAttributeAccessIssue]


def chunk_for(loss: object) -> int | None:
    """Return how many evaluations of the loss fit at once, or None where it does not say its size."""
    size = getattr(loss, "size", None)
    return None if size is None else max(1, NUMBERS_AT_ONCE // max(1, size))


def has_fast_differences(loss: object, removals: Removals) -> bool:
    """Return whether the loss itself offers the removal differences asked for."""
    return hasattr(loss, "removal_differences") and (not removals.grouped or getattr(loss, "removes_groups", False))


def removal_differences(loss: Loss, params: Params, removals: Removals) -> Float[Tensor, " k"]:
    """Return ΔL_i(θ) = L(θ, 1) − L(θ, 1₋ᵢ) for each removal i, by the loss's own method where it has one."""
    if not has_fast_differences(loss, removals):
        return masked_differences(loss, params, removals)
    if removals.everything:
        return loss.removal_differences(params, None)  # pyright: ignore[reportAttributeAccessIssue]
    objects = removals.members
    if removals.grouped:
        objects = [objects[removals.rows == row] for row in range(removals.count)]
    return loss.removal_differences(params, objects)  # pyright: ignore[reportAttributeAccessIssue]


def masked_differences(loss: Loss, params: Params, removals: Removals) -> Float[Tensor, " k"]:
    """Return ΔL_i(θ) by evaluating the loss once for each removal: always right, k times the cost of one loss."""
    like = next(iter(params.values())) if isinstance(params, dict) else params
    everyone = torch.ones(removals.n_objects, dtype=like.dtype, device=like.device)
    without = vmap(lambda presence: loss(params, presence))(removals.presences(like))
    return loss(params, everyone) - without
