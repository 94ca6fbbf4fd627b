"""The stream of a training, taken from the loader that drew it."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from versatile_influence.core.checks import instance, told, whole
from versatile_influence.core.tables import whole_numbers
from versatile_influence.training.watched import entry


def recorded(loader: DataLoader, *, epochs: int, field: str | None = None) -> list[tuple[Any, Int[Tensor, " m"]]]:
    """Return the batches of some epochs, each with the numbers of its objects in the data set: `steps` of a `Training`.

    They are what looping over the loader would give from here on, from the same generators, augmentations of the data
    set included; loaded in this process, whatever `num_workers` is, and all held in memory.

    Args:
        loader: Of a data set with numbered items. An item is an object.
        epochs: How often to loop over it.
        field: The entry of a batch that numbers its objects, where an item is not one: its user, its document.

    Raises:
        TypeError: If it is no DataLoader, or its items have no numbers.
        ValueError: If a batch has no such field.

    Example:
        >>> from torch.utils.data import TensorDataset
        >>> loader = DataLoader(TensorDataset(torch.tensor([1.0, 2.0, 6.0])), batch_size=2)
        >>> recorded(loader, epochs=1)
        [([tensor([1., 2.])], tensor([0, 1])), ([tensor([6.])], tensor([2]))]
    """
    instance(loader, "loader", DataLoader, "torch.utils.data.DataLoader(dataset, batch_size=…)")
    epochs = whole(epochs, "epochs", least=1)
    if loader.batch_sampler is None or isinstance(loader.dataset, IterableDataset):
        raise TypeError(
            f"`loader` must make batches of numbered items, got {told(loader.dataset)}. Give it a batch_size and a "
            "data set with __getitem__, or write the steps yourself: [(batch, objects), …]."
        )
    collate, numbered = loader.collate_fn, _Numbered(loader.dataset)

    def parted(items: list) -> tuple[Any, Tensor]:
        return collate([item for item, _ in items]), torch.tensor([number for _, number in items])

    same = DataLoader(numbered, batch_sampler=loader.batch_sampler, collate_fn=parted, generator=loader.generator)
    steps = [step for _ in range(epochs) for step in same]
    if field is None:
        return steps
    return [(batch, whole_numbers(entry(batch, field), f"{field} of a batch", shape=[None])) for batch, _ in steps]


@dataclass(frozen=True)
class _Numbered(Dataset):
    """A data set whose items come with their numbers."""

    dataset: Any

    def __getitem__(self, number: int) -> tuple[Any, int]:
        return self.dataset[number], number
