"""How smooth a training is along removals, which is how far its derivative can be right."""

import math
from collections.abc import Iterable

import torch

from versatile_influence.core.checks import instance, whole
from versatile_influence.core.removals import Removals
from versatile_influence.reading.evaluation import Interval
from versatile_influence.training.training import Training
from versatile_influence.verbs.leave_one_out import leave_one_out


def metasmoothness(
    training: Training,
    target: object,
    *,
    objects: Iterable | None = None,
    pairs: int = 4,
    seed: int = 0,
    batch_size: int | None = None,
) -> Interval:
    """Return how alike a removal moves the targets whether another is there or not: 1 for all alike, 0 by chance.

    With Δ what removing B changes and Δ′ what it changes where A is gone, it is the mean over drawn pairs (A, B) of

        Σⱼ |Δⱼ| sign(Δⱼ) sign(Δ′ⱼ) / Σⱼ |Δⱼ|,

    each pair both ways round, at three trainings a pair: Definition 2 of Engstrom et al. with a removal as the step,
    which needs nothing in between of a loss, and with the targets in place of the parameters. Where it is far below 1
    (kinks of ReLU, the first steps of Adam, large learning rates) the scores of `unrolled` say little, however exact,
    and so does a single retraining.

    Args:
        training: The training.
        target: As in `leave_one_out`.
        objects: What A and B are drawn from: as in `unrolled`.
        pairs: How many pairs are drawn.
        seed: Of the draw.
        batch_size: Trainings that run together.

    Returns:
        The mean with an interval of two standard errors, NaN for one pair.

    Raises:
        ValueError: If there are fewer than two removals, or a training failed.

    References:
        Engstrom, Ilyas, Chen, Feldmann, Moses and Madry (2025), "Optimizing ML training with metagradient descent".

    Example:
        >>> import torch, versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0, 7.0]).double()
        >>> step_loss = lambda theta, batch, presence: (presence * (batch - theta) ** 2).sum() / 2
        >>> start, optimizer = torch.tensor(0.0).double(), vif.SGD(lr=0.01)
        >>> training = vif.Training(step_loss, [(x, range(4))] * 4, start=start, optimizer=optimizer, n_objects=4)
        >>> vif.metasmoothness(training, lambda theta: theta)
        Interval(value=1.0, low=1.0, high=1.0)
    """
    instance(training, "training", Training, "vif.Training(…)")
    removals = Removals.of(objects, training.n_objects)
    if removals.count < 2:
        raise ValueError(f"A pair is drawn from at least two removals; `objects` names {removals.count}.")
    draw = torch.Generator().manual_seed(whole(seed, "seed"))
    members = [group.tolist() for group in removals.groups()]
    groups = []
    for _ in range(whole(pairs, "pairs", least=1)):
        first, second = (members[row] for row in torch.randperm(removals.count, generator=draw)[:2].tolist())
        groups += [first, second, sorted({*first, *second})]
    found = leave_one_out(training, target, objects=groups, batch_size=batch_size, progress=False)
    if found.failed:
        raise ValueError(f"A training failed: {next(iter(found.failed.values()))}")
    alone, together = found.scores.reshape(-1, 3, found.scores.shape[1]).split([2, 1], dim=1)
    # What each of the two does where the other is gone.
    after = together - alone.flip(1)
    size = alone.abs()
    alike = (size * (alone.sign() * after.sign())).sum(dim=-1) / size.sum(dim=-1)
    mean, each = alike.nanmean().item(), alike.mean(dim=1)
    error = 2 * (each.std() / len(each) ** 0.5).item() if len(each) > 1 else math.nan
    return Interval(mean, mean - error, mean + error)
