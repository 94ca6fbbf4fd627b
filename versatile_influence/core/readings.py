"""What a module gives for batches that are read one at a time, and where each number of it lies among all."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.utils._pytree import TreeSpec, tree_flatten, tree_map_only, tree_unflatten

from versatile_influence.core.checks import told, whole
from versatile_influence.core.places import outside
from versatile_influence.core.tables import whole_numbers

Call = Callable[[Any, Any], Any]


@dataclass(frozen=True, eq=False)
class Layout:
    """The outputs of one batch: a structure of tensors, of which those with a derivative lie in one flat vector.

    Attributes:
        objects: The numbers of the objects that meet in it.
        spec: The structure.
        leaves: What it holds: the shapes of floating tensors, in order, and everything else as it is.
    """

    objects: Int[Tensor, " b"]
    spec: TreeSpec
    leaves: tuple[Any, ...]

    @property
    def sizes(self) -> list[int]:
        """How many numbers each floating tensor has."""
        return [leaf.numel() for leaf in self.leaves if isinstance(leaf, torch.Size)]

    def shaped(self, vector: Tensor) -> Any:
        """Return the structure, from its floating numbers as one vector."""
        parts = iter(vector.split(self.sizes))
        filled = [next(parts).reshape(leaf) if isinstance(leaf, torch.Size) else leaf for leaf in self.leaves]
        return tree_unflatten(filled, self.spec)


class Called(nn.Module):
    """A module as a function of a batch, under the name `model` of this one."""

    def __init__(self, model: nn.Module, call: Call):
        super().__init__()
        self.model, self.call = model, call

    def forward(self, batch: Any) -> Any:
        """Return what it gives."""
        return self.call(self.model, batch)


def called(model: nn.Module, batch: Any) -> Any:
    """Return what a module gives for a batch: of a dict by its names, of a tuple or list one argument after another."""
    if isinstance(batch, Mapping):
        return model(**batch)
    return model(*batch) if isinstance(batch, tuple | list) else model(batch)


def floating(leaf: object) -> bool:
    """Return whether derivatives pass through an output."""
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def tensors(batch: Any, like: torch.dtype) -> Any:
    """Return a batch in plain dicts and tuples, its floating numbers in the precision of the module."""
    if isinstance(batch, Mapping):
        return {name: tensors(value, like) for name, value in batch.items()}
    if isinstance(batch, tuple | list):
        return tuple(tensors(value, like) for value in batch)
    return batch.to(like) if floating(batch) else batch


def parted(batch: Any, count: int, at_once: int | None) -> Iterator[Any]:
    """Yield a batch of so many objects in parts that pass the module together: tensors of as many rows are split."""
    if at_once is None or count <= at_once:
        yield batch
        return
    for start in range(0, count, at_once):
        rows = slice(start, start + at_once)
        yield tree_map_only(Tensor, lambda x, rows=rows: x[rows] if x.dim() and len(x) == count else x, batch)


def layout_of(place: int, objects: Tensor, given: list[Any]) -> tuple[Layout, list[int], Tensor]:
    """Return the layout of a batch from the outputs of its parts, how many numbers each gives, and their order.

    Raises:
        TypeError: If the outputs have no floating tensor.
        ValueError: If parts do not have a row an object.
    """
    flattened = [tree_flatten(part) for part in given]
    spec = flattened[0][1]
    columns: list[Any] = list(zip(*(leaves for leaves, _ in flattened), strict=True))
    if not any(floating(column[0]) for column in columns):
        said = f"got {told(given[0])} for batch {place}"
        raise TypeError(f"The `model`, by `call(model, batch)`, must return tensors of floating-point numbers, {said}.")
    leaves, sizes, numbers, start = [], [0] * len(given), [[] for _ in columns], 0
    for part, (values, _) in enumerate(flattened):
        for column, value in enumerate(values):
            # One number for the batch (a temperature) comes with its first part.
            if floating(value) and (part == 0 or value.dim()):
                numbers[column].append(torch.arange(start, start := start + value.numel()))
                sizes[part] += value.numel()
    for column in columns:
        rows = isinstance(column[0], Tensor) and column[0].dim() > 0
        whole_leaf = torch.cat([value.detach() for value in column]) if rows and len(column) > 1 else column[0]
        if rows and len(column) > 1 and len(whole_leaf) != len(objects):
            raise ValueError(
                f"`at_once` needs outputs with a row an object; batch {place} has {len(objects)} objects and outputs "
                f"{tuple(whole_leaf.shape)}. Leave it out, or return a tuple with a tensor for each view or tower."
            )
        leaves.append(whole_leaf.shape if floating(whole_leaf) else whole_leaf)
    order = torch.cat([part for column in numbers for part in column])
    return Layout(objects, spec, tuple(leaves)), sizes, order


def each_of(batches: Iterable[Any]) -> Iterator[Any]:
    """Yield batches, what is made on the way lying where it would without this library."""
    with outside():
        reader = iter(batches)
    while True:
        with outside():
            step = next(reader, reader)
        if step is reader:
            return
        yield step


def pair(place: int, step: object, most: int | None = None) -> tuple[Any, Int[Tensor, " b"]]:
    """Return a batch and the numbers of its objects.

    Raises:
        TypeError: If it is no pair, or there are no whole numbers in it.
        ValueError: If an object is named twice, or is none of them.
    """
    if not isinstance(step, tuple | list) or len(step) != 2:
        raise TypeError(
            f"Batch {place} of `batches` must be a pair (batch, objects), got {told(step)}. vif.recorded(loader, "
            "epochs=1) makes them of a DataLoader."
        )
    if step[1] is None:
        raise TypeError(f"Batch {place} of `batches` names no objects: give their numbers, one a row, got None.")
    objects = whole_numbers(step[1], f"batches[{place}]", shape=[None], most=most)
    if not len(objects) or len(objects.unique()) < len(objects):
        raise ValueError(f"The objects of batch {place} must be one or more, each once, got {told(objects.tolist())}.")
    return step[0], objects


def check_constant(model: nn.Module) -> None:
    """Check that a module gives the same again, row by row.

    Raises:
        ValueError: If it has dropout, or a batch normalisation that takes its statistics from the batch.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and (module.training or module.running_mean is None):
            raise ValueError(
                f"The batch normalisation `{name}` couples the rows: its statistics would change with who is present. "
                "Call model.eval(), so that it uses the running statistics, or use another normalisation."
            )
        if isinstance(module, nn.modules.dropout._DropoutNd) and module.training and module.p > 0:
            raise ValueError(
                f"The dropout `{name}` is on (p = {module.p:g}): the loss would be random. Call model.eval()."
            )


def check_same(place: int, given: list[Any], layout: Layout, size: int) -> None:
    """Check that what has no derivative among the outputs of a whole batch is as it was first.

    Raises:
        ValueError: If it is not: what is chosen by the parameters has no place in a loss that is differentiated.
    """
    if size != sum(layout.sizes):
        return
    for number, (leaf, known) in enumerate(zip(given, layout.leaves, strict=True)):
        if isinstance(known, Tensor) and not torch.equal(leaf, known):
            raise ValueError(
                f"Output {number} of batch {place}, of {known.dtype}, is another one than when it was first read: it "
                "depends on the parameters, or is random. Give what is chosen (mined negatives, say) with the batch, "
                "as it was at the trained model, or let `call` return the numbers that are chosen from."
            )


def checked_at_once(at_once: object) -> int | None:
    """Return how many objects pass together."""
    return None if at_once is None else whole(at_once, "at_once", least=1)
