"""Pictures of graphs, and of what each node does."""

from typing import TYPE_CHECKING

import numpy as np

from versatile_influence.core.checks import instance, number, numbers, whole
from versatile_influence.core.tables import whole_numbers
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.reading.plots import axes, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def network(
    graph: Graph,
    scores: object = None,
    *,
    limit: float | None = None,
    mark: tuple[int, ...] = (),
    seed: int = 0,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draw the graph in a spring layout, its nodes coloured by their scores.

    Args:
        graph: The graph.
        scores: One number a node: red where the target would be larger without it, blue where smaller, grey for NaN.
        limit: The score of the strongest colour; the largest of all for None. Give two pictures the same one to
            compare them.
        mark: Nodes with a bold outline, such as the pair in question.
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

    n = instance(graph, "graph", Graph, "Graph.of(…)").n_nodes
    ax = axes(ax, figsize=(6.4, 4.8))
    drawn = nx.Graph()
    drawn.add_nodes_from(range(graph.n_nodes))
    drawn.add_edges_from(graph.ends.tolist())
    places = nx.spring_layout(drawn, seed=whole(seed, "seed"))
    values = np.zeros(n) if scores is None else numbers(scores, "scores", shape=[n], finite=False).numpy()
    limit = None if limit is None else number(limit, "limit", above=0)
    mark = tuple(whole_numbers(mark, "mark", shape=[None], most=n - 1).tolist())
    size = limit if limit is not None else max(np.nanmax(np.abs(values)), 1e-300)
    colours = plt.get_cmap("RdBu_r").with_extremes(bad="lightgrey")(
        np.ma.masked_invalid(0.5 + 0.5 * np.clip(values / size, -1, 1))
    )
    nx.draw_networkx_edges(drawn, places, ax=ax, edge_color="0.8")
    widths = [2.5 if node in mark else 0.6 for node in range(graph.n_nodes)]
    dots = {"node_color": colours, "edgecolors": "black", "linewidths": widths, "node_size": 220}
    nx.draw_networkx_nodes(drawn, places, ax=ax, **dots)
    dark = np.abs(np.nan_to_num(values)) > 0.6 * size
    for node, name in enumerate(graph.labels):
        colour = "white" if dark[node] else "black"
        x, y = map(float, places[node])
        ax.text(x, y, plain(name), ha="center", va="center", fontsize=7, color=colour)
    ax.set_axis_off()
    return ax
