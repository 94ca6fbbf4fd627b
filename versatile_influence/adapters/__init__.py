"""Losses of other libraries as losses of presence: a frozen encoder or features, and a small trainable head."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence.adapters.head import ResidualHead
    from versatile_influence.adapters.metric_learning import from_metric_learning
    from versatile_influence.adapters.sentence_pairs import from_sentence_transformers
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["ResidualHead", "from_metric_learning", "from_sentence_transformers"]
