"""Skip-gram for counts that are given."""

from collections.abc import Hashable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.losses.graphs.context_models import Model, Softmax
from versatile_influence.losses.graphs.embedding_loss import EmbeddingLoss


class SkipGramLoss(EmbeddingLoss):
    """Negative log-likelihood of given co-occurrence counts; an object takes its pairs with it.

        L(θ, b) = Σ_uv b_u b_v C_uv (log Σ_{w present} exp⟨e_u, o_w⟩ − ⟨e_u, o_v⟩) + (λ/2) ‖θ‖²

    for the softmax; see `NegativeSampling` for the other model.

    For words, items or nodes whose counts are data. Of a graph it is the other meaning of a removal: the walks stay as
    they are and lose the pairs with the node, where `WalkEmbeddingLoss` walks again.

    Args:
        counts: C, centre by context.
        dim: Length of an embedding.
        penalty: λ.
        model: How contexts are modelled, `Softmax()` or `NegativeSampling(…)`.
        labels: Names of the objects.

    Raises:
        ValueError: If the counts are not square, or not finite and at least 0.

    Example:
        >>> loss = SkipGramLoss(torch.ones(4, 4) - torch.eye(4), dim=2, penalty=0.1)
        >>> loss(loss.start(), torch.ones(4, dtype=torch.float64)).item() > 0
        True
    """

    def __init__(
        self,
        counts: Tensor,
        dim: int,
        penalty: float = 0.0,
        model: Model = Softmax(),  # noqa: B008  (a frozen value)
        labels: Sequence[Hashable] | None = None,
    ):
        if counts.dim() != 2 or counts.shape[0] != counts.shape[1]:
            raise ValueError(f"`counts` must be square, centre by context, got shape {tuple(counts.shape)}.")
        if not (torch.isfinite(counts).all() and (counts >= 0).all()):
            raise ValueError("`counts` must be finite and at least 0: expected or observed numbers of pairs.")
        n = len(counts)
        nodes = range(n) if labels is None else labels
        super().__init__(nodes, labels, n_objects=n, dim=dim, penalty=penalty, model=model)
        self.counts = counts.to(torch.float64)

    def met(self, presence: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        return presence, self.counts.to(presence) * presence[:, None] * presence
