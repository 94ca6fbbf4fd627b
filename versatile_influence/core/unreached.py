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

from versatile_influence.core.sizes import KEPT_NUMBERS, at_once

# In the place of what a call gave that is reached.
REACHED = object()
Event = tuple[nn.Module, Any]


class Reach(TorchDispatchMode):
    """Follows which tensors are computed from some, or chosen by their values."""

    def __init__(self, start: list[Tensor]):
        super().__init__()
        # Held, so that no other tensor takes the place of one of them.
        self.reached = {id(one): one for one in start}
        self.steers = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if self.any((args, kwargs)):
            given = [one for one in tree_leaves(found) if isinstance(one, Tensor)]
            self.reached |= {id(one): one for one in given}
            # A number in Python: what is done after it may depend on it.
            self.steers |= not given
        return found

    def any(self, values: Any) -> bool:
        """Return whether any of them is reached."""
        return any(id(one) in self.reached for one in tree_leaves(values) if isinstance(one, Tensor))


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
        starts: list[int] = []
        reach = Reach(trained)

        def entered(module: nn.Module, args: Any, kwargs: Any) -> None:  # noqa: ARG001
            starts.append(len(events))

        def left(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:  # noqa: ARG001
            start = starts.pop()
            leaves = tree_leaves(output)
            if next(module.parameters(), None) is None:
                return
            if reach.any(output) or not all(isinstance(one, Tensor | float | int | None) for one in leaves):
                events.append((module, REACHED))
                return
            # What is within it will not be called.
            events[start:] = [(module, tree_map_only(Tensor, Tensor.detach, output))]

        with ExitStack() as hooks, reach:
            for module in model.modules():
                hooks.callback(module.register_forward_pre_hook(entered, with_kwargs=True).remove)
                hooks.callback(module.register_forward_hook(left, with_kwargs=True).remove)
            yield
        size = sum(leaf.numel() for _, given in events for leaf in tree_leaves(given) if isinstance(leaf, Tensor))
        if not reach.steers and self.numbers + size <= at_once(1, most=KEPT_NUMBERS):
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
                    stack.enter_context(_replayed(module, values))
            yield


@contextmanager
def _replayed(module: nn.Module, values: list[Any]) -> Iterator[None]:
    """Let a module give what is known of each call within, one after another."""
    left, own, forward = iter(values), vars(module).get("forward"), module.forward

    def instead(*args: Any, **kwargs: Any) -> Any:
        value = next(left)
        # A copy: what follows may write into it.
        return forward(*args, **kwargs) if value is REACHED else tree_map_only(Tensor, torch.clone, value)

    vars(module)["forward"] = instead
    try:
        yield
    finally:
        del vars(module)["forward"]
        vars(module).update({} if own is None else {"forward": own})
