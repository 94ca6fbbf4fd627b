"""Models, losses and trainings of other libraries as losses of presence."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence.adapters.cox_models import from_lifelines, from_scikit_survival, from_statsmodels
    from versatile_influence.adapters.cox_networks import from_pycox, from_torchsurv
    from versatile_influence.adapters.head import ResidualHead
    from versatile_influence.adapters.metric_learning import embeddings, from_metric_learning
    from versatile_influence.adapters.sentence_pairs import from_sentence_transformers
    from versatile_influence.adapters.trainer import from_trainer
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "ResidualHead",
    "embeddings",
    "from_lifelines",
    "from_metric_learning",
    "from_pycox",
    "from_scikit_survival",
    "from_sentence_transformers",
    "from_statsmodels",
    "from_torchsurv",
    "from_trainer",
]
