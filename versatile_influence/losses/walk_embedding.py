"""Node embeddings from random walks (DeepWalk, node2vec) as a deterministic function of who is present."""

import warnings
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence._forward import whole_jacobian
from versatile_influence._ravel import ravel
from versatile_influence.losses.chain import Changes, Incidence
from versatile_influence.losses.embedding_targets import EmbeddingTargets
from versatile_influence.losses.graph import Graph
from versatile_influence.losses.skip_gram import (
    Embeddings,
    check_model,
    log_normalisers,
    log_shares_left,
    null_directions,
    owned,
    squared_norm,
    start,
)
from versatile_influence.losses.walks import Walks

# Up to this many nodes the counts are formed; beyond, only their product with the parameters is.
DENSE_NODES = 200
# How many numbers the arrays of one block of removals may hold.
BLOCK_NUMBERS = 1_000_000


class WalkEmbeddingLoss(EmbeddingTargets):
    """Negative log-softmax of a node's context in random walks, in expectation over the walks.

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
        objects: What can be removed, "nodes" or "edges".
        starts, dead_ends, p, q: Of the walks; see `Walks`.
        directed, weight: How the graph is read; see `Graph.of`.

    Attributes:
        walks: The walks.
        dim: Length of an embedding.
        penalty: λ.
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
        n, m = checked.n_nodes, len(checked.ends)
        self.node_labels = checked.labels
        self.n_objects = n if objects == "nodes" else m
        edge = torch.arange(m)
        incident = Incidence.of(checked.ends.T.reshape(-1), edge.repeat(2), n)
        self._edges_of = incident if objects == "nodes" else Incidence.of(edge, edge, m)

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
        nodes, edges = self._present(presence)
        if len(nodes) <= DENSE_NODES:
            counts = self.walks.counts(nodes, edges)
            centres, agreed = counts.sum(dim=1), (counts * (params["embedding"] @ params["output"].T)).sum()
        else:
            steps = self.walks.steps(edges)
            sigma = self.walks.visits(steps, nodes[:, None])
            centres = self.walks.centres(steps, sigma)[:, 0]
            agreed = self.walks.agreement(steps, sigma, params["embedding"], params["output"])[0]
        normalised = (centres * log_normalisers(params, nodes)).sum()
        return normalised - agreed + 0.5 * self.penalty * squared_norm(params)

    removes_groups = True

    def removal_differences(
        self, params: Embeddings, objects: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]] | None = None
    ) -> Float[Tensor, " k"]:
        """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal: block by block, walks and denominators of many at once.

        A removal changes the weights of its own edges only, and 1 − p_i is what its node leaves of a denominator.
        """
        groups = torch.arange(self.n_objects) if objects is None else objects
        steps = self.walks.steps()
        everyone = torch.ones(self.graph.n_nodes, 1, dtype=torch.float64)
        sigma = self.walks.visits(steps, everyone)
        centres = self.walks.centres(steps, sigma)
        normalisers = log_normalisers(params, everyone[:, 0])
        shares = torch.exp(params["embedding"] @ params["output"].T - normalisers[:, None])
        agreed = self.walks.agreement(steps, sigma, params["embedding"], params["output"])
        size = max(1, BLOCK_NUMBERS // (len(self.walks.chain.source) * self.dim))
        differences = []
        for at in range(0, len(groups), size):
            row, member = _members(groups[at : at + size])
            nodes, changes = self._changes(row, member, count=len(groups[at : at + size]))
            steps = self.walks.steps(changes=changes)
            sigma = self.walks.visits(steps, nodes)
            without = self.walks.centres(steps, sigma)
            kept = self.walks.agreement(steps, sigma, params["embedding"], params["output"])
            value = ((centres - without) * normalisers[:, None]).sum(0) + kept - agreed
            if self.objects == "nodes":
                value = value - (without * log_shares_left(params, shares, row, member, needed=without > 0)).sum(0)
            differences.append(value)
        return torch.cat(differences)

    def removal_products(
        self,
        params: Embeddings,
        directions: Float[Tensor, "p q"] | None = None,
        objects: Int[Tensor, " k"] | None = None,
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of `removal_differences` along each direction, or their Jacobian, by hand."""
        if directions is None:
            chunk = max(2, BLOCK_NUMBERS // self.n_objects)
            theta = ravel(params)[0]
            return whole_jacobian(lambda part: self.removal_products(params, part, objects), theta, chunk_size=chunk)
        n, d, q = self.graph.n_nodes, self.dim, directions.shape[1]
        e, o = params["embedding"], params["output"]
        de, do = directions.T.reshape(q, 2, n, d).unbind(1)
        shares = torch.softmax(e @ o.T, dim=1)
        tilted = de @ o.T + e @ do.mT
        moved = (shares * tilted).sum(dim=2)
        # ⟨de, o⟩ + ⟨e, do⟩ for every direction, as one long row a node.
        left = torch.cat([de, e.expand(q, n, d)], dim=2).permute(1, 0, 2).reshape(n, -1)
        right = torch.cat([o.expand(q, n, d), do], dim=2).permute(1, 0, 2).reshape(n, -1)
        steps = self.walks.steps(plain=True)
        everyone = torch.ones(n, 1, dtype=torch.float64)
        sigma = self.walks.visits(steps, everyone)
        centres, agreed = self.walks.centres(steps, sigma), self.walks.agreements(steps, sigma, left, right, parts=q)
        groups = torch.arange(self.n_objects) if objects is None else objects
        size = max(1, 4 * BLOCK_NUMBERS // (len(self.walks.chain.node) * 4 * d * q))
        products = []
        for member in groups.split(size):
            nodes, changes = self._changes(torch.arange(len(member)), member, count=len(member))
            steps = self.walks.steps(changes=changes, plain=True)
            sigma = self.walks.visits(steps, nodes)
            without = self.walks.centres(steps, sigma)
            value = (centres - without).T @ moved.T + self.walks.agreements(steps, sigma, left, right, parts=q) - agreed
            if self.objects == "nodes":
                removed = torch.arange(len(member))
                log_left = log_shares_left(params, shares, removed, member, needed=without > 0)
                weight = without * shares[:, member] * torch.exp(-log_left)
                value = value + (weight * (tilted[:, :, member] - moved[..., None])).sum(1).T
            products.append(value)
        return torch.cat(products)

    def start(self, *, seed: int = 0) -> Embeddings:
        """Return parameters to start from, at random: at zero the gradient vanishes, and no descent leaves."""
        return start(self.graph.n_nodes, self.dim, seed)

    def owned(self, i: int) -> Int[Tensor, " d"]:
        """Return the numbers of the parameters that belong to object i alone; none for an edge.

        None without a penalty either: nothing then moves them when the node is gone, and they stay as they are.
        """
        if self.objects == "edges" or self.penalty == 0:
            return torch.zeros(0, dtype=torch.long)
        return owned(i, self.graph.n_nodes, self.dim)

    def null_directions(self, params: Embeddings, presence: Float[Tensor, " k"]) -> dict[str, Embeddings]:
        """Return the directions along which L(·, presence) is constant, by name."""
        return null_directions(params, self._present(presence)[0], penalised=self.penalty > 0)

    def _present(self, presence: Float[Tensor, " k"]) -> tuple[Float[Tensor, " n"], Float[Tensor, " m"]]:
        """Return who is present of nodes and of edges: an edge goes with its ends, no node with its edges."""
        if self.objects == "edges":
            return presence.new_ones(self.graph.n_nodes), presence
        return presence, presence[self.graph.ends[:, 0]] * presence[self.graph.ends[:, 1]]

    def _changes(
        self, row: Int[Tensor, " m"], member: Int[Tensor, " m"], *, count: int
    ) -> tuple[Float[Tensor, "n k"], Changes]:
        """Return which nodes stay at each of `count` removals, and what changes in the walks."""
        nodes = torch.ones(self.graph.n_nodes, count, dtype=torch.float64)
        if self.objects == "nodes":
            nodes[member, row] = 0.0
        position, edge = self._edges_of.lists(member)
        return nodes, Changes.of(self.walks.chain, nodes, column=row[position], edge=edge)


def _members(groups: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return the removed objects one after the other, with the removal that each belongs to."""
    if isinstance(groups, Tensor):
        return torch.arange(len(groups)), groups
    return torch.repeat_interleave(torch.tensor([len(group) for group in groups])), torch.cat(list(groups))
