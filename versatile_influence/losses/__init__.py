"""One file a loss."""

from versatile_influence.losses.context_models import NegativeSampling, Softmax
from versatile_influence.losses.contrastive import InfoNCELoss
from versatile_influence.losses.cox import CoxLoss
from versatile_influence.losses.dfbeta import dfbeta
from versatile_influence.losses.families import Logistic, Poisson, SquaredError
from versatile_influence.losses.linear_terms import Linear, term_values
from versatile_influence.losses.listmle import DocumentListMLELoss, ListMLELoss, SoftmaxRankingLoss
from versatile_influence.losses.output_loss import OutputLoss
from versatile_influence.losses.pairs import PairwiseLoss, TripletLoss
from versatile_influence.losses.ranking_targets import ndcg_change, query_loss, top_k_probability
from versatile_influence.losses.skip_gram import SkipGramLoss
from versatile_influence.losses.terms import TermLoss
from versatile_influence.losses.walk_embedding import WalkEmbeddingLoss
from versatile_influence.losses.walks import Walks

__all__ = [
    "CoxLoss",
    "DocumentListMLELoss",
    "InfoNCELoss",
    "Linear",
    "ListMLELoss",
    "Logistic",
    "NegativeSampling",
    "OutputLoss",
    "PairwiseLoss",
    "Poisson",
    "SkipGramLoss",
    "Softmax",
    "SoftmaxRankingLoss",
    "SquaredError",
    "TermLoss",
    "TripletLoss",
    "WalkEmbeddingLoss",
    "Walks",
    "dfbeta",
    "ndcg_change",
    "query_loss",
    "term_values",
    "top_k_probability",
]
