"""One file a loss."""

from versatile_influence.losses.cox import CoxLoss
from versatile_influence.losses.dfbeta import dfbeta
from versatile_influence.losses.listmle import DocumentListMLELoss, ListMLELoss, SoftmaxRankingLoss

__all__ = ["CoxLoss", "DocumentListMLELoss", "ListMLELoss", "SoftmaxRankingLoss", "dfbeta"]
