"""Bad inputs of the verbs, the solvers and what is set in them: made from their signatures.

An argument is of a kind, by its name or its annotation, and each kind has its wrong values: a new argument has them by
itself, or tests/test_bad_inputs.py asks for them.
"""

import dataclasses
import inspect
import tempfile
from functools import partial, wraps
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import get_args

import numpy as np
import torch
from bad_inputs import Case

import versatile_influence as vif

X = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
AT = torch.tensor(3.0, dtype=torch.float64)
NAN, INF = float("nan"), float("inf")
FOLDER = Path(tempfile.mkdtemp())
(FOLDER / "file").write_text("of another kind")


def quadratic(theta, presence):
    return (presence * (X - theta) ** 2).sum() / 2


def value(theta):
    return theta


def fit(presence, seed=None):
    return (presence @ X / presence.sum())[None]


def in_budget(gigabytes):
    with vif.memory_budget(gigabytes):
        return vif.attribute(quadratic, AT, value, n_objects=3)


def recorded_in(*args, **given):
    with vif.recording(*args, **given):
        pass


def said_by(ready):
    """Return a ready conclusion as a function of its arguments that also asks it."""

    @wraps(ready)
    def said(**given):
        return ready(**given)(AT)

    return said


# The same signature, entered: what a context manager is given shows when it is.
in_budget.__signature__ = inspect.signature(vif.memory_budget)
recorded_in.__signature__ = inspect.signature(vif.recording)

RIGHT = {"loss": quadratic, "params": AT, "target": value, "n_objects": 3}
TRAINED = {"loss": quadratic, "init": torch.zeros(1, dtype=torch.float64)}
ATTRIBUTION = vif.Attribution(torch.ones(3, 2), torch.arange(3), n_objects=3, targets=["a", "b"])

SCORES = vif.attribute(quadratic, AT, value, n_objects=3)


def step_loss(params, batch, presence):
    return (presence * (batch - params) ** 2).sum() / 2


START = torch.zeros((), dtype=torch.float64)
TRIAL = vif.losses.CoxLoss([[1.0], [0.0], [1.0], [0.0], [0.5]], range(1, 6), [1, 1, 0, 1, 1])
FITTED = vif.minimize(TRIAL, TRIAL.zeros())
STREAM = {"steps": [(X, [0, 1, 2])] * 2, "start": START, "optimizer": vif.SGD(lr=0.1), "n_objects": 3}
TRAINING = vif.Training(step_loss, **STREAM)
EPOCHS = {"loss": quadratic, "start": START, "epochs": 2, "optimizer": vif.SGD(lr=0.1), "n_objects": 3}
MODEL = torch.nn.Linear(1, 1)
LOADER = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X), batch_size=2)

# What is called, and with what it goes right.
CALLS = {
    "attribute": (vif.attribute, RIGHT),
    "parameter_changes": (vif.parameter_changes, {"loss": quadratic, "params": AT, "n_objects": 3}),
    "newton_step": (vif.newton_step, RIGHT),
    "descend": (vif.descend, RIGHT),
    "refit": (vif.refit, RIGHT),
    "influence_frame": (vif.influence_frame, {"loss": TRIAL, "params": FITTED}),
    "report": (vif.report, {"loss": TRIAL, "params": FITTED, "flip": []}),
    "sensitivity": (
        vif.sensitivity,
        {"loss": quadratic, "params": AT, "conclusion": value, "n_objects": 3},
    ),
    **{
        f"conclusions.{name}": (said_by(getattr(vif.conclusions, name)), given)
        for name, given in {
            "above": {"target": value, "value": 0.0},
            "below": {"target": value, "value": 9.0},
            "sign": {"target": value, "params": AT},
            "significant": {"z": value},
            "insignificant": {"z": value},
        }.items()
    },
    "write_scores": (vif.write_scores, RIGHT | {"out": FOLDER / "scores"}),
    "check_loss": (vif.check_loss, {"loss": quadratic, "params": torch.tensor(2.0).double(), "n_objects": 3}),
    "subset": (
        vif.subset,
        {"loss": quadratic, "params": {"a": AT, "b": AT}, "patterns": ["b"], "n_objects": 3},
    ),
    "minimize": (vif.minimize, TRAINED | {"n_objects": 3}),
    "train": (vif.train, TRAINED | {"epochs": 2, "lr": 0.1, "n_objects": 3}),
    "leave_one_out": (vif.leave_one_out, {"fit": fit, "target": value, "n_objects": 3, "progress": False}),
    "Training": (vif.Training, {"step_loss": step_loss} | STREAM),
    "Training.of": (vif.Training.of, EPOCHS),
    "Training.run": (TRAINING.run, {}),
    "unrolled": (vif.unrolled, {"training": TRAINING, "target": value}),
    "recorded": (vif.recorded, {"loader": LOADER, "epochs": 1}),
    "recording": (recorded_in, {"model": MODEL, "optimizer": torch.optim.SGD(MODEL.parameters())}),
    "metasmoothness": (vif.metasmoothness, {"training": TRAINING, "target": value}),
    "ensemble": (vif.ensemble, {"attributions": [ATTRIBUTION]}),
    "spot_check": (vif.spot_check, {"estimate": SCORES, "loss": quadratic, "params": AT, "target": value}),
    "memory_budget": (in_budget, {"gigabytes": 1.0}),
    "Removals.of": (vif.Removals.of, {"objects": None, "n_objects": 3}),
    "Attribution": (vif.Attribution, {"scores": torch.ones(3, 2), "objects": torch.arange(3), "n_objects": 3}),
    "Attribution.top": (partial(vif.Attribution.top, ATTRIBUTION), {}),
    "Attribution.column": (partial(vif.Attribution.column, ATTRIBUTION), {"asked": 0}),
    "Loss.treated": (vif.losses.PairwiseLoss([0], [1], penalty=1.0).treated, {"treatment": vif.owned.Shared()}),
    "Hessian": (vif.Hessian, {"loss": quadratic, "params": AT, "presence": torch.ones(3)}),
    **{name: (getattr(vif, name), {}) for name in ("SGD", "Adam", "AdamW")},
    **{
        name: (kind, {})
        for name, kind in ((name, getattr(vif.solvers, name)) for name in dir(vif.solvers))
        if dataclasses.is_dataclass(kind) and issubclass(kind, vif.solvers.Solver | vif.solvers.Preconditioner)
    },
}

MADE_BY_A_VERB = "made by the verbs, from arguments that are checked there"
ELSEWHERE = {
    "bad_inputs_losses": ["adapters", "losses", "Composed"],
    "bad_inputs_reading": ["agreement", "detection", "evaluation", "metrics", "pearson", "plots", "spearman"],
}
# Public names, or arguments of theirs, that have no case here, and why.
EXEMPT = {name: f"in {area}" for area, names in ELSEWHERE.items() for name in names} | {
    "GaussNewton": "of a loss of outputs; its one number is that of Hessian",
    "LabelledTarget": "looked at where it is used: attribute, target",
    "PresenceTarget": "looked at where it is used: attribute, target",
    "Removals": "made by Removals.of",
    "solvers.Solution": "what a solver gives",
    "Report": "what report gives",
    "SpotCheck": "what spot_check gives",
    "Sensitivity": "what sensitivity gives",
    "NoMinimumError": "raised, never made by a user",
    "UntrustedWarning": "warned with, never made by a user",
    "Hessian: params": MADE_BY_A_VERB,
    "Hessian: presence": MADE_BY_A_VERB,
    **{
        f"Attribution: {name}": MADE_BY_A_VERB
        for name in ("solution", "direct", "parameter", "failed", "by_seed", "error", "about", "rung", "made")
    },
}


def nothing():
    """Take nothing."""


def far_too_much(a, b, c, d, e):
    """Take more than anybody gives."""


def terms(params, presence):
    return presence * (X - params) ** 2


def number(params, presence):
    return 1.0


FUNCTIONS = [None, 3, "name", nothing, far_too_much, dict]
LOSSES = [None, 3, "name", nothing, far_too_much, vif.losses.PairwiseLoss]
WHOLE = [NAN, INF, 1.5, "3", True, -1, [1], int, 1 + 0j]
LABELS = [["a"], ["a"] * 7, "abc", 3]
PRESENCES = [[1.0], torch.ones(4), torch.ones(1, 1, 3), "111", [1.0, NAN, 0.0], [1.0, 2.0, 1.0], [-1.0, 1.0, 1.0], 1.0]
OBJECTS = [
    1,
    torch.tensor(1),
    {0: 1},
    [True],
    np.array([True, False, True]),
    [[[0]]],
    [10**30],
    [-1],
    [3],
    "012",
    ["1"],
    [1.0],
    [NAN],
    [None],
    [],
    [[0], []],
    [[1, 1]],
    np.array([[0.0, 1.0]]),
    vif.Removals.of(None, 5),
    list,
]

# Wrong values of an argument of this name, wherever it stands.
BY_NAME = {
    "loss": [*LOSSES, terms, number],
    "target": [*FUNCTIONS, vif.PresenceTarget(value)],
    "title": [3, ["a"], b"text"],
    "flip": [3, "x0", ["zz"], [3], {"x0": 1}],
    "conclusion": [
        *FUNCTIONS,
        vif.PresenceTarget(value),
        lambda theta: -theta,
        lambda theta: torch.stack([theta, theta]),
    ],
    "z": FUNCTIONS,
    "fit": FUNCTIONS,
    "rebuilt": FUNCTIONS[1:],
    "curvature": ["hessian", None, 3, dict, nothing, lambda *_: 3],
    "objects": OBJECTS,
    "presence": PRESENCES,
    "params": [None, 3, "name", [1.0], torch.tensor(NAN), torch.tensor(1), {}],
    "init": [None, 3, "name", [1.0], torch.tensor(NAN), torch.tensor(1), {}],
    "start": [None, 3, "name", [1.0], torch.tensor(NAN), torch.tensor(1), {}],
    "step_loss": FUNCTIONS,
    "schedule": [3, "cosine", nothing, far_too_much],
    "training": [None, 3, vif.Training, fit],
    "loader": [None, [X], torch.utils.data.DataLoader, torch.utils.data.DataLoader(X, batch_size=None)],
    "model": [None, 3, dict, torch.nn.Linear],
    "field": [],
    "seeds": ["12", 3, [], [1, 1], [0.5], ["1"], [True], [-1], {1: 2}],
    "n_jobs": [0, 1.5, "2", True, int],
    "store": [3, ["a"], FOLDER / "file"],
    "out": [None, 3, ["a"], FOLDER / "file"],
    "key": [3, {"a": 1}, b"text"],
    "patterns": [None, 3, [], [0], ["z"], {"b": 1}],
    "check": ["some", 2, None],
    "estimate": [None, 3, SCORES.scores, ATTRIBUTION],
    "attributions": [None, [], ATTRIBUTION, [torch.ones(3, 1)], "ab", ATTRIBUTION.scores],
    "betas": [0.9, (0.9,), (0.9, 1.0), (-0.1, 0.9), (NAN, 0.9), "ab", None],
    "treatment": ["shared", vif.owned.Shared, None],
    "optimizer": ["adam", torch.optim.Adam, vif.Adam, None, torch.optim.Adam([torch.zeros(1)])],
    "solver": ["cg", vif.CG, None, 3, vif.solvers.Diagonal()],
    "preconditioner": ["nystrom", vif.solvers.Nystrom, 3, vif.CG()],
    "labels": LABELS,
    "targets": LABELS,
    "scores": [torch.ones(4, 2), torch.ones(3), [[1.0]], np.ones((3, 2)), None],
    "asked": [2, -3, "c", None, 0.5, True],
}
# Of one public name alone.
BY_PLACE = {
    # None asks the loss for anything yet.
    **{(place, "loss"): LOSSES for place in ("subset", "Hessian", "Training.of")},
    ("Training", "groups"): [3, "ab", [3], [{"params": "a"}], [{"params": ["a"]}], [{"params": [], "eps": 1.0}]],
    ("Training", "steps"): [None, 3, "ab", [], [X], [(X, [3])], [(X, [0.5])], [(X, 0)], {0: 1}],
    ("subset", "params"): [None, 3, AT, [AT], {"b": 1}],
    ("Attribution", "objects"): [
        torch.arange(2),
        ((0,), (1,)),
        [0, 1, 2],
        torch.tensor([0, 1, 7]),
        ((0,), (-1,), (1,)),
        torch.ones(3),
        None,
    ],
    ("Attribution.top", "target"): BY_NAME["asked"],
    ("report", "groups"): [3, [[0]], {"a": [99]}, {"a": ["x"]}, {"a": []}],
    ("recording", "loader"): BY_NAME["loader"][1:],
    **{(f"conclusions.{name}", "value"): [NAN, INF, "1", True, [1.0, 2.0]] for name in ("above", "below")},
    **{(f"conclusions.{name}", "target"): FUNCTIONS for name in ("above", "below")},
    # With the loss saying nothing, the length of the presence does.
    ("minimize", "presence"): PRESENCES,
}
# Whole numbers may be 0, and numbers too, unless a step of it or a share by it makes no sense.
ZERO_IS_RIGHT = {"seed", "k", "damping", "gtol", "weight_decay", "rtol", "eps", "momentum", "single", "averaging"}
# Where a message cannot name the argument: what it says.
SAYS = {
    "params": "arameter",
    "conclusion": "`target`|`conclusion`",
    "z": "`target`",
    "flip": "`flip`|covariate",
    ("report", "groups"): "`groups`|`objects`",
    "init": "arameter",
    "start": "arameter",
    ("Training", "groups"): "groups",
    ("Training", "steps"): "steps",
    "attributions": "`attributions|nothing to average",
    "estimate": "`estimate`|different things",
    "scores": "`scores`",
    ("Attribution", "objects"): "`objects`",
    "asked": "target",
    "loss": "`loss`|loss must return a scalar",
    ("Attribution.top", "target"): "target",
    ("subset", "params"): "dict|arameter",
}


def wrong(place: str, argument: inspect.Parameter, least: int | None) -> list:
    """Return the wrong values of an argument."""
    if (found := BY_PLACE.get((place, argument.name), BY_NAME.get(argument.name))) is not None:
        return found
    union = isinstance(argument.annotation, UnionType)
    kinds = set(get_args(argument.annotation)) if union else {argument.annotation}
    zero = [] if argument.name in ZERO_IS_RIGHT or least == 0 else [0]
    none = [] if NoneType in kinds else [None]
    if bool in kinds:
        return ["yes", 2, *none, []]
    if int in kinds:
        return WHOLE + zero + none
    if float in kinds:
        return [NAN, INF, -INF, -1.0, "1", True, [1.0, 2.0], float, 1 + 0j, *map(float, zero), *none]
    return []


def made(place: str) -> list[Case]:
    """Return the cases of a public name, an argument at a time."""
    call, right = CALLS[place]
    # A setting says itself from where on it is right.
    fields = {one.name: one for one in dataclasses.fields(call)} if dataclasses.is_dataclass(call) else {}
    cases = []
    for argument in inspect.signature(call).parameters.values():
        if f"{place}: {argument.name}" in EXEMPT:
            continue
        allowed = fields[argument.name].metadata.get("allowed") if fields else None
        least = None if allowed is None or "above" in allowed else allowed.get("least", 0)
        for position, given in enumerate(wrong(place, argument, least)):
            says = SAYS.get((place, argument.name), SAYS.get(argument.name, f"`{argument.name}`"))
            name = f"{place}: {argument.name}={shown(given)} ({position})"
            cases.append(Case(name, partial(call, **{**right, argument.name: given}), says))
    return cases


def shown(given: object) -> str:
    return " ".join(repr(given).split())[:40]


def close(*numbers):
    wanted = torch.tensor(numbers, dtype=torch.float64)
    return lambda found: torch.allclose(getattr(found, "scores", found).reshape(-1).double(), wanted, atol=1e-6)


class Named(vif.Loss):
    n_objects, object_labels = 3, ("a", "b")

    def __call__(self, params, presence):
        return quadratic(params, presence)


def everybody(place: str) -> Case:
    call, right = CALLS[place]
    return Case(f"{place}: a group of everybody", partial(call, **right, objects=[[0], [0, 1, 2]]), "all 3 objects")


FIRST_ORDER = close(2 / 3, 1 / 3, -1)
attributed = partial(vif.attribute, quadratic, AT, value)
named = vif.Attribution(X[:, None], torch.arange(3), n_objects=3, labels=[("a", 1), ("a", 2), ("b", 1)], targets=["t"])
told = dataclasses.replace(ATTRIBUTION, scores=torch.tensor([[1.0, 0], [0, 2], [0, 3]]))


def read_by_field(field):
    with vif.recording(MODEL, torch.optim.SGD(MODEL.parameters()), LOADER, field=field):
        list(LOADER)


BY_HAND = [
    Case("recording: field=user", partial(read_by_field, "user"), "`field`"),
    Case("recording: field=3", partial(read_by_field, 3), "`field`"),
    Case("recorded: field=user", partial(vif.recorded, LOADER, epochs=1, field="user"), "`field`"),
    *map(everybody, ["attribute", "parameter_changes", "newton_step", "descend", "refit"]),
    Case("attribute: the only object", partial(vif.attribute, quadratic, AT, value, n_objects=1), "all 1 objects"),
    Case(
        "attribute: a target of 3", lambda: vif.attribute(quadratic, AT, vif.PresenceTarget(3), n_objects=3), "`target`"
    ),
    Case("attribute: n_objects nowhere", attributed, "n_objects=…"),
    Case("attribute: too few names", partial(vif.attribute, Named(), AT, value), "`object_labels`.*an object: 3"),
    Case("attribute: too many names of targets", partial(attributed, n_objects=3), right=FIRST_ORDER),
    Case(
        "attribute: names of other targets",
        partial(vif.attribute, quadratic, AT, vif.LabelledTarget(value, ["a", "b"]), n_objects=3),
        "`targets`.*a target: 1",
    ),
    Case("attribute: a set of objects", partial(attributed, n_objects=3, objects={0, 1, 2}), right=FIRST_ORDER),
    Case("attribute: made objects", lambda: attributed(n_objects=3, objects=iter(range(3))), right=FIRST_ORDER),
    Case("attribute: NumPy's 3", partial(attributed, n_objects=np.int64(3)), right=FIRST_ORDER),
    Case("attribute: torch's 3", partial(attributed, n_objects=torch.tensor(3)), right=FIRST_ORDER),
    Case("attribute: NumPy's damping", partial(attributed, n_objects=3, damping=np.float32(0)), right=FIRST_ORDER),
    Case("attribute: a loose CG", lambda: attributed(n_objects=3, solver=vif.CG(rtol=0)), right=FIRST_ORDER),
    Case("refit: gtol=0", partial(vif.refit, quadratic, AT, value, n_objects=3, gtol=0), right=close(1, 0.5, -1.5)),
    Case("minimize: a list", lambda: vif.minimize(quadratic, AT, [1.0, 1.0, 0.0]), right=close(1.5)),
    Case("minimize: flags", lambda: vif.minimize(quadratic, AT, torch.tensor([True, True, False])), right=close(1.5)),
    Case("minimize: two lengths", lambda: vif.minimize(quadratic, AT, torch.ones(3), n_objects=5), "`presence`.*5"),
    Case("train: no rows", lambda: vif.train(quadratic, AT, torch.ones(0, 3), epochs=1, lr=0.1), "`presence`"),
    Case(
        "leave_one_out: seeds that fit takes not",
        partial(vif.leave_one_out, lambda presence: fit(presence), value, n_objects=3, seeds=[1], progress=False),
        "`fit`.*seed=",
    ),
    Case("Attribution.top: by name", lambda: told.top(1, target="b").item(), right=lambda row: row == 2),
    Case("Attribution.top: none", lambda: len(told.top(0)), right=lambda rows: rows == 0),
    Case("Attribution.to_frame: tuples", named.to_frame, right=lambda frame: list(frame.index) == named.names()),
]

CASES = [case for place in CALLS for case in made(place)] + BY_HAND


def uncovered() -> list[str]:
    """Return the arguments of public names that have no case, and no reason for it."""
    tried = {case.name.split("=")[0] for case in CASES} | EXEMPT.keys()
    names = {name: getattr(vif, name) for name in vif.__all__}
    for module in [name for name, kind in names.items() if isinstance(kind, ModuleType) and name not in EXEMPT]:
        face = names.pop(module)
        own = {name for name, value in vars(face).items() if getattr(value, "__module__", "") == face.__name__}
        names |= {f"{module}.{name}": getattr(face, name) for name in getattr(face, "__all__", own)}
    return [
        f"{place}: {argument}"
        for place, kind in names.items()
        if place not in EXEMPT and callable(kind) and not inspect.isabstract(kind)
        for argument in inspect.signature(kind).parameters
        if not {f"{place}: {argument}", f"{place.split('.')[-1]}: {argument}"} & tried
    ]
