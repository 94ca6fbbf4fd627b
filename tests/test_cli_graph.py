"""`vif graph` from file to table."""

import io
import itertools
import json
import re

import networkx as nx
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text

import versatile_influence as vif
from versatile_influence.cli import main
from versatile_influence.losses.graphs.graph import Graph


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
    assert "names one node twice" in refused("graph", edges, "--pairs", "12,10", "1,1")
    assert "--check is of predictions" in refused("graph", edges, "--pairs", "12,10", "--by", "refit", "--check", "2")
    assert main(["graph", str(tmp_path / "none.txt"), "--pairs", "1,2"]) == 1


def test_what_is_asked_of_a_graph_is_taken_as_meant(tmp_path, capsys, refused):
    (tmp_path / "e.csv").write_text('source,target\n"a, b",c\nc,d\nd,"a, b"\nd,e\ne,c\n')
    words = ["graph", str(tmp_path / "e.csv"), "--penalty", "1", "--check", "2"]
    assert main([*words, "--pairs", '"a, b",c', "--format", "json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out).keys() == {"a, b", "c", "d", "e"}
    # For other programs the table is alone; what it is worth is said beside it.
    assert "2 removals refitted" in told.err
    assert main([*words, "--pairs", "d,e", "--plot", str(tmp_path / "e.docx")]) == 1
    assert "Name a file that ends in .png or .svg or .pdf" in capsys.readouterr().err
    seeds = []
    for seed in "02":
        assert main([*words, "--pairs", "d,e", "--seed", seed, "--out", str(tmp_path / "o.csv")]) == 0
        seeds.append((tmp_path / "o.csv").read_text())
    assert seeds[0] != seeds[1]


def test_rows_that_are_not_trusted_are_marked(tmp_path, capsys):
    nx.write_edgelist(nx.les_miserables_graph(), tmp_path / "e.txt", delimiter="\t", data=False)
    assert main(["graph", str(tmp_path / "e.txt"), "--penalty", "1", "--pairs", "Valjean,Javert"]) == 0
    told = capsys.readouterr().out
    rows = [line for line in told.splitlines() if re.match(r" +\w+ +[+-]\d", line)]
    assert len(rows) == 5
    assert 0 < sum("  not trusted" in row for row in rows) < 5


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


def test_scores_are_printed_for_other_programs(edges, capsys):
    words = ["graph", str(edges), "--pairs", "12,10", "--penalty", "0.1"]
    assert main([*words, "--format", "csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col=0)
    assert main([*words, "--format", "json"]) == 0
    read = json.loads(capsys.readouterr().out)
    assert len(table) == len(read) == 34
    assert read["5"]["12,10"] == pytest.approx(table.loc[5, "12,10"])


def test_a_column_of_weights_is_named(tmp_path, capsys):
    path = tmp_path / "e.csv"
    path.write_text("source,target,times\na,b,2\nb,c,1\nc,a,1\n")
    assert main(["graph", str(path), "--pairs", "a,b", "--penalty", "1", "--weight", "times"]) == 0
    capsys.readouterr()
    assert main(["graph", str(path), "--pairs", "a,b", "--weight", "often"]) == 1
    assert "no column 'often'" in capsys.readouterr().err


def test_the_picture_of_many_nodes_names_the_pair_and_the_strongest_alone(tmp_path, capsys):
    plots = pytest.importorskip("versatile_influence.reading.plots_graph")
    graph = Graph.of(nx.barabasi_albert_graph(300, 2, seed=0))
    scores = torch.linspace(-1, 1, 300, dtype=torch.float64)
    scores[7] = 50.0
    figure = Figure()
    ax = plots.network(graph, scores, mark=(7, 150), label="change", ax=figure.subplots())
    said = {text.get_text() for text in ax.texts}
    assert {"7", "150", "0", "299"} <= said
    assert len(said) <= 14
    boxes = [Text.get_window_extent(text) for text in ax.texts]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    # The pair's own node would bleach all others.
    assert figure.axes[1].get_ylim() == (-1.0, 1.0)
    path = tmp_path / "e.txt"
    path.write_text("a b\nb c\nc a\n")
    picture = tmp_path / "picture.png"
    assert main(["graph", str(path), "--pairs", "a,b", "b,c", "--penalty", "1", "--plot", str(picture)]) == 0
    assert picture.stat().st_size > 10_000
    assert "The picture is in" in capsys.readouterr().err


def test_long_training_is_told_beforehand(edges, capsys, monkeypatch):
    monkeypatch.setattr("versatile_influence.cli.graph.SAID_SECONDS", 0.0)
    assert main(["graph", str(edges), "--pairs", "12,10", "--penalty", "0.1"]) == 0
    assert "training an embedding of 34 nodes in 2 dimensions: about " in capsys.readouterr().err


def test_what_splits_the_graph_and_pairs_apart_are_named_with_a_penalty_too(tmp_path, capsys):
    path = tmp_path / "two.txt"
    path.write_text("a b\nb c\nc a\nc d\nd e\nx y\ny z\nz x\n")
    assert main(["graph", str(path), "--pairs", "a,b", "a,x", "--penalty", "0.5"]) == 0
    together, apart = capsys.readouterr().out.split("pair a,x")
    assert [line.split()[0] for line in together.splitlines() if "splits the graph" in line and "penalty" in line] == [
        "c",
        "d",
    ]
    assert "unconnected parts" not in together
    assert "in unconnected parts of the graph" in apart


def test_a_command_says_what_a_command_can_do_and_no_correlation_of_three(edges, capsys):
    words = ["graph", str(edges), "--pairs", "12,10", "--penalty", "0.1"]
    assert main([*words, "--check", "3"]) == 0
    told = capsys.readouterr().out
    assert "3 removals refitted: relative error of a removal" in told
    assert "--by refit trains without each" in told
    assert "attribute(" not in told
