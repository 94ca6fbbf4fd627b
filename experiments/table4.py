"""Table 4: training objects, test objects and parameters of each setting, counted in the data, beside the paper's.

python experiments/table4.py
"""

from dataclasses import asdict, dataclass

import networkx as nx

from experiments.run import Run
from versatile_influence.datasets import metabric, support
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious, mediamill
from versatile_influence.losses import CoxLoss, ListMLELoss, WalkEmbeddingLoss

# Training objects and test objects, Table 4; the paper prints no parameter counts there.
PAPER = {
    "METABRIC": (1217, 381),
    "SUPPORT": (5677, 1775),
    "Karate": (34, 1156),
    "Delicious": (100, 500),
    "Mediamill": (101, 500),
}
LABELS = {"Delicious": 100, "Mediamill": 101}


@dataclass(frozen=True)
class Setting:
    """What a setting has."""

    task: str
    objects: str
    training: int
    test: int
    parameters: int


def cox(data) -> Setting:
    """Return the setting of a Cox regression."""
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event")
    return Setting("Cox regression", "patients", loss.n_objects, len(data.test), loss.n_features)


def karate() -> Setting:
    """Return the setting of the node embedding; test objects are ordered pairs of nodes."""
    loss = WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=2)
    return Setting("node embedding", "nodes", loss.n_objects, loss.n_objects**2, count(loss.start()))


def ranking(parts, n_labels: int, seed: int) -> Setting:
    """Return the setting of a listwise ranking."""
    train, test = parts
    queries, tests = label_queries(train, test, drawn_labels(train, n_labels, seed=seed))
    loss = ListMLELoss(queries.x, queries.lists, n_items=queries.n_items)
    return Setting("listwise ranking", "labels", loss.n_objects, len(tests.lists), count(loss.zeros()))


def count(params) -> int:
    """Return how many numbers parameters hold."""
    return sum(part.numel() for part in (params.values() if isinstance(params, dict) else [params]))


def main():
    """Count and write; data that are not here are said to be missing."""
    run = Run.of(__file__, __doc__)
    read = {
        "METABRIC": lambda: cox(metabric()),
        "SUPPORT": lambda: cox(support()),
        "Karate": karate,
        "Delicious": lambda: ranking(delicious(), LABELS["Delicious"], run.seed),
        "Mediamill": lambda: ranking(mediamill(), LABELS["Mediamill"], run.seed),
    }
    settings, missing = {}, {}
    for name, of in read.items():
        try:
            settings[name] = asdict(of()) | {"paper training": PAPER[name][0], "paper test": PAPER[name][1]}
        except FileNotFoundError as error:
            missing[name] = str(error)
            print(error)
    for name, setting in settings.items():
        print(name, setting)
    run.record({"settings": settings, "missing": ", ".join(missing) or "none"})


if __name__ == "__main__":
    main()
