"""Ready losses, a folder a family; and what one's own are made of."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence.losses.batched import BatchedLoss
    from versatile_influence.losses.cox.dfbeta import dfbeta, standard_errors
    from versatile_influence.losses.cox.loss import CoxLoss
    from versatile_influence.losses.cox.performance import (
        brier_score,
        concordance,
        restricted_mean,
        smooth_concordance,
        survival_quantile,
    )
    from versatile_influence.losses.graphs.context_models import NegativeSampling, Softmax
    from versatile_influence.losses.graphs.graph_network import GraphNetworkLoss
    from versatile_influence.losses.graphs.skip_gram import SkipGramLoss
    from versatile_influence.losses.graphs.walk_embedding import WalkEmbeddingLoss
    from versatile_influence.losses.graphs.walks import Walks
    from versatile_influence.losses.in_batch import Contrast, EachObject, Preferred, Triplets, cross_entropy
    from versatile_influence.losses.network import OutputLoss
    from versatile_influence.losses.softmax.contrastive import InfoNCELoss
    from versatile_influence.losses.softmax.document_loss import DocumentLoss
    from versatile_influence.losses.softmax.documents import DocumentListMLELoss
    from versatile_influence.losses.softmax.listmle import ListMLELoss, SoftmaxRankingLoss
    from versatile_influence.losses.softmax.loss import SoftmaxLoss
    from versatile_influence.losses.softmax.metrics import ndcg, recall, reciprocal_rank
    from versatile_influence.losses.softmax.nested_rows import NestedRows
    from versatile_influence.losses.softmax.owners import Owners
    from versatile_influence.losses.softmax.query_losses import ApproxNDCG, LambdaLoss
    from versatile_influence.losses.softmax.ranks import SoftRanks
    from versatile_influence.losses.softmax.shared_rows import SharedRows
    from versatile_influence.losses.softmax.targets import ndcg_change, query_loss, top_k_probability
    from versatile_influence.losses.terms.factorisation import MatrixFactorisationLoss
    from versatile_influence.losses.terms.families import Linear, Logistic, Poisson, SquaredError
    from versatile_influence.losses.terms.loss import TermLoss, term_values
    from versatile_influence.losses.terms.outer import Terms
    from versatile_influence.losses.terms.pairs import PairwiseLoss, TripletLoss
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "ApproxNDCG",
    "BatchedLoss",
    "Contrast",
    "CoxLoss",
    "DocumentListMLELoss",
    "DocumentLoss",
    "EachObject",
    "GraphNetworkLoss",
    "InfoNCELoss",
    "LambdaLoss",
    "Linear",
    "ListMLELoss",
    "Logistic",
    "MatrixFactorisationLoss",
    "NegativeSampling",
    "NestedRows",
    "OutputLoss",
    "Owners",
    "PairwiseLoss",
    "Poisson",
    "Preferred",
    "SharedRows",
    "SkipGramLoss",
    "SoftRanks",
    "Softmax",
    "SoftmaxLoss",
    "SoftmaxRankingLoss",
    "SquaredError",
    "TermLoss",
    "Terms",
    "TripletLoss",
    "Triplets",
    "WalkEmbeddingLoss",
    "Walks",
    "brier_score",
    "concordance",
    "cross_entropy",
    "dfbeta",
    "ndcg",
    "ndcg_change",
    "query_loss",
    "recall",
    "reciprocal_rank",
    "restricted_mean",
    "smooth_concordance",
    "standard_errors",
    "survival_quantile",
    "term_values",
    "top_k_probability",
]
