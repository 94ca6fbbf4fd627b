"""Every picture: each draws on the axes given, or on new ones, and returns them.

Of one attribution `top`, `scatter` against a measured one and `influence_vs_time`; of many targets `heatmap`; of a
graph `network`; of solvers `convergence`.
"""

from versatile_influence.reading.plots_graph import network
from versatile_influence.reading.plots_many import convergence, heatmap
from versatile_influence.reading.plots_one import influence_vs_time, scatter, top

__all__ = ["convergence", "heatmap", "influence_vs_time", "network", "scatter", "top"]
