"""Graphs as people have them: files, tables and objects of other libraries are read as they are, or told by the row."""

import gzip

import networkx as nx
import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.losses import WalkEmbeddingLoss
from versatile_influence.losses.graphs.graph import Graph

WALKS = {"length": 4, "window": 2, "dim": 2, "penalty": 0.1}


def lesmis() -> nx.Graph:
    return nx.les_miserables_graph()


def full_names(graph: nx.Graph) -> nx.Graph:
    """The same with blanks and commas in names."""
    return nx.relabel_nodes(graph, {name: f"{name}, of Les Misérables" for name in graph})


def numbered(graph: nx.Graph) -> nx.Graph:
    return nx.convert_node_labels_to_integers(graph)


def lines(graph: nx.Graph, form: str, *, both: bool = False) -> str:
    edges = [(a, b, data.get("weight", 1)) for a, b, data in graph.edges(data=True)]
    edges += [(b, a, w) for a, b, w in edges] if both else []
    return "".join(form.format(a=a, b=b, w=w, i=i) + "\n" for i, (a, b, w) in enumerate(edges))


def same(read: Graph, graph: nx.Graph, *, weighted: bool = True) -> None:
    """Check that the same nodes are joined by the same weights."""
    found = {
        frozenset(read.labels[v] for v in pair): w
        for pair, w in zip(read.ends.tolist(), read.weights.tolist(), strict=True)
    }
    right = {frozenset((a, b)): data.get("weight", 1.0) if weighted else 1.0 for a, b, data in graph.edges(data=True)}
    assert found == right
    assert set(read.labels) == set(graph)


def in_file(tmp_path, text: str, name: str = "edges.txt"):
    path = tmp_path / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    return path


WRITTEN = {
    "SNAP: comments, tabs": lambda g: ("# Nodes: 77\n# FromNodeId\tToNodeId\n" + lines(g, "{a}\t{b}"), "e.txt", False),
    "KONECT: per cent signs, weights": lambda g: ("% sym weighted\n" + lines(g, "{a} {b} {w}"), "out.lesmis", True),
    "networkx write_edgelist, attributes": lambda g: ("\n".join(nx.generate_edgelist(g)), "g.edgelist", True),
    "networkx write_edgelist, none": lambda g: ("\n".join(nx.generate_edgelist(g, data=False)), "g.edgelist", False),
    "networkx write_weighted_edgelist": lambda g: ("\n".join(nx.generate_edgelist(g, data=["weight"])), "w.txt", True),
    "Gephi: named columns": lambda g: (
        "Source,Target,Type,Id,Label,Weight\n" + lines(g, "{a},{b},Undirected,{i},,{w}"),
        "edges.csv",
        True,
    ),
    "Gephi in Europe: semicolons": lambda g: ("Source;Target;Weight\n" + lines(g, "{a};{b};{w}"), "edges.csv", True),
    "a spreadsheet: BOM and line ends of Windows": lambda g: (
        "\ufeff" + ("source,target,weight\n" + lines(g, "{a},{b},{w}")).replace("\n", "\r\n"),
        "edges.csv",
        True,
    ),
    "both directions listed": lambda g: (lines(g, "{a} {b} {w}", both=True), "edges.txt", True),
    "compressed": lambda g: (lines(g, "{a} {b} {w}"), "edges.txt.gz", True),
    "a header without the usual words": lambda g: ("person_a,person_b\n" + lines(g, "{a},{b}"), "ids.csv", False),
}


@pytest.mark.parametrize("situation", WRITTEN)
def test_files_are_read_as_people_write_them(tmp_path, situation):
    graph = numbered(lesmis())
    text, name, weighted = WRITTEN[situation](graph)
    same(Graph.of(in_file(tmp_path, text, name)), graph, weighted=weighted)


@pytest.mark.parametrize("form", ['"{a}"\t"{b}"\t{w}', "{a}\t{b}\t{w}", '"{a}","{b}",{w}', '"{a}";"{b}";{w}'])
def test_names_with_blanks_and_commas_are_names(tmp_path, form):
    graph = full_names(lesmis())
    same(Graph.of(in_file(tmp_path, lines(graph, form))), graph)


def test_frames_matrices_indices_and_lists_are_the_same_graph():
    graph, named = numbered(lesmis()), lesmis()
    index = torch.tensor(list(graph.edges)).T
    both = torch.cat([index, index.flip(0)], dim=1)
    same(Graph.of(nx.to_pandas_edgelist(named)), named)
    same(Graph.of(nx.to_pandas_edgelist(named).rename(columns={"weight": "times"}), weight="times"), named)
    same(Graph.of(nx.to_pandas_edgelist(named)[["source", "target"]]), named, weighted=False)
    same(Graph.of(nx.to_scipy_sparse_array(graph)), graph)
    for one in (index, both, both.numpy()):
        same(Graph.of(one), graph, weighted=False)
    same(Graph.of(list(named.edges.data("weight"))), named)
    same(Graph.of(list(named.edges.data())), named)
    same(Graph.of(list(named.edges)), named, weighted=False)


def test_arrows_are_kept_apart():
    arrows = Graph.of(torch.tensor([[0, 1, 1], [1, 0, 2]]), directed=True)
    assert arrows.ends.tolist() == [[0, 1], [1, 0], [1, 2]]
    assert Graph.of([("a", "b", 1.0), ("b", "a", 2.0)], directed=True).weights.tolist() == [1.0, 2.0]


def test_a_number_and_its_text_are_two_nodes_each_found_by_its_own_name():
    loss = WalkEmbeddingLoss(nx.relabel_nodes(nx.karate_club_graph(), {4: "33"}), **WALKS)
    assert loss.node_labels[loss._node(33)] == 33
    assert loss.node_labels[loss._node("33")] == "33"


def test_nodes_that_are_tuples_are_named_in_tables():
    loss = WalkEmbeddingLoss(nx.grid_2d_graph(3, 4), **WALKS)
    theta = vif.minimize(loss, loss.start())
    frame = vif.attribute(loss, theta, loss.pair_losses([((0, 0), (2, 3))])).to_frame()
    assert list(frame.index) == list(nx.grid_2d_graph(3, 4))
    assert frame.columns.tolist() == ["(0, 0),(2, 3)"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a b\nb c\nc c\n", "Line 3 of .* joins node 'c' to itself"),
        ("a b 1\nb a 2\n", "Line 2 of .* again, after Line 1 of .*, with weights 1 and 2"),
        ("# x\na b\nc d\na b\n", "Line 4 of .* again, after Line 2"),
        ("Jean Valjean Javert\nCosette Marius\n", "Line 1 of .*|Line 2 of .* has 2 columns"),
        ("a,b\nc,\n", "Line 2 of .* has 2 columns: 'c '"),
        ("a b {'weight': 2}\nb c {'w': 2\n", "Line 2 of .* no dict of attributes"),
        ("source,target,weight\na,b,2\nb,c,many\n", "Line 3 of .* 'many' is not a number"),
        ("source,target,weight\na,b,2\nb,c,0\n", "Line 3 of .* weight is 0"),
        ("source,target\na,b\nb,c,1\n", "Line 3 of .* has 3 columns"),
        # A number to Python alone.
        ("a b 1_000\nb c 2\n", "Line 1 of .* weight '1_000' is not a number"),
        ("a b 1e300\nb c 1\n", "Edge 'a'–'b' has weight 1e.300, out of range"),
        ("a b 1e-300\nb c 1\n", "Edge 'a'–'b' has weight 1e-300, out of range"),
    ],
)
def test_what_is_wrong_is_said_of_its_line(tmp_path, text, says):
    with pytest.raises(ValueError, match=says):
        Graph.of(in_file(tmp_path, text))


def test_what_is_wrong_is_said_of_its_row_and_column():
    frame = pd.DataFrame({"source": ["a", "b"], "target": ["b", np.nan], "w": [1.0, 2.0]}, index=["r1", "r2"])
    with pytest.raises(ValueError, match="Row 'r2' of the frame has no name"):
        Graph.of(frame)
    with pytest.raises(ValueError, match="no column 'weight' in the frame. The columns are: source, target, w"):
        Graph.of(frame, weight="weight")
    with pytest.raises(ValueError, match="Entry 1 of the list has no attribute 'weight'"):
        Graph.of([("a", "b", {"weight": 1.0}), ("b", "c", {})], weight="weight")
    with pytest.raises(ValueError, match="Entry 1 of the list is "):
        Graph.of([("a", "b"), ("b",)])
    with pytest.raises(TypeError, match="Wrap a dense matrix"):
        Graph.of([[0, 1], [1, 0]])


def test_nodes_may_have_the_names_of_columns_and_numbers_with_zeros_in_front(tmp_path):
    (tmp_path / "names").write_text("u v\nv w\nw u\nw x\n")
    assert Graph.of(tmp_path / "names").n_nodes == 4
    assert len(Graph.of(tmp_path / "names").ends) == 4
    (tmp_path / "zeros").write_text("01 2\n2 3\n3 1\n3 4\n")
    assert Graph.of(tmp_path / "zeros").labels == ["01", "2", "3", "1", "4"]
    for text, said in [("a\nb\n", "1 columns"), ("1 2\n", "no column 'w'")]:
        (tmp_path / "wrong").write_text(text)
        with pytest.raises(ValueError, match=said):
            Graph.of(tmp_path / "wrong", weight="w")


def test_what_is_no_text_or_no_gzip_is_told_by_the_file(tmp_path):
    whole = gzip.compress(b"a b\nb c\n" * 500)
    for name, held, said in [
        ("latin.csv", b"a,b\nb,\xe9\n", "latin.csv is no text in UTF-8"),
        ("none.gz", b"a b\nb c\n", "none.gz is no complete gzip file"),
        ("half.gz", whole[: len(whole) // 2], "half.gz is no complete gzip file"),
    ]:
        (tmp_path / name).write_bytes(held)
        with pytest.raises(ValueError, match=said):
            Graph.of(tmp_path / name)


def test_weights_in_files_and_lists_keep_their_digits(tmp_path):
    path = in_file(tmp_path, "a b 0.1\nb c 123456789\nc a 1\n")
    assert Graph.of(path).weights.tolist() == [0.1, 123456789.0, 1.0]
    assert Graph.of([("a", "b", 0.1), ("b", "c", 1.0)]).weights.tolist() == [0.1, 1.0]
