"""sentence-transformers' MultipleNegativesRankingLoss on a frozen encoder."""

from collections.abc import Sequence
from typing import Any

import torch

from versatile_influence.adapters.head import ResidualHead
from versatile_influence.losses.softmax.contrastive import InfoNCELoss


def from_sentence_transformers(
    model: Any,
    pairs: Sequence[Sequence[str]],
    *,
    batches: Sequence[Sequence[int]] | int | None = None,
    scale: float = 20.0,
    symmetric: bool = False,
    rank: int = 8,
    head: torch.nn.Module | None = None,
    penalty: float = 0.0,
    labels: Sequence[object] | None = None,
) -> InfoNCELoss:
    """Return MultipleNegativesRankingLoss of a head on a frozen encoder, as a loss of the presence of each pair.

    Each anchor finds its positive among all positives (and negatives) of its batch, by cosine times `scale`. Theirs is
    the mean over a batch, ours the sum over all anchors: batches × batch size times theirs, before the penalty; with
    `symmetric` twice that. A removed pair takes its positive and negatives from everybody's candidates.

    The parameters are the head's. Embeddings of other sentences, for a target:
    `torch.func.functional_call(loss.model, params, (features,))`, features from `model.encode`, in float64.

    Args:
        model: A `SentenceTransformer`; encodes in evaluation mode, without gradients.
        pairs: (anchor, positive) or (anchor, positive, negative, …) sentences; one object each.
        batches: Lists of pairs, a size of consecutive batches, or None for one batch of all.
        scale: Their `scale`, 1/τ.
        symmetric: Positives find their anchors too: their `directions=("query_to_doc", "doc_to_query")`, partitioned
            per direction, and MultipleNegativesSymmetricRankingLoss.
        rank: Axes of the default head, `ResidualHead`.
        head: A network from embeddings to embeddings in its place.
        penalty: λ of (λ/2)‖θ‖² on the head's parameters.
        labels: Names of the pairs.

    Raises:
        TypeError: If the model has no `encode`.
        ValueError: If the pairs are not of one length ≥ 2, or have negatives where `symmetric`.

    References:
        Henderson et al. (2017); sentence-transformers, `MultipleNegativesRankingLoss`.

    Example:
        >>> class Lengths:
        ...     def encode(self, texts, **_):
        ...         return torch.tensor([[len(text), 1.0] for text in texts])
        >>> loss = from_sentence_transformers(Lengths(), [("a", "aa"), ("aaa", "aaaa"), ("b", "c")], rank=1)
        >>> loss.n_objects, loss.zeros()["change"].shape
        (3, torch.Size([1, 1]))
    """
    if not hasattr(model, "encode"):
        raise TypeError(f"`model` must have `encode`, like a SentenceTransformer; got {type(model).__name__}.")
    widths = {len(pair) for pair in pairs}
    if len(widths) != 1 or min(widths) < 2 or (symmetric and widths != {2}):
        raise ValueError(
            "`pairs` must be (anchor, positive) each, or all with the same number of negatives after them, none with "
            f"`symmetric`; got lengths {sorted(widths)}."
        )
    if not scale > 0:
        raise ValueError(f"`scale` must be above 0, got {scale}.")
    columns = [list(column) for column in zip(*pairs, strict=True)]
    texts = [text for column in columns for text in column]
    encoded = model.encode(texts, convert_to_tensor=True, show_progress_bar=False)
    # A copy in float64: what `encode` returns cannot be differentiated through (an inference tensor).
    views = encoded.detach().cpu().double().clone().reshape(len(columns), len(pairs), -1)
    if isinstance(batches, int):
        batches = [range(start, min(start + batches, len(pairs))) for start in range(0, len(pairs), batches)]
    return InfoNCELoss(
        views,
        batches=batches,
        model=ResidualHead(views, rank) if head is None else head,
        temperature=1 / scale,
        across=symmetric,
        one_way=not symmetric,
        penalty=penalty,
        labels=labels,
    )
