"""What submodules give that no trained parameter reaches: found once for each pass, kept, and not computed again.

Of a model whose last layer alone was trained everything below it is so. What reaches what is followed operation by
operation, whatever the tensors hold (an index computed from a trained parameter is reached too).
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from versatile_influence.core.sizes import FROZEN_NUMBERS, at_once

# In the place of what a call gave that is reached.
REACHED = object()
Event = tuple[nn.Module, Any]


class Reach(TorchDispatchMode):
    """Follows what is computed from some tensors, or chosen by their values; by memory, which views share."""

    def __init__(self, start: list[Tensor]):
        super().__init__()
        # Held, so that no other memory takes the place of one of them.
        self.reached = {_memory(one): one for one in start}
        self.steers = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if self.any((args, kwargs)):
            given = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
            self.reached |= {_memory(one): one for one in given}
            # What is written into is reached too: `out=`, or in place without a result.
            written = func._schema.is_mutable and [one for one in tree_leaves(args) if isinstance(one, Tensor)][:1]
            self.reached |= {_memory(one): one for one in written or []}
            # A number in Python: what is done after it may depend on it.
            self.steers |= not given
        return found

    def any(self, values: Any) -> bool:
        """Return whether any of them is reached."""
        return any(_memory(one) in self.reached for one in tree_leaves(values) if isinstance(one, Tensor))


def _memory(one: Tensor) -> int:
    return one.untyped_storage()._cdata


@dataclass
class Unreached:
    """What submodules give in each pass that no trained parameter reaches.

    Attributes:
        passes: By pass, (submodule, what it gives or REACHED), in the order of the calls; none within one that is kept.
        numbers: How many numbers are kept.
    """

    passes: dict[Any, list[Event]] = field(default_factory=dict)
    numbers: int = 0

    @contextmanager
    def found(self, key: Any, model: nn.Module, trained: list[Tensor]) -> Iterator[None]:
        """Let a pass within be the one in which they are found."""
        events: list[Event] = []
        reach, before = Reach(trained), _attributes(model)

        def watched(module: nn.Module, forward: Any) -> Any:
            def instead(*args: Any, **kwargs: Any) -> Any:
                start, output = len(events), forward(*args, **kwargs)
                plain = all(isinstance(one, Tensor | float | int | None) for one in tree_leaves(output))
                if reach.any(output) or not plain or _hooked(module) or next(module.parameters(), None) is None:
                    events.append((module, REACHED))
                else:
                    # What is within it will not be called. A copy: what follows may write into it.
                    events[start:] = [(module, tree_map_only(Tensor, lambda x: x.detach().clone(), output))]
                return output

            return instead

        with ExitStack() as stack, reach:
            for module in model.modules():
                stack.enter_context(_forwarding(module, watched(module, module.forward)))
            yield
        # What modules keep of a pass for one another would be that of another one.
        quiet = not reach.steers and _attributes(model) == before
        size = sum(leaf.numel() for _, given in events for leaf in tree_leaves(given) if isinstance(leaf, Tensor))
        if quiet and self.numbers + size <= at_once(1, most=FROZEN_NUMBERS):
            self.passes[key] = events
            self.numbers += size

    @contextmanager
    def given(self, key: Any) -> Iterator[None]:
        """Let submodules give at once what was found, in a pass within."""
        calls: dict[nn.Module, list[Any]] = {}
        for module, value in self.passes.get(key, []):
            calls.setdefault(module, []).append(value)
        with ExitStack() as stack:
            for module, values in calls.items():
                if any(value is not REACHED for value in values):
                    stack.enter_context(_forwarding(module, _replay(module.forward, values)))
            yield


def _replay(forward: Any, values: list[Any]) -> Any:
    """Return a forward method that gives what is known of each call, one after another."""
    left = iter(values)

    def instead(*args: Any, **kwargs: Any) -> Any:
        value = next(left, REACHED)
        return forward(*args, **kwargs) if value is REACHED else tree_map_only(Tensor, torch.clone, value)

    return instead


@contextmanager
def _forwarding(module: nn.Module, instead: Any) -> Iterator[None]:
    """Let a module's forward method be another within."""
    own = vars(module).get("forward")
    vars(module)["forward"] = instead
    try:
        yield
    finally:
        del vars(module)["forward"]
        vars(module).update({} if own is None else {"forward": own})


def _hooked(module: nn.Module) -> bool:
    """Return whether something is done when a module within this one is called."""
    within = [one for one in module.modules() if one is not module]
    return any(one._forward_hooks or one._forward_pre_hooks for one in within)


def _attributes(model: nn.Module) -> dict[int, dict[str, int]]:
    """Return what hangs at each module beside its parameters and submodules, by identity."""
    return {
        id(one): {
            name: id(value) for name, value in vars(one).items() if not name.startswith("_") and name != "forward"
        }
        | {name: value._version for name, value in one._buffers.items() if value is not None}
        for one in model.modules()
    }
