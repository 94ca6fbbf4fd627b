"""Removal differences of the softmax over walks, and their derivatives: walks and denominators of many at once.

A removal changes the weights of its own edges only, and 1 − p_i is what its node leaves of a denominator.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.core.derivatives import in_blocks
from versatile_influence.core.removals import Removals
from versatile_influence.core.sizes import PAIR_NUMBERS, at_once
from versatile_influence.losses.graphs.chain import Changes, Incidence, Steps
from versatile_influence.losses.graphs.context_models import Embeddings, log_normalisers, scores
from versatile_influence.losses.graphs.walks import Walks

# The steps, σ_o, and how often each node is a centre.
Walked = tuple[Steps, list[Tensor], Tensor]


@dataclass(frozen=True)
class WalkRemovals:
    """Removals of nodes or edges of a graph that is walked.

    Attributes:
        walks: The walks.
        objects: What can be removed, "nodes" or "edges".
        edges_of: The edges that go with each object.
    """

    walks: Walks
    objects: Literal["nodes", "edges"]
    edges_of: Incidence = field(init=False, repr=False)

    def __post_init__(self):
        graph = self.walks.graph
        edge = torch.arange(len(graph.ends))
        if self.objects == "edges":
            incident = Incidence.of(edge, edge, len(edge))
        else:
            incident = Incidence.of(graph.ends.T.reshape(-1), edge.repeat(2), graph.n_nodes)
        object.__setattr__(self, "edges_of", incident)

    def differences(self, params: Embeddings, removals: Removals) -> Float[Tensor, " k"]:
        """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal."""
        e, o = params["embedding"], params["output"]
        normalisers = log_normalisers(params, e.new_ones(len(e)))
        denominators = Denominators.of(params)
        steps, sigma, centres = self._walked()
        agreed, found = self.walks.agreements(steps, sigma, e, o)[:, 0], []
        for part in removals.parts(2 * len(self.walks.chain.source) * e.shape[1]):
            steps, sigma, without = self._walked(part)
            kept = self.walks.agreements(steps, sigma, e, o)[:, 0]
            value = ((centres - without) * normalisers[:, None]).sum(0) + kept - agreed
            if self.objects == "nodes":
                value = value - (without * torch.log(denominators.left(part, needed=without > 0))).sum(0)
            found.append(value)
        return torch.cat(found)

    def products(
        self, params: Embeddings, directions: Float[Tensor, "p q"], removals: Removals
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of `differences` along each direction, written out by hand."""
        size = at_once(len(params["output"]) ** 2, most=PAIR_NUMBERS)
        return in_blocks(lambda some: self._products(params, some, removals), directions, size)

    def _products(
        self, params: Embeddings, directions: Float[Tensor, "p q"], removals: Removals
    ) -> Float[Tensor, "k q"]:
        e, o = params["embedding"], params["output"]
        (n, d), q = e.shape, directions.shape[1]
        de, do = directions.T.reshape(q, 2, n, d).unbind(1)
        denominators = Denominators.of(params)
        tilted = de @ o.T + e @ do.mT
        moved = (denominators.shares * tilted).sum(dim=2)
        # ⟨de, o⟩ + ⟨e, do⟩ for every direction, as one long row a node.
        left = torch.cat([de, e.expand(q, n, d)], dim=2).permute(1, 0, 2).reshape(n, -1)
        right = torch.cat([o.expand(q, n, d), do], dim=2).permute(1, 0, 2).reshape(n, -1)
        steps, sigma, centres = self._walked(plain=True)
        agreed, found = self.walks.agreements(steps, sigma, left, right, parts=q), []
        for part in removals.parts(2 * len(self.walks.chain.node) * d * q):
            steps, sigma, without = self._walked(part, plain=True)
            value = (centres - without).T @ moved.T + self.walks.agreements(steps, sigma, left, right, parts=q) - agreed
            if self.objects == "nodes":
                weight = (without / denominators.left(part, needed=without > 0))[:, part.rows]
                weight = weight * denominators.shares[:, part.members]
                of_members = (weight * (tilted[:, :, part.members] - moved[..., None])).sum(1)
                value = value.index_add(0, part.rows, of_members.T)
            found.append(value)
        return torch.cat(found)

    def gradients(self, params: Embeddings, removals: Removals) -> Float[Tensor, "k p"]:
        """Return the gradient of each of the `differences`, written out by hand."""
        e, o = params["embedding"], params["output"]
        (n, d), denominators = e.shape, Denominators.of(params)
        whole, found = self._slopes(e, o, denominators, None), e.new_empty(removals.count, 2 * n * d)
        # Into one array: parts that wait to be joined would lie scattered over memory.
        parts, start = removals.parts(8 * n * d), 0
        for part in parts:
            torch.sub(whole, self._slopes(e, o, denominators, part), out=found[start : start + part.count])
            start += part.count
        return found

    def _slopes(
        self, e: Float[Tensor, "n d"], o: Float[Tensor, "n d"], denominators: "Denominators", removals: Removals | None
    ) -> Float[Tensor, "k p"]:
        """Return the gradient of the loss without its penalty, with everyone or without each removal."""
        steps, sigma, centres = self._walked(removals, plain=True)
        n, k, d = len(e), centres.shape[1], e.shape[1]
        mean, left = (denominators.shares @ o)[:, None, :].expand(n, k, d), torch.ones_like(centres)
        nodes = None if self.objects == "edges" else removals
        if nodes is not None:
            left = denominators.left(nodes, needed=centres > 0)
            mean = denominators.means(nodes, o) / left[..., None]
        agreed, met = (self.walks.met(steps, sigma, values)[place] for place, values in enumerate((o, e)))
        outputs = torch.einsum("uw,ukd->wkd", denominators.shares, (centres / left)[..., None] * e[:, None, :])
        if nodes is not None:
            outputs[nodes.members, nodes.rows] = 0.0
        found = torch.stack([centres[..., None] * mean - agreed, outputs - met])
        return found.permute(2, 0, 1, 3).reshape(k, -1)

    def _walked(self, removals: Removals | None = None, *, plain: bool = False) -> Walked:
        """Return the walks with everyone, or without each removal."""
        n = self.walks.graph.n_nodes
        nodes = torch.ones(n, 1 if removals is None else removals.count, dtype=torch.float64)
        changes = None
        if removals is not None:
            if self.objects == "nodes":
                nodes[removals.members, removals.rows] = 0.0
            position, edge = self.edges_of.lists(removals.members)
            changes = Changes.of(self.walks.chain, nodes, column=removals.rows[position], edge=edge)
        steps = self.walks.steps(changes=changes, plain=plain)
        sigma = self.walks.visits(steps, nodes)
        return steps, sigma, self.walks.centres(steps, sigma)


@dataclass(frozen=True)
class Denominators:
    """The softmax denominators with everyone, and what is left of them.

    Attributes:
        shares: The share p of each node in the denominator of each centre.
        largest: The node of the largest share.
        others: What all but that one add up to.
    """

    shares: Float[Tensor, "n n"]
    largest: Int[Tensor, "n 1"]
    others: Float[Tensor, "n 1"]

    @classmethod
    def of(cls, params: Embeddings) -> "Denominators":
        """Return them at these parameters."""
        shares = torch.softmax(scores(params), dim=1)
        largest = shares.argmax(dim=1, keepdim=True)
        return cls(shares, largest, shares.scatter(1, largest, 0.0).sum(dim=1, keepdim=True))

    def left(self, removals: Removals, *, needed: Bool[Tensor, "n k"]) -> Float[Tensor, "n k"]:
        """Return 1 − p with p the share of the removed nodes in each denominator, where it is needed; 1 elsewhere.

        The largest share may be near 1; without it the others are summed, and nothing is subtracted.
        """
        zeros = torch.zeros(needed.shape, dtype=self.shares.dtype)
        head = self.largest == removals.members
        headless = zeros.index_add(1, removals.rows, head.to(zeros)) > 0
        gone = zeros.index_add(1, removals.rows, torch.where(head, 0.0, self.shares[:, removals.members]))
        return torch.where(needed, torch.where(headless, self.others, 1.0) - gone, 1.0)

    def means(self, removals: Removals, values: Float[Tensor, "n d"]) -> Float[Tensor, "n k d"]:
        """Return Σ_w p_w x_w over the nodes that are left, in shares of the denominators of everyone."""
        head = self.largest == removals.members
        zeros = values.new_zeros(len(values), removals.count)
        headless = zeros.index_add(1, removals.rows, head.to(zeros)) > 0
        without = self.shares.scatter(1, self.largest, 0.0)
        gone = torch.where(head, 0.0, self.shares[:, removals.members])[..., None] * values[removals.members]
        kept = torch.where(headless[..., None], (without @ values)[:, None], (self.shares @ values)[:, None])
        return kept.index_add(1, removals.rows, -gone)
