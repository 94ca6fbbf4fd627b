"""Every picture: each draws on the axes given, or on new ones, and returns them.

Of one answer `waterfall` and `top`, `scatter` against measured changes, `influence_vs_time` and `leverage`; of many
targets `heatmap`; of a graph `network`; of solvers `convergence`.
"""

from versatile_influence.reading.plots_against import influence_vs_time, leverage
from versatile_influence.reading.plots_graph import network
from versatile_influence.reading.plots_many import convergence, heatmap
from versatile_influence.reading.plots_one import scatter, top, waterfall

__all__ = ["convergence", "heatmap", "influence_vs_time", "leverage", "network", "scatter", "top", "waterfall"]
