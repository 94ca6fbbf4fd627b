"""`vif graph` from file to table."""

import networkx as nx
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.cli import main


@pytest.fixture
def edges(tmp_path):
    path = tmp_path / "edges.txt"
    path.write_text("\n".join(f"{a} {b}" for a, b in nx.karate_club_graph().edges))
    return path


def test_the_hub_between_the_pair_comes_first(edges, tmp_path, capsys):
    pytest.importorskip("pandas")
    out = tmp_path / "scores.csv"
    assert main(["graph", str(edges), "--pairs", "12,10", "15,13", "--out", str(out)]) == 0
    first, second = capsys.readouterr().out.split("pair 15,13")
    assert first.split("pair 12,10")[1].split()[0] == "0"
    assert "splits the graph" in first
    assert second.split()[0] == "33"
    assert out.read_text().startswith('object,"12,10","15,13"')


def test_a_graph_of_two_nodes_has_no_other_node_and_no_warning(tmp_path, capsys):
    path = tmp_path / "two.txt"
    path.write_text("a b\n")
    assert main(["graph", str(path), "--pairs", "a,b"]) == 0
    told = capsys.readouterr()
    assert told.out.startswith("2 nodes, 1 edge;")
    assert "there is no other node" in told.out
    assert not told.err


def test_where_the_scores_go_is_checked_before_any_work(edges, tmp_path, capsys):
    for out, said in [(tmp_path / "none" / "x.csv", "there is no folder"), (tmp_path, "is a folder")]:
        assert main(["graph", str(edges), "--pairs", "12,10", "--out", str(out)]) == 1
        told = capsys.readouterr()
        assert said in told.err
        assert not told.out


def test_many_parameters_are_said_to_give_coarse_scores(edges, capsys, monkeypatch):
    monkeypatch.setattr("versatile_influence.cli.graph.FINISHED_PARAMETERS", 10)
    assert main(["graph", str(edges), "--pairs", "12,10", "--penalty", "0.1"]) == 0
    assert "beyond 10 parameters" in capsys.readouterr().err


def test_a_wrong_file_or_pair_is_told_in_one_line(edges, tmp_path, capsys, refused):
    assert "'12' is no pair" in refused("graph", edges, "--pairs", "12")
    assert main(["graph", str(tmp_path), "--pairs", "1,2"]) == 1
    assert "Is a directory" in capsys.readouterr().err
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    assert main(["graph", str(tmp_path / "binary"), "--pairs", "1,2"]) == 1
    assert "no text in UTF-8" in capsys.readouterr().err
    assert main(["graph", str(edges), "--pairs", "12,99"]) == 1
    assert "no node named '99'" in capsys.readouterr().err
    assert main(["graph", str(tmp_path / "none.txt"), "--pairs", "1,2"]) == 1


def test_scores_are_held_against_refits_of_some_nodes_or_are_refits(edges, tmp_path, capsys):
    words = ["graph", str(edges), "--pairs", "12,10", "--penalty", "0.1"]
    assert main([*words, "--check", "5"]) == 0
    assert "Predictions against refits: 5 removals refitted: correlation " in capsys.readouterr().out
    assert main([*words, "--by", "refit", "--out", str(tmp_path / "o.csv")]) == 0
    assert "All 34 removals are exact" in capsys.readouterr().out
    found = pd.read_csv(tmp_path / "o.csv", index_col="object")["12,10"]
    loss = vif.losses.WalkEmbeddingLoss(str(edges), length=6, window=3, dim=2, penalty=0.1)
    theta, presence = vif.minimize(loss, loss.start()), torch.ones(34).double()
    presence[list(map(str, loss.node_labels)).index("5")] = 0
    target = loss.pair_losses([(12, 10)])
    change = target(vif.minimize(loss, theta, presence)) - target(theta)
    assert found[5] == pytest.approx(change.item(), rel=1e-5)
