"""`vif graph` from file to table."""

import networkx as nx
import pytest

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


def test_a_wrong_file_or_pair_is_told_in_one_line(edges, tmp_path, capsys):
    assert main(["graph", str(edges), "--pairs", "12,99"]) == 1
    assert "no node '99'" in capsys.readouterr().err
    assert main(["graph", str(tmp_path / "none.txt"), "--pairs", "1,2"]) == 1
