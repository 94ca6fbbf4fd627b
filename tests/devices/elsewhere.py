"""A second device where there is none: tensors on `elsewhere:0` are computed on the processor, and meet no others.

What a GPU would refuse is refused: arrays that meet others, indices that are elsewhere, `numpy()` without `cpu()`.
"""

import torch
from torch.utils._python_dispatch import return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend


class Module:
    """`torch.elsewhere`, which nobody else is to find."""

    def is_initialized(self):
        return True

    def is_available(self):
        return False

    def current_device(self):
        return 0

    def device_count(self):
        return 0

    def manual_seed_all(self, seed):
        """Leave draws to the processor."""

    def _is_in_bad_fork(self):
        return False


_setup_privateuseone_for_python_backend("elsewhere", backend_module=Module())
ELSEWHERE, aten = torch.device("elsewhere", 0), torch.ops.aten
COPIES = {aten._to_copy.default, aten.copy_.default}
# Positions of what an index may be on the processor for, and of values that may not.
INDEXED = {aten.index.Tensor, aten.index_put.default, aten.index_put_.default, aten._index_put_impl_.default}


class There(torch.Tensor):
    """A tensor elsewhere, with one of the processor inside."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, inner):
        """Wrap a tensor."""
        given = {"strides": inner.stride(), "storage_offset": inner.storage_offset(), "dtype": inner.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, inner.size(), device=ELSEWHERE, **given)

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"There({self.inner})"

    def tolist(self):
        """Return a copy as numbers."""
        return self.cpu().tolist()

    def __format__(self, wanted):
        return format(self.item() if self.dim() == 0 else repr(self), wanted)

    def __getitem__(self, key):
        return super().__getitem__(indexed(key))

    def __setitem__(self, key, value):
        super().__setitem__(indexed(key), value)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        """Compute on the processor."""
        return computed(func, args, kwargs or {})


def indexed(key):
    """Return an index with tensors for lists."""
    if isinstance(key, tuple):
        return tuple(map(indexed, key))
    return torch.tensor(key, dtype=None if key else torch.long, device="cpu") if isinstance(key, list) else key


def tensors(tree):
    """Return the tensors in it that have a length."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor) and leaf.dim() > 0]


def computed(func, args, kwargs):
    """Return what an operation of tensors elsewhere gives, elsewhere."""
    indices = tensors(args[1]) if func in INDEXED else []
    ways = {isinstance(one, There) for one in tensors((args, kwargs)) if not any(one is other for other in indices)}
    strays = [one for one in indices if isinstance(one, There) and ways == {False}]
    if (len(ways) > 1 and func not in COPIES) or strays:
        raise RuntimeError(f"Expected all tensors to be on the same device, found elsewhere:0 and cpu in {func}.")

    def here(one):
        if isinstance(one, There):
            return one.inner
        return torch.device("cpu") if isinstance(one, torch.device) else one

    inner, named = tree_map(here, args), tree_map(here, kwargs)
    # Zeros without storage would be read.
    func_here = torch.zeros if func is aten._efficientzerotensor.default else func
    found = func_here(*inner, **named)
    leaves = func is aten._to_copy.default and torch.device(kwargs.get("device") or ELSEWHERE).type == "cpu"
    if leaves or (func is aten.copy_.default and not isinstance(args[0], There)):
        return found if leaves else args[0]
    found = tree_map(lambda one: There(one) if isinstance(one, torch.Tensor) else one, found)
    return return_and_correct_aliasing(func, args, kwargs, found) if tensors((args, kwargs)) else found


def made_here_first(make):
    """Return `torch.tensor`, or one like it, made on the processor and then moved: PyTorch has no way for others."""

    def make_there(*args, device=None, **kwargs):
        there = torch.device(torch.get_default_device() if device is None else device)
        if there != ELSEWHERE:
            return make(*args, device=there, **kwargs)
        if isinstance(args[0], There):
            return args[0].to(kwargs.get("dtype") or args[0].dtype)
        return make(*args, device="cpu", **kwargs).to(there)

    return make_there


MAKERS = {name: made_here_first(getattr(torch, name)) for name in ("tensor", "as_tensor")}
# Those that make an empty tensor first, and then size it.
FACTORIES = ["arange", "arange.start", "arange.start_step", "eye", "eye.m", "linspace", "randperm", "tril_indices"]
_FACTORIES = torch.library.Library("aten", "IMPL")
for name in [*FACTORIES, "triu_indices"]:
    packet, _, overload = name.partition(".")
    made = getattr(getattr(aten, packet), overload or "default")
    _FACTORIES.impl(name, lambda *args, made=made, **kwargs: computed(made, args, kwargs), "PrivateUse1")
_LIBRARY = torch.library.Library("_", "IMPL")
_LIBRARY.fallback(lambda func, *args, **kwargs: computed(func, args, kwargs), "PrivateUse1")
