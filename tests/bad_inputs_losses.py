"""Bad inputs to ready losses, their targets and data sets: a table of wrong values a kind of argument, and others."""

import math
import re
import tempfile
from pathlib import Path
from types import SimpleNamespace

import networkx as nx
import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from bad_inputs import Case

import versatile_influence as vif
from versatile_influence import adapters, datasets, losses
from versatile_influence.datasets import documents, files, label_ranking, ranking, survival, svmlight
from versatile_influence.losses.graphs.graph import Graph

NAN, INF = math.nan, math.inf
F64 = torch.float64
X = [[1.0, 2.0], [0.0, 1.0], [1.0, 0.0], [0.0, 3.0]]
VIEWS = torch.arange(24.0, dtype=F64).reshape(2, 4, 3).sin()
FRAME = pd.DataFrame({"t": [1.0, 2, 3, 4], "e": [1, 1, 0, 1], "a": [1.0, 0, 1, 0], "b": [1.0, 2, 3, 5]})
DOCUMENTS = pd.DataFrame({"qid": ["q", "q"], "label": [1, 0], "f": [1.0, 2.0]})
LABELS = ranking.MultiLabel(sp.csr_matrix(np.eye(4)), sp.csr_matrix(np.eye(4)[:, :3]), ["a", "b", "c"])
FOLDER = Path(tempfile.mkdtemp())


def with_defaults(function, **defaults):
    """Return a function of some changed arguments."""
    return lambda **changes: function(**(defaults | changes))


cox = with_defaults(losses.CoxLoss, x=X, durations=[1, 2, 3, 4], events=[1, 1, 0, 1], penalty=0.1)
frame = with_defaults(losses.CoxLoss.from_frame, frame=FRAME, duration_col="t", event_col="e", penalty=0.1)
listmle = with_defaults(losses.ListMLELoss, x=[[0.0], [1.0]], rankings=[[0, 1], [2]], n_items=3, penalty=1.0)
soft = with_defaults(losses.SoftmaxRankingLoss, x=[[0.0], [1.0]], rankings=[[0, 1], [2]], n_items=3, penalty=1.0)
lists = with_defaults(losses.DocumentListMLELoss, x=X, relevance=[0, 1, 0, 1], qid=["a", "a", "b", "b"], penalty=1.0)
of_queries = with_defaults(
    losses.DocumentLoss, x=X, relevance=[0, 1, 0, 1], qid=["a", "a", "b", "b"], outer=losses.LambdaLoss(), penalty=1.0
)
HELD_OUT = {"scores": losses.Linear(torch.tensor(X)), "relevance": [0, 1, 0, 1], "qid": ["a", "a", "b", "b"]}
nce = with_defaults(losses.InfoNCELoss, views=VIEWS)
ROWS = (torch.ones(2, 3), torch.zeros(2, 3))
batched = with_defaults(
    losses.BatchedLoss,
    model=torch.nn.Linear(3, 2),
    batches=[(ROWS, [0, 1])],
    outer=losses.Contrast(),
    call=lambda model, batch: (model(batch[0]), model(batch[1])),
)


def learning(**changes):
    """Return a loss of pytorch-metric-learning of four rows."""
    from pytorch_metric_learning.losses import NTXentLoss

    given = {"classes": torch.tensor([0, 0, 1, 1]), "rank": 1} | changes
    return adapters.from_metric_learning(NTXentLoss(), torch.tensor(X), **given)


FACTORED = {"item": torch.zeros(3, 1, dtype=F64), "item_bias": torch.zeros(3, dtype=F64)}
ONE_FACTOR = torch.zeros(2, 1, dtype=F64)


def scaled(scale):
    """Return a contrastive loss whose module gives 1/τ itself."""
    call = lambda model, batch: (model(batch[0]), model(batch[1]), torch.tensor(scale))  # noqa: E731
    loss = batched(outer=losses.Contrast(temperature=None), call=call)
    return loss(loss.zeros(), torch.ones(2, dtype=F64)).item()


def by_row(outputs, presence):
    return (presence * outputs[0][:, 0]).sum()


def classified(classes, function=losses.cross_entropy):
    """Return a loss of two rows that are of some classes."""
    each = losses.EachObject(function)
    call = lambda model, batch: (model(batch[0]), batch[1])  # noqa: E731
    loss = batched(batches=[((ROWS[0], torch.tensor(classes)), [0, 1])], outer=each, call=call)
    return loss(loss.zeros(), torch.ones(2).double())


def a_network(outputs=1):
    """Return a Cox loss of a network, and its parameters."""
    model = torch.nn.Linear(2, outputs)
    loss = losses.CoxLoss(X, [1, 2, 3, 4], [1, 1, 0, 1], model=model, penalty=0.1)
    return loss, dict(model.named_parameters())


def two_risks():
    loss, params = a_network(2)
    return loss(params, torch.ones(4).double())


def swapped():
    from sksurv.linear_model import CoxPHSurvivalAnalysis
    from sksurv.util import Surv

    y = Surv.from_arrays([True, True, False, True], [1.0, 2, 3, 4])
    model = CoxPHSurvivalAnalysis(alpha=1.0).fit(X, y)
    return vif.adapters.from_scikit_survival(model, y, np.array(X))


contrast = with_defaults(lambda **changes: batched(outer=losses.Contrast(**changes)))
pairwise = with_defaults(losses.PairwiseLoss, winners=[0, 1], losers=[1, 2], penalty=1.0)
factors = with_defaults(losses.MatrixFactorisationLoss, users=[0, 0, 1], items=[0, 1, 2], dim=1)
triplet = with_defaults(losses.TripletLoss, triplets=[[0, 1, 2]], x=torch.tensor(X), n_objects=3)
term = with_defaults(losses.TermLoss, terms=lambda p: p, incidence=[0, 1])
walk = with_defaults(losses.WalkEmbeddingLoss, graph=nx.path_graph(4), length=3, window=1, dim=2, penalty=0.1)
skip = with_defaults(losses.SkipGramLoss, counts=torch.ones(3, 3), dim=2, penalty=0.1)
PATH_OF_FOUR = torch.tensor([[0, 1, 1, 2, 2, 3], [1, 0, 2, 1, 3, 2]])


class Neighbours(torch.nn.Module):
    """Sums over neighbours."""

    def __init__(self):
        super().__init__()
        self.out = torch.nn.Linear(2, 2)

    def forward(self, x, edge_index, edge_weight):
        """Return a row a node."""
        sums = torch.zeros_like(x).index_add(0, edge_index[1], edge_weight[:, None] * x[edge_index[0]])
        return self.out(x + sums)


def nodes(**changes):
    """Return data of four nodes."""
    return SimpleNamespace(**({"x": torch.tensor(X), "edge_index": PATH_OF_FOUR, "y": [0, 1, 0, 1]} | changes))


gnn = with_defaults(losses.GraphNetworkLoss, module=Neighbours(), data=nodes(), penalty=0.1)
top_k = with_defaults(losses.top_k_probability, test=listmle(), item=0, k=1, n_draws=4)
ndcg = with_defaults(losses.ndcg_change, test=listmle(), gains=[[1.0, 0, 0]] * 2, k=1)
trial = with_defaults(datasets.simulated_trial, n=20)
simulated = with_defaults(datasets.simulated_survival, n=5, d=2)
drawn = with_defaults(label_ranking.drawn_labels, data=LABELS, count=2)
queries = with_defaults(label_ranking.label_queries, train=LABELS, test=LABELS, labels=[0, 1], rank=1)
classes = with_defaults(walk().class_probabilities, classes={0: 0, 3: 1})


def whole(least, most=None):
    """Return wrong values where a whole number is wanted."""
    over = {} if most is None else {"too many": most + 1}
    return {"a half": 1.5, "text": "2", "true": True, "too few": least - 1, "NaN": NAN, "a list": [1]} | over


def number(*, zero=True, negative=True):
    """Return wrong values where a number is wanted."""
    extra = ({"zero": 0.0} if zero else {}) | ({"negative": -1.0} if negative else {})
    return {"text": "1", "NaN": NAN, "infinite": INF, "a list": [1.0, 2.0]} | extra


def column(n):
    """Return wrong values where n numbers are wanted."""
    ones = [1.0] * n
    return {
        "text": ["a"] * n,
        "digits as text": ["1"] * n,
        "NaN": [NAN, *ones[1:]],
        "too short": ones[1:],
        "a word": "x",
    }


def table():
    """Return wrong values where a table of numbers is wanted."""
    return {
        "text": [["a"]] * 2,
        "NaN": [[NAN]] * 2,
        "huge": [[1e308]] * 2,
        "ragged": [[1.0], [1.0, 2.0]],
        "no table": 3.0,
    }


CHOICE = {"unknown": "else", "nothing": None, "a number": 3}
MODEL = {"text": "net", "a class": torch.nn.Linear}
NAMES = {"too short": ["a"], "too long": list("abcdefgh")}
PATH = {"nothing there": "/nonexistent", "a folder": "/", "a number": 5, "nothing": None}
PENALTY = number(zero=False)
TWICE_NAMED = {"twice": ["a", "a", "b", "c"], "text": "abcd"}

# Function, argument, wrong values; the argument's name must stand in what is said.
TABLE = [
    (
        cox,
        "CoxLoss",
        {
            "x": table(),
            "durations": column(4),
            "events": column(4),
            "weights": column(4) | {"negative": [-1.0, 1, 1, 1]},
        },
    ),
    (
        cox,
        "CoxLoss",
        {"entry": column(4), "ties": CHOICE, "penalty": PENALTY, "model": MODEL, "labels": NAMES | {"text": "abcd"}},
    ),
    (cox, "CoxLoss", {"columns": NAMES | {"twice": ["a", "a"], "text": "ab"}}),
    (
        cox,
        "CoxLoss",
        {
            role: {
                "too short": [1],
                "missing": ["a", None, "b", "b"],
                "NaN": [1.0, NAN, 1.0, 1.0],
                "NA": pd.array(["a", pd.NA, "b", "b"]),
                "NaT": pd.to_datetime(["2020", "NaT", "2021", "2021"]),
                "dicts": [{}, {}, {}, {}],
                "lists in lists": [[1, [2]]] * 4,
                "text": "abcd",
            }
            for role in ("strata", "subjects", "clusters")
        },
    ),
    (frame, "from_frame", {"duration_col": {"unknown": "zz", "the events": "e"}, "event_col": {"unknown": "zz"}}),
    (
        frame,
        "from_frame",
        {
            "strata_cols": {"unknown": "zz"},
            "weights_col": {"unknown": "zz"},
            "cluster_col": {"unknown": "zz"},
            "ties": CHOICE,
        },
    ),
    (
        frame,
        "from_frame",
        {"frame": {"text": "x", "nothing": None, "columns twice": pd.concat([FRAME, FRAME[["a"]]], axis=1)}},
    ),
    (
        listmle,
        "ListMLELoss",
        {"x": table(), "n_items": whole(1), "penalty": PENALTY, "objects": CHOICE, "model": MODEL},
    ),
    (
        listmle,
        "ListMLELoss",
        {
            "rankings": {
                "floats": [[0.9], [1]],
                "text": [["a"], [1]],
                "true": [[True], [1]],
                "unknown": [[0, 3], [1]],
                "negative": [[-1], [1]],
                "too few": [[0]],
                "a number": 5,
                "a word": "ab",
            },
            "item_parameters": {"unknown": ["zz"], "text": "zz", "a number": 3},
            "labels": NAMES,
        },
    ),
    (
        soft,
        "SoftmaxRankingLoss",
        {"gains": {"too few": [[1.0], [1.0]], "negative": [[-1.0, 1], [1]], "text": [["a", "b"], [1]]}},
    ),
    (soft, "SoftmaxRankingLoss", {"n_items": whole(1), "objects": CHOICE, "x": table()}),
    (
        lists,
        "DocumentListMLELoss",
        {"x": table(), "relevance": column(4), "top": whole(1), "objects": CHOICE, "model": MODEL},
    ),
    (
        lists,
        "DocumentListMLELoss",
        {"qid": {"too short": ["a"], "nothing": None, "a number": 3}, "documents": {"too short": ["a"]}},
    ),
    (nce, "InfoNCELoss", {"temperature": number(), "dim": whole(1), "penalty": PENALTY, "model": MODEL}),
    (
        nce,
        "InfoNCELoss",
        {
            "views": {"a list": [[1.0]], "text": "a", "NaN": VIEWS * NAN, "flat": torch.ones(4, 3), "nothing": None},
            "batches": {
                "unknown": [[0, 9]],
                "negative": [[0, -1]],
                "floats": [[0.0, 1.0]],
                "twice": [[0, 1], [0, 2]],
                "text": "ab",
            },
            "classes": {"too short": [0], "missing": [0, None, 1, 1], "text": "abcd"},
            "positive_counts": {"zeros": [0.0] * 4, "too short": [1.0], "text": "a"},
        },
    ),
    (
        batched,
        "BatchedLoss",
        {"n_objects": whole(2), "at_once": whole(1), "penalty": PENALTY, "labels": NAMES, "model": MODEL},
    ),
    (
        batched,
        "BatchedLoss",
        {
            "batches": {
                "nothing": None,
                "none": [],
                "a tensor": torch.ones(2, 2),
                "read once": iter([(ROWS, [0, 1])]),
                "no pair": [ROWS[0]],
                "objects of text": [(ROWS, ["a", "b"])],
                "negative": [(ROWS, [0, -1])],
                "twice": [(ROWS, [0, 0])],
                "no object": [(ROWS, [])],
                "other number": [(ROWS, [0, 1, 2])],
            },
            "outer": {"a loss": pairwise(), "text": "contrast", "of one argument": lambda outputs: outputs},
            "call": {
                "of one argument": lambda model: model,
                "text": "call",
                "no outputs": lambda model, batch: None,
                "whole numbers": lambda model, batch: (torch.ones(2, 2).long(),) * 2,
            },
            "differences": {"a half": 0.5, "text": "yes", "one": 1},
        },
    ),
    (
        contrast,
        "Contrast",
        {
            "temperature": number(),
            "across": {"text": "yes", "one": 1},
            "one_way": {"text": "yes", "one": 1},
            "cosine": {"text": "yes", "one": 1},
        },
    ),
    (with_defaults(losses.EachObject), "EachObject", {"function": {"text": "f", "nothing": None}}),
    (
        with_defaults(losses.Triplets),
        "Triplets",
        {"margin": number(zero=False, negative=False), "smooth": {"text": "yes", "one": 1}},
    ),
    (with_defaults(losses.Preferred), "Preferred", {"beta": number()}),
    (
        losses.cross_entropy,
        "cross_entropy",
        {"outputs": {"one tensor": torch.ones(3), "nothing": None, "classes of text": (torch.ones(2, 2), ["a", "b"])}},
    ),
    (
        factors,
        "MatrixFactorisationLoss",
        {
            "users": {"text": "ab", "floats": [0.5, 1.0, 1.0], "negative": [0, -1, 1], "too short": [0]}
            | {"names": ["ann", "bob", "cy"], "ids": [0, 2**40, 1]},
            "items": {"text": "ab", "floats": [0.5, 1.0, 1.0], "negative": [0, -1, 1], "too short": [0]},
            "negatives": whole(1)
            | {"names": [["a"], ["b"], ["c"]], "ragged": [[2], [2, 2], [0]], "none": torch.zeros(3, 0).long()}
            | {"of those had to do with": [[0], [0], [0]], "floats": [[1.5]] * 3},
            "ratings": {"with bpr": [1.0, 2.0, 3.0]},
            "dim": whole(1),
            "n_users": whole(1),
            "n_items": whole(1),
            "seed": whole(0),
            "objects": CHOICE | {"too few names": ["a"], "a name missing": ["a", None, "b"]},
            "kind": CHOICE,
            "penalty": PENALTY,
        },
    ),
    (
        pairwise,
        "PairwiseLoss",
        {"beta": number(), "n_objects": whole(1), "penalty": PENALTY, "margin": number(zero=False, negative=False)},
    ),
    (
        pairwise,
        "PairwiseLoss",
        {
            "winners": {
                "negative": [-1, 0],
                "floats": [0.5, 1.5],
                "text": ["a", "b"],
                "true": [True, False],
                "a word": "ab",
            },
            "losers": {"too short": [1], "floats": [1.0, 2.0]},
            "weights": {"negative": [-1.0, 1], "NaN": [NAN, 1], "too short": [1.0], "text": ["a", "b"]},
            "x": {"too short": [[1.0]], "text": [["a"]] * 3, "NaN": [[NAN]] * 3},
            "scores": {"text": "f"},
            "incidence": {"floats": [0.5, 1], "text": ["a", "b"]},
        },
    ),
    (
        triplet,
        "TripletLoss",
        {"dim": whole(1), "margin": number(zero=False, negative=False), "model": MODEL, "x": {"NaN": [[NAN]] * 3}},
    ),
    (
        triplet,
        "TripletLoss",
        {
            "triplets": {
                "two": [[0, 1]],
                "unknown": [[0, 1, 9]],
                "negative": [[0, 1, -1]],
                "floats": [[0.0, 1, 2]],
                "none": [],
            }
        },
    ),
    (
        term,
        "TermLoss",
        {"n_objects": whole(1), "penalty": PENALTY, "labels": NAMES, "terms": {"nothing": None, "text": "f"}},
    ),
    (
        term,
        "TermLoss",
        {
            "incidence": {
                "none": [],
                "floats": [0.5, 1],
                "below −1": [[-2, 0], [0, 1]],
                "NaN": [NAN, 1],
                "ragged": [[0], [1, 2]],
                "text": ["a", "b"],
                "three axes": [[[0]]],
            }
        },
    ),
    (
        walk,
        "WalkEmbeddingLoss",
        {"length": whole(2), "dim": whole(1), "penalty": PENALTY, "objects": CHOICE, "dead_ends": CHOICE},
    ),
    (
        walk,
        "WalkEmbeddingLoss",
        {"p": number(), "q": number(), "model": {"text": "softmax", "a class": losses.Softmax}},
    ),
    (
        walk,
        "WalkEmbeddingLoss",
        {"window": {"zero": 0, "far": 9, "none": [], "a half": 1.5, "text": "1", "floats": [0.5]}},
    ),
    (
        walk,
        "WalkEmbeddingLoss",
        {"starts": {"negative": -1.0, "text": "a", "too short": [1.0, 1.0], "NaN": NAN, "zero": 0.0}},
    ),
    (
        walk,
        "WalkEmbeddingLoss",
        {"graph": {"nothing": None, "an array": np.ones((3, 3)), "rows": [[0, 1], [1, 0]], "no file": "/nonexistent"}},
    ),
    (gnn, "GraphNetworkLoss", {"objects": CHOICE, "penalty": PENALTY, "hops": whole(0), "labels": NAMES | TWICE_NAMED}),
    (
        gnn,
        "GraphNetworkLoss",
        {
            "module": MODEL | {"nothing": None},
            "train": {
                "none": [],
                "no node": [0, 9],
                "floats": [0.5],
                "a short mask": torch.tensor([True, False]),
                "a word": "all",
                "words": ["a"],
                "a dict": {0: 1},
                "twice": [0, 0],
                "ragged": [[0], [1, 2]],
            },
            "links": {
                "a number": 3,
                "one part": [[0, 1]],
                "no node": ([[0], [9]], [1]),
                "not linked": ([[0], [1]], [2.0]),
                "too few": ([[0], [1]], [1, 0]),
                "none": ([[], []], []),
                "words": ("a", "b"),
            },
            "criterion": {"text": "x", "one argument": lambda outputs: outputs},
            "weight": {"unknown": "w"},
            "directed": {"text": "no", "a number": 1},
        },
    ),
    (
        gnn,
        "GraphNetworkLoss",
        {
            "data": {
                "nothing": None,
                "a graph of networkx": nx.path_graph(4),
                "no labels": SimpleNamespace(x=torch.tensor(X), edge_index=PATH_OF_FOUR),
            }
        },
    ),
    (
        skip,
        "SkipGramLoss",
        {"dim": whole(1), "penalty": PENALTY, "labels": NAMES | {"twice": ["a", "a", "b"], "text": "abc"}},
    ),
    (
        skip,
        "SkipGramLoss",
        {
            "counts": {
                "a line": np.ones(3),
                "negative": -np.ones((3, 3)),
                "NaN": np.full((3, 3), NAN),
                "oblong": np.ones((2, 3)),
            },
            "model": {"text": "softmax", "nothing": None},
        },
    ),
    (losses.NegativeSampling, "NegativeSampling", {"negatives": number(), "power": number(zero=False) | {"two": 2.0}}),
    (
        top_k,
        "top_k_probability",
        {"item": whole(0, 2), "k": whole(1, 2), "n_draws": whole(1), "seed": whole(0), "test": {"text": "x"}},
    ),
    (
        of_queries,
        "DocumentLoss",
        {
            "x": table(),
            "relevance": column(4) | {"negative": [-1.0, 1, 0, 1], "a huge grade": [0, 2000, 0, 1]},
            "qid": NAMES,
            "outer": {"text": "x", "a class": losses.DocumentLoss, "two arguments": lambda scores, grades: scores},
            "order": column(4),
            "documents": NAMES,
            "objects": CHOICE,
            "penalty": PENALTY,
            "model": MODEL | {"two scores": torch.nn.Linear(2, 2)},
        },
    ),
    (losses.LambdaLoss, "LambdaLoss", {"mu": number(zero=False), "k": whole(1), "sigma": number()}),
    (losses.ApproxNDCG, "ApproxNDCG", {"temperature": number()}),
    (losses.SoftRanks, "SoftRanks", {"temperature": number(), "width": number()}),
    *(
        (
            with_defaults(metric, **HELD_OUT),
            metric.__name__,
            {
                "scores": {"text": "x", "no function": 3.0},
                "relevance": column(4) | {"negative": [-1.0, 1, 0, 1]},
                "qid": {"nothing": None, "apart": ["a", "b", "a", "b"], "a number": 3},
                "ranks": {"text": "soft", "a number": 0.1},
            }
            | ({} if metric is losses.reciprocal_rank else {"k": whole(1)}),
        )
        for metric in (losses.ndcg, losses.reciprocal_rank, losses.recall)
    ),
    (ndcg, "ndcg_change", {"k": whole(1), "gains": table(), "test": {"nothing": None}}),
    (
        classes,
        "class_probabilities",
        {"ridge": number(), "classes": {"a list": [0, 1], "none": {}}, "of": {"text": "0", "a number": 3}},
    ),
    (trial, "simulated_trial", {"n": whole(2), "unit_errors": whole(0, 6), "seed": whole(0)}),
    (simulated, "simulated_survival", {"n": whole(1), "d": whole(1), "seed": whole(0), "coefficients": column(2)}),
    (simulated, "simulated_survival", {"censored": number(zero=False) | {"one": 1.0}}),
    (drawn, "drawn_labels", {"count": whole(1, 3), "seed": whole(0), "data": {"text": "x"}}),
    (
        queries,
        "label_queries",
        {"rank": whole(1, 3), "n_test": whole(1), "labels": {"unknown": [9], "text": ["a"]}, "train": {"text": "x"}},
    ),
    (survival.read_deepsurv, "read_deepsurv", {"path": PATH}),
    (with_defaults(ranking.read_arff, n_labels=1), "read_arff", {"path": PATH}),
    (svmlight.read_svmlight, "read_svmlight", {"path": PATH}),
    (
        lambda **given: svmlight.read_svmlight(written("g", "1 1:2\n"), **given),
        "read_svmlight",
        {"groups": {"nothing there": "/nonexistent", "a number": 5}, "zero_based": {"text": "yes", "a number": 3}},
    ),
    (survival.metabric, "metabric", {"folder": {"a number": 5, "nothing there": "/nonexistent"}}),
]
# What stands for the argument's name, where it is not said by that.
SAID = {
    "x": "`x`|covariate|`rows`|shape|`incidence`|at least",
    "weights": "weight|`weights`",
    "durations": "duration",
    "events": "event",
    "entry": "entry",
    "winners": "winners|losers",
    "users": "users|items",
    "frame": "frame",
    "path": "path|folder|exist",
    "folder": "folder|holds no",
    "gains": "gains",
    "labels": "labels",
    "duration_col": "duration_col",
    "graph": "graph",
    "qid": "qid|row",
    "n_objects": "n_objects|Term 1 names|objects run",
    "batches": "batches|batch",
}


def made(function, argument, value):
    return lambda: function(**{argument: value})


GENERATED = [
    Case(f"{name}: {argument} is {kind}", made(function, argument, value), SAID.get(argument, re.escape(argument)))
    for function, name, arguments in TABLE
    for argument, values in arguments.items()
    for kind, value in values.items()
]


def written(name, text):
    (FOLDER / name).write_text(text)
    return FOLDER / name


def kept(make, given, change):
    """Return whether a loss stays as it is when the array that it was made of changes."""
    loss = make(given)
    params, everyone = loss.start() if hasattr(loss, "start") else loss.zeros(), torch.ones(loss.n_objects, dtype=F64)
    before = loss(params, everyone).item()
    change(given)
    return loss(params, everyone).item() == before


def changed(make, given):
    return lambda: kept(
        make, given, lambda array: array.mul_(3) if isinstance(array, torch.Tensor) else array.__imul__(3)
    )


def ordered(params):
    return {"output": params["output"], "embedding": params["embedding"]}


NODES = Graph(3, torch.tensor([[0, 1], [1, 2]]), torch.ones(2), labels=[33, "33", "a"])
TARGETS = walk(graph=NODES)
PARAMS = torch.ones(2, dtype=F64)
SPECIAL = [
    Case("EachObject: classes too large", lambda: classified([0, 9]), "`function` cannot be computed for a batch of 2"),
    Case("EachObject: classes as a column", lambda: classified([[0], [1]]), r"classes \(b,\), whole numbers"),
    Case("EachObject: classes of another batch", lambda: classified([0, 1, 1]), r"\(2, 2\) and \(3,\)"),
    Case("EachObject: classes that are no numbers", lambda: classified([True, False]), "torch.bool"),
    Case("EachObject: a mean", lambda: classified([0, 1], lambda o: o[0].mean()), "one number a term"),
    Case("EachObject: what fails", lambda: classified([0, 1], lambda o: o["logits"]), "`function` cannot be computed"),
    Case("BatchedLoss: an outer a row", lambda: batched(outer=lambda o, b: b * o[0][:, 0]), r"`outer`.*shape \(2,\)"),
    Case("BatchedLoss: an outer in Python", lambda: batched(outer=lambda o, b: 1.0), "`outer` must return one number"),
    Case("BatchedLoss: an outer that forgets", lambda: batched(outer=lambda o, b: None), "`outer`.*got None"),
    Case("BatchedLoss: an outer that fails", lambda: batched(outer=lambda o, b: o["x"]), "`outer` cannot be computed"),
    Case("BatchedLoss: an unwrapped term", lambda: batched(outer=losses.cross_entropy), r"EachObject\(cross_entropy\)"),
    Case("BatchedLoss: objects None", lambda: batched(batches=[(ROWS, None)]), "names no objects"),
    Case(
        "BatchedLoss: more objects than rows",
        lambda: batched(batches=[(ROWS, range(3))], outer=by_row),
        "batch of 3 objects",
    ),
    Case("CoxLoss: a network with two outputs", lambda: two_risks(), "one log-risk a row"),
    Case("standard_errors: a network", lambda: losses.standard_errors(*a_network()), "A network has no coefficients"),
    Case("from_scikit_survival: y and x", lambda: swapped(), "`y` must be events and times"),
    Case("dfbeta: another loss", lambda: losses.dfbeta(listmle(), PARAMS), "`loss` must be"),
    Case("term_values: another loss", lambda: losses.term_values(listmle()), "`test` must be"),
    Case("TermLoss: a start that is a list", lambda: term(start=[1.0]), "`start` must be a tensor"),
    Case(
        "MatrixFactorisationLoss: another name",
        lambda: factors()({"users": ONE_FACTOR, **FACTORED}, torch.ones(3, dtype=F64)),
        r"must be those of loss.zeros.., in that order: .'user': .2, 1.",
    ),
    Case(
        "MatrixFactorisationLoss: another shape",
        lambda: factors()({"user": torch.zeros(3, 1, dtype=F64), **FACTORED}, torch.ones(3, dtype=F64)),
        r"in that order: .'user': .2, 1..* got .'user': .3, 1.",
    ),
    Case(
        "MatrixFactorisationLoss: no dict",
        lambda: factors()(torch.zeros(8, dtype=F64), torch.ones(3, dtype=F64)),
        "must be the dict of `loss.zeros",
    ),
    Case(
        "preference: another name",
        lambda: factors().preference([(0, 2)])({"users": ONE_FACTOR, **FACTORED}),
        "must be the dict of `loss.zeros.*got .'users'",
    ),
    Case("preference: names", lambda: factors().preference([("ann", "x")]), "`pairs` .* got 'ann' in it"),
    Case("from_metric_learning: classes of text", lambda: learning(classes=[*"aabb"]), "`classes` .* got 'a' in it"),
    Case("from_metric_learning: half a rank", lambda: learning(rank=1.5), "`rank` must be a whole number"),
    Case("from_metric_learning: a word for tuples", lambda: learning(mined="hard"), "`mined` must be what a miner"),
    Case("from_metric_learning: one tensor", lambda: learning(mined=torch.zeros(3, 1)), "`mined` must be what a miner"),
    Case(
        "DocumentLoss: a class",
        lambda: of_queries(outer=losses.ApproxNDCG),
        "`outer` must be a value .* got the class ApproxNDCG",
    ),
    Case(
        "Contrast: a negative 1/τ",
        lambda: scaled(-1.0),
        "temperature=None. needs 1/τ, more than 0, as last output, got -1",
    ),
    Case("Contrast: 1/τ", lambda: scaled(2.0), right=lambda value: value > 0),
    Case("CoxLoss: one name for two covariates", lambda: cox(columns=["a"]), "`columns`.*: 2, got 1"),
    Case(
        "CoxLoss: presence too long", lambda: cox()(PARAMS, torch.ones(5, dtype=F64)), "4 objects, but `presence` has 5"
    ),
    Case(
        "CoxLoss: presence too short",
        lambda: cox()(PARAMS, torch.ones(3, dtype=F64)),
        "4 objects, but `presence` has 3",
    ),
    Case("CoxLoss: every row censored", lambda: cox(events=[0, 0, 0, 0]), "no event"),
    Case("CoxLoss: events of 2", lambda: cox(events=[2, 0, 1, 1]), "the event is 2"),
    Case("CoxLoss: a constant", lambda: cox(x=np.ones((4, 1)), penalty=0.0), "constant"),
    Case(
        "CoxLoss: events are truths",
        lambda: cox(events=[True, True, False, True]),
        right=lambda loss: loss.n_objects == 4,
    ),
    Case("from_frame: text", lambda: frame(frame=FRAME.assign(a=["x"] * 4)), "`a` is not numeric"),
    Case("from_frame: events in words", lambda: frame(frame=FRAME.assign(e=["1", "1", "0", "1"])), "event_value='1'"),
    Case(
        "from_frame: a missing number of a nullable column",
        lambda: frame(frame=FRAME.assign(a=pd.array([1, None, 2, 3], dtype="Int64"))),
        "`a` is nan",
    ),
    Case("from_frame: an unknown policy", lambda: frame(na="fill"), '`na` must be "refuse" or "drop"'),
    Case("from_frame: no such event", lambda: frame(event_value=7), r"No row of `e` holds the event .event_value=7."),
    Case("from_formula: no text", lambda: losses.CoxLoss.from_formula(3, FRAME), "`formula` must be text"),
    Case("from_formula: no frame", lambda: losses.CoxLoss.from_formula("Surv(t, e) ~ a", 3), "`frame` must be"),
    Case("from_formula: no formula", lambda: losses.CoxLoss.from_formula("a + b", FRAME), "`formula` must be like"),
    Case("from_formula: unknown", lambda: losses.CoxLoss.from_formula("Surv(t, e) ~ zz", FRAME), "zz"),
    Case("standard_errors: another loss", lambda: losses.standard_errors(listmle(), PARAMS), "`loss` must be"),
    Case("z_values: unknown", lambda: cox().z_values(["zz"]), "no covariate named 'zz'"),
    Case("from_frame: nothing left", lambda: frame(frame=FRAME[["t", "e"]]), "No covariate is left"),
    Case(
        "from_frame: names that are numbers",
        lambda: frame(frame=FRAME.rename(columns={"a": 1, "b": 2})),
        right=lambda loss: loss.columns == [1, 2],
    ),
    Case("survival: NaN", lambda: cox().survival(X[:1], [NAN]), "`times` is nan"),
    Case("survival: negative", lambda: cox().survival(X[:1], [-1.0]), "`times` is -1"),
    Case("survival: none", lambda: cox().survival(X[:1], []), "`times` is empty"),
    Case("survival: text", lambda: cox().survival(X[:1], "a"), "`times` must be numeric"),
    Case(
        "survival: unknown stratum",
        lambda: cox(strata=[1, 1, 2, 2]).survival(X[:1], 1.0, strata=[9]),
        "no stratum named 9",
    ),
    Case(
        "survival: the text of a stratum",
        lambda: cox(strata=[1, 1, 2, 2]).survival(X[:1], 1.0, strata=["2"]),
        right=lambda _: True,
    ),
    Case("relative_risk: text", lambda: cox().relative_risk("a"), "`x` must be numeric"),
    Case("relative_risk: three of two covariates", lambda: cox().relative_risk(np.ones(3)), r"\(m, 2\)"),
    Case(
        "relative_risk: one patient", lambda: cox().relative_risk([1.0, 2.0]), right=lambda target: target.labels == [0]
    ),
    Case("relative_risk: nobody", lambda: cox().relative_risk(np.ones((0, 2))), r"\(m, 2\)"),
    Case("relative_risk: NaN", lambda: cox().relative_risk([[NAN, 1.0]]), "x0 = nan"),
    Case("coefficients: unknown", lambda: cox().coefficients(["zz"]), "no covariate named 'zz'"),
    Case("coefficients: text", lambda: cox().coefficients("x0"), r"Write \['x0'\]"),
    Case("ListMLELoss: a list is empty", lambda: listmle(rankings=[[0], []]), "query 1 is empty"),
    Case("ListMLELoss: an item twice", lambda: listmle(rankings=[[0, 0], [1]]), "item 0 twice"),
    Case("DocumentListMLELoss: queries apart", lambda: lists(qid=["a", "b", "a", "b"]), "Sort the rows"),
    Case("InfoNCELoss: three views across", lambda: nce(views=torch.ones(3, 4, 3), across=True), "two with `across`"),
    Case("InfoNCELoss: across and one way", lambda: nce(across=True, one_way=True), "`one_way`"),
    Case("InfoNCELoss: an object in no batch", lambda: nce(batches=[[0, 1]]), "2 of 4 objects are in no batch"),
    Case(
        "InfoNCELoss: whole numbers",
        lambda: nce(views=torch.ones(2, 4, 3, dtype=torch.long)),
        right=lambda loss: bool(torch.isfinite(loss(loss.zeros(), torch.ones(4, dtype=F64)))),
    ),
    Case("InfoNCELoss: an array", lambda: nce(views=VIEWS.numpy()), right=lambda loss: loss.n_objects == 4),
    Case("PairwiseLoss: a pair with itself", lambda: pairwise(winners=[0, 2]), "prefers 2 to itself"),
    Case("PairwiseLoss: no pairs", lambda: pairwise(winners=[], losers=[]), "no pair"),
    Case("PairwiseLoss: scores and x", lambda: pairwise(scores=lambda p: p, x=X), "alone"),
    Case("PairwiseLoss: a network without x", lambda: pairwise(model=torch.nn.Linear(2, 1)), "`model` and `x`"),
    Case(
        "PairwiseLoss: weights as a list", lambda: pairwise(weights=[1.0, 2.0]), right=lambda loss: loss.n_objects == 2
    ),
    Case("TermLoss: a term without object", lambda: term(incidence=[[-1, -1], [0, 1]]), "Term 0 has no object"),
    Case("TermLoss: an object too many", lambda: term(incidence=[0, 3], n_objects=2), "Term 1 names object 3"),
    Case("TermLoss: an object in no term", lambda: term(n_objects=3), "1 of 3 objects are in no term"),
    Case("SquaredError: NaN", lambda: losses.SquaredError([1.0, NAN]), "row 1 is nan"),
    Case("SquaredError: none", lambda: losses.SquaredError([]), "empty"),
    Case("SquaredError: two columns", lambda: losses.SquaredError([[1.0, 2.0]]), "one answer a row"),
    Case(
        "SquaredError: complex numbers",
        lambda: losses.SquaredError(torch.ones(2) * 1j),
        "`y` must be a tensor of numbers",
    ),
    Case("Logistic: text", lambda: losses.Logistic(["a", "b"]), "'a' in it"),
    Case("Logistic: 2", lambda: losses.Logistic([0, 2]), "from 0 to 1"),
    Case("Poisson: negative", lambda: losses.Poisson([-1.0]), "counts"),
    Case("Linear: text", lambda: losses.Linear("a"), "got 'a'"),
    Case("Linear: one axis", lambda: losses.Linear(np.ones(3)), r"\(rows, columns\)"),
    Case("Linear: huge", lambda: losses.Linear([[1e308]]), "Measure in a larger unit"),
    Case("Linear: a sparse tensor", lambda: losses.Linear(torch.eye(2).to_sparse()), "torch.sparse_coo"),
    Case("Graph: an end that is no node", lambda: Graph(2, torch.tensor([[0, 5]]), torch.ones(1)), "`ends` is 5"),
    Case(
        "Graph: names twice",
        lambda: Graph(2, torch.tensor([[0, 1]]), torch.ones(1), labels=["a", "a"]),
        "'a' names two",
    ),
    Case(
        "Graph: names that are lists",
        lambda: Graph(2, torch.tensor([[0, 1]]), torch.ones(1), labels=[[0], [1]]),
        "`labels` must be text",
    ),
    Case("GraphNetworkLoss: NaN in x", lambda: gnn(data=nodes(x=torch.full((4, 2), NAN))), "`x` is nan"),
    Case("GraphNetworkLoss: no node", lambda: gnn(data=nodes(edge_index=[[0, 9], [9, 0]])), "`edge_index` is 9"),
    Case("GraphNetworkLoss: one way", lambda: gnn(data=nodes(edge_index=[[0], [1]])), "not 1→0"),
    Case("GraphNetworkLoss: twice", lambda: gnn(data=nodes(edge_index=[[0, 1, 0], [1, 0, 1]])), "0→1 twice"),
    Case("GraphNetworkLoss: a loop", lambda: gnn(data=nodes(edge_index=[[2], [2]])), "self-loop at node 2"),
    Case("GraphNetworkLoss: a short y", lambda: gnn(data=nodes(y=[0, 1])), "one label a node: 4"),
    Case("GraphNetworkLoss: words in y", lambda: gnn(data=nodes(y=["a", "b", "a", "b"])), "`y` must hold a number"),
    Case("GraphNetworkLoss: y by columns", lambda: gnn(data=nodes(y=[[0], [1], [0], [1]])), "`y` must be of shape"),
    Case("GraphNetworkLoss: no class", lambda: gnn(data=nodes(y=[0, 1, 0, 7])), "`y` of node 3 is 7"),
    Case("GraphNetworkLoss: train and links", lambda: gnn(train=[0], links=([[0], [1]], [1])), "Pass one"),
    Case("class_probabilities: of 9", lambda: gnn().class_probabilities([0], of=9), "`of` must be a whole number"),
    Case("class_probabilities: of text", lambda: gnn().class_probabilities([0], of="a"), "`of` must be a whole number"),
    Case("class_probabilities: no nodes", lambda: gnn().class_probabilities(None), "`nodes` must be numbers of nodes"),
    Case("class_probabilities: no graph", lambda: gnn().class_probabilities([0], graph="all"), "`graph` must be"),
    Case("test_loss: no nodes", lambda: gnn().test_loss([]), "names no node"),
    Case("link_probabilities: no node", lambda: gnn().link_probabilities([[0, 7]]), "`pairs` is 7"),
    Case("WalkEmbeddingLoss: no edges", lambda: walk(graph=nx.empty_graph(3)), "no edges"),
    Case("WalkEmbeddingLoss: a self-loop", lambda: walk(graph=nx.Graph([(0, 0), (0, 1)])), "self-loop"),
    Case(
        "WalkEmbeddingLoss: a negative weight",
        lambda: walk(graph=nx.Graph([(0, 1, {"w": -1})]), weight="w"),
        "has weight -1",
    ),
    Case(
        "WalkEmbeddingLoss: a weight in words",
        lambda: walk(graph=nx.Graph([(0, 1, {"w": "a"})]), weight="w"),
        "`w` must be numeric",
    ),
    Case("WalkEmbeddingLoss: no such weight", lambda: walk(weight="w"), "no attribute 'w'"),
    Case(
        "WalkEmbeddingLoss: no such weight of Data",
        lambda: walk(graph=SimpleNamespace(edge_index=[[0, 1], [1, 0]], num_nodes=2), weight="w"),
        "no attribute 'w'",
    ),
    Case("WalkEmbeddingLoss: an oblong matrix", lambda: walk(graph=sp.csr_array(np.ones((2, 3)))), "square"),
    Case("pair_losses: unknown", lambda: walk().pair_losses([(0, 99)]), "no node named 99"),
    Case("pair_losses: none", lambda: walk().pair_losses([]), "no pairs"),
    Case("pair_losses: three", lambda: walk().pair_losses([(0, 1, 2)]), "no pair of nodes"),
    Case("pair_losses: one node", lambda: walk().pair_losses([0]), "no pair of nodes"),
    Case("pair_losses: text", lambda: walk().pair_losses("01"), "`pairs` must be a list"),
    Case(
        "pair_losses: a number and its text",
        lambda: TARGETS._pairs([("33", 33)])[0].flatten().tolist(),
        right=lambda found: found == [1, 0],
    ),
    Case(
        "pair_losses: the text of a number",
        lambda: walk()._pairs([("3", 0)])[0].flatten().tolist(),
        right=lambda found: found == [3, 0],
    ),
    Case(
        "SkipGramLoss: a dict in another order",
        lambda: vif.attribute(skip(), ordered(skip().start()), skip().pair_losses([(0, 1)])),
        "in this order",
    ),
    Case(
        "SkipGramLoss: a tensor of parameters",
        lambda: skip()(torch.ones(3), torch.ones(3, dtype=F64)),
        "a dict of `embedding` and `output`",
    ),
    Case(
        "SkipGramLoss: counts as an array", lambda: skip(counts=np.ones((3, 3))), right=lambda loss: loss.n_objects == 3
    ),
    Case("read_deepsurv: no HDF5", lambda: survival.read_deepsurv(written("a.h5", "hello")), "not an HDF5 file"),
    Case("read_svmlight: no qid", lambda: svmlight.read_svmlight(written("a", "1 1:2\n")), "no `qid:`"),
    Case(
        "read_svmlight: a number of features",
        lambda: svmlight.read_svmlight(written("b", "1 qid:1 1:2\n"), n_features="3"),
        "n_features",
    ),
    Case("read_trec: a number", lambda: documents.read_trec(5, "x"), "`runs` must be a list"),
    Case("documents.from_frame: unknown", lambda: documents.from_frame(DOCUMENTS, qid="zz"), "no column `zz`"),
    Case("documents.from_frame: text", lambda: documents.from_frame(DOCUMENTS.assign(f=["a", "b"])), "'a' in it"),
    Case("documents.from_frame: NaN", lambda: documents.from_frame(DOCUMENTS.assign(label=[NAN, 1])), "`label` is nan"),
    Case(
        "documents.from_frame: no frame", lambda: documents.from_frame({"qid": [1]}), "`frame` must be a pandas frame"
    ),
    Case("find: a number for a folder", lambda: files.find("a", url="", sha256="", folder=3), "`folder`"),
    Case("CoxLoss: x changes afterwards", changed(lambda x: cox(x=x), torch.tensor(X, dtype=F64)), right=bool),
    Case("CoxLoss: weights change afterwards", changed(lambda w: cox(weights=w), np.ones(4)), right=bool),
    Case("ListMLELoss: x changes afterwards", changed(lambda x: listmle(x=x), np.array([[0.0], [1.0]])), right=bool),
    Case(
        "DocumentListMLELoss: x changes afterwards",
        changed(lambda x: lists(x=x), torch.tensor(X, dtype=F64)),
        right=bool,
    ),
    Case(
        "InfoNCELoss: views change afterwards",
        changed(lambda v: nce(views=v, model=torch.nn.Linear(3, 2).double()), VIEWS.clone()),
        right=bool,
    ),
    Case(
        "PairwiseLoss: weights change afterwards",
        changed(lambda w: pairwise(weights=w), torch.ones(2, dtype=F64)),
        right=bool,
    ),
    Case(
        "PairwiseLoss: winners change afterwards",
        changed(lambda w: pairwise(winners=w, losers=[1, 2], x=[[1.0], [2], [4], [5], [7]]), torch.tensor([0, 1])),
        right=bool,
    ),
    Case("TripletLoss: x changes afterwards", changed(lambda x: triplet(x=x), torch.tensor(X, dtype=F64)), right=bool),
    Case(
        "TermLoss: answers change afterwards",
        changed(
            lambda y: term(terms=losses.SquaredError(y), outputs=losses.Linear([[1.0], [2.0]])),
            torch.ones(2, dtype=F64),
        ),
        right=bool,
    ),
    Case(
        "Linear: x changes afterwards",
        changed(
            lambda x: term(terms=losses.SquaredError([1.0, 2.0]), outputs=losses.Linear(x)), torch.ones(2, 1, dtype=F64)
        ),
        right=bool,
    ),
    Case(
        "SkipGramLoss: counts change afterwards",
        changed(lambda c: skip(counts=c), torch.ones(3, 3, dtype=F64)),
        right=bool,
    ),
    Case(
        "WalkEmbeddingLoss: starts change afterwards",
        changed(lambda s: walk(starts=s), torch.ones(4, dtype=F64)),
        right=bool,
    ),
]
CASES = GENERATED + SPECIAL
