"""Attribution through training: what a removal does to the very parameters that some steps of an optimiser gave."""

from collections.abc import Iterable
from contextlib import nullcontext
from os import PathLike

import torch

from versatile_influence.core.arguments import flag
from versatile_influence.core.boundary import as_target
from versatile_influence.core.checks import instance
from versatile_influence.core.derivatives import by_formula, jacobian_products
from versatile_influence.core.finished import extremes
from versatile_influence.core.made import made_by
from versatile_influence.core.places import follow, verb
from versatile_influence.core.ravel import cast, everything
from versatile_influence.core.removals import Removals
from versatile_influence.core.result import Attribution
from versatile_influence.core.target import PresenceTarget, target_values
from versatile_influence.core.warn import warn
from versatile_influence.training.adjoint import backwards, forwards
from versatile_influence.training.replay import Replay
from versatile_influence.training.training import Training


@verb
def unrolled(
    training: Training,
    target: object,
    *,
    objects: Iterable | None = None,
    smooth: bool = False,
    store: str | PathLike | None = None,
) -> Attribution:
    """Return what each target would change by if the same training, step by step, had run without each object.

    For a model that was trained for some steps and not to a minimum; of one at its minimum it is `attribute`. The
    adjoint of the training runs once for some targets; where there are fewer removals than targets, and for a
    `PresenceTarget`, its derivative along each removal runs forwards instead, to the same scores. All is in float64,
    whatever the training ran in, but the derivatives of its losses.

    Parameters that an object owns (the embedding of an item) stay, without it, where they started: a large change, of
    which these scores are the linear part.

    Args:
        training: The training.
        target: `target(params) -> (t,)` or a `PresenceTarget`.
        objects: What is removed: None for each object, numbers, or groups of them.
        smooth: Take the slope of Adam's steps over a whole removal, in place of that at a point: as if `eps` were
            larger by the root mean square of what a removal changes of the gradient. Adam's first step is the
            gradient's sign, whose slope at a point is 0, or without bound where a gradient is near 0, and says little
            of what a removal does. Of `SGD` nothing changes.
        store: A folder for the states of the training, as in `Training.run`, and for how far the adjoint has come: then
            memory holds few, and the same call with the same folder goes on where a killed one stopped.

    Raises:
        TypeError: If it is no `vif.Training`.
        ValueError: If the training diverged or cannot be repeated, a score is not finite, or the folder is of another
            training, or being filled by another run.
        OSError: If the folder cannot be written.

    Warns:
        UserWarning: If every score is 0.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0]).double()
        >>> step_loss = lambda theta, batch, presence: (presence * (batch - theta) ** 2).sum() / 2
        >>> start, optimizer = torch.tensor(0.0).double(), vif.SGD(lr=0.1)
        >>> training = vif.Training(step_loss, [(x, range(3))] * 4, start=start, optimizer=optimizer, n_objects=3)
        >>> vif.unrolled(training, lambda theta: theta).scores.squeeze()
        tensor([ 0.0950, -0.1583, -1.1715], dtype=torch.float64)
        >>> vif.leave_one_out(training, lambda theta: theta, progress=False).scores.squeeze()
        tensor([ 0.0819, -0.2133, -1.3941], dtype=torch.float64)
    """
    instance(training, "training", Training, "vif.Training(…)")
    over = flag(smooth, "smooth")
    removals = Removals.asked(objects, training.n_objects)
    asked = follow(as_target(target), training.theta)
    with by_formula(), nullcontext() if store is None else training.kept(store) as states:
        replay = Replay.of(training, states)
        dtype, start = training.theta.dtype, training.start
        seen = asked.seeing(lambda some: cast(everything(start, some), dtype))
        theta = replay.theta.double()
        params, direct, parameter = training.unravel(theta), None, None
        if isinstance(seen, PresenceTarget):
            direct, parameter = seen.effects(params, forwards(replay, removals, smooth=over), removals)
            scores = direct + parameter
        elif removals.count < min(len(target_values(seen, params)), len(theta)):
            # The target's derivative along each change.
            moved = forwards(replay, removals, smooth=over).T
            scores = jacobian_products(lambda some: seen(training.unravel(some)), theta, moved).T
        else:
            # As precise as the states that it looks back at; what is added up is in float64.
            params, theta = cast(params, torch.promote_types(dtype, torch.float32)), None
            # A copy, to be written over: a target may keep its own.
            scores = backwards(replay, seen.gradients(params).clone(), removals, smooth=over)
    if not extremes(scores).any():
        warn(
            "Every score is 0: no removal changes the loss of a step, or the target does not depend on the parameters. "
            "Multiply each object's terms by its presence in `step_loss`."
        )
    told = {
        "about": asked.about,
        "targets": asked.labels,
        "labels": training.object_labels,
        "direct": direct,
        "parameter": parameter,
    }
    made = made_by("unrolled", steps=len(training), optimizer=training.optimizer, smooth=over)
    return Attribution(scores, removals.objects(), n_objects=training.n_objects, made=made, **told)
