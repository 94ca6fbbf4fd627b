"""The two-layer softmax model of skip-gram: what its losses share, and the loss for counts that are given."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

Embeddings = dict[str, Tensor]


def log_normalisers(params: Embeddings, presence: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return log Σ_{w present} exp⟨e_u, o_w⟩ for every u."""
    scores = params["embedding"] @ params["output"].T
    highest = scores.amax(dim=1, keepdim=True).detach()
    total = torch.exp(scores - highest) @ presence
    # With nobody present there is no pair either; any finite number will do.
    return torch.log(torch.where(total > 0, total, 1.0)) + highest[:, 0]


def log_shares_left(
    params: Embeddings,
    shares: Float[Tensor, "n n"],
    row: Int[Tensor, " m"],
    node: Int[Tensor, " m"],
    *,
    needed: Bool[Tensor, "n k"],
) -> Float[Tensor, "n k"]:
    """Return log(1 − p) with p the share of the removed nodes in each denominator, where it is needed.

    The largest share in a denominator may be near 1; without it the others are summed, and nothing is subtracted.
    """
    scores = params["embedding"] @ params["output"].T
    largest = torch.nn.functional.one_hot(scores.argmax(dim=1), len(scores)).to(shares)
    others = shares * (1 - largest)
    zeros = torch.zeros(needed.shape, dtype=shares.dtype)
    headless = zeros.index_add(1, row, largest[:, node]) > 0
    left = torch.where(headless, others.sum(dim=1, keepdim=True), 1.0) - zeros.index_add(1, row, others[:, node])
    return torch.log(torch.where(needed, left, 1.0))


def squared_norm(params: Embeddings) -> Float[Tensor, ""]:
    """Return ‖θ‖²."""
    return params["embedding"].square().sum() + params["output"].square().sum()


def start(n: int, dim: int, seed: int) -> Embeddings:
    """Return random parameters of size 1/2: at zero the gradient vanishes, a saddle that no descent leaves."""
    generator = torch.Generator().manual_seed(seed)
    draw = 0.5 * torch.randn(2, n, dim, generator=generator, dtype=torch.float64)
    return {"embedding": draw[0], "output": draw[1]}


def owned(i: int, n: int, dim: int) -> Int[Tensor, " d"]:
    """Return the numbers of the parameters of node i alone, in the flat vector: its row of either layer."""
    row = torch.arange(dim) + i * dim
    return torch.cat([row, n * dim + row])


def null_directions(params: Embeddings, presence: Float[Tensor, " n"], *, penalised: bool) -> dict[str, Embeddings]:
    """Return the directions along which the loss is constant, each with its name.

    ⟨e_u, o_v⟩ is the same after e → eA, o → oA⁻ᵀ, and the softmax after o → o + c. A penalty leaves the rotations A.
    Rows of who is absent are in no term: without a penalty they are free, each by itself.
    """
    here = presence[:, None]
    embedding, output = params["embedding"] * here, params["output"] * here
    dim, directions, nothing = embedding.shape[1], {}, torch.zeros_like(output)
    for a in range(dim):
        for b in range(a + 1, dim) if penalised else range(dim):
            mixing = torch.zeros(dim, dim, dtype=embedding.dtype)
            mixing[a, b] = 1.0
            name = f"embedding axis {a} into {b}, output axis {b} out of {a}" if a != b else f"scale of axis {a}"
            if penalised:
                mixing[b, a], name = -1.0, f"rotation of axes {a} and {b}"
            directions[name] = {"embedding": embedding @ mixing, "output": -output @ mixing.T}
    if penalised:
        return directions
    for a in range(dim):
        axis = torch.nn.functional.one_hot(torch.tensor(a), dim).to(output)
        directions[f"shift of the output along axis {a}"] = {"embedding": nothing, "output": here * axis}
        for i in (presence <= 0).nonzero().flatten().tolist():
            alone = torch.zeros_like(output)
            alone[i, a] = 1.0
            directions[f"embedding of absent {i}, axis {a}"] = {"embedding": alone, "output": nothing}
            directions[f"output of absent {i}, axis {a}"] = {"embedding": nothing, "output": alone}
    return directions


@dataclass(frozen=True)
class SkipGramLoss:
    """Negative log-softmax of given co-occurrence counts; an object takes its pairs with it.

        L(θ, b) = Σ_uv b_u b_v C_uv (log Σ_{w present} exp⟨e_u, o_w⟩ − ⟨e_u, o_v⟩) + (λ/2) ‖θ‖²

    For words, items or nodes whose counts are data. Of a graph it is the other meaning of a removal: the walks stay as
    they are and lose the pairs with the node, where `WalkEmbeddingLoss` walks again.

    Attributes:
        counts: C, centre by context.
        dim: Length of an embedding.
        penalty: λ.
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
    labels: Sequence[Hashable] | None = None

    def __post_init__(self):
        if self.counts.dim() != 2 or self.counts.shape[0] != self.counts.shape[1]:
            raise ValueError(f"`counts` must be square, centre by context, got shape {tuple(self.counts.shape)}.")
        if not (torch.isfinite(self.counts).all() and (self.counts >= 0).all()):
            raise ValueError("`counts` must be finite and at least 0: expected or observed numbers of pairs.")
        check_model(self.dim, self.penalty)
        object.__setattr__(self, "counts", self.counts.to(torch.float64))

    @property
    def n_objects(self) -> int:
        """The number of objects."""
        return len(self.counts)

    @property
    def object_labels(self) -> Sequence[Hashable] | None:
        """Names of the objects."""
        return self.labels

    def __call__(self, params: Any, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the loss."""
        counts = self.counts.to(presence) * presence[:, None] * presence
        normalised = (counts.sum(dim=1) * log_normalisers(params, presence)).sum()
        agreed = (counts * (params["embedding"] @ params["output"].T)).sum()
        return normalised - agreed + 0.5 * self.penalty * squared_norm(params)

    def start(self, *, seed: int = 0) -> Embeddings:
        """Return parameters to start from; see `minimize`."""
        return start(self.n_objects, self.dim, seed)

    def owned(self, i: int) -> Int[Tensor, " d"]:
        """Return the numbers of the parameters that object i alone trains; none without a penalty."""
        if self.penalty == 0:
            return torch.zeros(0, dtype=torch.long)
        return owned(i, self.n_objects, self.dim)

    def null_directions(self, params: Embeddings, presence: Float[Tensor, " k"]) -> dict[str, Embeddings]:
        """Return the directions along which L(·, presence) is constant, by name."""
        return null_directions(params, presence, penalised=self.penalty > 0)


def check_model(dim: int, penalty: float) -> None:
    """Raise where the model's size or penalty is impossible.

    Raises:
        ValueError: If so.
    """
    if dim < 1:
        raise ValueError(f"`dim` is the length of an embedding and must be at least 1, got {dim}.")
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"`penalty` must be finite and at least 0, got {penalty}.")
