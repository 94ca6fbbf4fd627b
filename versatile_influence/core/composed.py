"""A loss as a value of parts: L(θ, b) = outer(outputs(θ), b) + (λ/2)‖θ‖², and the chain rule, once.

The outer loss is itself a `Loss`, of the outputs; what it knows of its derivatives serves under any outputs. A wrapper
(some parameters, some terms, a linear model) is another value of one part, and so cannot forget another.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.derivatives import in_blocks
from versatile_influence.core.loss import Loss, Objects, Part, share
from versatile_influence.core.outputs import Function, Outputs
from versatile_influence.core.ravel import Params, flat, flat_each, squared_norm
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import CHUNK_NUMBERS, HELD_NUMBERS, at_once


class ByRows(Loss):
    """A loss of outputs, term t of which is made of their row t alone."""

    @abstractmethod
    def of_rows(self, rows: Int[Tensor, " r"]) -> "ByRows":
        """Return the loss of some rows of the outputs."""


class Composed(Loss):
    """An outer loss of outputs, plus a penalty.

    Args:
        outputs: From parameters to outputs: `vif.losses.Linear(x)`, or any function of the parameters.
        outer: The loss of the outputs and of presence, a `vif.Loss`.
        penalty: λ.
        labels: Names of the objects; None for the outer loss's own.
        names: Names of the parameters, or None.
        constant: What parameters that are held add.

    Raises:
        TypeError: If outputs or outer are nothing of the kind.
        ValueError: If the penalty is negative, or the labels are not one an object.

    Example:
        >>> import versatile_influence as vif
        >>> outer = vif.losses.PairwiseLoss([0, 1], [1, 2]).outer
        >>> loss = Composed(vif.losses.Linear(torch.eye(3)), outer, penalty=1.0)
        >>> loss(loss.zeros(), torch.ones(2).double()).item()  # 2 log 2
        1.386...
    """

    # Even one that evaluates each presence does so on outputs, which costs little beside what makes them.
    differences_together = True

    def __init_subclass__(cls, **kwargs: object):
        """Refuse another value than that of the parts: what makes a loss of other parts would forget it."""
        super().__init_subclass__(**kwargs)
        if "__call__" in vars(cls):
            raise TypeError(f"{cls.__name__} is its parts: put what it adds into its outer loss, or write a vif.Loss.")

    def __init__(
        self,
        outputs: Outputs | Callable[[Any], Any],
        outer: Loss,
        *,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
        names: Sequence[str] | None = None,
        constant: float = 0.0,
    ):
        if not isinstance(outer, Loss):
            given = type(outer).__name__
            raise TypeError(f"`outer` must be a vif.Loss, got {given}. vif.losses.OutputLoss also takes a function.")
        if not isinstance(outputs, Outputs):
            if not callable(outputs) or isinstance(outputs, torch.nn.Module | Loss | type):
                raise TypeError(
                    "`outputs` must be vif.losses.Linear(x) or a function of the parameters, got "
                    f"{type(outputs).__name__}. A network goes into vif.losses.OutputLoss(model, x, outer)."
                )
            outputs = Function(outputs)
        if not isinstance(penalty, Real) or not 0 <= penalty < float("inf"):
            raise ValueError(f"`penalty` must be finite and ≥ 0, got {penalty!r}.")
        self.outputs, self.outer, self.ridge, self.constant = outputs, outer, float(penalty), constant
        self.n_objects, self.n_terms = outer.n_objects, outer.n_terms
        if labels is not None and len(labels) != self.n_objects:
            raise ValueError(f"`labels` must name each of the {self.n_objects} objects, got {len(labels)}.")
        self.object_labels = outer.object_labels if labels is None else list(labels)
        self.parameter_names, self.treatment, self.units = names, outer.treatment, outputs.units

    @property
    def penalty(self) -> float:
        """λ; where the outputs are the parameters, with that of the outer loss."""
        return self.ridge + (self.outer.penalty if self.outputs.selection else 0.0)

    @property
    def owning(self) -> bool:
        return self.outputs.owning

    @property
    def precision(self) -> torch.dtype:
        """What it is evaluated in: the lower of its parts'."""
        return self.outputs.precision if self.outputs.precision != torch.float64 else self.outer.precision

    @property
    def model(self) -> torch.nn.Module | None:
        """The network that the outputs are of, or None."""
        return self.outputs.module

    @property
    def hessian_written_out(self) -> bool:
        """Whether H is a product of matrices: where the outputs are linear and not the parameters themselves."""
        return self.outer.hessian_written_out if self.outputs.selection else self.outputs.linear

    def zeros(self) -> Params:
        """Return parameters to start from: zeros, or present values of what a network trains."""
        return self.outputs.start()

    def __call__(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return self._held(self.outer(self.outputs(params), presence), params)

    def removal_differences(self, params: Params, objects: Objects = None) -> Float[Tensor, " k"]:
        return self.outer.removal_differences(self.outputs(params), objects)

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of ΔL, or its product with directions: that of the outer loss along J V."""
        removals = Removals.of(objects, self.n_objects)
        if self.outputs.identity:
            return self.outer.removal_products(params, directions, removals)
        # A group's difference is no sum of its members': closed forms are of single objects.
        if not removals.grouped and self.outputs.written_out(self.outer):
            gradients = removals.of_each(self.outputs.removal_gradients(self.outer, params))
            return gradients if directions is None else gradients @ directions
        outputs, jacobian = self.outputs(params), self.outputs.jacobian(params)
        m, p = jacobian.shape
        if directions is None and m * min(p, removals.count) > HELD_NUMBERS and not self.outputs.linear:
            # Neither Jacobian fits: that of both together, some directions at a time.
            return super().removal_products(params, None, removals)
        if directions is None and p > removals.count:
            # As many passes back as removals, and J is never held.
            return jacobian.transposed(self.outer.removal_products(outputs, None, removals).T).T
        if directions is None:
            return self.outer.removal_products(outputs, jacobian.dense(), removals)
        size = at_once(jacobian.shape[0], most=max(16 * jacobian.shape[0], CHUNK_NUMBERS))
        return in_blocks(lambda part: self.outer.removal_products(outputs, jacobian @ part, removals), directions, size)

    def gradients_without(self, params: Params, removals: Removals) -> Float[Tensor, "k p"]:
        outputs, pull = self.outputs.pull(params)
        return vmap(pull)(self.outer.gradients_without(outputs, removals)) + self.ridge * flat(params)

    def hessians_without(self, params: Params, removals: Removals) -> Float[Tensor, "k p p"]:
        if self.outputs.identity:
            found = self.outer.hessians_without(params, removals)
            return found + self.ridge * torch.eye(found.shape[-1]).to(found) if self.ridge else found
        if self.outputs.written_out(self.outer):
            return torch.stack([self.hessian(params, one) for one in removals.presences(flat(params))])
        return super().hessians_without(params, removals)

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " p"]:
        outputs, pull = self.outputs.pull(params)
        return pull(self.outer.gradient(outputs, presence)) + self.ridge * flat(params)

    def gradient_and_value(
        self, params: Params, presence: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        """Return ∇L and L, the outputs had once."""
        outputs, pull = self.outputs.pull(params)
        slopes, value = self.outer.gradient_and_value(outputs, presence)
        return pull(slopes) + self.ridge * flat(params), self._held(value, params)

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k p"]:
        if not self.outputs.linear:
            return super().gradients(params, presence)
        slopes = self.outer.gradients(self.outputs.at_each(params), presence)
        return self.outputs.pull_each(params, slopes) + self.ridge * flat_each(params)

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " n"], vectors: Float[Tensor, "p k"]
    ) -> Float[Tensor, "p k"]:
        """Return H V; with linear outputs Jᵀ(∇²outer (J V)) + λV."""
        if not self.outputs.linear:
            return super().hessian_products(params, presence, vectors)
        if self.outputs.identity:
            return self.outer.hessian_products(params, presence, vectors) + self.ridge * vectors
        jacobian = self.outputs.jacobian(params)
        outputs = self.outputs(params)

        def products(part: Tensor) -> Tensor:
            return jacobian.transposed(self.outer.hessian_products(outputs, presence, jacobian @ part))

        size = at_once(jacobian.shape[0], most=HELD_NUMBERS)
        return in_blocks(products, vectors, size) + self.ridge * vectors

    def hessian(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"]:
        """Return H; with linear outputs Jᵀ ∇²outer J + λ."""
        if not self.outputs.linear:
            return super().hessian(params, presence)
        if self.outputs.identity:
            # A loss may keep the matrix that it gives.
            matrix = self.outer.hessian(params, presence).clone()
        else:
            matrix = self.outputs.curvature(self.outer, params, presence)
        matrix.diagonal().add_(self.ridge)
        return matrix

    def owned(self, i: int) -> Int[Tensor, " m"]:
        return self.outputs.owned(i)

    def null_directions(self, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:
        return {} if self.ridge else self.outputs.null_directions(self.outer, params, presence)

    def terms(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        return self.outer.terms(self.outputs(params), presence)

    def part(self, terms: Int[Tensor, " m"]) -> "Composed":
        """Return the loss of some terms; where a term is one row's, of those rows."""
        if isinstance(self.outer, ByRows):
            outputs, outer = self.outputs.rows(terms), self.outer.of_rows(terms)
        else:
            outputs, outer = self.outputs, self.outer.part(terms)
        some = share(self.outer, terms)
        return self.with_parts(outputs, outer, ridge=some * self.ridge, constant=some * self.constant)

    def sampled(self, terms: Int[Tensor, " m"]) -> "Composed":
        """Return the loss of some terms with the outputs of all: one Jacobian serves every sample."""
        return self.with_parts(self.outputs, Part(self.outer, terms), ridge=share(self.outer, terms) * self.ridge)

    def at(self, presence: Float[Tensor, " n"]) -> "Composed":
        outer = self.outer.at(presence)
        changed = outer is not self.outer
        return self.with_parts(self.outputs, outer, ridge=self.ridge, constant=self.constant) if changed else self

    def with_parts(self, outputs: Outputs, outer: Loss, *, ridge: float, constant: float = 0.0) -> "Composed":
        """Return the loss with other parts, and all that is not about them."""
        # Everything that a part does not decide comes along: a wrapper that forgets one gives wrong scores.
        named = {"labels": self.object_labels, "names": self.parameter_names}
        return Composed(outputs, outer, penalty=ridge, constant=constant, **named).treated(self.treatment)

    def as_outer(self) -> Loss:
        """Return the outer loss, for other outputs in the place of these."""
        return self.outer

    def _held(self, value: Float[Tensor, ""], params: Params) -> Float[Tensor, ""]:
        """Return the value with what the penalty adds."""
        return value + self.ridge / 2 * squared_norm(params) + self.constant if self.ridge else value
