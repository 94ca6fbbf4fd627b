"""What losses of node embeddings share: two layers of parameters, counts of who meets whom, and a model of contexts."""

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import instance, number, one_of, whole
from versatile_influence.core.derivatives import plain
from versatile_influence.core.loss import Loss, Objects, by_gradients
from versatile_influence.core.memory import check_room
from versatile_influence.core.ravel import Params, first, squared_norm
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import DENSE_NODES, WRITTEN_PARAMETERS
from versatile_influence.losses.graphs.at_presence import AtLargePresence, AtPresence, NodeBlocks
from versatile_influence.losses.graphs.context_models import Embeddings, Model, NegativeSampling, Softmax
from versatile_influence.losses.graphs.leading import leading
from versatile_influence.losses.graphs.meetings import Counted, Meetings
from versatile_influence.losses.graphs.targets import EmbeddingTargets


class EmbeddingLoss(Loss, EmbeddingTargets):
    """A loss of an embedding and an output row for each node, that knows the nodes only by their counts.

    Args:
        node_labels: Names of the nodes that have parameters.
        object_labels: Names of what can be removed, or None.
        n_objects: How many objects can be removed.
        dim: Length of an embedding.
        penalty: λ in (λ/2) ‖θ‖².
        model: How contexts are modelled.
        objects: What can be removed, "nodes" or "edges".

    Raises:
        ValueError: If an embedding has no length, the penalty is negative, or objects are something else.
    """

    hessian_written_out = True

    def __init__(
        self,
        node_labels: Sequence[Hashable],
        object_labels: Sequence[Hashable] | None,
        *,
        n_objects: int,
        dim: int,
        penalty: float,
        model: Model,
        objects: Literal["nodes", "edges"] = "nodes",
    ):
        one_of(objects, "objects", ["nodes", "edges"])
        self.node_labels, self.object_labels, self.objects = node_labels, object_labels, objects
        self._everybody: AtLargePresence | None = None
        self.n_nodes, self.n_objects = len(node_labels), n_objects
        self.dim, self.penalty = whole(dim, "dim", least=1), number(penalty, "penalty", least=0)
        # Numbers of the largest array of one evaluation.
        self.numbers = 2 * self.n_nodes * self.dim if self.large else self.n_nodes**2
        self.stand_in = NodeBlocks() if self.large else None
        self.model = instance(model, "model", Softmax | NegativeSampling, "vif.losses.Softmax()")

    @property
    def large(self) -> bool:
        """Whether there are so many nodes, or parameters, that tables of several presences, or of H, are never made."""
        return self.n_nodes > DENSE_NODES or 2 * self.n_nodes * self.dim > WRITTEN_PARAMETERS

    @abstractmethod
    def met(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Return which nodes are present, and how often each meets each; differentiable."""

    def meetings(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Meetings]:
        """Return the same of many nodes, without a derivative."""
        nodes, counts = self.met(presence)
        return nodes, Counted(counts)

    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:
        if self.large and plain(presence, *params.values()):
            return self.at(presence)(params, presence)
        nodes, counts = self.met(presence)
        return self.model.value(params, counts, nodes) + 0.5 * self.penalty * squared_norm(params)

    def removal_differences(self, params: Any, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal, evaluated one after the other."""
        presences = Removals.of(objects, self.n_objects).presences(first(params))
        without = torch.stack([self(params, presence) for presence in presences])
        return self(params, self.everyone(params)) - without

    def removal_products(
        self, params: Any, directions: Float[Tensor, "p q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of `removal_differences`, or its product with directions, by one gradient a removal."""
        return by_gradients(self, params, directions, Removals.of(objects, self.n_objects), self.numbers)

    def gradients_without(self, params: Any, removals: Removals) -> Float[Tensor, "k p"]:
        presences = removals.presences(first(params))
        return self.gradients({name: value.expand(len(presences), -1, -1) for name, value in params.items()}, presences)

    def hessians_without(self, params: Any, removals: Removals) -> Float[Tensor, "k p p"]:
        return torch.stack([self.hessian(params, presence) for presence in removals.presences(first(params))])

    def gradient(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, " p"]:
        return self.at(presence).gradient(params, presence)

    def gradient_and_value(
        self, params: Any, presence: Float[Tensor, " k"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        return self.at(presence).gradient_and_value(params, presence)

    def gradients(self, params: Any, presence: Float[Tensor, "j k"]) -> Float[Tensor, "j p"]:
        if not self.large:
            return super().gradients(params, presence)
        each = zip(presence, *params.values(), strict=True)
        return torch.stack([self.gradient(dict(zip(params, one, strict=True)), row) for row, *one in each])

    def hessian_products(
        self, params: Any, presence: Float[Tensor, " k"], vectors: Float[Tensor, "p q"]
    ) -> Float[Tensor, "p q"]:
        return self.at(presence).hessian_products(params, presence, vectors)

    def hessian(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, "p p"]:
        return self.at(presence).hessian(params, presence)

    def at(self, presence: Float[Tensor, " k"]) -> "AtPresence":
        """Return the loss for this presence alone, its counts taken once."""
        if not self.large:
            return AtPresence(self, *self.met(presence))
        if not (presence == 1).all():
            return AtLargePresence(self, *self.meetings(presence))
        # What everybody's meetings take is paid once.
        self._everybody = self._everybody or AtLargePresence(self, *self.meetings(presence))
        return self._everybody

    def start(self, *, seed: int = 0) -> Embeddings:
        """Return parameters to start from, at random: zero is a saddle that no descent leaves.

        With negative sampling on a large graph, those whose scores a Newton step from zero gives, cut off to rank
        `dim`: training takes fewer gradients from there, and the seed hardly matters.
        """
        generator = torch.Generator().manual_seed(seed)
        draw = 0.5 * torch.randn(2, self.n_nodes, self.dim, generator=generator, dtype=torch.float64)
        if self.large and isinstance(self.model, NegativeSampling) and self.dim < self.n_nodes:
            nodes, meetings = self.meetings(torch.ones(self.n_objects, dtype=torch.float64))
            return leading(self.model, meetings, nodes, draw[0])
        return {"embedding": draw[0], "output": draw[1]}

    def owned(self, i: int) -> Int[Tensor, " d"]:
        """Return the numbers of the parameters that belong to object i alone; none for an edge.

        None without a penalty either: nothing then moves them when the node is gone, and they stay as they are.
        """
        if self.objects == "edges" or self.penalty == 0:
            return super().owned(i)
        row = torch.arange(self.dim) + i * self.dim
        return torch.cat([row, self.n_nodes * self.dim + row])

    def null_directions(self, params: Any, presence: Float[Tensor, " k"]) -> dict[str, Params]:
        """Return the directions along which L(·, presence) is constant, by name.

        ⟨e_u, o_v⟩ is the same after e → eA, o → oA⁻ᵀ, and the softmax after o → o + c. A penalty leaves the rotations
        A. Rows of who is absent are in no term: without a penalty they are free, each by itself.
        """
        nodes, penalised = presence if self.objects == "nodes" else presence.new_ones(self.n_nodes), self.penalty > 0
        here = nodes[:, None]
        embedding, output = params["embedding"] * here, params["output"] * here
        dim, directions, nothing = self.dim, {}, torch.zeros_like(output)
        check_room(
            # Themselves, a basis of them, and what makes it.
            6 * dim**2 * embedding.numel(),
            embedding,
            what=f"A basis of what {dim} axes can be turned into without a change of the loss",
            instead=f"Take a smaller dim: {self.n_nodes} nodes fill no more than {self.n_nodes} dimensions.",
        )
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
            if self.model.shifts:
                directions[f"shift of the output along axis {a}"] = {"embedding": nothing, "output": here * axis}
            for i in (nodes <= 0).nonzero().flatten().tolist():
                alone = torch.zeros_like(output)
                alone[i, a] = 1.0
                directions[f"embedding of absent {i}, axis {a}"] = {"embedding": alone, "output": nothing}
                directions[f"output of absent {i}, axis {a}"] = {"embedding": nothing, "output": alone}
        return directions
