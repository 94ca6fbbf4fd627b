"""What a package shows is imported when it is first used, so that importing the package costs nothing."""

import ast
import inspect
import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module


def on_demand(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` (PEP 562) of a package that imports its names under `if TYPE_CHECKING` only.

    Those imports are the one list of what stands where. Editors and type checkers read it, and so does this, from the
    source, at the first name. From a package comes a module, from a module one of its names.

    Example:
        >>> from versatile_influence import losses
        >>> losses.CoxLoss.__module__
        'versatile_influence.losses.cox.loss'
    """
    module = sys.modules[package]

    @cache
    def places() -> dict[str, str]:
        source = ast.parse(inspect.getsource(module))
        imports = [node for node in ast.walk(source) if isinstance(node, ast.ImportFrom)]
        return {alias.name: str(node.module) for node in imports for alias in node.names}

    def named(name: str) -> object:
        # Python asks for names like `__wrapped__` and `__path__` on its own.
        if name.startswith("__") or name not in places():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place = import_module(places()[name])
        found = import_module(f"{place.__name__}.{name}") if hasattr(place, "__path__") else getattr(place, name)
        setattr(module, name, found)
        return found

    return named, lambda: module.__all__
