"""One file a loss."""

from versatile_influence.losses.contrastive import InfoNCELoss, SkipGramLoss
from versatile_influence.losses.cox import CoxLoss
from versatile_influence.losses.dfbeta import dfbeta
from versatile_influence.losses.listmle import DocumentListMLELoss, ListMLELoss, SoftmaxRankingLoss
from versatile_influence.losses.ranking_targets import ndcg_change, query_loss, top_k_probability
from versatile_influence.losses.terms import PairwiseLoss, TermLoss, TripletLoss

__all__ = [
    "CoxLoss",
    "DocumentListMLELoss",
    "InfoNCELoss",
    "ListMLELoss",
    "PairwiseLoss",
    "SkipGramLoss",
    "SoftmaxRankingLoss",
    "TermLoss",
    "TripletLoss",
    "dfbeta",
    "ndcg_change",
    "query_loss",
    "top_k_probability",
]
