"""A module over batches that are read one at a time: no more than one batch is in memory.

The module runs in its own precision, float32 or bfloat16 as it was trained.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from ctypes import c_char
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.func import functional_call, jvp
from torch.utils._pytree import tree_leaves

from versatile_influence.core.ravel import Params
from versatile_influence.core.readings import (
    Call,
    Called,
    Layout,
    check_constant,
    check_same,
    each_of,
    floating,
    layout_of,
    pair,
    parted,
    tensors,
)
from versatile_influence.core.unreached import Unreached
from versatile_influence.core.warn import warn

Named = dict[str, Tensor]
# From parameters in the module's precision to the flat outputs of what passes it together.
Pass = Callable[[Named], Tensor]


@dataclass(frozen=True, eq=False)
class Stream:
    """A module and batches that are read one at a time; what it gives for them is one flat vector, batch after batch.

    Attributes:
        model: The module.
        batches: (batch, objects) pairs, which can be read again.
        call: (model, batch) -> outputs.
        at_once: How many objects of a batch pass the module together, or None for all.
        differences: Whether Jacobian products are central differences of outputs; None: where forward mode fails.
        held: Parameters held at other values than the module's own.
        free: Names of the parameters that are not held; None for all that are not frozen.
    """

    model: nn.Module
    batches: Iterable[Any]
    call: Call
    at_once: int | None = None
    differences: bool | None = None
    held: Named = field(default_factory=dict)
    free: tuple[str, ...] | None = None

    @cached_property
    def precision(self) -> torch.dtype:
        """What the module runs in."""
        return next(self.model.parameters()).dtype

    @cached_property
    def called(self) -> Called:
        """The module as a function of a batch."""
        return Called(self.model, self.call)

    @cached_property
    def _unreached(self) -> Unreached:
        return Unreached()

    @cached_property
    def _laid_out(self) -> tuple[list[Layout], list[list[int]], Int[Tensor, " m"] | None]:
        """The layouts, the sizes of the passes of each batch, and the order of their numbers; by one reading."""
        check_constant(self.model)
        layouts, sizes, orders, start = [], [], [], 0
        with torch.no_grad():
            for place, step in enumerate(each_of(self.batches)):
                batch, objects = pair(place, step)
                parts = parted(tensors(batch, self.precision), len(objects), self.at_once)
                found = layout_of(place, objects, [self._first((place, i), part) for i, part in enumerate(parts)])
                layouts.append(found[0])
                sizes.append(found[1])
                orders.append(found[2] + start)
                start += sum(found[1])
        if not layouts:
            raise ValueError("There is no batch: `batches` is empty.")
        order = torch.cat(orders)
        if self._unreached.passes:
            vars(self).update(_as_found=self.constants())
        return layouts, sizes, None if torch.equal(order, torch.arange(start, device=order.device)) else order

    def _first(self, key: tuple[int, int], part: Any) -> Any:
        """Return the outputs of a pass; what no parameter reaches that is free is kept from it."""
        trained = self.trained()
        free = [value.detach() for value in trained.values()]
        values = self.ready_held | {f"model.{name}": value for name, value in zip(trained, free, strict=True)}
        some_held = len(trained) < len(dict(self.model.named_parameters()))
        with self._unreached.found(key, self.model, free) if some_held else nullcontext():
            return functional_call(self.called, values, (part,))

    def constants(self) -> list[tuple[str, bytes]]:
        """Return digests of frozen parameters and of buffers: what is kept of them holds while they do."""
        trained = self.trained()
        named = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        return [(name, digest(one)) for name, one in named.items() if name not in trained]

    @property
    def layouts(self) -> list[Layout]:
        """How the outputs of each batch lie in the vector."""
        return self._laid_out[0]

    def trained(self) -> Named:
        """Return the module's own values of what it is a function of."""
        known = dict(self.model.named_parameters())
        return {name: known[name] for name in known if self._free(name, known[name])}

    def _free(self, name: str, value: Tensor) -> bool:
        return value.requires_grad if self.free is None else name in self.free

    def ready(self, params: Params, *, whole: bool = True) -> Named:
        """Return parameters by name in the precision of the module; all of what it is a function of, if `whole`.

        Raises:
            TypeError: If they are no dict.
            ValueError: If their names are not those of the module.
        """
        if not isinstance(params, dict):
            raise TypeError("The parameters are a tensor, but the loss has a `model`. Pass the dict of `loss.zeros()`.")
        known = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        missing = self.trained().keys() - params.keys() if whole else set()
        if wrong := missing | (params.keys() - known.keys()):
            raise ValueError(
                f"The parameters are not those of the network: {', '.join(sorted(wrong)[:5])} is in one alone. Pass "
                "all of dict(model.named_parameters()); vif.subset holds some of them fixed."
            )
        return {f"model.{name}": value.to(known[name].dtype) for name, value in params.items()}

    def passes(self) -> Iterator[tuple[Pass, int]]:
        """Yield what passes the module together, one after another, with how many numbers it gives.

        Raises:
            ValueError: If the batches are not those that were read before.
        """
        layouts, sizes, _ = self._laid_out
        check_constant(self.model)
        held, read = self.ready_held, 0
        if self._unreached.passes and vars(self)["_as_found"] != self.constants():
            # Frozen weights of other values: what they gave is no longer so.
            vars(self).update(_unreached=Unreached())
        for place, step in enumerate(each_of(self.batches)):
            batch, objects = pair(place, step)
            if place >= len(layouts) or not torch.equal(objects, layouts[place].objects.cpu()):
                raise ValueError(
                    f"Batch {place} of `batches` has other objects than when it was first read. A loss is a function: "
                    "fix the order (vif.recorded), or shuffle=False."
                )
            parts = parted(tensors(batch, self.precision), len(objects), self.at_once)
            for number, (part, size) in enumerate(zip(parts, sizes[place], strict=True)):
                yield self._pass(part, held, (place, number), size, layouts[place]), size
            read += 1
        if read < len(layouts):
            raise ValueError(f"`batches` gave {len(layouts)} batches first, then {read}. Give what can be read again.")

    @property
    def ready_held(self) -> Named:
        """What is held, by name in the precision of the module."""
        known = dict(self.model.named_parameters()) | dict(self.model.named_buffers())
        return {f"model.{name}": value.to(known[name].dtype) for name, value in self.held.items()}

    def _pass(self, part: Any, held: Named, key: tuple[int, int], size: int, layout: Layout) -> Pass:
        trained = {f"model.{name}" for name in self.trained()}

        def run(ready: Named) -> Tensor:
            # Of a frozen parameter that is handed in what was found does not hold.
            known = ready.keys() <= trained
            with self._unreached.given(key) if known else nullcontext():
                given = tree_leaves(functional_call(self.called, held | ready, (part,)))
            numbers = [leaf.reshape(-1) for leaf in given if floating(leaf) and (key[1] == 0 or leaf.dim())]
            check_same(key[0], given, layout, size)
            found = numbers[0] if len(numbers) == 1 else torch.cat(numbers)
            if len(found) != size:
                raise ValueError(f"The outputs of a batch were {size} numbers first, then {len(found)}.")
            return found

        return run

    def in_order(self, read: Float[Tensor, "m *k"]) -> Float[Tensor, "m *k"]:
        """Return numbers in the order of the outputs, from that of reading."""
        order = self._laid_out[2]
        return read if order is None else read[order]

    def as_read(self, outputs: Float[Tensor, "m *k"]) -> Float[Tensor, "m *k"]:
        """Return numbers in the order of reading, from that of the outputs."""
        order = self._laid_out[2]
        return outputs if order is None else outputs[order.argsort()]

    @cached_property
    def by_differences(self) -> bool:
        """Whether Jacobian products are differences of outputs; if not told, by trying one batch in forward mode."""
        if self.differences is not None:
            return self.differences
        run, _ = next(self.passes())
        ready = self.ready({name: value.detach() for name, value in self.trained().items()})
        try:
            jvp(run, (ready,), ({name: torch.zeros_like(value) for name, value in ready.items()},))
        except (RuntimeError, NotImplementedError, TypeError) as error:
            said = str(error).strip().splitlines()[0][:120]
            warn(
                "The module has no forward derivative, so that products with its Jacobian are central differences of "
                f"its outputs (differences=True says so beforehand). PyTorch said: {said}"
            )
            return True
        return False


def digest(one: Tensor) -> bytes:
    """Return a digest of the numbers: a tenth of a second of a hundred megabytes, beside seconds of a pass.

    Raises:
        RuntimeError: If it lies nowhere, as those of torch.func do.
    """
    # Of the memory: within a derivative, what an operation returns has none.
    kept, size = one.untyped_storage().cpu(), one.element_size()
    span = 1 + sum((int(n) - 1) * step for n, step in zip(one.shape, one.stride(), strict=True)) if one.numel() else 0
    found = blake2b(repr((one.dtype, one.shape, one.stride())).encode())
    found.update((c_char * (span * size)).from_address(kept.data_ptr() + int(one.storage_offset()) * size))
    return found.digest()
