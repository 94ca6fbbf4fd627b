"""Node embeddings from random walks (DeepWalk, node2vec) as a deterministic function of who is present."""

from collections.abc import Sequence
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.derivatives import plain
from versatile_influence.core.loss import Objects
from versatile_influence.core.ravel import squared_norm
from versatile_influence.core.removals import Removals
from versatile_influence.core.warn import warn
from versatile_influence.losses.graphs.context_models import Model, Softmax, log_normalisers
from versatile_influence.losses.graphs.embedding_loss import EmbeddingLoss
from versatile_influence.losses.graphs.graph import Graph
from versatile_influence.losses.graphs.meetings import Meetings
from versatile_influence.losses.graphs.walk_removals import WalkRemovals
from versatile_influence.losses.graphs.walked import Walked
from versatile_influence.losses.graphs.walks import Walks


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
        starts: Of the walks, as `dead_ends`, `p` and `q`; see `Walks`.
        dead_ends: See `Walks`.
        p: See `Walks`.
        q: See `Walks`.
        directed: How the graph is read, as `weight`; see `Graph.of`.
        weight: See `Graph.of`.

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
        checked = Graph.of(graph, directed=directed, weight=weight)
        labels, joint = checked.labels, "→" if checked.directed else "–"
        if objects == "edges":
            labels = [f"{labels[a]}{joint}{labels[b]}" for a, b in checked.ends.tolist()]
        super().__init__(
            checked.labels, labels, n_objects=len(labels), dim=dim, penalty=penalty, model=model, objects=objects
        )
        self.differences_together = isinstance(model, Softmax)
        self.graph = checked
        self.walks = Walks(checked, length=length, window=window, starts=starts, dead_ends=dead_ends, p=p, q=q)
        self.removed = WalkRemovals(self.walks, objects)
        columns = 2 * dim if self.large else self.n_nodes
        self.numbers = max(self.numbers, len(self.walks.chain.source) * columns)
        if penalty == 0 and (parts := checked.parts().max() + 1) > 1:
            warn(
                f"The graph has {parts} unconnected parts. Their nodes never meet in a walk. Without a penalty "
                "their scores can fall forever: there may be no finite minimum. Add penalty=…, or keep one part.",
            )

    def __call__(self, params: Any, presence: Float[Tensor, " k"]) -> Float[Tensor, ""]:
        if not (self.large and self.differences_together) or plain(presence, *params.values()):
            return super().__call__(params, presence)
        # The counts of a large graph are not formed: only their product with the parameters is.
        nodes, edges = self._present(presence)
        steps = self.walks.steps(edges)
        sigma = self.walks.visits(steps, nodes[:, None])
        centres = self.walks.centres(steps, sigma)[:, 0]
        agreed = self.walks.agreements(steps, sigma, params["embedding"], params["output"])[0, 0]
        return (centres * log_normalisers(params, nodes)).sum() - agreed + 0.5 * self.penalty * squared_norm(params)

    def met(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n n"]]:
        """Return which nodes are present, and how often each is expected to meet each; differentiable."""
        # Edges that go with their ends are counted out by the walks themselves: once, also where a node is half there.
        whole = self.objects == "edges"
        return self._present(presence)[0], self.walks.counts(*((None, presence) if whole else (presence, None)))

    def meetings(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Meetings]:
        nodes, edges = self._present(presence)
        return nodes, Walked(self.walks, nodes, edges)

    def removal_differences(self, params: Any, objects: Objects = None) -> Float[Tensor, " k"]:
        """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal: with the softmax, for many side by side."""
        if not self.differences_together:
            return super().removal_differences(params, objects)
        return self.removed.differences(params, Removals.of(objects, self.n_objects))

    def removal_products(
        self, params: Any, directions: Float[Tensor, "p q"] | None = None, objects: Objects = None
    ) -> Float[Tensor, "k q"]:
        """Return the Jacobian of `removal_differences`, or its product with directions: for many side by side."""
        if not self.differences_together:
            return super().removal_products(params, directions, objects)
        if directions is None:
            return self.removed.gradients(params, Removals.of(objects, self.n_objects))
        return self.removed.products(params, directions, Removals.of(objects, self.n_objects))

    def _present(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Return who is present of nodes and of edges: an edge goes with its ends, no node with its edges."""
        if self.objects == "edges":
            return presence.new_ones(self.n_nodes), presence
        return presence, presence[self.graph.ends[:, 0]] * presence[self.graph.ends[:, 1]]
