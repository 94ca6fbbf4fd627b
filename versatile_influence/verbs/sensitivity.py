"""Does the conclusion survive? The smallest set found whose removal overturns it, confirmed by refitting.

First order adds the changes of single objects (Broderick, Giordano & Meager 2020, "An automatic finite-sample
robustness metric"); for large sets, and a loss that is no sum, that is off by a third. Here the most harmful object is
removed, the model refitted, and everybody's change predicted anew, until the refitted conclusion is overturned. What
then turns out not to be needed is put back, and where few are enough, sets of fewer are searched for widely.
"""

import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import whole
from versatile_influence.core.finished import changed
from versatile_influence.core.hessian import Hessian
from versatile_influence.core.places import verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.remaining import Remaining
from versatile_influence.core.scale_free import NoMinimumError
from versatile_influence.core.sizes import BEAM, FEW, GREEDY_STEPS
from versatile_influence.core.solver import Inverse
from versatile_influence.core.target import PresenceTarget, flat_target
from versatile_influence.solvers.explicit import Explicit
from versatile_influence.training.minimize import minimize
from versatile_influence.verbs.changes import solved_changes
from versatile_influence.verbs.conclusions import Conclusion
from versatile_influence.verbs.overturned import Sensitivity
from versatile_influence.verbs.refit import refit

Units = tuple[int, ...]
# What a conclusion is worth that nothing determines.
UNKNOWN = -float("inf")


@verb
def sensitivity(
    loss: object,
    params: Params,
    conclusion: object,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    most: int | None = None,
) -> Sensitivity:
    """Return the smallest set found whose removal overturns a conclusion, as a refitted model without it says.

    No smaller set is proved to be none: up to three are searched for widely (from the 25 most harmful sets on, with
    predictions made anew for each), larger sets greedily.

    Args:
        loss: `loss(params, presence)`.
        params: Its minimum.
        conclusion: One number that is positive while the conclusion holds, a function of the parameters or a
            `PresenceTarget`; ready ones in `vif.conclusions`: `sign`, `significant`, `above` and `below` a value of any
            target.
        n_objects: How many objects there are, where the loss does not say.
        objects: What can be removed: None for each object, a list of numbers, or of groups as hospitals.
        most: Largest number of them that is tried; half of all by default.

    Raises:
        ValueError: If the conclusion is not one number, or does not hold to begin with.

    Example:
        >>> import torch
        >>> x = torch.tensor([-1.0, -2.0, 6.0, 3.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> found = sensitivity(loss, torch.tensor(1.5), lambda theta: theta, n_objects=4, most=3)
        >>> found.removed, found.overturned
        ((2,), True)
    """
    problem = Problem.of(loss, params, n_objects=n_objects, objects=objects)
    search = _Search.of(problem, conclusion)
    most = max(1, len(search.units) // 2) if most is None else whole(most, "most", least=1, most=len(search.units))
    single = search.predicted((), search.params)
    total = search.holds + single.nan_to_num(UNKNOWN).sort().values.cumsum(0)
    enough = (total <= 0).nonzero()
    first_order = int(enough[0]) + 1 if len(enough) else None
    chosen, value, path = search.greedy(single, most)
    if value <= 0:
        chosen, value = search.pruned(chosen, value)
        if len(chosen) <= FEW + 1:
            chosen, value = search.fewer(chosen, value)
    return Sensitivity(
        search.holds,
        float("nan") if value == UNKNOWN else value,
        tuple(sorted(member for unit in chosen for member in search.units[unit])),
        [search.name(unit) for unit in chosen],
        value <= 0,
        first_order,
        path,
        len(search.units),
    )


@dataclass(frozen=True)
class _Search:
    """A problem, the conclusion, and the units that can be removed, objects or groups of them."""

    problem: Problem
    params: Params
    conclusion: Conclusion
    units: Sequence[Units]
    holds: float

    @classmethod
    def of(cls, problem: Problem, conclusion: object) -> "_Search":
        asked = problem.given.target(conclusion)
        params = minimize(problem.loss, problem.params)
        units = [tuple(group.tolist()) for group in problem.removals.groups()]
        search = cls(problem, params, asked, units, 1.0)
        now = search.value(params, problem.everyone())
        if not now > 0:
            raise ValueError(
                f"The conclusion does not hold to begin with: `conclusion` is {now:.4g} and must be positive. Turn it "
                "round, or ask for another threshold."
            )
        return replace(search, holds=now)

    def value(self, params: Params, presence: Float[Tensor, " n"]) -> float:
        """Return the conclusion's number."""
        asked = self.conclusion
        values = flat_target(asked(params, presence) if isinstance(asked, PresenceTarget) else asked(params))
        if len(values) != 1:
            raise ValueError(f"`conclusion` must be one number, got {len(values)}. Ask for one: above(target, value).")
        return values.item()

    def presence(self, chosen: Iterable[int]) -> Float[Tensor, " n"]:
        """Return who is present without some units."""
        presence = self.problem.everyone()
        presence[[member for unit in chosen for member in self.units[unit]]] = 0.0
        return presence

    def predicted(self, chosen: Units, params: Params) -> Float[Tensor, " u"]:
        """Return the predicted change by each further unit, infinite for those gone; `params` is without `chosen`.

        It is NaN where nothing determines the conclusion without the unit.
        """
        gone = set(chosen)
        rest = [unit for unit in range(len(self.units)) if unit not in gone]
        kept = self.presence(chosen).nonzero()[:, 0]
        loss = Remaining(self.problem.loss, kept) if chosen else self.problem.loss
        place = dict(zip(kept.tolist(), range(len(kept)), strict=True))
        asked = loss.target(self.conclusion) if isinstance(loss, Remaining) else self.conclusion
        groups = [[place[member] for member in self.units[unit]] for unit in rest]
        single = all(len(group) == 1 for group in groups)
        objects = [group[0] for group in groups] if single else groups
        scores = self.problem.theta.new_full((len(self.units),), float("inf"))
        if rest and len(kept) > max(map(len, groups)):
            problem = Problem.of(loss, params, objects=objects)
            changes, _, _ = solved_changes(problem, Inverse(Hessian(loss, params, problem.everyone()), Explicit()))
            # The target is evaluated anew: a p value is far from linear.
            found = changed(problem, asked, problem.theta + changes)[0]
            found = found.masked_fill(problem.undetermined(asked), float("nan")) if problem.lost else found
            scores[rest] = found[:, 0]
        return scores

    def fitted(self, chosen: Units, start: Params) -> tuple[Params, float]:
        """Return the minimum without some units, and the conclusion there."""
        presence = self.presence(chosen)
        params = minimize(self.problem.loss, start, presence)
        value = self.value(params, presence)
        return params, UNKNOWN if math.isnan(value) else value

    def refitted(self, sets: Sequence[Units]) -> Float[Tensor, " k"]:
        """Return the conclusion refitted without each set: infinite without minimum, −∞ where nothing determines it."""
        objects = [[member for unit in chosen for member in self.units[unit]] for chosen in sets]
        with warnings.catch_warnings():
            # Of sets that are only tried nothing is to be said.
            warnings.simplefilter("ignore")
            found = refit(self.problem.loss, self.params, self.conclusion, objects=objects)
        values = (self.holds + found.scores[:, 0]).nan_to_num(UNKNOWN)
        values[list(found.failed or ())] = float("inf")
        return values

    def greedy(self, scores: Float[Tensor, " u"], most: int) -> tuple[Units, float, list]:
        """Remove the most harmful units, refit and predict again, until the conclusion is overturned."""
        chosen, params, value, path = (), self.params, self.holds, []
        while value > 0 and len(chosen) < most:
            if (unknown := scores.isnan().nonzero()).numel():
                chosen, value = (*chosen, int(unknown[0])), UNKNOWN
                path.append((len(chosen), float("nan"), float("nan")))
                break
            order = scores.argsort()
            # Far from the end several at once; the last steps are single.
            needed = int((value + scores[order].cumsum(0) > 0).sum()) + 1
            step = min(max(1, needed // GREEDY_STEPS), most - len(chosen))
            added = order[:step].tolist()
            if not scores[added[0]] < 0:
                break
            guess = value + scores[added].sum().item()
            try:
                params, value = self.fitted((*chosen, *added), params)
            except NoMinimumError:
                break
            chosen = (*chosen, *added)
            path.append((len(chosen), guess, value))
            if value > 0 and len(chosen) < most:
                scores = self.predicted(chosen, params)
        return chosen, value, path

    def pruned(self, chosen: Units, value: float) -> tuple[Units, float]:
        """Put back what is not needed, as long as the conclusion stays overturned."""
        while len(chosen) > 1:
            smaller = [chosen[:place] + chosen[place + 1 :] for place in range(len(chosen))]
            values = self.refitted(smaller)
            if not values.min() <= 0:
                break
            chosen, value = smaller[int(values.argmin())], values.min().item()
        return chosen, value

    def fewer(self, chosen: Units, value: float) -> tuple[Units, float]:
        """Return a smaller set that overturns the conclusion, if the widened search finds one."""
        beam: list[Units] = [()]
        for _ in range(len(chosen) - 1):
            sets: set[Units] = set()
            for held in beam:
                params = self.fitted(held, self.params)[0] if held else self.params
                order = self.predicted(held, params).argsort().tolist()
                wide = BEAM if held else 20 * BEAM
                sets |= {tuple(sorted((*held, unit))) for unit in order[:wide] if unit not in held}
            listed = sorted(sets)
            values = self.refitted(listed)
            if values.min() <= 0:
                return listed[int(values.argmin())], values.min().item()
            beam = [listed[place] for place in values.argsort()[:BEAM].tolist() if values[place].isfinite()]
        return chosen, value

    def name(self, unit: int) -> object:
        """Return the user's name of an object, or of a group its place in `objects`."""
        labels, members = self.problem.loss.object_labels, self.units[unit]
        if len(members) > 1:
            return f"group {unit} ({len(members)} objects)"
        only = next(iter(members))
        return only if labels is None else labels[only]
