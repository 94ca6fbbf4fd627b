"""A module as it is, over batches that are read one at a time."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from versatile_influence.core.arguments import flag, function, module
from versatile_influence.core.batched import BatchedOutputs
from versatile_influence.core.batched_outer import BatchSum, InBatch, Piece, Written
from versatile_influence.core.chained import ChainedOutputs, Maps
from versatile_influence.core.checks import told, whole
from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.core.ravel import all_frozen
from versatile_influence.core.readings import Call, called, checked_at_once
from versatile_influence.core.tables import tell_idle


class BatchedLoss(Composed):
    """A module under an outer loss of each batch: L(θ, b) = Σ_batches outer(outputs, b of its objects) + (λ/2)‖θ‖².

    Batches are read anew for every pass, and one is in memory at a time. The module runs in its own precision; sums
    over batches, solves and scores are in float64. With `curvature=vif.GaussNewton` a product costs about two gradients
    of the loss, and the scores of a target, once solved, about one. It sees a batch whoever is present; what is lost
    without an object is for `outer`.

    Args:
        model: The module, in eval mode; parameters are the dict of its `named_parameters()`, frozen ones constants.
        batches: (batch, objects) pairs, as `vif.recorded(loader, epochs=1)` gives them, or anything that gives the same
            pairs each time it is looped over. A batch is any structure of tensors; objects are numbers from 0. An
            object may be in several batches.
        outer: A ready one, `vif.losses.Contrast(…)` or `vif.losses.EachObject(…)`; or
            `outer(outputs, presence) -> scalar`, a sum, of the outputs of a batch and the presence of its objects.
        n_objects: How many objects there are; None for the largest number in a batch, plus one.
        call: `call(model, batch) -> outputs`, any structure of tensors, each without a look at other objects' rows;
            None: a dict by name, a tuple or list one argument after another, a tensor as it is.
        at_once: How many objects of a batch pass the module together, where all are too many; tensors with a row an
            object are split.
        differences: True for products with the Jacobian of the outputs by their central differences (two passes, no
            derivative), False for forward mode; None for forward mode where every layer has it.
        penalty: λ.
        labels: Names of the objects.

    Raises:
        TypeError: If batches are no pairs, or can be read only once; or model or outer are nothing of the kind.
        ValueError: If dropout or a batch normalisation is in training mode, or there is no batch.

    Warns:
        UserWarning: If an object is in no batch; if forward mode fails.

    Example:
        >>> model = torch.nn.Linear(1, 1).double()
        >>> batches = [(torch.tensor([[0.0], [1.0]]), [0, 1]), (torch.tensor([[2.0]]), [2])]
        >>> loss = BatchedLoss(model, batches, lambda o, b: (b * (o[:, 0] - 1) ** 2).sum())
        >>> len(loss.removal_differences(loss.zeros()))
        3
    """

    def __init__(
        self,
        model: torch.nn.Module,
        batches: Iterable[tuple[Any, Any]],
        outer: InBatch | Callable[[Any, Tensor], Tensor],
        *,
        n_objects: int | None = None,
        call: Call | None = None,
        at_once: int | None = None,
        differences: bool | None = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        outputs = BatchedOutputs(
            trained(module(model)),
            again(batches),
            called if call is None else function(call, "call", "model", "batch"),
            checked_at_once(at_once),
            None if differences is None else flag(differences, "differences"),
        )
        inner = outer if isinstance(outer, InBatch) else Written(written(outer))
        most = max(int(layout.objects.max()) for layout in outputs.layouts) + 1
        number = most if n_objects is None else whole(n_objects, "n_objects", least=most)
        lost = [inner.of(layout) for layout in outputs.layouts]
        ends = [*itertools.accumulate(one.size for one in lost)]
        pieces = [
            Piece(one.loss, layout.objects, slice(end - one.size, end))
            for one, layout, end in zip(lost, outputs.layouts, ends, strict=True)
        ]
        if any(one.made is not None for one in lost):
            sizes = tuple(sum(layout.sizes) for layout in outputs.layouts)
            maps = Maps(tuple(one.made for one in lost), sizes, tuple(one.size for one in lost))
            outputs = ChainedOutputs(outputs, maps)
        super().__init__(outputs, BatchSum(pieces, number), penalty=penalty, labels=labels)
        tell_idle(number - len(torch.cat([piece.objects for piece in pieces]).unique()), number, "in no batch")


def trained(model: torch.nn.Module) -> torch.nn.Module:
    """Return a module, or say that none of its parameters was trained."""
    flags = [value.requires_grad for value in model.parameters()]
    if not any(flags):
        raise ValueError(all_frozen(len(flags)) if flags else "The `model` has no parameters: nothing was trained.")
    return model


def again(batches: Iterable[Any]) -> Iterable[Any]:
    """Return batches, or say that they can be read only once."""
    if isinstance(batches, Iterator) or not isinstance(batches, Iterable) or isinstance(batches, str | dict | Tensor):
        raise TypeError(
            f"`batches` must be (batch, objects) pairs that can be read again, got {told(batches)}. Make a list of "
            "them, or take vif.recorded(loader, epochs=1)."
        )
    return batches


def written(outer: object) -> Callable[[Any, Tensor], Tensor]:
    """Return the user's function of outputs and presence, or say what is wanted."""
    if isinstance(outer, Loss):
        raise TypeError(
            f"`outer` is about one batch at a time, and {outer!r} about all. Give vif.losses.Contrast(…), "
            "vif.losses.EachObject(…) or a function of (outputs, presence)."
        )
    try:
        return function(outer, "outer", "outputs", "presence")
    except TypeError as error:
        raise TypeError(f"{error} Wrap what gives a term an object: vif.losses.EachObject(cross_entropy).") from error
