"""A DataLoader that is watched while a loop reads it."""

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader

from versatile_influence.core.checks import instance, told


def watched(loader: DataLoader, note: Callable[[Any, Any], None], field: str | None) -> Callable[[], None]:
    """Note each batch that a loader gives, with its objects, and return what undoes it."""
    instance(loader, "loader", DataLoader, "torch.utils.data.DataLoader(dataset, batch_size=…)")
    # accelerate's loaders hold the one that draws.
    inner: Any = vars(loader).get("base_dataloader", loader)
    sampler, kind = inner.batch_sampler, type(loader)
    if sampler is None and field is None:
        raise TypeError("`loader` must make batches of numbered items, or name the `field` that numbers them.")
    if field is None and not vars(inner).get("in_order", True):
        raise TypeError(
            "`loader` gives batches in another order than it draws them (in_order=False). Leave that out, or name the "
            "`field` that numbers its objects."
        )
    noting = sampler and _Noting(sampler)

    class Watched(kind):
        def __iter__(self) -> Any:
            # A list of its own for each loop over the loader: two may run side by side.
            drawn: list[list[int]] = []
            if noting:
                noting.drawn = drawn
            for batch in super().__iter__():
                note(batch, drawn.pop(0) if field is None else entry(batch, field))
                yield batch

    # By the slots themselves: DataLoader refuses another sampler, and accelerate another class.
    vars(inner)["batch_sampler"] = noting
    become: Any = object.__dict__["__class__"].__set__
    become(loader, Watched)

    def undo() -> None:
        become(loader, kind)
        vars(inner)["batch_sampler"] = sampler

    return undo


class _Noting:
    """A sampler of batches that notes what it draws."""

    def __init__(self, sampler: Any):
        self.sampler = sampler
        self.drawn: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return self._noted(self.drawn)

    def _noted(self, drawn: list[list[int]]) -> Iterator[list[int]]:
        for batch in self.sampler:
            numbers = list(batch)
            drawn.append(numbers)
            yield numbers

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)


def entry(batch: Any, field: str) -> Any:
    """Return an entry of a batch.

    Raises:
        ValueError: If it has none of that name.
    """
    try:
        return batch[field]
    except (KeyError, IndexError, TypeError) as error:
        raise ValueError(
            f"`field` is {field!r}, which is no entry of a batch: {told(batch)}. Let the data set give the numbers of "
            "its objects in it."
        ) from error
