"""Skip-gram for counts that are given."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.losses.context_models import Embeddings, Model, Softmax
from versatile_influence.losses.embedding_loss import EmbeddingLoss, check_model, one_by_one


@dataclass(frozen=True)
class SkipGramLoss(EmbeddingLoss):
    """Negative log-likelihood of given co-occurrence counts; an object takes its pairs with it.

        L(θ, b) = Σ_uv b_u b_v C_uv (log Σ_{w present} exp⟨e_u, o_w⟩ − ⟨e_u, o_v⟩) + (λ/2) ‖θ‖²

    for the softmax; see `NegativeSampling` for the other model.

    For words, items or nodes whose counts are data. Of a graph it is the other meaning of a removal: the walks stay as
    they are and lose the pairs with the node, where `WalkEmbeddingLoss` walks again.

    Attributes:
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

    counts: Float[Tensor, "n n"]
    dim: int
    penalty: float = 0.0
    model: Model = Softmax()  # noqa: RUF009  (a frozen value)
    labels: Sequence[Hashable] | None = None

    def __post_init__(self):
        if self.counts.dim() != 2 or self.counts.shape[0] != self.counts.shape[1]:
            raise ValueError(f"`counts` must be square, centre by context, got shape {tuple(self.counts.shape)}.")
        if not (torch.isfinite(self.counts).all() and (self.counts >= 0).all()):
            raise ValueError("`counts` must be finite and at least 0: expected or observed numbers of pairs.")
        check_model(self.dim, self.penalty)
        object.__setattr__(self, "counts", self.counts.to(torch.float64))
        object.__setattr__(self, "n_objects", len(self.counts))
        object.__setattr__(self, "n_nodes", len(self.counts))
        object.__setattr__(self, "node_labels", range(len(self.counts)) if self.labels is None else self.labels)

    @property
    def object_labels(self) -> Sequence[Hashable] | None:
        """Names of the objects."""
        return self.labels

    def met(self, presence: Float[Tensor, " n"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Return who is present, and the counts of their pairs."""
        return presence, self.counts.to(presence) * presence[:, None] * presence

    def __call__(self, params: Any, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the loss."""
        return self.at(presence)(params, presence)

    removes_groups = True

    def removal_differences(
        self, params: Embeddings, objects: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]] | None = None
    ) -> Float[Tensor, " k"]:
        """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal."""
        return one_by_one(self, params, torch.arange(self.n_objects) if objects is None else objects)

    def removal_products(
        self,
        params: Embeddings,
        directions: Float[Tensor, "p q"] | None = None,
        objects: Int[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of `removal_differences` along each direction, or their Jacobian, by hand."""
        gradients = self.removal_gradients(params, objects)
        return gradients if directions is None else gradients @ directions
