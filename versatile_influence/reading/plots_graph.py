"""Pictures of graphs, and of what each node does."""

import itertools
from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.checks import instance, number, numbers, whole
from versatile_influence.core.sizes import FEW_NODES, NAMED_NODES
from versatile_influence.core.tables import whole_numbers
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading.plots_one import axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def network(
    graph: Graph,
    scores: object = None,
    *,
    limit: float | None = None,
    mark: tuple[int, ...] = (),
    label: str | None = None,
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the graph in a spring layout, its nodes coloured by their scores.

    Of a large graph the marked nodes and those of the largest scores are named alone.

    Args:
        graph: The graph.
        scores: One number a node: red where the target would be larger without it, blue where smaller, grey for NaN.
        limit: The score of the strongest colour; the largest of all nodes not marked for None. Give two pictures the
            same one to compare them.
        mark: Nodes with a bold outline, such as the pair in question.
        label: What stands beside a colour bar; no bar for None.
        seed: Of the layout; the same for the same picture.
        ax: Where to draw; a new figure for None.

    Returns:
        The axes. Needs networkx and matplotlib.

    Example:
        >>> import matplotlib, torch
        >>> matplotlib.use("agg")
        >>> path = Graph(3, torch.tensor([[0, 1], [1, 2]]), torch.ones(2))
        >>> network(path, torch.tensor([0.1, -0.2, 0.0])).get_title()
        ''
    """
    import matplotlib.pyplot as plt
    import networkx as nx
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    n = instance(graph, "graph", Graph, "Graph.of(…)").n_nodes
    ax = axes(ax, figsize=(6.4, 4.8))
    drawn = nx.Graph()
    drawn.add_nodes_from(range(graph.n_nodes))
    drawn.add_edges_from(graph.ends.tolist())
    laid = nx.spring_layout(drawn, seed=whole(seed, "seed"))
    places = {node: (float(x), float(y)) for node, (x, y) in laid.items()}
    values = np.zeros(n) if scores is None else numbers(scores, "scores", shape=[n], finite=False).numpy()
    limit = None if limit is None else number(limit, "limit", above=0)
    mark = tuple(whole_numbers(mark, "mark", shape=[None], most=n - 1).tolist())
    # What becomes of the pair itself without one of its nodes would bleach all others.
    others = np.delete(np.abs(np.nan_to_num(values)), mark)
    size = limit if limit is not None else max(others.max(initial=0.0), 1e-300)
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="lightgrey")(
        np.ma.masked_invalid(0.5 + 0.5 * np.clip(values / size, -1, 1))
    )
    crowded = n > FEW_NODES
    area = 220 if not crowded else max(12.0, 220 * FEW_NODES / n)
    nx.draw_networkx_edges(drawn, places, ax=ax, edge_color="0.8", width=0.4 if crowded else 1.0)
    thin = 0.3 if crowded else 0.6
    widths = [2.0 if node in mark else thin for node in range(n)]
    dots = {"node_color": colours, "edgecolors": "black", "linewidths": widths, "node_size": area}
    nx.draw_networkx_nodes(drawn, places, ax=ax, **dots)
    dark = np.abs(np.nan_to_num(values)) > 0.6 * size
    strongest = np.argsort(-np.abs(np.nan_to_num(values)), kind="stable")[:NAMED_NODES].tolist()
    if label is not None:
        shades = ScalarMappable(Normalize(-size, size), "RdBu_r")
        ax.figure.colorbar(shades, ax=ax, label=label, shrink=0.7)
    ax.set_axis_off()
    if crowded:
        named = dict.fromkeys([*mark, *strongest])
        _beside(ax, [(places[node], plain(graph.labels[node]), node in mark) for node in named])
        return ax
    for node, at in places.items():
        words = {"ha": "center", "va": "center", "fontsize": 7, "color": "white" if dark[node] else "black"}
        ax.annotate(plain(graph.labels[node]), at, **words)
    return ax


def _beside(ax: "Axes", named: list[tuple[tuple[float, float], str, bool]]) -> None:
    """Write names beside dots too small to hold them: each at the nearest place where it hides none before it."""
    from matplotlib.text import Text
    from matplotlib.transforms import Bbox

    # Only what is laid out has places.
    ax.figure.draw_without_rendering()  # pyright: ignore[reportAttributeAccessIssue]
    taken: list[Bbox] = []
    for at, name, bold in named:
        words = {"fontsize": 7, "weight": "bold" if bold else "normal", "zorder": 4}
        # A ground that hides the edges, and a line to the dot.
        words["bbox"] = {"boxstyle": "round,pad=0.1", "facecolor": "white", "alpha": 0.7, "linewidth": 0}
        line = {"arrowstyle": "-", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        text = ax.annotate(name, at, xytext=(0, 0), textcoords="offset points", arrowprops=line, **words)
        for far, across, up in itertools.product((3, 10, 18, 28, 40), (1, -1), (1, -1, 0)):
            text.set_position((far * across, far * up))
            text.set(ha="left" if across > 0 else "right", va={1: "bottom", -1: "top", 0: "center"}[up])
            # Of the words alone: an annotation's own extent has its line in it.
            box = Text.get_window_extent(text).padded(1.5)
            if not any(box.overlaps(other) for other in taken):
                break
        taken.append(Text.get_window_extent(text).padded(1.5))
