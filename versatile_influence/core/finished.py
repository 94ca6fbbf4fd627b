"""Scores on their way out: finite, at a minimum, and named."""

from dataclasses import replace
from functools import partial

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.func import grad

from versatile_influence.core.curvature import without
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import all_finite
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import FLAT, LOSS_ROUNDING, TILTED_ROWS, UNFINISHED
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import Inverse, share_along
from versatile_influence.core.target import PresenceTarget, Target, evaluated
from versatile_influence.core.warn import warn


def finished(
    problem: Problem,
    scores: Float[Tensor, "k t"],
    target: Target | PresenceTarget,
    *,
    solution: Solution | None = None,
    leftover: Float[Tensor, " m"] | None = None,
) -> Attribution:
    """Return the scores with everything that names them.

    Args:
        problem: What they are about.
        scores: The scores.
        target: What they explain.
        solution: What they come from.
        leftover: How far finishing the training would move each target, to be warned of.

    Raises:
        ValueError: If a score is not finite.
    """
    known = scores
    if some := [*problem.lost]:
        # Without the only one of a category there is no interval of it, and that is no fault.
        there = torch.where(scores[some].isfinite(), scores[some], float("nan"))
        scores, known = scores.clone(), scores.clone()
        scores[some], known[some] = there, there.nan_to_num(0.0)
    if not all_finite(known) and (fallen := problem.fallen(target)) is not None:
        known = known.masked_fill(fallen, 0.0)
    ends = extremes(known)
    if not ends.any():
        warn_of_zeros(problem, target)
    if leftover is not None:
        warn_if_unfinished(problem, leftover, ends)
    return Attribution(
        scores,
        problem.removals.objects(),
        n_objects=problem.removals.n_objects,
        labels=problem.loss.object_labels,
        targets=target.labels,
        solution=solution,
        about=target.about,
    )


def at_parameters(
    problem: Problem, asked: Target | PresenceTarget, moved: Float[Tensor, "k p"], failed: dict[int, str] | None = None
) -> Attribution:
    """Return the change of each target from θ to each row of `moved`, the parameters at the minimum without it."""
    total, direct = changed(problem, asked, moved)
    result = _named(problem, asked, total, failed)
    if direct is not None:
        result = replace(result, direct=direct, parameter=total - direct)
    return replace(result, error=torch.where(result.scores.isnan().any(1), float("nan"), 0.0).double())


def changed(
    problem: Problem, asked: Target | PresenceTarget, moved: Float[Tensor, "k p"]
) -> tuple[Float[Tensor, "k t"], Float[Tensor, "k t"] | None]:
    """Return the change of each target from θ to each row of `moved`, and its direct part if it has one."""
    if isinstance(asked, PresenceTarget):
        return asked.at(problem.params, moved, problem.removals)
    return evaluated(asked, problem.params, moved), None


def _named(
    problem: Problem, target: Target | PresenceTarget, scores: Tensor, failed: dict[int, str] | None
) -> Attribution:
    """Return the scores as an attribution, with NaN where the removal failed and nowhere else."""
    if not failed:
        return finished(problem, scores, target)
    rows = torch.tensor(sorted(failed))
    # What failed is NaN by design; everything else must still be finite.
    result = finished(problem, scores.index_fill(0, rows, 1.0), target)
    return replace(result, scores=scores.index_fill(0, rows, float("nan")), failed=failed)


def extremes(scores: Float[Tensor, "k t"], *, first: int = 0) -> Float[Tensor, " 2"]:
    """Return the least and the largest of the scores of targets `first` and on.

    Raises:
        ValueError: If a score is not finite.
    """
    # Two numbers say of all whether they are finite: no mask of the size of a large score matrix.
    least, most = torch.aminmax(scores)
    if not least - most > -float("inf"):
        row, column = (~torch.isfinite(scores)).nonzero()[0].tolist()
        raise ValueError(
            f"The score of removal {row} on target {first + column} is {scores[row, column].item()}. Look for (a) one "
            "without which loss or target are undefined, (b) a singular Hessian, (c) overflow in the data's scale."
        )
    return torch.stack([least, most])


def warn_of_zeros(problem: Problem, target: Target | PresenceTarget) -> None:
    """Say why every score is zero, where that is not because nothing is to be seen."""
    loss, params, everyone = problem.loss, problem.params, problem.everyone()
    bent = partial(loss.hessian_products, params, everyone, torch.ones_like(problem.theta)[:, None])
    if not loss.removal_differences(params, problem.removals).any():
        said = (
            "the loss is the same without what is removed: it does not look at `presence`, or no such object takes "
            "part in it. Multiply each object's terms by its presence"
        )
    elif not (curved := bent().any()) and not problem.gradient.any() and not problem.gradient_differences().any():
        said = (
            "the loss does not depend on the parameters, as far as PyTorch sees. Look for detach(), no_grad(), .item() "
            "or a new tensor made of their values"
        )
    elif not curved:
        said = (
            "the loss has no second derivatives. Look for a torch.autograd.Function that is once_differentiable, or "
            "for terms that are linear in the parameters (quantile, hinge, |x|): round their corners (Huber, softplus)"
        )
    elif not problem.gradient_differences().any():
        # What is removed, such as everybody, changes no gradient.
        return
    elif grad(lambda theta: target.now(problem.unravel(theta), len(everyone)).square().sum())(problem.theta).any():
        # The loss has no curvature where the target looks: told of with the directions left out.
        return
    else:
        said = (
            "the target does not depend on the parameters, as far as PyTorch sees. Look for detach(), no_grad(), "
            ".item(), argmax or rounding in it: explain the logit, or the probability, that it is made of. A step "
            "function, such as exact NDCG@k, MRR, recall@k or the C-index, is for vif.newton_step and vif.refit, which "
            "evaluate it without the object; or explain a smooth one: ranks=vif.losses.SoftRanks(), "
            "vif.losses.smooth_concordance"
        )
    warn(f"Every score is 0: {said}.")


def warn_if_unfinished(problem: Problem, leftover: Tensor, scores: Tensor) -> None:
    """Warn where finishing the training would itself move what is explained, beside what a removal does.

    A gradient that is the rounding of the loss is as good as zero: no training removes it.
    """
    # Smallest and largest, rather than absolute values: no second copy of a large score matrix.
    largest = torch.stack(torch.aminmax(scores)).abs().max().item()
    # In the units of the target, where a gradient alone would mean nothing to anybody.
    units = problem.loss.units
    slope = (problem.gradient if units is None else problem.gradient * units).abs().max().item()
    moved = leftover.abs().max().item()
    rounding = max(LOSS_ROUNDING, 4 * torch.finfo(problem.loss.precision).eps)
    if moved > UNFINISHED * largest and slope > rounding * abs(problem.value().item()):
        warn(
            f"The parameters are not at a minimum of the loss: the gradient's largest entry is {slope:.3g}, and "
            f"finishing the training would move what is explained by {moved:.2g}, where the largest removal moves it "
            f"by {largest:.2g}. Train to convergence (vif.minimize(loss, params)), and check that this loss, penalty "
            "included, is what was minimised.",
        )


def warn_if_flat(problem: Problem, inverse: Inverse, gradients: Float[Tensor, "t p"] | None = None) -> None:
    """Warn where targets, or the loss without a removal, know of directions without curvature.

    Where neither does, as of the rotations of an embedding, no score depends on them, and nothing is said.

    Args:
        problem: The removals.
        inverse: H⁻¹, after it was asked.
        gradients: Of the targets, where they are looked at.
    """
    dropped = None if inverse.solution is None else inverse.solution.dropped
    if dropped is None or not dropped.shape[1]:
        return
    some = problem.of_rows(range(0, problem.removals.count, 1 + problem.removals.count // TILTED_ROWS))
    if (tilted := sloping(inverse, some.gradient_differences())).any():
        warn(
            f"The Hessian is singular: {dropped.shape[1]} of {len(dropped)} directions have no curvature and were left "
            f"out, and the loss slopes along them without {int(tilted.sum())} of {len(tilted)} removals looked at: "
            "nothing says how far these move, and their scores lack it. Is the loss made of straight pieces there "
            "(quantile, hinge, |x|)? Round their corners (Huber, softplus), or retrain (vif.leave_one_out). Otherwise "
            "add a penalty or damping=…, or drop redundant parameters.",
        )
        return
    if gradients is not None and (moved := share_along(dropped, gradients.T) > FLAT).any():
        # A score along them would be that of one minimum among many.
        warn(
            f"{int(moved.sum())} of {len(moved)} targets, the first number {int(moved.nonzero()[0])}, change in "
            f"directions in which the loss is constant or has no curvature ({dropped.shape[1]}; solution.dropped): "
            "training does not determine them, and their scores are those of the nearest retrained parameters. Add a "
            "penalty, or ask for a target that is the same for all minimisers.",
        )


def sloping(inverse: Inverse, differences: Float[Tensor, "k p"]) -> Bool[Tensor, " k"]:
    """Return which removals slope along directions left out, beside those in which the loss says that it is constant.

    To first order they are held nowhere there.
    """
    dropped = None if inverse.solution is None else inverse.solution.dropped
    return share_along(dropped, without(inverse.hessian.null_space(), differences.T)) > FLAT
