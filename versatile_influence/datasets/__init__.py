"""Real data by name, and simulated data that need no file."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence.datasets.simulated import simulated_survival, simulated_trial
    from versatile_influence.datasets.survival import SurvivalData, metabric, support
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["SurvivalData", "metabric", "simulated_survival", "simulated_trial", "support"]
