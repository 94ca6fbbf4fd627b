"""Scores on their way out: finite, at a minimum, and named."""

import math
import warnings

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.problem import Problem, labels_of
from versatile_influence.result import Attribution
from versatile_influence.solvers import Solution

# What finishing the training may move, beside the largest score, and a gradient be, beside the loss that it rounds.
TOLERANCE, ROUNDING = 0.01, 1e-14


def warn_if_unfinished(problem: Problem, leftover: Tensor, scores: Tensor, *, typical: float = 0.0) -> None:
    """Warn where finishing the training would itself move what is explained, beside what a removal does.

    Where it is small beside a `typical` score, the largest need not be looked for. A gradient that is the rounding of
    the loss is as good as zero: no training removes it.
    """
    moved = leftover.abs().max().item()
    if moved <= TOLERANCE * typical:
        return
    # Smallest and largest, rather than absolute values: no second copy of a large score matrix.
    largest = torch.stack(torch.aminmax(scores)).abs().max().item()
    slope, loss = problem.gradient.abs().max().item(), problem.value(problem.theta, problem.everyone()).item()
    if moved > TOLERANCE * largest and slope > ROUNDING * abs(loss):
        warnings.warn(
            f"The parameters are not at a minimum of the loss: the gradient's largest entry is {slope:.3g}, and "
            f"finishing the training would move what is explained by {moved:.2g}, where the largest removal moves it "
            f"by {largest:.2g}. Train to convergence (vif.minimize(loss, params)), and check that this loss, penalty "
            "included, is what was minimised.",
            stacklevel=3,
        )


def typical_of_product(left: Float[Tensor, "k p"], right: Float[Tensor, "p t"]) -> float | None:
    """Return the root mean square of left @ right from their Gram matrices, rounded down; None if it may overflow."""
    inner, outer = left.T @ left, right @ right.T
    bound = (inner.trace() * outer.trace()).item()
    if not math.isfinite(bound):
        return None
    squares = (inner * outer).sum().item() - 1e-12 * bound
    return math.sqrt(max(squares, 0.0) / (len(left) * right.shape[1]))


def finished(
    problem: Problem,
    target: object,
    scores: Float[Tensor, "k t"],
    solution: Solution | None,
    leftover: Float[Tensor, " t"] | None = None,
    *,
    typical: float | None = None,
) -> Attribution:
    """Return the scores with everything that names them.

    Args:
        problem: What they are about.
        target: Its names are kept.
        scores: The scores.
        solution: What they come from.
        leftover: How far finishing the training would move each target, to be warned of.
        typical: The scores' root mean square, where it is known and shows that all are finite.

    Raises:
        ValueError: If a score is not finite.
    """
    if typical is None:
        # One pass over what may be a large matrix, in the order in which it lies.
        flat = (scores if scores.is_contiguous() else scores.T).reshape(-1)
        typical = math.sqrt(torch.dot(flat, flat).item() / len(flat))
    if leftover is not None:
        warn_if_unfinished(problem, leftover, scores, typical=typical)
    if not (math.isfinite(typical) or torch.isfinite(scores).all()):
        row, column = (~torch.isfinite(scores)).nonzero()[0].tolist()
        raise ValueError(
            f"The score of removal {row} on target {column} is {scores[row, column].item()}. Look for (a) an object "
            "without which the loss or target is undefined, (b) a singular Hessian, (c) overflow in the data's scale."
        )
    return Attribution(
        scores,
        problem.removals.objects(),
        n_objects=problem.removals.n_objects,
        labels=labels_of(problem.loss),
        targets=getattr(target, "labels", None),
        solution=solution,
    )
