"""Skip-gram for counts that are given."""

from collections.abc import Hashable, Sequence

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import numbers
from versatile_influence.core.labels import names
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
        >>> import torch
        >>> loss = SkipGramLoss(torch.ones(4, 4) - torch.eye(4), dim=2, penalty=0.1)
        >>> loss(loss.start(), torch.ones(4, dtype=torch.float64)).item() > 0
        True
    """

    def __init__(
        self,
        counts: object,
        dim: int,
        penalty: float = 0.0,
        model: Model = Softmax(),  # noqa: B008  (a frozen value)
        labels: Sequence[Hashable] | None = None,
    ):
        self.counts = numbers(counts, "counts", shape=[None, None], least=0)
        n = len(self.counts)
        if not n or self.counts.shape[1] != n:
            raise ValueError(f"`counts` must be square, centre by context, got shape {tuple(self.counts.shape)}.")
        own = names(labels, n, unique=True)
        super().__init__(own or range(n), own, n_objects=n, dim=dim, penalty=penalty, model=model)

    def met(self, presence: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        return presence, self.counts.to(presence) * presence[:, None] * presence
