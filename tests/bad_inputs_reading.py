"""Bad inputs to metrics, evaluation, detection and plots."""

import math

import matplotlib as mpl
import numpy as np
import torch
from bad_inputs import Case
from bad_inputs_losses import made, number, whole, with_defaults

import versatile_influence as vif
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading import plots_graph, plots_many

mpl.use("agg")
plots = vif.plots
NAN = math.nan


def scores(n=4, **changes):
    """Return an attribution of n objects and two targets."""
    table = torch.arange(2.0 * n, dtype=torch.float64).reshape(n, 2).sin()
    return vif.Attribution(table, torch.arange(n), n_objects=n, **({"targets": ["age", "sex"]} | changes))


GROUPS = vif.Attribution(torch.ones(2, 1).double(), ((0, 1), (2, 3)), n_objects=4)
SINGLE = scores(targets=None)
GRAPH = Graph(3, torch.tensor([[0, 1], [1, 2]]), torch.ones(2))
NOTHING = {
    "an array": np.ones((4, 2)),
    "a list": [[1.0, 2.0]] * 4,
    "text": "scores",
    "nothing": None,
    "whole numbers": torch.ones(4, 2, dtype=torch.long),
    "three axes": torch.ones(4, 2, 2),
}
NO_ATTRIBUTION = {"a tensor": torch.ones(4, 2), "an array": np.ones((4, 2)), "text": "scores", "nothing": None}
TARGET = {"no name": "height", "no number": 7, "a half": 0.5, "nothing": None}
AXES = {"text": "axes", "a number": 3}
WRONG = "Attribution"

AGREEING = [vif.pearson, vif.spearman, vif.agreement, vif.metrics.slope, vif.metrics.relative_error]
groups = with_defaults(vif.evaluation.random_groups, n_objects=6)
brittle = with_defaults(vif.evaluation.top_groups, estimate=SINGLE, counts=[1])
interval = with_defaults(vif.evaluation.bootstrap_interval, estimate=scores(), truth=scores(), n_resamples=5)
precision = with_defaults(vif.detection.precision, score=[3.0, 1, 2], planted=[True, False, False])
area = with_defaults(vif.detection.area, score=[3.0, 1, 2], planted=[1, 0, 0])
scatter = with_defaults(plots.scatter, estimate=scores(), truth=scores())
top = with_defaults(plots.top, attribution=scores())
falls = with_defaults(plots.waterfall, attribution=scores())
levered = with_defaults(plots.leverage, attribution=scores(), leverage=[0.1, 0.2, 0.3, 0.4])
timed = with_defaults(plots.influence_vs_time, attribution=scores(), durations=[1.0, 2, 3, 4], events=[1, 0, 1, 0])
heatmap = with_defaults(plots_many.heatmap, attribution=scores())
curves = with_defaults(plots_many.convergence, curves={"CG": ([1, 2], [0.1, 0.01])})
network = with_defaults(plots_graph.network, graph=GRAPH)
FLAGS = {"too short": [True], "twos": [2, 0, 1], "text": ["a", "b", "c"]}

TABLE = [
    (groups, "random_groups", {"n_objects": whole(1), "count": whole(1), "fraction": number(), "seed": whole(0)}),
    (brittle, "top_groups", {"counts": {"a half": [0.5], "text": "a", "everybody": [4]}, "target": TARGET}),
    (
        interval,
        "bootstrap_interval",
        {"level": number() | {"one": 1.0}, "n_resamples": whole(2), "seed": whole(0), "statistic": {"text": "r"}},
    ),
    (precision, "precision", {"k": whole(1, 3), "score": {"text": ["a"] * 3, "NaN": [NAN, 1, 2]}, "planted": FLAGS}),
    (area, "area", {"score": {"text": ["a"] * 3, "NaN": [NAN, 1, 2], "nothing": None}, "planted": FLAGS}),
    (vif.detection.suspicious, "suspicious", {"changes": {"text": "a", "nothing": None, "a table": [[1.0, 2.0]]}}),
    (scatter, "scatter", {"target": TARGET, "ax": AXES}),
    (top, "top", {"target": TARGET, "k": whole(1), "ax": AXES}),
    (falls, "waterfall", {"target": TARGET, "k": whole(1), "value": number(zero=False, negative=False), "ax": AXES}),
    (levered, "leverage", {"leverage": {"text": ["a"] * 4, "too short": [1.0]}, "target": TARGET, "ax": AXES}),
    (
        timed,
        "influence_vs_time",
        {
            "durations": {"text": ["a"] * 4, "too short": [1.0]},
            "events": {"text": ["a"] * 4},
            "target": TARGET,
            "ax": AXES,
        },
    ),
    (heatmap, "heatmap", {"k": whole(1), "ax": AXES}),
    (curves, "convergence", {"curves": {"a list": [1, 2], "text": {"CG": ("ab", "cd")}}, "ax": AXES}),
    (
        network,
        "network",
        {"scores": {"too short": [1.0], "text": ["a"] * 3}, "mark": {"no node": (9,), "text": "a"}, "ax": AXES},
    ),
    (network, "network", {"graph": {"text": "karate"}, "seed": whole(0), "limit": number()}),
]
# What is said of a whole group of wrong arguments.
SAID = {"counts": "`counts`|Cannot remove 4", "target": "target", "curves": "curves"}
GENERATED = [
    Case(
        f"{name}: {argument} is {kind}",
        made(function, argument, value),
        SAID.get(argument, f"`{argument}`|{argument}s? "),
    )
    for function, name, arguments in TABLE
    for argument, values in arguments.items()
    for kind, value in values.items()
]
BOTH = [
    Case(f"{function.__name__}: {kind}, {side}", call, f"The {side} scores must be an {WRONG}")
    for function in AGREEING
    for kind, value in NOTHING.items()
    for side, call in (
        ("first", lambda function=function, value=value: function(value, scores())),
        ("second", lambda function=function, value=value: function(scores(), value)),
    )
]
OTHERS = [
    Case(f"{name}: {kind}", lambda function=function, value=value: function(value), "vif.attribute|Attribution")
    for name, function in {
        "top": plots.top,
        "waterfall": plots.waterfall,
        "leverage": lambda value: plots.leverage(value, [1.0] * 4),
        "heatmap": plots_many.heatmap,
        "scatter": lambda value: plots.scatter(value, scores()),
        "influence_vs_time": lambda value: plots.influence_vs_time(value, [1.0] * 4, [1] * 4),
        "seed_ceiling": vif.evaluation.seed_ceiling,
        "top_groups": lambda value: vif.evaluation.top_groups(value, [1]),
        "summed": lambda value: vif.evaluation.summed(value, GROUPS),
        "lds": lambda value: vif.evaluation.lds(value, GROUPS),
        "ensemble": lambda value: vif.ensemble([value]),
    }.items()
    for kind, value in NO_ATTRIBUTION.items()
]


def shown(draw):
    """Return the words of a picture as it is drawn, all of them: a formula would fail here, or hide its dollars."""

    def call():
        ax = draw()
        ax.figure.canvas.draw()
        texts = [*ax.texts, *ax.get_yticklabels(), *ax.get_xticklabels(), ax.xaxis.label, ax.yaxis.label, ax.title]
        return [text._preprocess_math(text.get_text()) for text in texts]

    return call


def as_is(name):
    return lambda words: any(text.find(name) >= 0 for text, _ in words) and not any(formula for _, formula in words)


DOLLARS = scores(labels=["$\\frac$", "b$c$", "d", "e"], targets=["$^$", "f"])
SPECIAL = [
    Case("ensemble: one attribution", lambda: vif.ensemble(scores()), "`attributions` must be a list"),
    Case("ensemble: nothing", lambda: vif.ensemble(None), "`attributions` must be a list"),
    Case("ensemble: none", lambda: vif.ensemble([]), "nothing to average"),
    Case("ensemble: other objects", lambda: vif.ensemble([scores(), scores(5)]), "other removals"),
    Case("pearson: other objects", lambda: vif.pearson(scores(), scores(5)), "4 removals × 2 targets, and 5 × 2"),
    Case(
        "pearson: other targets",
        lambda: vif.pearson(scores(), scores(targets=["age", "dose"])),
        "different targets: at position 1",
    ),
    Case(
        "pearson: other names",
        lambda: vif.pearson(scores(labels=list("abcd")), scores(labels=list("abce"))),
        "different labels",
    ),
    Case("pearson: a constant", lambda: vif.pearson(torch.ones(4, 1), torch.ones(4, 1)), "undefined"),
    Case("lds: other data", lambda: vif.evaluation.lds(scores(5), GROUPS), "of the same data"),
    Case("seed_ceiling: one seed", lambda: vif.evaluation.seed_ceiling(scores()), "two seeds"),
    Case(
        "pearson_where: other shapes",
        lambda: vif.evaluation.pearson_where(torch.ones(2, 1), torch.ones(3, 1), torch.ones(2, 1) > 0),
        "of one shape",
    ),
    Case("top: a name", lambda: plots.top(scores(), target="sex").get_title(), right=lambda title: "sex" in title),
    Case("top: from the end", lambda: plots.top(scores(), target=-1).get_title(), right=lambda title: "sex" in title),
    Case(
        "scatter: a name",
        lambda: plots.scatter(scores(), scores(), target="sex").get_xlabel(),
        right=lambda label: "sex" in label,
    ),
    Case("top: dollars in names", shown(lambda: plots.top(DOLLARS)), right=as_is("$\\frac$")),
    Case("waterfall: dollars in names", shown(lambda: plots.waterfall(DOLLARS)), right=as_is("$\\frac$")),
    Case("leverage: dollars in names", shown(lambda: plots.leverage(DOLLARS, [1.0] * 4)), right=as_is("$^$")),
    Case("scatter: dollars in names", shown(lambda: plots.scatter(DOLLARS, DOLLARS)), right=as_is("$^$")),
    Case("heatmap: dollars in names", shown(lambda: plots_many.heatmap(DOLLARS)), right=as_is("b$c$")),
    Case(
        "network: dollars in names",
        shown(lambda: plots_graph.network(Graph(2, torch.tensor([[0, 1]]), torch.ones(1), labels=["$\\frac$", "b"]))),
        right=as_is("$\\frac$"),
    ),
    Case("leverage: groups", lambda: plots.leverage(GROUPS, [1.0] * 4), "removed in groups"),
    Case("influence_vs_time: groups", lambda: plots.influence_vs_time(GROUPS, [1.0] * 4, [1] * 4), "removed in groups"),
    Case("convergence: lengths", lambda: plots_many.convergence({"CG": ([1, 2], [0.1])}), "2 efforts and 1 errors"),
    Case("convergence: zero", lambda: plots_many.convergence({"CG": ([1], [0.0])}), "not above 0"),
    Case("area: nobody planted", lambda: area(planted=[0, 0, 0]), "nothing can be told apart"),
]
CASES = GENERATED + BOTH + OTHERS + SPECIAL
