"""The ranking experiment on files in Mediamill's format: dense real features, then labels of 0 and 1."""

import json

import numpy as np

from experiments import delicious
from experiments.run import Run
from versatile_influence.datasets.ranking import read_arff


def written(path, rows, seed):
    draw = np.random.default_rng(seed)
    x = draw.normal(size=(rows, 10))
    labels = (x[:, :6] + draw.normal(size=(rows, 6)) > 0).astype(int)
    names = [f"@attribute Att{j} numeric" for j in range(10)] + [f"@attribute Class{j} {{0,1}}" for j in range(6)]
    lines = [",".join([*(f"{v:.6f}" for v in a), *map(str, b)]) for a, b in zip(x, labels, strict=True)]
    path.write_text("\n".join(["@relation mediamill", *names, "@data", *lines]))
    return read_arff(path, n_labels=6)


def test_the_ranking_experiment_runs_on_mediamills_format(tmp_path):
    run = Run.of("mediamill.py", None, argv=["--out", str(tmp_path)])
    delicious.measure(run, written(tmp_path / "train.arff", 80, 0), written(tmp_path / "test.arff", 30, 1), n_items=6)
    numbers = json.loads((tmp_path / "mediamill.json").read_text())["numbers"]
    assert numbers["items"] == 6
    assert numbers["failed refits"] == 0
    assert numbers["newton_step"]["direct + parameter"] > 0.99
