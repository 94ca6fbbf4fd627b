"""A loss at trained parameters, checked once at the boundary: what every verb starts from."""

import math
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad, vmap

from versatile_influence._finite import all_finite
from versatile_influence._forward import jacobian_products
from versatile_influence._gradients import gradient_by_hand
from versatile_influence._ravel import Params, ravel
from versatile_influence.loss import Loss, chunk_for, has_fast_differences, removal_differences
from versatile_influence.removals import Removals

# How many numbers one batched evaluation may hold per array, where the caller names no chunk size.
CHUNK_NUMBERS = 2_000_000


@dataclass(frozen=True)
class Problem:
    """A loss over one flat vector of parameters, and the removals asked about.

    Attributes:
        loss: The loss as the user gave it.
        theta: The trained parameters, flat, in float64 wherever the loss can be evaluated in it.
        unravel: Shapes a flat vector back into the user's parameters.
        removals: What is removed.
        gradient: ∇L(θ, 1): zero at a minimum.
        chunk_size: How many removals or directions are handled at once, or None for a size that fits.
    """

    loss: Loss
    theta: Float[Tensor, " p"]
    unravel: Callable[[Tensor], Params]
    removals: Removals
    gradient: Float[Tensor, " p"]
    chunk_size: int | None

    @classmethod
    def of(
        cls,
        loss: Loss,
        params: Params,
        *,
        n_objects: int | None,
        objects: Iterable | None = None,
        chunk_size: int | None = None,
    ) -> "Problem":
        """Return the checked problem.

        Raises:
            TypeError: If the loss is no function, gives no scalar, or cannot be evaluated at these parameters.
            ValueError: If the number of objects is unknown or disagrees, the loss or its gradient is not finite, or
                the loss is random.
        """
        if not callable(loss):
            raise TypeError(f"`loss` must be a function of (params, presence), got {type(loss).__name__}.")
        if chunk_size is not None and chunk_size < 1:
            raise ValueError(f"`chunk_size` must be at least 1, got {chunk_size}.")
        number = known_objects(loss, n_objects)
        theta, unravel = ravel(params)
        theta = evaluable(loss, theta, unravel, number)
        everyone = theta.new_ones(number)
        gradient = gradient_by_hand(loss, unravel, theta[None], everyone[None])
        gradient = grad(lambda flat: loss(unravel(flat), everyone))(theta) if gradient is None else gradient[0]
        if not all_finite(gradient):
            raise ValueError(
                "The loss is finite but its gradient has NaN or infinite entries. Look for a square root "
                "or logarithm of zero, or `torch.where` around an infinite branch (mask before the operation)."
            )
        return cls(loss, theta, unravel, Removals.of(objects, number), gradient, chunk_size)

    def value(self, theta: Float[Tensor, " p"], presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return L(θ, b)."""
        return self.loss(self.unravel(theta), presence)

    def everyone(self) -> Float[Tensor, " n"]:
        """Return the presence of all objects."""
        return self.theta.new_ones(self.removals.n_objects)

    def parts(self, numbers_each: int) -> list[Removals]:
        """Return the removals in parts, such that a part's arrays of `numbers_each` numbers a removal fit in memory."""
        size = self.chunk_size or min(
            max(1, CHUNK_NUMBERS // max(1, numbers_each)), chunk_for(self.loss) or CHUNK_NUMBERS
        )
        count = self.removals.count
        return [self.removals.part(start, min(start + size, count)) for start in range(0, count, size)]

    def differences(self, theta: Float[Tensor, " p"], removals: Removals | None = None) -> Float[Tensor, " k"]:
        """Return ΔL_i(θ) for each removal i."""
        return removal_differences(self.loss, self.unravel(theta), self.removals if removals is None else removals)

    def gradient_differences(self, directions: Float[Tensor, "p q"] | None = None) -> Float[Tensor, "k q"]:
        """Return the Jacobian of ΔL, (k, p), or its product with some directions, without ever storing it.

        A loss with removal differences of its own is differentiated once for all directions; otherwise one gradient is
        taken for each removal.
        """
        if has_fast_differences(self.loss, self.removals):
            chunk = self.chunk_size or chunk_for(self.loss) or max(1, CHUNK_NUMBERS // self.removals.n_objects)
            # By hand several arrays as large as the chunk live at once.
            products = self._products_by_hand(directions, self.chunk_size or max(2, chunk // 2))
            if products is not None:
                return products
            return jacobian_products(self.differences, self.theta, directions, chunk_size=chunk)
        gradients = grad(self.value)
        rows = []
        for part in self.parts(max(self.removals.n_objects, len(self.theta))):
            differences = self.gradient - by_masks(gradients, self.theta, part.presences(self.theta))
            rows.append(differences if directions is None else differences @ directions)
        return torch.cat(rows)

    def owned(self) -> Bool[Tensor, "k p"] | None:
        """Return which parameters belong to what is removed, or None where the loss names none."""
        if not hasattr(self.loss, "owned"):
            return None
        mask = torch.zeros(self.removals.count, len(self.theta), dtype=torch.bool, device=self.theta.device)
        for row, member in zip(self.removals.rows.tolist(), self.removals.members.tolist(), strict=True):
            mask[row, self.loss.owned(member)] = True  # pyright: ignore[reportAttributeAccessIssue]
        return mask if mask.any() else None

    def _products_by_hand(self, directions: Float[Tensor, "p q"] | None, chunk: int) -> Float[Tensor, "k q"] | None:
        """Return the loss's own `removal_products`, or None where it has none."""
        by_hand = getattr(self.loss, "removal_products", None)
        if by_hand is None or self.removals.grouped:
            return None
        objects, params = None if self.removals.everything else self.removals.members, self.unravel(self.theta)
        columns = []
        for part in [None] if directions is None else directions.split(chunk, dim=1):
            columns.append(by_hand(params, part, objects))
            if columns[0] is None:
                return None
        return columns[0] if len(columns) == 1 else torch.cat(columns, dim=1)


def by_masks(
    function: Callable[[Tensor, Tensor], Tensor], theta: Float[Tensor, " p"], presences: Float[Tensor, "k n"]
) -> Float[Tensor, "k ..."]:
    """Return `function(theta, presence)` for each presence at once.

    Raises:
        TypeError: If the function's shapes depend on who is present.
    """
    try:
        return vmap(lambda presence: function(theta, presence))(presences)
    except RuntimeError as error:
        if not any(word in str(error) for word in ("vmap", "dynamic shape", "data-dependent", "batched")):
            raise
        raise TypeError(
            "The loss could not be evaluated for many presences at once. Its shapes must not depend on who is present: "
            "multiply by `presence` (or use torch.where) instead of indexing with it, and do not call .item() or draw "
            f"random numbers. PyTorch said: {error}"
        ) from error


def known_objects(loss: object, n_objects: int | None) -> int:
    """Return the number of objects, from the loss or the caller.

    Raises:
        ValueError: If neither knows it, or they disagree.
    """
    own: int | None = getattr(loss, "n_objects", None)
    if own is None and n_objects is None:
        raise ValueError("How many objects are there? The loss does not say: pass n_objects=….")
    if own is not None and n_objects is not None and int(own) != int(n_objects):
        raise ValueError(f"`n_objects` is {n_objects}, but the loss has {own} objects. Leave `n_objects` out.")
    number = int(own if own is not None else n_objects or 0)
    if number < 1:
        raise ValueError(f"There must be at least one object, got n_objects={number}.")
    return number


def evaluable(
    loss: Loss, theta: Float[Tensor, " p"], unravel: Callable[[Tensor], Params], n_objects: int
) -> Float[Tensor, " p"]:
    """Return θ in the most precise dtype the loss accepts, after checking what the loss gives there.

    Raises:
        TypeError: If the loss fails there, or gives no scalar.
        ValueError: If it is not finite or not deterministic.
    """
    value = error = None
    for dtype in dict.fromkeys((torch.float64, theta.dtype)):
        candidate = theta.to(dtype)
        try:
            value = loss(unravel(candidate), candidate.new_ones(n_objects))
            break
        except (RuntimeError, IndexError, ValueError, TypeError) as caught:
            error = error or caught
    else:
        said = str(error).rstrip(".")
        # A ValueError is the loss's own word on what is wrong.
        form = "It must take (params, presence), with presence a float vector of that length."
        raise TypeError(
            f"The loss could not be evaluated at these parameters with all {n_objects} objects present: {said}. "
            f"{'' if isinstance(error, ValueError) else form}".rstrip()
        ) from error
    if dtype != torch.float64:
        warnings.warn(
            f"The loss runs only in {dtype} ({error}). Differences of gradients then lose accuracy, up to 1 % for "
            "single objects: keep the data inside the loss in float64 for trustworthy scores.",
            stacklevel=4,
        )
    if not isinstance(value, Tensor) or value.numel() != 1 or value.dim() > 0:
        given = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        raise TypeError(f"The loss must return a scalar tensor, got {given}. Sum the terms: `terms.sum()`.")
    number = value.item()
    if not math.isfinite(number):
        raise ValueError(
            f"The loss is {number} at these parameters with all objects present. Look for (a) NaN in the data, "
            "(b) parameters that diverged, (c) a logarithm or division of zero."
        )
    again = loss(unravel(candidate), candidate.new_ones(n_objects)).item()
    if again != number:
        raise ValueError(
            f"The loss is random: it gave {number:.12g}, then {again:.12g}, for the same input. Fix what "
            "is drawn (dropout off with .eval(), walks or negatives drawn once, a generator seeded inside the loss)."
        )
    return candidate


def labels_of(loss: object) -> Sequence[object] | None:
    """Return the user's names of the objects, where the loss knows them."""
    return getattr(loss, "object_labels", None)
