"""Whether a loss is what it says: every method of it against the one answer by automatic differentiation."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.boundary import as_loss, methods_meant
from versatile_influence.core.derivatives import by_masks
from versatile_influence.core.loss import Loss
from versatile_influence.core.problem import evaluable
from versatile_influence.core.ravel import Params, flat, ravel, shaper, stacked
from versatile_influence.core.removals import Removals

# Relative to the largest number compared; digits lost to another order of sums are far fewer.
RTOL = 1e-7


def check_loss(
    loss: object,
    params: Params,
    *,
    n_objects: int | None = None,
    rebuilt: Callable[[Sequence[int]], tuple[Loss, Params]] | None = None,
) -> None:
    """Return if every method of a loss agrees with the automatic one, and raise otherwise.

    In the manner of scikit-learn's `check_estimator`. Costs a second derivative an object: use few objects and a small
    model. Nothing special should hold at `params`: a minimum, or zeros, would hide much.

    Args:
        loss: The loss; a function is checked as one.
        params: Where.
        n_objects: How many objects there are, where the loss does not say.
        rebuilt: From the numbers of the objects kept to the loss made from their data alone, as if the others had never
            been there, and the parameters that remain of `params`; then masking is held to deleting.

    Raises:
        ValueError: If a method disagrees, with its name, by how much, and for which object; or if the loss is random,
            not finite, or its shapes depend on who is present.

    Example:
        >>> import versatile_influence as vif
        >>> loss = vif.losses.PairwiseLoss([0, 1], [1, 2], penalty=1.0)
        >>> check_loss(loss, torch.tensor([0.3, -0.2, 0.5]).double())
        >>> class Wrong(vif.Loss):
        ...     n_objects = 2
        ...     def __call__(self, params, presence):
        ...         return presence.sum() * params.square().sum()
        ...     def removal_differences(self, params, objects=None):
        ...         return -super().removal_differences(params, objects)
        >>> check_loss(Wrong(), torch.ones(1).double())
        Traceback (most recent call last):
        ValueError: Wrong.removal_differences disagrees with the automatic answer for object 0: -1 where 1 is right...
    """
    if not isinstance(loss, Loss) and (meant := methods_meant(type(loss))):
        raise ValueError(f"{type(loss).__name__}.{meant[0]} is never called: write the class as a vif.Loss.")
    checked = as_loss(loss, n_objects)
    theta, unravel = ravel(params)
    try:
        theta = evaluable(checked, theta, unravel)
    except TypeError as error:
        raise ValueError(f"{type(loss).__name__}.__call__: {error}") from error
    check = _Check(checked, unravel(theta))
    for step in (_value, _derivatives, _removals, _curvature, _ownership, _terms):
        step(check)
    if rebuilt is not None:
        _deleting(check, rebuilt)


@dataclass(frozen=True)
class _Check:
    """A loss at a point, with what it is held to."""

    loss: Loss
    params: Params

    @property
    def presences(self) -> dict[str, Float[Tensor, " n"]]:
        """Everybody, and the first and the last gone."""
        everyone, n = self.loss.everyone(self.params), self.loss.n_objects
        some = {"with everybody there": everyone}
        for i in sorted({0, n - 1}) if n > 1 else ():
            some[f"without object {i}"] = everyone.index_fill(0, torch.tensor([i]), 0.0)
        return some

    def same(self, method: str, given: object, right: Tensor, where: str = "", *, objects: Sequence | None = None):
        """Raise unless a method gave what is right.

        Raises:
            ValueError: If not; with the object, where rows are objects.
        """
        name = f"{type(self.loss).__name__}.{method}"
        if not isinstance(given, Tensor) or given.shape != right.shape:
            shape = tuple(given.shape) if isinstance(given, Tensor) else type(given).__name__
            raise ValueError(f"{name} gives {shape} {where}, where shape {tuple(right.shape)} is right.")
        far = (given - right).abs().nan_to_num(float("inf"))
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


def _value(check: _Check) -> None:
    loss, params = check.loss, check.params
    if loss.object_labels is not None and len(loss.object_labels) != loss.n_objects:
        raise ValueError(f"object_labels names {len(loss.object_labels)} of {loss.n_objects} objects. Name each.")
    presences = torch.stack([*check.presences.values(), 0.5 * loss.everyone(params)])
    each = torch.stack([loss(params, presence) for presence in presences])
    try:
        together = by_masks(lambda presence: loss(params, presence), presences)
    except TypeError as error:
        raise ValueError(f"{type(loss).__name__}.__call__: {error}") from error
    check.same("__call__", together, each, "of many presences at once")
    for name, presence in check.presences.items():
        check.same("at", loss.at(presence)(params, presence), loss(params, presence), name)


def _removals(check: _Check) -> None:
    loss, params, n = check.loss, check.params, check.loss.n_objects
    some = sorted({0, n - 1}, reverse=True)
    groups = [[0], list(range(0, n, 2))]
    directions = torch.randn(len(flat(params)), 3, generator=torch.Generator().manual_seed(0)).to(flat(params))
    for objects in (None, some, groups):
        removals = Removals.of(objects, n)
        names = range(n) if objects is None else objects
        # Some losses take as many evaluations as there are presences: the masks, always right.
        right = Loss.removal_differences(loss, params, removals)
        check.same("removal_differences", loss.removal_differences(params, removals), right, objects=names)
        masked = Loss.gradients_without(loss, params, removals)
        whole = Loss.gradient(loss, params, loss.everyone(params))
        check.same("gradients_without", loss.gradients_without(params, removals), masked, objects=names)
        rows = whole - masked
        check.same("removal_products", loss.removal_products(params, None, removals), rows, objects=names)
        along = loss.removal_products(params, directions, removals)
        check.same("removal_products", along, rows @ directions, "along directions", objects=names)


def _derivatives(check: _Check) -> None:
    loss, params = check.loss, check.params
    theta, unravel = flat(params), shaper(params)
    points = torch.stack([theta, 1.1 * theta + 0.1, theta])
    for name, presence in check.presences.items():
        right = Loss.gradient(loss, params, presence)
        check.same("gradient", loss.gradient(params, presence), right, name)
        gradient, value = loss.gradient_and_value(params, presence)
        check.same("gradient_and_value", gradient, right, name)
        check.same("gradient_and_value", value, loss(params, presence), name)
        check.same("at", loss.at(presence).gradient(params, presence), right, f"(its gradient) {name}")
        presences = torch.stack([presence, loss.everyone(params), presence])
        each = [Loss.gradient(loss, unravel(point), one) for point, one in zip(points, presences, strict=True)]
        check.same("gradients", loss.gradients(stacked(unravel, points), presences), torch.stack(each), name)


def _curvature(check: _Check) -> None:
    loss, params, n = check.loss, check.params, check.loss.n_objects
    some = torch.randn(len(flat(params)), 2, generator=torch.Generator().manual_seed(1)).to(flat(params))
    for name, presence in check.presences.items():
        unit = torch.eye(len(some), dtype=some.dtype)
        right = Loss.hessian_products(loss, params, presence, unit)
        right = (right + right.T) / 2
        check.same("hessian", loss.hessian(params, presence), right, name)
        check.same("hessian_products", loss.hessian_products(params, presence, some), right @ some, name)
        check.same("curvature_along", loss.curvature_along(params, presence, some), some.T @ right @ some, name)
        check.same("at", loss.at(presence).hessian(params, presence), right, f"(its Hessian) {name}")
        for called, direction in loss.null_directions(params, presence).items():
            slope = Loss.gradient(loss, params, presence) @ flat(direction)
            size = Loss.gradient(loss, params, presence).norm() * flat(direction).norm()
            if slope.abs() > 1e-6 * size.clamp_min(1e-6):
                raise ValueError(
                    f"{type(loss).__name__}.null_directions names `{called}` {name}, along which the loss changes at "
                    f"a rate of {slope.item():.3g}."
                )
    everyone = Removals.of(sorted({0, n - 1}), n)
    without = [check.loss.hessian(params, presence) for presence in everyone.presences(some)]
    given = loss.hessians_without(params, everyone)
    check.same("hessians_without", given, torch.stack(without), objects=sorted({0, n - 1}))
    if loss.penalty:
        nobody = Loss.hessian_products(loss, params, torch.zeros_like(loss.everyone(params)), some)
        least = (some * nobody).sum(0) / some.square().sum(0)
        if (least < (1 - 1e-6) * loss.penalty).any():
            raise ValueError(
                f"{type(loss).__name__}.penalty is {loss.penalty:g}, but with nobody present a curvature is "
                f"{least.min().item():.6g}: the loss does not hold (penalty/2)‖params‖²."
            )


def _ownership(check: _Check) -> None:
    loss, params = check.loss, check.params
    theta, taken = flat(params), {}
    for i in range(loss.n_objects):
        positions = loss.owned(i)
        if not len(positions):
            continue
        if int(positions.min()) < 0 or int(positions.max()) >= len(theta):
            raise ValueError(
                f"{type(loss).__name__}.owned names parameter {int(positions.max())} for object {i}, of {len(theta)}."
            )
        if shared := sorted(taken.keys() & set(positions.tolist())):
            raise ValueError(f"{type(loss).__name__}.owned gives parameter {shared[0]} to {taken[shared[0]]} and {i}.")
        taken |= dict.fromkeys(positions.tolist(), i)
        presence = loss.everyone(params).index_fill(0, torch.tensor([i]), 0.0)
        held = Loss.gradient(loss, params, presence)[positions]
        check.same("owned", held, loss.penalty * theta[positions], f"(the slope without object {i})")


def _terms(check: _Check) -> None:
    loss, params = check.loss, check.params
    if loss.n_terms is None:
        return
    order = torch.randperm(loss.n_terms, generator=torch.Generator().manual_seed(0))
    parts = [loss.part(terms) for terms in order.split(max(1, (loss.n_terms + 2) // 3))]
    for name, presence in check.presences.items():
        total = loss.terms(params, presence)
        if total.shape != (loss.n_terms,):
            raise ValueError(f"{type(loss).__name__}.terms gives {tuple(total.shape)}, and n_terms is {loss.n_terms}.")
        whole, gradient = loss(params, presence), Loss.gradient(loss, params, presence)
        check.same("part", torch.stack([part(params, presence) for part in parts]).sum(), whole, f"(summed) {name}")
        slopes = torch.stack([part.gradient(params, presence) for part in parts]).sum(0)
        check.same("part", slopes, gradient, f"(gradients summed) {name}")


def _deleting(check: _Check, rebuilt: Callable[[Sequence[int]], tuple[Loss, Params]]) -> None:
    loss, theta = check.loss, flat(check.params)
    for i in range(loss.n_objects):
        kept = [j for j in range(loss.n_objects) if j != i]
        without, rest = rebuilt(kept)
        presence = loss.everyone(check.params).index_fill(0, torch.tensor([i]), 0.0)
        # The penalty holds on to the parameters of whoever is gone; at zero they add nothing.
        masked = loss(shaper(check.params)(theta.index_fill(0, loss.owned(i), 0.0)), presence)
        check.same("__call__", masked, without(rest, without.everyone(rest)), f"(masked, beside deleted) {i}")
