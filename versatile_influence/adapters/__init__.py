"""Losses of other libraries as losses of presence: a frozen encoder or features, and a small trainable head."""

from versatile_influence.adapters.head import ResidualHead
from versatile_influence.adapters.metric_learning import from_metric_learning
from versatile_influence.adapters.sentence_pairs import from_sentence_transformers

__all__ = ["ResidualHead", "from_metric_learning", "from_sentence_transformers"]
