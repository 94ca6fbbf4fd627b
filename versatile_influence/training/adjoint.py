"""The derivative of a training along removals, backwards for all of them at once, or forwards for each.

A state s (θ, and what the optimiser keeps) goes s_{t+1} = Φ_t(s_t, g_t), with g_t = ∇L_t(θ_t, 1). Without object i the
gradient of a step is g_t − ∇ΔL_{t,i}, with ΔL_{t,i} = L_t(·, 1) − L_t(·, 1₋ᵢ): finite in the removal, as in Eq. 10, and
linear in what it does to θ. The changes δ of the state follow forwards,

    δg_t = H_t δθ_t − ∇ΔL_{t,i}(θ_t),    δ_{t+1} = ∂Φ_t (δ_t, δg_t),

or, for all objects at once, their products with ∇f(θ_T) follow from the adjoint, backwards from λ_T = ∇f(θ_T):

    (λ̃, γ_t) = ∂Φ_tᵀ λ_{t+1},    score_i −= γ_t · ∇ΔL_{t,i}(θ_t),    λ_t = λ̃ + H_t γ_t on θ.

References:
    Deng et al. (2025), "A Versatile Influence Function"; Ilyas and Engstrom (2025), "MAGIC: near-optimal data
    attribution for deep learning", for sums of samples; Hara et al. (2019), "Data cleansing for models trained with
    SGD".
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import jvp, vjp, vmap
from tqdm.auto import tqdm

from versatile_influence.core.derivatives import numbers_held
from versatile_influence.core.loss import Loss
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import ADJOINT_BYTES, ADJOINT_NUMBERS, HELD_NUMBERS, PATIENCE, at_once, kept
from versatile_influence.training.optimizers import State
from versatile_influence.training.replay import Replay, WayBack
from versatile_influence.training.stepping import Steps
from versatile_influence.training.steps import BatchLoss


def backwards(
    replay: Replay, gradients: Float[Tensor, "t p"], removals: Removals, *, smooth: bool = False
) -> Float[Tensor, "k t"]:
    """Return the scores by the adjoint of the training, some targets at a time; `gradients` are written over."""
    if len(gradients) > gradients.shape[1]:
        # Linear in them, and no more than p are independent.
        every = torch.eye(gradients.shape[1]).to(gradients)
        return backwards(replay, every, removals, smooth=smooth) @ gradients.T.double()
    # What removals change at both ends is part of what is asked: of that the states in a folder say nothing.
    ends = (0, len(replay.training) - 1) if replay.states else ()
    changed = [Derivatives(replay.training).changed(step, replay.end[0]) for step in ends]
    size = max(1, kept(gradients[0].nbytes * len(replay.end), most=ADJOINT_BYTES))
    return torch.cat([_backwards(replay, some, removals, smooth, changed) for some in gradients.split(size)], dim=1)


def _backwards(
    replay: Replay, gradients: Float[Tensor, "q p"], removals: Removals, smooth: bool, changed: list[float]
) -> Float[Tensor, "k q"]:
    training, derivatives = replay.training, Derivatives(replay.training)
    scores = gradients.new_zeros(removals.count, len(gradients), dtype=torch.float64)
    adjoint = [torch.zeros_like(gradients) for _ in replay.end[1:]]
    # Not a copy: there is nothing larger.
    adjoint.insert(training.given % len(replay.end), gradients)
    way = WayBack.of(replay, gradients, removals, [smooth, *changed])
    before = way.taken_up(adjoint, scores)
    for step, state, gradient in tqdm(
        replay.backwards(before), total=before, desc="backwards", unit="step", delay=PATIENCE, leave=False
    ):
        width = derivatives.width(step, state[0], gradient, removals) if smooth else 0.0
        slope = _pulled(training, step, (*state, gradient), adjoint, width)
        for loss, objects, weight in training.pieces(step):
            rows, hit = _hit(removals, objects)
            scores[rows] -= derivatives.along(loss, state[0], slope, hit, weight=weight, onto=adjoint[0]).T
        way.reached(step, adjoint, scores)
    return scores


def forwards(replay: Replay, removals: Removals, *, smooth: bool = False) -> Float[Tensor, "k p"]:
    """Return what each removal does to the parameters, by the derivative of the training along it."""
    size = at_once(len(replay.theta) * len(replay.end), most=HELD_NUMBERS)
    return torch.cat([_forwards(replay.training, part, smooth) for part in removals.split(size)])


def _forwards(training: Steps, removals: Removals, smooth: bool) -> Float[Tensor, "k p"]:
    derivatives, begun = Derivatives(training), training.begun(training.theta)
    changes = [begun[0].new_zeros(removals.count, len(begun[0]), dtype=torch.float64) for _ in begun]
    for step, state, gradient in training.walk(begun):
        slope = torch.zeros_like(changes[0])
        for loss, objects, weight in training.pieces(step):
            rows, hit = _hit(removals, objects)
            derivatives.along(loss, state[0], changes[0], None, weight=weight, onto=slope)
            if hit is not None:
                params = training.unravel(state[0].to(training.precision))
                slope[rows] -= weight * loss.removal_products(params, None, hit).to(slope)
        width = derivatives.width(step, state[0], gradient, removals) if smooth else 0.0
        changes = _pushed(training, step, (*state, gradient), (*changes, slope), width)
    return changes[training.given]


def _hit(removals: Removals, objects: Int[Tensor, " m"] | None) -> tuple[Int[Tensor, " k"], Removals | None]:
    return (torch.arange(removals.count), removals) if objects is None else removals.among(objects)


def _pulled(training: Steps, step: int, at: State, adjoint: list[Tensor], width: float) -> Float[Tensor, "q p"]:
    """Return γ of ∂Φᵀ λ, and write its other parts, those of the state, over λ."""
    *state, gradient = at
    slope, count = torch.empty_like(adjoint[0]), len(adjoint)
    # In place, some columns at a time: the adjoints are the largest there is.
    size = at_once(len(slope) * len(at), most=ADJOINT_NUMBERS)
    whole = (*state, training.clipped(gradient), *adjoint, slope)
    for some, moved in training.moves(step, size, width):
        parts = [part[..., some] for part in whole]
        pull = vjp(moved, *(one.to(slope) for one in parts[: count + 1]))[1]
        into = parts[count + 1 :]
        for old, new in zip(into, vmap(lambda *rows: pull(rows))(*into[:-1]), strict=True):  # noqa: B023
            old.copy_(new)
    if training.max_norm is None:
        return slope
    pull_clipped = vjp(training.clipped, gradient.double())[1]
    return vmap(lambda row: pull_clipped(row)[0], chunk_size=size)(slope)


def _pushed(training: Steps, step: int, at: State, changes: State, width: float) -> list[Tensor]:
    """Return ∂Φ δ: of each part of the state."""
    exact = tuple(one.double() for one in at)

    def stepped(*parts: Tensor) -> State:
        return training.moved(step, *parts[:-1], training.clipped(parts[-1]), width=width)

    return list(vmap(lambda *rows: jvp(stepped, exact, rows)[1])(*changes))


class Derivatives:
    """The Hessian of a step, and its removal differences, along directions: what fits at once is measured once."""

    def __init__(self, training: Steps):
        self.training, self.masks, self.directions = training, 0, 0

    def along(
        self,
        loss: Loss,
        theta: Float[Tensor, " p"],
        directions: Float[Tensor, "q p"],
        removals: Removals | None,
        *,
        weight: float,
        onto: Float[Tensor, "q p"],
    ) -> Float[Tensor, "q k"]:
        """Return ∇ΔL · v of each direction v, and add ∇²L(θ, 1) v to `onto`, both times `weight`.

        By two derivatives backwards of one evaluation: u ↦ Jᵀu, with J the Jacobian of (L, ΔL), is linear in u, and Jᵀu
        at u = (1, 0) is ∇L. Its derivative backwards, at v, is J v along u and ∇²L v along θ.
        """
        there, products = theta.to(self.training.precision), []
        for number, part in enumerate([None] if removals is None else self._parts(loss, there, removals)):
            pull, found = self._pull(loss, there, part), []
            # In place, some directions at a time, as the adjoints are.
            for some, into in zip(directions.split(self.directions), onto.split(self.directions), strict=True):
                # Of length 1: in lower precision what is tiny would be lost.
                size = some.norm(dim=1, keepdim=True).clamp_min(torch.finfo(some.dtype).tiny)
                bent, along = vmap(pull)((some / size).to(there))
                found.append(weight * size * along[:, 1:])
                if number == 0:
                    into.add_(weight * size * bent)
            products.append(torch.cat(found))
        return torch.cat(products, dim=1)

    def width(self, step: int, theta: Float[Tensor, " p"], gradient: Float[Tensor, " p"], removals: Removals) -> float:
        """Return over how much of a gradient, as the optimiser sees it, a removal takes a step; 0 if it has no kink."""
        training = self.training
        if not training.optimizer.kinked:
            return 0.0
        # Clipped as the gradient is.
        share = training.clipped(gradient).double().norm() / gradient.double().norm().clamp_min(1e-300)
        # Of a group, those of its members that a step meets.
        present = sum(loss.n_objects for loss, _, _ in training.pieces(step)) / training.n_objects
        return (
            share.item() * self.changed(step, theta) * max(1.0, len(removals.members) / removals.count * present) ** 0.5
        )

    def changed(self, step: int, theta: Float[Tensor, " p"]) -> float:
        """Return the root mean square, over the step's objects and the parameters, of what a removal changes.

        Of ∇ΔL_i added up with random signs, whose square is the sum of theirs in expectation: one gradient more.
        """
        training = self.training
        there, square, count = theta.to(training.precision), 0.0, 0
        for loss, _, weight in training.pieces(step):
            draw = torch.Generator().manual_seed(step)
            signs = (2.0 * torch.randint(2, (loss.n_objects,), generator=draw, device="cpu") - 1).to(there)
            differences = lambda vector, loss=loss: loss.removal_differences(training.unravel(vector))  # noqa: E731
            square += weight**2 * vjp(differences, there)[1](signs)[0].double().square().sum().item()
            count += loss.n_objects
        return (square / count / len(there)) ** 0.5

    def _pull(self, loss: Loss, theta: Float[Tensor, " p"], removals: Removals | None) -> Callable[[Tensor], tuple]:
        values = lambda vector: self._values(loss, vector, removals)  # noqa: E731
        chosen = theta.new_zeros(1 if removals is None else 1 + removals.count)
        chosen[0] = 1
        if not self.directions:
            self.directions = at_once(max(numbers_held(values, theta), len(theta)), most=HELD_NUMBERS)
        return vjp(lambda vector, weights: vjp(values, vector)[1](weights)[0], theta, chosen)[1]

    def _values(self, loss: Loss, theta: Tensor, removals: Removals | None) -> Float[Tensor, " m"]:
        params = self.training.unravel(theta)
        if removals is not None and isinstance(loss, BatchLoss):
            return loss.value_and_differences(params, removals)
        value = loss(params, loss.everyone(params))[None]
        return value if removals is None else torch.cat([value, loss.removal_differences(params, removals)])

    def _parts(self, loss: Loss, theta: Tensor, removals: Removals) -> list[Removals]:
        """Return the removals in parts of which all masks are evaluated at once."""
        if not self.masks:
            one, all_of = (numbers_held(self._values, loss, theta, some) for some in (removals.part(0, 1), removals))
            # What comes before presence enters is there once, for however many masks.
            self.masks = at_once(all_of // removals.count if all_of > one else 1)
        return removals.split(self.masks)
