"""One file a loss."""

from versatile_influence.losses.cox import CoxLoss
from versatile_influence.losses.dfbeta import dfbeta

__all__ = ["CoxLoss", "dfbeta"]
