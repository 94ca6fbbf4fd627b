"""Whether a loss is what it says: every method of it against the one answer by automatic differentiation."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from versatile_influence.core.arguments import function
from versatile_influence.core.boundary import as_loss, methods_meant
from versatile_influence.core.composed import Composed
from versatile_influence.core.derivatives import by_masks, jacobian_products
from versatile_influence.core.draws import normal
from versatile_influence.core.given import Given
from versatile_influence.core.labels import names
from versatile_influence.core.loss import Loss, Part
from versatile_influence.core.places import verb
from versatile_influence.core.ravel import Params, flat, shaper, stacked
from versatile_influence.core.removals import Removals
from versatile_influence.verbs.point import Point


@verb
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
    try:
        given = Given.of(loss, params, n_objects=n_objects)
    except TypeError as error:
        raise ValueError(f"{type(loss).__name__}.__call__: {error}") from error
    given.check_steady()
    check = Point(given.loss, given.params)
    for part in (*_outer(check), check):
        for step in (_value, _derivatives, _removals, _curvature, _ownership, _terms):
            step(part)
    if rebuilt is not None:
        _deleting(check, function(rebuilt, "rebuilt", "kept"))


def _outer(check: Point) -> list[Point]:
    """Return the outer loss at its outputs: under another curvature, or other outputs, its own methods serve."""
    loss = check.loss
    if not isinstance(loss, Composed) or loss.outputs.selection:
        return []
    outputs = loss.outputs(check.params)
    return [Point(loss.outer, outputs)] if isinstance(outputs, Tensor) and outputs.is_floating_point() else []


def _value(check: Point) -> None:
    loss, params = check.loss, check.params
    names(loss.object_labels, loss.n_objects, name="object_labels")
    # Half there too: presence is a number, and is differentiated by some.
    presences = torch.stack([*check.presences.values(), 0.5 * loss.everyone(params)])
    each = torch.stack([loss(params, presence) for presence in presences])
    try:
        together = by_masks(lambda presence: loss(params, presence), presences)
    except TypeError as error:
        raise ValueError(f"{type(loss).__name__}.__call__: {error}") from error
    check.same("__call__", together, each, "of many presences at once")
    for name, presence in check.presences.items():
        check.same("at", loss.at(presence)(params, presence), loss(params, presence), name)


def _removals(check: Point) -> None:
    loss, params, n, unravel = check.loss, check.params, check.loss.n_objects, shaper(check.params)
    ends = sorted({0, n - 1}, reverse=True)
    # A group of one, and one whose members share terms.
    groups = [[0], list(range(0, n, 2)), list(range(min(2, n)))]
    directions = normal(torch.Generator().manual_seed(0), len(flat(params)), 3, like=flat(params))
    for objects in (None, ends, groups):
        removals = Removals.of(objects, n)
        names = range(n) if objects is None else objects
        # Some losses take as many evaluations as there are presences: the masks, always right.
        right = Loss.removal_differences(loss, params, removals)
        check.same("removal_differences", loss.removal_differences(params, removals), right, objects=names)
        masked = Loss.gradients_without(loss, params, removals)
        whole = Loss.gradient(loss, params, loss.everyone(params))
        check.same("gradients_without", loss.gradients_without(params, removals), masked, objects=names)
        rows = whole - masked
        slopes = jacobian_products(partial(_differences, loss, unravel, removals), flat(params))
        check.same("removal_differences", slopes, rows, "(its derivative)", objects=names)
        check.same("removal_products", loss.removal_products(params, None, removals), rows, objects=names)
        for some in (directions, directions[:, :1]):
            along = loss.removal_products(params, some, removals)
            check.same("removal_products", along, rows @ some, f"along {some.shape[1]} directions", objects=names)


def _differences(loss: Loss, unravel: Callable, removals: Removals, vector: Tensor) -> Tensor:
    return loss.removal_differences(unravel(vector), removals)


def _derivatives(check: Point) -> None:
    loss, params = check.loss, check.params
    theta, unravel = flat(params), shaper(params)
    # The first again as the third: what is batched must not mix its rows.
    points = torch.stack([theta, 1.1 * theta + 0.1, theta])
    for name, presence in check.presences.items():
        right = Loss.gradient(loss, params, presence)
        check.same("gradient", loss.gradient(params, presence), right, name)
        gradient, value = loss.gradient_and_value(params, presence)
        check.same("gradient_and_value", gradient, right, name)
        check.same("gradient_and_value", value, loss(params, presence), name)
        check.same("at", loss.at(presence).gradient(params, presence), right, f"(its gradient) {name}")
        check.same("at", loss.at(presence).gradient_and_value(params, presence)[0], right, f"(its gradient) {name}")
        presences = torch.stack([presence, loss.everyone(params), presence])
        each = [Loss.gradient(loss, unravel(point), one) for point, one in zip(points, presences, strict=True)]
        check.same("gradients", loss.gradients(stacked(unravel, points), presences), torch.stack(each), name)


def _curvature(check: Point) -> None:
    loss, params, n = check.loss, check.params, check.loss.n_objects
    # Along random directions every entry of a matrix shows, at the cost of a few products.
    some = normal(torch.Generator().manual_seed(1), len(flat(params)), 3, like=flat(params))
    for name, presence in check.presences.items():
        right, there = Loss.hessian_products(loss, params, presence, some), loss.at(presence)
        check.same("hessian_products", loss.hessian_products(params, presence, some), right, name)
        one = loss.hessian_products(params, presence, some[:, :1])
        check.same("hessian_products", one, right[:, :1], f"(one direction) {name}")
        check.same("hessian", loss.hessian(params, presence) @ some, right, f"times random directions {name}")
        check.same("curvature_along", loss.curvature_along(params, presence, some), some.T @ right, name)
        check.same("at", there.hessian(params, presence) @ some, right, f"(its Hessian) {name}")
        check.same("at", there.hessian_products(params, presence, some), right, f"(its products) {name}")
        for called, direction in loss.null_directions(params, presence).items():
            slope = Loss.gradient(loss, params, presence) @ flat(direction)
            size = Loss.gradient(loss, params, presence).norm() * flat(direction).norm()
            if slope.abs() > 1e-6 * size.clamp_min(1e-6):
                raise ValueError(
                    f"{type(loss).__name__}.null_directions names `{called}` {name}, along which the loss changes at "
                    f"a rate of {slope.item():.3g}."
                )
    for objects in (None, [[0], list(range(0, n, 2))]):
        removals = Removals.of(objects, n)
        presences = removals.presences(some)
        right = torch.stack([Loss.hessian_products(loss, params, presence, some) for presence in presences])
        given = loss.hessians_without(params, removals) @ some
        check.same("hessians_without", given, right, "times random directions", objects=objects or range(n))
    # What a composition adds it holds; and without edges the labels of nodes stay, whose loss need not be convex.
    if loss.penalty > (loss.ridge if isinstance(loss, Composed) else 0.0):
        nobody = Loss.hessian_products(loss, params, torch.zeros_like(loss.everyone(params)), some)
        least = (some * nobody).sum(0) / some.square().sum(0)
        if (least < (1 - 1e-6) * loss.penalty).any():
            raise ValueError(
                f"{type(loss).__name__}.penalty is {loss.penalty:g}, but with nobody present a curvature is "
                f"{least.min().item():.6g}: the loss does not hold (penalty/2)‖params‖²."
            )


def _ownership(check: Point) -> None:
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


def _terms(check: Point) -> None:
    loss, params = check.loss, check.params
    if loss.n_terms is None:
        if type(loss).terms is not Loss.terms and not isinstance(loss, Composed | Part):
            raise ValueError(f"{type(loss).__name__}.terms is never called: say how many by `n_terms`.")
        return
    order = torch.randperm(loss.n_terms, generator=torch.Generator().manual_seed(0), device="cpu")
    batches = order.split(max(1, (loss.n_terms + 2) // 3))
    parts = [loss.part(terms) for terms in batches]
    for name, presence in check.presences.items():
        total, ridge = loss.terms(params, presence), loss.penalty / 2 * flat(params).square().sum()
        if total.shape != (loss.n_terms,):
            raise ValueError(f"{type(loss).__name__}.terms gives {tuple(total.shape)}, and n_terms is {loss.n_terms}.")
        whole, gradient = loss(params, presence), Loss.gradient(loss, params, presence)
        rest = whole - ridge - total.sum()
        # A constant, such as what held parameters add, is in no term.
        right = torch.stack([total[terms].sum() + (ridge + rest) * len(terms) / len(total) for terms in batches])
        check.same("part", torch.stack([part(params, presence) for part in parts]), right, f"(of three parts) {name}")
        slopes = torch.stack([part.gradient(params, presence) for part in parts]).sum(0)
        check.same("part", slopes, gradient, f"(gradients summed) {name}")


def _deleting(check: Point, rebuilt: Callable[[Sequence[int]], tuple[Loss, Params]]) -> None:
    loss, theta = check.loss, flat(check.params)
    for i in range(loss.n_objects):
        kept = [j for j in range(loss.n_objects) if j != i]
        without, rest = rebuilt(kept)
        without = as_loss(without, len(kept))
        presence = loss.everyone(check.params).index_fill(0, torch.tensor([i]), 0.0)
        # The penalty holds on to the parameters of whoever is gone; at zero they add nothing.
        masked = loss(shaper(check.params)(theta.index_fill(0, loss.owned(i), 0.0)), presence)
        where = f"(with presence 0 of object {i}, where the loss `rebuilt` without it is right)"
        check.same("__call__", masked, without(rest, without.everyone(rest)), where)
