"""What a loss is: any differentiable function of the parameters and of who is present.

    L(θ, b) -> scalar          (Deng et al. (2025), "A Versatile Influence Function", Definition 3.1)

`presence` b is a float vector, 1.0 where an object takes part and 0.0 where not. Multiply by it, do not index with it:
a boolean index changes shapes, so that many presences cannot be evaluated at once. The loss is a *sum*: a divisor that
counts who is present would change every term when one object goes. `vif.check_loss` holds a subclass to what is here.
"""

import copy
import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import grad, grad_and_value, jacfwd, jacrev, vjp, vmap

from versatile_influence.core.checks import instance
from versatile_influence.core.derivatives import by_masks, chunk_that_fits, in_blocks, jacobian_products, numbers_held
from versatile_influence.core.owned import Marginalised, Treatment
from versatile_influence.core.ravel import Params, first, flat, shaper
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import CACHE_NUMBERS, HELD_NUMBERS, at_once
from versatile_influence.core.warn import warn

Objects = Removals | Iterable | None
L = TypeVar("L", bound="Loss")


class Loss(ABC):
    """A loss of parameters and presence, with all that the method asks of it.

    A function becomes one wherever a loss is asked for. Write a subclass where you know more: `n_objects` and
    `__call__` are enough, and every other method may be replaced by a faster one.

    Attributes:
        n_objects: How many objects there are.
        object_labels, parameter_names: Names of objects and parameters, for tables and messages, or None.
        penalty, n_terms: λ of a term (λ/2)‖θ‖² that it holds, and how many terms it has for mini-batches, or None.
        hessian_written_out: Whether `hessian` costs far less than a product with each unit vector.
        differences_together: Whether `removal_differences` of all objects cost about one evaluation.
        undetermined, owning, treatment: Directions (p,) by name that nothing determines without an object, or None;
            whether `owned` says what, and how; `precision`; `units`, `stand_in`: natural steps, a preconditioner.
        rough: The same loss in single precision, where that is faster, or None.

    Example:
        >>> class Mean(Loss):
        ...     n_objects = 3
        ...     def __call__(self, params, presence):
        ...         return (presence * (params - torch.tensor([1.0, 2.0, 6.0]).double()) ** 2).sum() / 2
        >>> Mean().removal_differences(torch.tensor(3.0).double()).tolist()
        [2.0, 0.5, 4.5]
    """

    n_objects: int
    object_labels: Sequence[object] | None = None
    parameter_names: Sequence[str] | None = None
    penalty: float = 0.0
    n_terms: int | None = None
    hessian_written_out: bool = False
    differences_together: bool = False
    undetermined: Mapping[int, dict[str, Tensor]] | None = None
    owning: bool = False
    treatment: Treatment = Marginalised()
    precision: torch.dtype = torch.float64
    units: Float[Tensor, " p"] | None = None
    stand_in: Any = None
    rough: Any = None

    def __init_subclass__(cls, **kwargs: object):
        """Note whether it names owners, and tell of a name that is nearly one of `Loss`'s."""
        super().__init_subclass__(**kwargs)
        if cls.owned is not Loss.owned and cls.owning is False:
            cls.owning = True
        for name in vars(cls).keys() - set(METHODS):
            if not name.startswith("_") and (near := difflib.get_close_matches(name, METHODS, n=1, cutoff=0.9)):
                warn(f"{cls.__name__}.{name} is never looked at. Is it `{near[0]}` of a loss?")

    @abstractmethod
    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the summed loss of the objects present."""

    def everyone(self, params: Params) -> Float[Tensor, " n"]:
        """Return the presence of all objects, in the dtype of the parameters."""
        return first(params).new_ones(self.n_objects)

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return ΔL_i = L(θ, 1) − L(θ, 1₋ᵢ) of each removal asked for, differentiable; here by evaluating each."""
        removals = Removals.of(objects, self.n_objects)
        without = by_masks(lambda presence: self(params, presence), removals.presences(first(params)))
        return self(params, self.everyone(params)) - without

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of the removal differences, (k, p), or its product with directions, one a column.

        By one derivative backwards for all where differences are had together, of groups and else by a gradient each.
        """
        removals = Removals.of(objects, self.n_objects)
        if removals.grouped or not self.differences_together:
            return by_gradients(self, params, directions, removals, numbers_held(self, params, self.everyone(params)))
        theta, unravel = flat(params), shaper(params)
        differences = lambda vector: self.removal_differences(unravel(vector), removals)  # noqa: E731
        chunk = chunk_that_fits(differences, theta)
        if directions is not None or len(theta) <= removals.count:
            return jacobian_products(differences, theta, directions, chunk_size=chunk)
        return jacrev(differences, chunk_size=chunk)(theta)

    def gradients_without(self, params: Params, removals: Removals) -> Float[Tensor, "k p"]:
        """Return ∇L(θ, 1₋ᵢ) of each removal."""
        return by_masks(partial(Loss.gradient, self, params), removals.presences(first(params)))

    def hessians_without(self, params: Params, removals: Removals) -> Float[Tensor, "k p p"]:
        """Return ∇²L(θ, 1₋ᵢ) of each removal."""
        theta, unravel = flat(params), shaper(params)
        # Reverse over reverse: forward over reverse is wrong for some masked losses (pytorch#196705).
        bent = jacrev(grad(lambda vector, presence: self(unravel(vector), presence)))
        masked = lambda some: by_masks(lambda presence: bent(theta, presence), some.presences(theta))  # noqa: E731
        found = None
        if self.differences_together and not removals.grouped and len(theta) <= removals.count:
            # The differences are evaluated p² times, for all removals at once; the masked loss p times for each.
            second = jacfwd(jacfwd(lambda vector: self.removal_differences(unravel(vector), removals)))
            # Some layers have no second forward derivative, and that of layer_norm is wrong: one removal tells.
            with suppress(RuntimeError):
                found = self.hessian(params, self.everyone(params)) - second(theta)
                one = found[:1] if self.hessian_written_out else masked(removals.part(0, 1))
                found = found if torch.allclose(found[:1], one, rtol=1e-6, atol=1e-9) else None
        found = masked(removals) if found is None else found
        return (found + found.mT) / 2

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " p"]:
        """Return ∇L(θ, b)."""
        return Loss.gradient_and_value(self, params, presence)[0]

    def gradient_and_value(
        self, params: Params, presence: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        """Return ∇L(θ, b) and L(θ, b)."""
        return grad_and_value(lambda vector: self(shaper(params)(vector), presence))(flat(params))

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k p"]:
        """Return ∇L at k parameters stacked along a first dimension, each with its own row of presence."""
        return vmap(self.gradient)(params, presence)

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " n"], vectors: Float[Tensor, "p k"]
    ) -> Float[Tensor, "p k"]:
        """Return ∇²L(θ, b) V, one reverse-over-reverse derivative a column."""
        theta, unravel = flat(params), shaper(params)
        value = lambda vector: self(unravel(vector), presence)  # noqa: E731
        pull_back = vjp(grad(value), theta)[1]
        many = vectors.shape[1] * max(len(theta), self.n_objects) > CACHE_NUMBERS
        chunk = chunk_that_fits(value, theta) if many else None
        return vmap(lambda vector: pull_back(vector)[0], chunk_size=chunk)(vectors.T).T

    def hessian(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"]:
        """Return ∇²L(θ, b) as a matrix."""
        matrix = self.hessian_products(params, presence, torch.eye(len(theta := flat(params))).to(theta))
        return (matrix + matrix.T) / 2

    def curvature_along(
        self, params: Params, presence: Float[Tensor, " n"], directions: Float[Tensor, "p q"]
    ) -> Float[Tensor, "q q"]:
        """Return Vᵀ ∇²L(θ, b) V, for a few directions of many parameters."""
        size = at_once(len(directions), most=HELD_NUMBERS)
        matrix = directions.T @ in_blocks(lambda part: self.hessian_products(params, presence, part), directions, size)
        return (matrix + matrix.T) / 2

    def owned(self, i: int) -> Int[Tensor, " m"]:  # noqa: ARG002
        """Return the positions in the flat parameters that only object i trains, so that they fall to the penalty."""
        return torch.arange(0)

    def null_directions(self, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:  # noqa: ARG002
        """Return, by name, directions of the parameters along which L(·, b) is constant."""
        return {}

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:  # noqa: ARG002
        """Return the `n_terms` terms that add up to the loss, the penalty left out.

        Raises:
            TypeError: If it has none of its own.
        """
        raise TypeError(
            f"Sampling terms needs a loss with `n_terms` terms, and {self!r} names none. Make it of terms, as "
            "vif.losses.TermLoss, or sample none: vif.LiSSA(batch_size=None), a training without `batch_size`."
        )

    def part(self, terms: Int[Tensor, " m"]) -> "Loss":
        """Return the loss of the terms numbered `terms`, with their share of the penalty; of all parts, the loss."""
        return Part(self, terms)

    def at(self, presence: Float[Tensor, " n"]) -> "Loss":  # noqa: ARG002
        """Return the loss for that presence alone: cheaper where many parameters are tried."""
        return self

    def treated(self: L, treatment: Treatment) -> L:
        """Return the same loss with another treatment of owned parameters."""
        other = copy.copy(self)
        object.__setattr__(other, "treatment", instance(treatment, "treatment", Treatment, "vif.owned.Shared()"))
        return other

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.n_objects} objects)"


METHODS = ["n_objects", *(name for name in vars(Loss) if not name.startswith("_"))]


class Part(Loss):
    """Some terms of a loss, with their share of its penalty; `Loss.part` makes it."""

    def __init__(self, whole: Loss, chosen: Int[Tensor, " m"]):
        self.whole, self.chosen, self.n_objects, self.n_terms = whole, chosen, whole.n_objects, len(chosen)
        self.object_labels, self.parameter_names = whole.object_labels, whole.parameter_names
        # All parts together have the penalty once, so that gradients of batches are unbiased.
        self.penalty, self.treatment = share(whole, chosen) * whole.penalty, whole.treatment

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        total = self.terms(params, presence).sum()
        return total + self.penalty / 2 * flat(params).square().sum() if self.penalty else total

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " m"]:
        return self.whole.terms(params, presence).index_select(0, self.chosen.to(presence.device))


def by_gradients(
    loss: Loss, params: Params, directions: Float[Tensor, "p q"] | None, removals: Removals, numbers: int
) -> Float[Tensor, "k q"]:
    """Return what `removal_products` does, by one gradient a removal, each of arrays of so many numbers."""
    rows, whole = [], loss.gradient(params, loss.everyone(params))
    for part in removals.parts(max(numbers, loss.n_objects, len(whole))):
        changes = whole - loss.gradients_without(params, part)
        rows.append(changes if directions is None else changes @ directions)
    return torch.cat(rows)


def share(whole: Loss, chosen: Int[Tensor, " m"]) -> float:
    """Return which part of the terms these are."""
    return len(chosen) / number_of_terms(whole)


def number_of_terms(loss: Loss) -> int:
    """Return how many terms the loss has, or say, by `Loss.terms`, that it names none."""
    return len(Loss.terms(loss, torch.zeros(0), torch.zeros(0))) if loss.n_terms is None else loss.n_terms
