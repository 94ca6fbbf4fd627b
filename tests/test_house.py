"""The house: imports run down through the folders, without circles, in short chains; files stay short; few look-ups."""

import ast
import importlib
import inspect
import statistics
import subprocess
import sys
from functools import cache, cached_property
from pathlib import Path

import versatile_influence

PACKAGE = Path(versatile_influence.__file__).parent
# From the ground up: a module imports from its own folder and from those before it.
FOLDERS = ["core", "datasets", "solvers", "losses", "training", "adapters", "verbs", "reading", "cli"]
OPTIONAL = {"pandas", "matplotlib", "networkx", "h5py", "lifelines", "sksurv", "dask", "zarr", "jinja2"} | {
    "sentence_transformers",
    "pytorch_metric_learning",
    "formulaic",
    "statsmodels",
    "pycox",
    "torchsurv",
}


def modules() -> dict[str, Path]:
    """Return the files by their dotted names."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imports(path: Path) -> set[str]:
    """Return the package's modules that a file imports anywhere: at its top, inside functions, for types alone."""
    known, found = modules(), set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            # `from package.folder import module` is an import of the module.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found |= {name if name in known else node.module for name in names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {name for name in found if name in known}


def is_face(path: Path) -> bool:
    """Return whether a file only hands names on."""
    return path.name == "__init__.py" and not any(
        isinstance(node, ast.FunctionDef | ast.ClassDef) for node in ast.walk(tree(path))
    )


def behind(name: str) -> set[str]:
    """Return the modules that an import of a name leads to: a face is looked through."""
    path = modules()[name]
    return set().union(*(behind(other) for other in imports(path))) if is_face(path) else {name}


@cache
def graph() -> dict[str, frozenset[str]]:
    """Return which module imports which, faces looked through."""
    return {
        name: frozenset(other for direct in imports(path) for other in behind(direct) if other != name)
        for name, path in modules().items()
        if not is_face(path)
    }


def folder(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else ""


def longest(name: str, way: tuple[str, ...] = ()) -> list[str]:
    """Return the longest chain of imports from a module down, and fail on a circle."""
    assert name not in way, f"a circle: {' -> '.join([*way, name])}"
    below = [_longest(other, (*way, name)) for other in graph()[name]]
    return [name, *max(below, key=len, default=[])]


_known: dict[str, list[str]] = {}


def _longest(name: str, way: tuple[str, ...]) -> list[str]:
    if name not in _known:
        _known[name] = longest(name, way)
    return _known[name]


def test_imports_run_down_through_the_folders():
    wrong = [
        f"{name} imports {other}"
        for name, others in graph().items()
        for other in others
        if folder(name) in FOLDERS and FOLDERS.index(folder(other)) > FOLDERS.index(folder(name))
    ]
    assert not wrong


def test_there_is_no_circle_of_any_kind_and_no_chain_of_files_in_the_library_longer_than_ten():
    chains = {name: _longest(name, ()) for name in graph()}
    # The command line stands on top of the library.
    chain = max((chain for name, chain in chains.items() if folder(name) in FOLDERS[:-1]), key=len)
    assert len(chain) <= 10, " -> ".join(chain)


def test_no_chain_of_folders_is_longer_than_the_house_is_high():
    above = {
        place: {folder(other) for name in graph() if folder(name) == place for other in graph()[name]}
        for place in FOLDERS
    }

    def height(place):
        return 1 + max((height(other) for other in above[place] - {place}), default=0)

    assert max(map(height, FOLDERS)) <= 6


def test_six_files_at_most_stand_in_the_root_and_every_folder_has_its_place():
    assert len([path for path in PACKAGE.iterdir() if path.is_file()]) <= 6
    assert {path.name for path in PACKAGE.iterdir() if path.is_dir()} - {"__pycache__"} == set(FOLDERS)


def test_the_core_imports_no_loss_no_solver_and_no_verb():
    code = "import sys, importlib\nfor name in sys.argv[1:]: importlib.import_module(name)"
    core = [name for name in modules() if folder(name) == "core"]
    assert not [other for name in core for other in imports(modules()[name]) if folder(other) not in ("core", "")]
    assert subprocess.run([sys.executable, "-c", code, *core[:1]], check=False).returncode == 0


def test_optional_libraries_are_imported_inside_functions():
    wrong = []
    for name, path in modules().items():
        inside = {id(x) for f in ast.walk(tree(path)) if isinstance(f, ast.FunctionDef) for x in ast.walk(f)}
        typed = {
            id(x)
            for test in ast.walk(tree(path))
            if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
            for x in ast.walk(test)
        }
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import | ast.ImportFrom) and id(node) not in inside | typed:
                names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
                wrong += [f"{name} imports {other}" for other in names if other.split(".")[0] in OPTIONAL]
    assert not wrong


def test_files_can_be_read_at_a_sitting_and_functions_at_a_glance():
    assert [str(path) for path in modules().values() if len(path.read_text().splitlines()) > 250] == []
    lengths = []
    for path in modules().values():
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.FunctionDef):
                documented = node.body and ast.get_docstring(node) is not None
                # A docstring is for reading elsewhere; what counts is code.
                start = node.body[0].end_lineno if documented else node.lineno
                lengths.append(node.end_lineno - start)
    assert statistics.quantiles(lengths, n=20)[-1] <= 25


def look_ups(path: Path) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("hasattr", "getattr")
    ]


def test_what_a_user_hands_in_is_looked_up_at_the_boundary_alone():
    found = {name: look_ups(path) for name, path in modules().items() if look_ups(path)}
    assert sum(map(len, found.values())) <= 25, {name: len(calls) for name, calls in found.items()}
    asked = [
        (name, ast.unparse(call))
        for name, calls in found.items()
        for call in calls
        if isinstance(call.args[0], ast.Name | ast.Attribute)
        and ast.unparse(call.args[0]).split(".")[-1] in ("loss", "whole", "outer", "target", "solver", "fit", "model")
    ]
    elsewhere = [where for where in asked if "boundary" not in where[0] and "adapters" not in where[0]]
    assert not elsewhere
    assert len(asked) <= 5


def test_a_loss_is_told_from_a_function_at_the_boundary_alone():
    questions = [
        (name, ast.unparse(node))
        for name, path in modules().items()
        for node in ast.walk(tree(path))
        if isinstance(node, ast.Call)
        and ast.unparse(node).startswith(
            ("isinstance(loss, Loss", "callable(loss", "isinstance(target", "callable(target")
        )
    ]
    assert len(questions) <= 5, questions


def test_a_public_method_has_words_where_it_first_appears():
    # One that overrides another has the other's: `help` and `inspect.getdoc` give them.
    silent = []
    for name in modules():
        module = importlib.import_module(name) if not name.endswith("__main__") else None
        for kind in vars(module).values() if module else ():
            if not inspect.isclass(kind) or kind.__module__ != name or kind.__name__.startswith("_"):
                continue
            for method, value in vars(kind).items():
                if method.startswith("_") or not (callable(value) or isinstance(value, property | cached_property)):
                    continue
                above = any(method in vars(base) for base in kind.__mro__[1:-1])
                if not (above or inspect.getdoc(value)):
                    silent.append(f"{name}.{kind.__name__}.{method}")
    assert not silent
