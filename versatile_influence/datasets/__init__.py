"""Real data by name, and simulated data that need no file."""

from versatile_influence.datasets.simulated import simulated_survival, simulated_trial
from versatile_influence.datasets.survival import SurvivalData, metabric, support

__all__ = ["SurvivalData", "metabric", "simulated_survival", "simulated_trial", "support"]
