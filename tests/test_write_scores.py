"""Scores written block by block are those computed in memory, and are read as they are used."""

import json
import warnings

import joblib
import networkx as nx
import numpy as np
import pytest
import torch

import versatile_influence as vif
from versatile_influence.core import files
from versatile_influence.verbs import write_scores

N, P, T = 25, 3, 7
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, P, generator=DRAW, dtype=torch.float64)
Y = torch.randn(N, generator=DRAW, dtype=torch.float64)
THETA = torch.linalg.lstsq(X, Y[:, None]).solution[:, 0]
TEST = torch.randn(T, P, generator=DRAW, dtype=torch.float64)


def loss(theta, presence):
    return (presence * (Y - X @ theta) ** 2).sum() / 2


def target(theta):
    return TEST @ theta


def narrow(theta):
    return TEST[:2] @ theta


@pytest.mark.parametrize("aim", [target, narrow])
@pytest.mark.parametrize("kept", [0, 10**9])
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_blocks_on_disk_are_the_scores_in_memory(tmp_path, monkeypatch, aim, kept, n_jobs):
    monkeypatch.setattr(write_scores, "SCORE_NUMBERS", 30)
    monkeypatch.setattr(write_scores, "KEPT_NUMBERS", kept)
    plain = vif.attribute(loss, THETA, aim, n_objects=N)
    with joblib.parallel_config("threading", n_jobs=n_jobs):
        written = vif.write_scores(loss, THETA, aim, tmp_path / "out", n_objects=N)
    torch.testing.assert_close(written.scores, plain.scores, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(written.solution.residual, plain.solution.residual, atol=1e-12, rtol=0)
    again = vif.Attribution.load(tmp_path / "out")
    assert torch.equal(again.scores, written.scores)
    assert torch.equal(again.top(3, target=1), plain.top(3, target=1))
    torch.testing.assert_close(vif.pearson(again, plain), torch.ones(plain.scores.shape[1], dtype=torch.float64))


def test_the_file_is_an_ordinary_npy(tmp_path):
    written = vif.write_scores(loss, THETA, target, tmp_path, n_objects=N, objects=[3, 1])
    np.testing.assert_array_equal(np.load(tmp_path / "scores.npy"), written.scores)
    assert written.objects.tolist() == [3, 1]


def test_a_folder_with_scores_is_not_written_over(tmp_path):
    vif.write_scores(loss, THETA, target, tmp_path, n_objects=N)
    with pytest.raises(ValueError, match="already holds scores"):
        vif.write_scores(loss, THETA, target, tmp_path, n_objects=N)


def test_a_folder_of_a_stopped_run_is_no_result(tmp_path):
    (tmp_path / "scores.npy").touch()
    with pytest.raises(ValueError, match="was stopped"):
        vif.Attribution.load(tmp_path)


def test_unfinished_training_is_told_and_presence_targets_are_refused(tmp_path):
    with pytest.warns(UserWarning, match="not at a minimum"):
        vif.write_scores(loss, THETA + 1, target, tmp_path / "a", n_objects=N)
    aim = vif.PresenceTarget(lambda theta, presence: theta)
    with pytest.raises(ValueError, match="targets of the parameters alone"):
        vif.write_scores(loss, THETA, aim, tmp_path / "b", n_objects=N)


def test_every_flipped_bit_in_a_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(write_scores, "SCORE_NUMBERS", 30)
    vif.write_scores(loss, THETA, target, tmp_path, n_objects=N)
    for path in (tmp_path / "scores.npy", tmp_path / "blocks.json", tmp_path / "rest.npz"):
        data = path.read_bytes()
        for place in range(0, len(data), 41):
            path.write_bytes(data[:place] + bytes([data[place] ^ 1 << place % 7]) + data[place + 1 :])
            with pytest.raises(ValueError, match="is damaged"):
                vif.Attribution.load(tmp_path)
        path.write_bytes(data[:-1])
        with pytest.raises(ValueError, match="is damaged"):
            vif.Attribution.load(tmp_path)
        path.unlink()
        with pytest.raises(ValueError, match="is damaged|holds no finished scores"):
            vif.Attribution.load(tmp_path)
        path.write_bytes(data)
    assert vif.Attribution.load(tmp_path).scores.shape == (N, T)


def test_a_folder_of_an_earlier_version_has_no_checksums_and_is_read(tmp_path):
    plain = vif.attribute(loss, THETA, target, n_objects=N)
    np.save(tmp_path / "scores.npy", np.asfortranarray(plain.scores.numpy()))
    rest = {"objects": np.arange(N), "scores": np.empty((N, 0))}
    header = dict.fromkeys(["groups", "labels", "targets", "failed", "solution"]) | {"n_objects": N}
    about = json.dumps(header | {"format": "versatile-influence attribution 1"}).encode()
    np.savez(tmp_path / "rest.npz", header=np.frombuffer(about, dtype=np.uint8), **rest)
    assert torch.equal(vif.Attribution.load(tmp_path).scores, plain.scores)


def test_a_second_run_on_a_folder_that_is_being_written_is_refused_and_an_error_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.05)
    with files.alone(tmp_path), pytest.raises(ValueError, match="Another run is filling"):
        vif.write_scores(loss, THETA, target, tmp_path, n_objects=N)
    with pytest.raises(ValueError, match="is nan"):
        vif.write_scores(loss, THETA, lambda theta: TEST @ theta * float("nan"), tmp_path, n_objects=N)
    assert not list(tmp_path.glob("scores*"))


@pytest.mark.filterwarnings("ignore:0 of 12 removals are trusted")
def test_targets_that_are_about_nodes_are_written_as_they_are_in_memory(tmp_path):
    walks = {"length": 5, "window": 2, "dim": 2, "penalty": 0.5}
    graph = vif.losses.WalkEmbeddingLoss(nx.barabasi_albert_graph(12, 2, seed=0), **walks)
    params, shared = vif.minimize(graph, graph.start()), graph.treated(vif.owned.Shared())
    for name in ("link_scores", "cosine_similarities"):
        asked = getattr(graph, name)([(3, 7), (1, 2)])
        if name == "link_scores":
            written = vif.write_scores(shared, params, asked, tmp_path / name)
        else:
            with pytest.warns(UserWarning, match="NaN stands for it, 4 times"):
                written = vif.write_scores(shared, params, asked, tmp_path / name)
            assert int(written.scores.isnan().sum()) == 4
        again = vif.Attribution.load(tmp_path / name)
        assert torch.equal(again.about, asked.about)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            plain = vif.attribute(shared, params, asked, check=False)
        torch.testing.assert_close(again.scores, plain.scores, rtol=1e-10, atol=1e-12, equal_nan=True)
