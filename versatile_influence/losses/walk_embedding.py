"""Node embeddings from random walks (DeepWalk, node2vec) as a deterministic function of who is present."""

import warnings
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.loss import squared_norm
from versatile_influence.losses.chain import Changes, Incidence
from versatile_influence.losses.context_models import Embeddings, Model, Softmax, log_normalisers
from versatile_influence.losses.embedding_loss import DENSE_NODES, EmbeddingLoss, check_model, one_by_one
from versatile_influence.losses.graph import Graph
from versatile_influence.losses.walk_removals import softmax_differences, softmax_products
from versatile_influence.losses.walks import Walks


class WalkEmbeddingLoss(EmbeddingLoss):
    """Negative log-likelihood of a node's context in random walks, in expectation over the walks.

        L(θ, b) = Σ_uv C_uv(b) (log Σ_{w present} exp⟨e_u, o_w⟩ − ⟨e_u, o_v⟩) + (λ/2) ‖θ‖²,

    with e_u the row of node u in `params["embedding"]`, o_v that of v in `params["output"]`, and C(b) the expected
    co-occurrence counts of walks on the graph of those present. Without node i the walks go elsewhere, i is in no
    denominator, and e_i and o_i are trained by the penalty alone. This is Example 2 of the paper with all other nodes
    present as the negatives, without the noise of drawn walks.

    Without a penalty the loss does not change when the embedding is mapped by any invertible matrix and the output
    back, or when a vector is added to all output rows: d² + d directions, `null_directions`. With one, only rotations
    of both are left, d(d − 1)/2. A target that depends on them is not determined by training.

    Args:
        graph: A networkx graph, scipy sparse adjacency matrix, edge-list file, PyG `Data`, or `Graph`.
        length: How many nodes a walk visits.
        window: How far context reaches, or a list of offsets; see `Walks`.
        dim: Length of an embedding.
        penalty: λ.
        model: How contexts are modelled: `Softmax()` over all nodes, or `NegativeSampling(…)` in expectation.
        objects: What can be removed, "nodes" or "edges".
        starts, dead_ends, p, q: Of the walks; see `Walks`.
        directed, weight: How the graph is read; see `Graph.of`.

    Attributes:
        walks: The walks.
        dim: Length of an embedding.
        penalty: λ.
        model: How contexts are modelled.
        objects: "nodes" or "edges".

    References:
        Deng et al., "A Versatile Influence Function", Example 2 and Section 5. Perozzi et al. (2014), "DeepWalk".

    Example:
        >>> import networkx as nx, versatile_influence as vif
        >>> loss = WalkEmbeddingLoss(nx.karate_club_graph(), length=6, window=3, dim=2, penalty=0.1)
        >>> params = vif.minimize(loss, loss.start())
        >>> scores = vif.attribute(loss, params, loss.pair_losses([(12, 10)]))
        >>> scores.scores.shape
        torch.Size([34, 1])
    """

    def __init__(
        self,
        graph: Any,
        *,
        length: int,
        window: int | Sequence[int],
        dim: int,
        penalty: float = 0.0,
        model: Model = Softmax(),  # noqa: B008  (a frozen value)
        objects: Literal["nodes", "edges"] = "nodes",
        starts: float | Float[Tensor, " n"] = 1.0,
        dead_ends: Literal["stay", "stop"] = "stay",
        p: float = 1.0,
        q: float = 1.0,
        directed: bool = False,
        weight: str | None = None,
    ):
        check_model(dim, penalty)
        if objects not in ("nodes", "edges"):
            raise ValueError(f'`objects` is "nodes" or "edges", got {objects!r}.')
        checked = Graph.of(graph, directed=directed, weight=weight)
        walks = Walks(checked, length=length, window=window, starts=starts, dead_ends=dead_ends, p=p, q=q)
        if penalty == 0 and (parts := checked.components()) > 1:
            warnings.warn(
                f"The graph has {parts} unconnected parts. Their nodes never meet in a walk. Without a penalty "
                "their scores can fall forever: there may be no finite minimum. Add penalty=…, or keep one part.",
                stacklevel=2,
            )
        self.walks, self.graph, self.dim, self.penalty, self.objects = walks, checked, dim, float(penalty), objects
        self.model = model
        self.n_nodes = n = checked.n_nodes
        m = len(checked.ends)
        self.node_labels = checked.labels
        self.n_objects = n if objects == "nodes" else m
        edge = torch.arange(m)
        incident = Incidence.of(checked.ends.T.reshape(-1), edge.repeat(2), n)
        self.edges_of = incident if objects == "nodes" else Incidence.of(edge, edge, m)

    @property
    def object_labels(self) -> Sequence[Hashable]:
        """Names of the nodes; of an edge, those of its ends joined by – (→ where directed)."""
        labels = self.graph.labels
        if self.objects == "nodes":
            return labels
        joint = "→" if self.graph.directed else "–"
        return [f"{labels[a]}{joint}{labels[b]}" for a, b in self.graph.ends.tolist()]

    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:
        """Return the loss."""
        if self.n_nodes <= DENSE_NODES or not isinstance(self.model, Softmax):
            return self.at(presence)(params, presence)
        # The counts of a large graph are never formed: only their product with the parameters is.
        nodes, edges = self._present(presence)
        steps = self.walks.steps(edges)
        sigma = self.walks.visits(steps, nodes[:, None])
        centres = self.walks.centres(steps, sigma)[:, 0]
        agreed = self.walks.agreement(steps, sigma, params["embedding"], params["output"])[0]
        return (centres * log_normalisers(params, nodes)).sum() - agreed + 0.5 * self.penalty * squared_norm(params)

    def met(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Return which nodes are present, and how often each is expected to meet each."""
        nodes, edges = self._present(presence)
        if self.n_nodes <= DENSE_NODES:
            return nodes, self.walks.counts(nodes, edges)
        return nodes, torch.from_numpy(self.walks.sparse_counts(nodes, edges).toarray()).to(nodes)

    removes_groups = True

    def removal_differences(
        self, params: Embeddings, objects: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]] | None = None
    ) -> Float[Tensor, " k"]:
        """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal: with the softmax, for many side by side."""
        groups = torch.arange(self.n_objects) if objects is None else objects
        differences = softmax_differences if isinstance(self.model, Softmax) else one_by_one
        return differences(self, params, groups)

    def removal_products(
        self,
        params: Embeddings,
        directions: Float[Tensor, "p q"] | None = None,
        objects: Int[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of `removal_differences` along each direction, or their Jacobian, by hand."""
        members = torch.arange(self.n_objects) if objects is None else objects
        if directions is None:
            return self.removal_gradients(params, members)
        if isinstance(self.model, Softmax):
            return softmax_products(self, params, directions, members)
        # Never all gradients at once.
        return torch.cat([self.removal_gradients(params, some) @ directions for some in members.split(64)])

    def _present(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Return who is present of nodes and of edges: an edge goes with its ends, no node with its edges."""
        if self.objects == "edges":
            return presence.new_ones(self.graph.n_nodes), presence
        return presence, presence[self.graph.ends[:, 0]] * presence[self.graph.ends[:, 1]]

    def changes(
        self, row: Int[Tensor, " m"], member: Int[Tensor, " m"], *, count: int
    ) -> tuple[Float[Tensor, "n k"], Changes]:
        """Return which nodes stay at each of `count` removals, and what changes in the walks."""
        nodes = torch.ones(self.graph.n_nodes, count, dtype=torch.float64)
        if self.objects == "nodes":
            nodes[member, row] = 0.0
        position, edge = self.edges_of.lists(member)
        return nodes, Changes.of(self.walks.chain, nodes, column=row[position], edge=edge)
