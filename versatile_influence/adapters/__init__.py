"""Losses and trainings of other libraries: a frozen encoder and a small trainable head, or a trainer as it runs."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence.adapters.head import ResidualHead
    from versatile_influence.adapters.metric_learning import from_metric_learning
    from versatile_influence.adapters.sentence_pairs import from_sentence_transformers
    from versatile_influence.adapters.trainer import from_trainer
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = ["ResidualHead", "from_metric_learning", "from_sentence_transformers", "from_trainer"]
