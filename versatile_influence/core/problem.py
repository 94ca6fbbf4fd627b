"""A loss at trained parameters, checked once at the boundary: what every verb starts from."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.arguments import function
from versatile_influence.core.checks import instance, number
from versatile_influence.core.curvature import Curvature, in_units
from versatile_influence.core.derivatives import by_formula, jacobian_products
from versatile_influence.core.given import Given
from versatile_influence.core.labels import names
from versatile_influence.core.loss import Loss
from versatile_influence.core.memory import check_room
from versatile_influence.core.ravel import Params, all_finite
from versatile_influence.core.removals import Removals
from versatile_influence.core.scale_free import scale_free
from versatile_influence.core.sizes import CACHE_NUMBERS, FLAT, KEPT_NUMBERS, SINGULAR, at_once
from versatile_influence.core.solver import Solver, share_along
from versatile_influence.core.target import PresenceTarget, Target, target_values
from versatile_influence.core.warn import warn


@dataclass(frozen=True)
class Problem:
    """A loss over one flat vector of parameters, and the removals asked about.

    Attributes:
        loss: The loss.
        theta: The trained parameters, flat, in float64 wherever the loss can be evaluated in it.
        unravel: Shapes a flat vector back into the user's parameters.
        removals: What is removed.
        gradient: ∇L(θ, 1): zero at a minimum.
        given: What the user handed in.
    """

    loss: Loss
    theta: Float[Tensor, " p"]
    unravel: Callable[[Tensor], Params]
    removals: Removals
    gradient: Float[Tensor, " p"]
    given: Given

    @classmethod
    def of(
        cls, loss: object, params: Params, *, n_objects: int | None = None, objects: Iterable | None = None
    ) -> "Problem":
        """Return the checked problem.

        Raises:
            TypeError: If the loss is no function, gives no scalar, or cannot be evaluated at these parameters.
            ValueError: If the number of objects is unknown or disagrees, the loss or its gradient is not finite, or
                the loss is random.
        """
        given = Given.of(loss, params, n_objects=n_objects)
        checked, theta, unravel = given.loss, given.theta, given.unravel
        names(checked.object_labels, checked.n_objects, name="object_labels")
        removals = Removals.asked(objects, checked.n_objects, penalty=checked.penalty)
        # Once, for every verb: it says whether this is a minimum, and a Newton step begins with it.
        gradient = checked.gradient(unravel(theta), theta.new_ones(checked.n_objects)).to(theta.dtype)
        given.check_steady()
        if not all_finite(gradient):
            raise ValueError(
                "The loss is finite but its gradient has NaN or infinite entries. Look for a square root "
                "or logarithm of zero, or `torch.where` around an infinite branch (mask before the operation)."
            )
        if told := scale_free(checked, given.params, gradient):
            warn(told)
        return cls(checked, theta, unravel, removals, gradient, given)

    @property
    def params(self) -> Params:
        """The trained parameters, shaped."""
        return self.unravel(self.theta)

    def everyone(self) -> Float[Tensor, " n"]:
        """Return the presence of all objects."""
        return self.theta.new_ones(self.removals.n_objects)

    def value(self) -> Float[Tensor, ""]:
        """Return L(θ, 1)."""
        return self.loss(self.params, self.everyone())

    def curvature(self, kind: object, damping: object, solver: object) -> Curvature:
        """Return H with everybody present, for a solver.

        Raises:
            TypeError: If the curvature is no function, or the solver none.
            ValueError: If the damping is negative or no number.
        """
        instance(solver, "solver", Solver, "vif.CG() or another vif.solvers.Solver")
        made = function(kind, "curvature", "loss", "params", "presence", "damping")
        found = made(self.loss, self.params, self.everyone(), number(damping, "damping", least=0))
        return instance(found, "curvature", Curvature, "vif.Hessian or vif.GaussNewton")

    def of_rows(self, rows: Sequence[int]) -> "Problem":
        """Return the problem of some of its removals."""
        objects = self.removals.objects()
        chosen = [objects[row] if isinstance(objects, tuple) else int(objects[row]) for row in rows]
        return replace(self, removals=Removals.of(chosen, self.removals.n_objects))

    def presence_without(self, row: int) -> Float[Tensor, " n"]:
        """Return 1₋ᵢ of one removal."""
        return self.removals.part(row, row + 1).presences(self.theta)[0]

    def gradient_differences(
        self, directions: Float[Tensor, "p q"] | None = None, hessian: Curvature | None = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of ΔL, (k, p), or its product with directions, which a curvature may know already.

        It is only made where the directions are at least as many as the parameters, and kept where it is small.
        """
        if directions is not None and directions.shape[1] >= len(self.theta):
            return self.gradient_differences() @ directions
        if directions is None and self.removals.count * len(self.theta) <= KEPT_NUMBERS:
            return self._differences
        return self._products(directions, hessian)

    @cached_property
    def lost(self) -> dict[int, dict[str, Tensor]]:
        """The directions that nothing determines without each removal, by row and name; of most rows none."""
        known, removals, loss, p = self.loss.undetermined, self.removals, self.loss, len(self.theta)
        if known is None or not removals.grouped:
            known = known or {}
            return {row: known[one] for row, one in enumerate(removals.members.tolist()) if one in known}
        names_of = loss.parameter_names or [str(place) for place in range(p)]
        units, found = self.theta.new_ones(p) if loss.units is None else loss.units, {}
        parts = removals.parts(p * (p if loss.differences_together else max(p, loss.n_objects)))
        curvatures = [in_units(loss.hessians_without(self.params, part), units) for part in parts]
        for row, curvature in enumerate(torch.cat(curvatures)):
            size, ways = torch.linalg.eigh(curvature)
            if len(flat := ways[:, size <= SINGULAR * size[-1]].T):
                found[row] = {str(names_of[int(way.abs().argmax())]): units * way for way in flat}
        return found

    def undetermined(self, target: Target | PresenceTarget) -> Bool[Tensor, "k t"]:
        """Return which scores depend on parameters that nothing determines without the object."""
        members, n = self.removals.groups(), self.removals.n_objects
        gone = torch.zeros(self.removals.count, len(target.now(self.params, n)), dtype=torch.bool)
        for row, ways in self.lost.items():
            presence = self.everyone().index_fill(0, members[row], 0.0)
            # Of a standard error or a baseline those left say on what it depends.
            values = lambda theta, there=presence: target.now(self.unravel(theta), there)  # noqa: E731
            basis = torch.linalg.qr(torch.stack(list(ways.values()), dim=1).to(self.theta))[0]
            gone[row] = ~(share_along(basis, jacobian_products(values, self.theta).T) <= FLAT)
        return gone

    def fallen(self, target: Target | PresenceTarget) -> Bool[Tensor, "k t"] | None:
        """Return which targets are no number once what the removed object owns has fallen to 0; None where all are.

        Only those that a target is `about` are looked at: the cosine of a node that is gone, of whose embedding a
        penalty leaves zeros.
        """
        if not self.loss.owning or target.about is None or not len(target.about):
            return None
        about, gone = set(target.about.flatten().tolist()), {}
        for row, members in enumerate(self.removals.groups()):
            own = [self.loss.owned(member) for member in members.tolist() if member in about]
            if any(map(len, own)):
                presence = self.everyone().index_fill(0, members, 0.0)
                values = target.now(self.unravel(self.theta.index_fill(0, torch.cat(own), 0.0)), presence)
                gone |= {} if values.isfinite().all() else {row: ~values.isfinite()}
        if not gone:
            return None
        none = torch.zeros(len(target.about), dtype=torch.bool)
        return torch.stack([gone.get(row, none) for row in range(self.removals.count)])

    @property
    def gradients_at_once(self) -> int:
        """Of how many removals a gradient each, at parameters of its own, stays near the processor."""
        return at_once(max(self.removals.n_objects, len(self.theta)), most=CACHE_NUMBERS)

    @cached_property
    def _differences(self) -> Float[Tensor, "k p"]:
        return self._products(None)

    def _products(
        self, directions: Float[Tensor, "p q"] | None, hessian: Curvature | None = None
    ) -> Float[Tensor, "k q"]:
        if directions is None or hessian is None:
            found = self.loss.removal_products(self.params, directions, self.removals)
        else:
            found = hessian.removal_products(directions, self.removals)
        if len(found) != self.removals.count:
            raise ValueError(
                f"The loss's own removal differences are {len(found)} for {self.removals.count} removals: a method of "
                "it takes no notice of `objects`. vif.check_loss(loss, params) says which."
            )
        return found

    def target_gradients(self, target: Target) -> Float[Tensor, "t p"]:
        """Return ∇f of each target number.

        Raises:
            TypeError: If the target returns no tensor.
            ValueError: If the target or its gradient is not finite.
        """
        values = target_values(target, self.params)
        t, p = len(values), len(self.theta)
        check_room(
            # The gradients, and H⁻¹ of them.
            2 * t * p,
            self.theta,
            what=f"The gradients of {t:,} targets in {p:,} parameters, and what is solved for them,",
            instead="Explain fewer targets in a call. (vif.memory_budget bounds what is beside them.)",
        )
        with by_formula():
            gradients = target.gradients(self.params)
        if not all_finite(gradients):
            worst = int((~torch.isfinite(gradients)).any(dim=1).nonzero()[0])
            raise ValueError(f"The gradient of target {worst} has NaN or infinite entries. Leave it out, or smooth it.")
        return gradients

    def owned(self) -> Tensor:
        """Return which parameters belong to what is removed, (k, p); of shape () where none do."""
        owns = self.loss.owning and self.loss.treatment.owns
        positions = [self.loss.owned(member) for member in self.removals.members.tolist()] if owns else []
        if not any(map(len, positions)):
            return torch.zeros((), dtype=torch.bool)
        # A group owns what its members own.
        mask = torch.zeros(self.removals.count, len(self.theta), dtype=torch.bool, device=self.theta.device)
        for row, own in zip(self.removals.rows.tolist(), positions, strict=True):
            mask[row, own] = True
        return mask
