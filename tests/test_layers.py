"""Imports run one way, and heavy or optional libraries are imported where they are used."""

import ast
from pathlib import Path

import versatile_influence

PACKAGE = Path(versatile_influence.__file__).parent
# From the ground up: a module may import from its own layer's folder and from layers before it.
LAYERS = [
    {"_finite", "_ravel", "_forward", "_rows", "_jacobian", "_factored", "_memory", "record", "_jobs", "_score_files"},
    {"removals", "datasets"},
    {"experiment"},
    {"loss"},
    {"problem", "hessian", "_gradients"},
    {"targets", "owned", "gauss_newton", "subset"},
    {"solvers", "losses"},
    {"adapters"},
    {"result", "detection"},
    {
        "linearised",
        "reduced",
        "_finished",
        "owned_by_target",
        "attribution",
        "ensemble",
        "metrics",
        "_pairs",
        "blockwise",
    },
    {"newton", "minimisation", "_boundedness", "_directions", "descent"},
    {"optimizers", "refit", "retraining", "training", "_training_jobs", "_training_results", "_store", "evaluation"},
    {"plots", "plots_many", "plots_graph", "diagnostics", "report"},
    {"cli", "__main__"},
]
OPTIONAL = {"pandas", "matplotlib", "networkx", "h5py", "lifelines", "sksurv", "dask", "zarr"} | {
    "sentence_transformers",
    "pytorch_metric_learning",
}


def layer(module: str) -> int:
    name = module.split(".")[1] if "." in module else "__init__"
    return next((index for index, names in enumerate(LAYERS) if name in names), len(LAYERS))


def imports(path: Path):
    """Yield (module, whether it is imported when the file is)."""
    tree = ast.parse(path.read_text())
    typed = {
        id(node)
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and "TYPE_CHECKING" in ast.dump(test.test)
        for node in ast.walk(test)
    }
    inside = {
        id(node) for function in ast.walk(tree) if isinstance(function, ast.FunctionDef) for node in ast.walk(function)
    }
    for node in ast.walk(tree):
        if id(node) in typed:
            continue
        names = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            yield name, id(node) not in inside


def modules():
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        yield path, ".".join(part for part in parts if part != "__init__")


def test_imports_run_one_way():
    wrong = [
        f"{module} imports {name}"
        for path, module in modules()
        for name, _ in imports(path)
        if name.startswith("versatile_influence.") and layer(name) > layer(module)
    ]
    assert not wrong


def test_every_module_has_its_layer():
    known = set().union(*LAYERS)
    assert {module.split(".")[1] for _, module in modules() if "." in module} <= known


def test_optional_libraries_are_imported_inside_functions():
    wrong = [
        f"{module} imports {name} at its top"
        for path, module in modules()
        for name, at_top in imports(path)
        if at_top and name.split(".")[0] in OPTIONAL
    ]
    assert not wrong


def test_files_can_be_read_at_a_sitting():
    assert [str(path) for path, _ in modules() if len(path.read_text().splitlines()) > 250] == []
