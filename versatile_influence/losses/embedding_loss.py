"""What losses of node embeddings share: two layers of parameters, counts of who meets whom, and a model of contexts."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.loss import squared_norm
from versatile_influence.losses.context_models import Embeddings, Model, gradient
from versatile_influence.losses.embedding_targets import EmbeddingTargets

# Up to this many nodes the loss is taken from the whole table of counts; beyond, from walks.
DENSE_NODES = 200
# Up to this many parameters the Hessian is written out.
DENSE_PARAMETERS = 10_000


class EmbeddingLoss(EmbeddingTargets, ABC):
    """A loss of an embedding and an output row for each node, that knows the nodes only by their counts.

    Attributes:
        n_objects: How many objects can be removed.
        n_nodes: How many nodes have parameters.
        dim: Length of an embedding.
        penalty: λ in (λ/2) ‖θ‖².
        model: How contexts are modelled.
        objects: What can be removed, "nodes" or "edges".
    """

    n_objects: int
    n_nodes: int
    dim: int
    penalty: float
    model: Model
    objects: Literal["nodes", "edges"] = "nodes"

    @abstractmethod
    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:
        """Return the loss."""

    @abstractmethod
    def met(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Return which nodes are present, and how often each meets each."""

    def removal_gradients(self, params: Embeddings, objects: Int[Tensor, " k"] | None = None) -> Float[Tensor, "k p"]:
        """Return the gradients of the removal differences."""
        members = torch.arange(self.n_objects) if objects is None else objects
        everyone = torch.ones(self.n_objects, dtype=params["output"].dtype)

        def present(presence: Float[Tensor, " k"]) -> Float[Tensor, " p"]:
            return gradient(self.model, params, *self.met(presence)[::-1])

        whole = present(everyone)
        return torch.stack([whole - present(everyone.index_fill(0, i, 0.0)) for i in members.split(1)])

    def dense_hessian(self, params: Embeddings, presence: Float[Tensor, " k"]) -> Float[Tensor, "p p"] | None:
        """Return ∇²L(θ, b), or None for a large graph."""
        return self.at(presence).dense_hessian(params, presence) if _written_out(params) else None

    def at(self, presence: Float[Tensor, " k"]) -> "AtPresence":
        """Return the loss for this presence alone, its counts taken once."""
        return AtPresence(self, *self.met(presence))

    def start(self, *, seed: int = 0) -> Embeddings:
        """Return parameters to start from, at random: zero is a saddle that no descent leaves."""
        generator = torch.Generator().manual_seed(seed)
        draw = 0.5 * torch.randn(2, self.n_nodes, self.dim, generator=generator, dtype=torch.float64)
        return {"embedding": draw[0], "output": draw[1]}

    def owned(self, i: int) -> Int[Tensor, " d"]:
        """Return the numbers of the parameters that belong to object i alone; none for an edge.

        None without a penalty either: nothing then moves them when the node is gone, and they stay as they are.
        """
        if self.objects == "edges" or self.penalty == 0:
            return torch.zeros(0, dtype=torch.long)
        row = torch.arange(self.dim) + i * self.dim
        return torch.cat([row, self.n_nodes * self.dim + row])

    def null_directions(self, params: Embeddings, presence: Float[Tensor, " k"]) -> dict[str, Embeddings]:
        """Return the directions along which L(·, presence) is constant, by name."""
        nodes = presence if self.objects == "nodes" else presence.new_ones(self.n_nodes)
        return null_directions(params, nodes, penalised=self.penalty > 0, shifts=self.model.shifts)


@dataclass(frozen=True)
class AtPresence:
    """An embedding loss for one presence: a function of the parameters only, whatever presence it is given.

    Attributes:
        loss: The loss.
        nodes: Which nodes are present.
        counts: How often each meets each.
    """

    loss: EmbeddingLoss
    nodes: Float[Tensor, " n"]
    counts: Float[Tensor, "n n"]

    @property
    def penalty(self) -> float:
        """Return λ."""
        return self.loss.penalty

    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:  # noqa: ARG002
        """Return the loss."""
        return self.loss.model.value(params, self.counts, self.nodes) + 0.5 * self.penalty * squared_norm(params)

    def dense_hessian(
        self,
        params: Embeddings,
        presence: Float[Tensor, " k"],  # noqa: ARG002
    ) -> Float[Tensor, "p p"] | None:
        """Return ∇²L, or None for a large graph."""
        if not _written_out(params):
            return None
        whole = self.loss.model.hessian(params, self.counts, self.nodes)
        whole.diagonal().add_(self.penalty)
        return whole

    def gradients(
        self,
        params: Embeddings,
        presence: Float[Tensor, "j k"],  # noqa: ARG002
    ) -> Float[Tensor, "j p"] | None:
        """Return ∇L at j stacked parameters; None for a small graph, which gains nothing by it."""
        if len(self.nodes) <= DENSE_NODES:
            return None
        rows = []
        for embedding, output in zip(params["embedding"], params["output"], strict=True):
            one = {"embedding": embedding, "output": output}
            penalty = self.penalty * torch.cat([embedding.reshape(-1), output.reshape(-1)])
            rows.append(gradient(self.loss.model, one, self.counts, self.nodes) + penalty)
        return torch.stack(rows)

    def null_directions(self, params: Embeddings, presence: Float[Tensor, " k"]) -> dict[str, Embeddings]:
        """Return the directions along which the loss is constant, by name."""
        return self.loss.null_directions(params, presence)


def _written_out(params: Embeddings) -> bool:
    return 2 * params["embedding"].numel() <= DENSE_PARAMETERS


def one_by_one(
    loss: EmbeddingLoss, params: Embeddings, groups: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]]
) -> Float[Tensor, " k"]:
    """Return L(θ, 1) − L(θ, 1₋ᵢ) by evaluating the loss without each removal."""
    everyone = params["output"].new_ones(loss.n_objects)
    whole = loss(params, everyone)
    return torch.stack([whole - loss(params, everyone.index_fill(0, group, 0.0)) for group in groups])


def null_directions(
    params: Embeddings, presence: Float[Tensor, " n"], *, penalised: bool, shifts: bool
) -> dict[str, Embeddings]:
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
        if shifts:
            directions[f"shift of the output along axis {a}"] = {"embedding": nothing, "output": here * axis}
        for i in (presence <= 0).nonzero().flatten().tolist():
            alone = torch.zeros_like(output)
            alone[i, a] = 1.0
            directions[f"embedding of absent {i}, axis {a}"] = {"embedding": alone, "output": nothing}
            directions[f"output of absent {i}, axis {a}"] = {"embedding": nothing, "output": alone}
    return directions


def check_model(dim: int, penalty: float) -> None:
    """Raise where the model's size or penalty is impossible.

    Raises:
        ValueError: If so.
    """
    if dim < 1:
        raise ValueError(f"`dim` is the length of an embedding and must be at least 1, got {dim}.")
    if not 0 <= penalty < float("inf"):
        raise ValueError(f"`penalty` must be finite and at least 0, got {penalty}.")
