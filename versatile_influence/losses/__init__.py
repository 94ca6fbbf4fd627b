"""One file a loss."""

from versatile_influence.losses.cox import CoxLoss
from versatile_influence.losses.dfbeta import dfbeta
from versatile_influence.losses.skip_gram import SkipGramLoss
from versatile_influence.losses.walk_embedding import WalkEmbeddingLoss
from versatile_influence.losses.walks import Walks

__all__ = ["CoxLoss", "SkipGramLoss", "WalkEmbeddingLoss", "Walks", "dfbeta"]
