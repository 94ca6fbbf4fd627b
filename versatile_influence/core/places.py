"""Where numbers are kept: a loss and its targets follow the parameters to their device, as does what is computed."""

import copy
import types
from collections.abc import Callable
from contextlib import nullcontext
from contextvars import ContextVar
from functools import partial, wraps
from inspect import signature
from typing import Any, ParamSpec, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from versatile_influence.core.words import errors_named

# What the walk through a loss passes by: names and settings, of which there may be millions.
PLAIN = {str, bytes, int, float, complex, bool, type(None), type, torch.dtype, torch.device, np.ndarray}
PACKAGE = __name__.split(".")[0]


Given = ParamSpec("Given")
Returned = TypeVar("Returned")
# What the arguments are called that hold parameters.
HOLDERS = ("params", "init", "training", "self", "right")
# Where tensors were made before a verb was called that computes elsewhere.
OUTSIDE: ContextVar[torch.device | None] = ContextVar("outside", default=None)


def verb(call: Callable[Given, Returned]) -> Callable[Given, Returned]:
    """Let a verb compute where the parameters are that it is given, and say what PyTorch means where it raises."""
    names = list(signature(call).parameters)
    place = min(names.index(name) for name in HOLDERS if name in names)

    @wraps(call)
    def called(*args: Given.args, **kwargs: Given.kwargs) -> Returned:
        with errors_named():
            device = _device(args[place] if place < len(args) else kwargs.get(names[place]))
            if device is None:
                return call(*args, **kwargs)
            token = OUTSIDE.set(OUTSIDE.get() or torch.get_default_device())
            try:
                with device:
                    return call(*args, **kwargs)
            finally:
                OUTSIDE.reset(token)

    return called


def outside() -> Any:
    """Return a context in which tensors are made where they were before a verb was called: for what users' data do."""
    return OUTSIDE.get() or nullcontext()


def _device(holder: Any) -> torch.device | None:
    """Return the device of parameters, or of those that a training starts from, where it is not the processor."""
    some = getattr(holder, "start", holder)
    for tensor in some.values() if isinstance(some, dict) else [some]:
        if isinstance(tensor, Tensor) and tensor.device.type not in ("cpu", "meta"):
            return tensor.device
    return None


def follow(thing: Any, params: Any) -> Any:
    """Return a loss or a target where parameters are. On the processor all are made, and nothing is looked at."""
    device = _device(params)
    return thing if device is None else moved(thing, device)


def moved(thing: Any, device: torch.device, known: dict[int, Any] | None = None) -> Any:
    """Return a loss, a target or what they are made of with its tensors on a device; what is there already is itself.

    Values, containers and functions of the library are gone through, and classes derived from its own. What a function
    of the user's holds is the user's to move, and batches are read where they are.

    Example:
        >>> moved({"x": torch.ones(2)}, torch.device("meta"))["x"].device
        device(type='meta')
    """
    known = {} if known is None else known
    if id(thing) in known:
        return known[id(thing)][1]
    move, found = partial(moved, device=device, known=known), thing
    if isinstance(thing, Tensor):
        found = thing if thing.device == device else thing.detach().to(device)
    elif isinstance(thing, nn.Module):
        away = any(one.device != device for one in (*thing.parameters(), *thing.buffers()))
        found = copy.deepcopy(thing).to(device) if away else thing
    elif isinstance(thing, dict | list | tuple):
        values = thing.values() if isinstance(thing, dict) else thing
        # Names and numbers, of which there may be millions, are passed by.
        if not {*map(type, values)} <= PLAIN:
            return _filled(thing, move, known)
    elif isinstance(thing, partial):
        found = partial(move(thing.func), *map(move, thing.args), **move(thing.keywords))
    elif isinstance(thing, types.MethodType):
        found = types.MethodType(thing.__func__, move(thing.__self__))
    elif isinstance(thing, types.FunctionType) and thing.__closure__ and _of_package(thing):
        cells = tuple(types.CellType(move(cell.cell_contents)) for cell in thing.__closure__)
        found = types.FunctionType(thing.__code__, thing.__globals__, thing.__name__, thing.__defaults__, cells)
    elif hasattr(thing, "__dict__") and any(map(_of_package, type(thing).__mro__)):
        found = object.__new__(type(thing))
        known[id(thing)] = thing, found
        vars(found).update({name: value if name == "batches" else move(value) for name, value in vars(thing).items()})
    # What was gone through is kept as long as its number stands for it.
    known[id(thing)] = thing, found
    return found


def _filled(thing: Any, move: Callable[[Any], Any], known: dict[int, Any]) -> Any:
    """Return a container of the same kind of what was moved; one may hold itself."""
    if isinstance(thing, tuple):
        parts = map(move, thing)
        found = type(thing)(*parts) if hasattr(thing, "_fields") else type(thing)(parts)
        known[id(thing)] = thing, found
        return found
    found = copy.copy(thing)
    known[id(thing)] = thing, found
    for place, value in [*(thing.items() if isinstance(thing, dict) else enumerate(thing))]:
        found[place] = move(value)
    return found


def _of_package(thing: Any) -> bool:
    return (thing.__module__ or "").split(".")[0] == PACKAGE
