"""Random walks on a graph as a chain of states, whose steps change their weight with who is present."""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.sizes import DEAD_END
from versatile_influence.losses.graphs.graph import Graph


@dataclass(frozen=True)
class Incidence:
    """Which things belong to each item, as lists one after the other.

    Attributes:
        first: Where the list of each item starts, and at the end where the last one stops.
        things: The lists.
    """

    first: Int[Tensor, " i"]
    things: Int[Tensor, " l"]

    @classmethod
    def of(cls, items: Int[Tensor, " l"], things: Int[Tensor, " l"], count: int) -> "Incidence":
        """Return the lists of `count` items from pairs of item and thing."""
        sizes = torch.bincount(items, minlength=count)
        return cls(torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]), things[torch.argsort(items, stable=True)])

    def lists(self, items: Int[Tensor, " q"]) -> tuple[Int[Tensor, " l"], Int[Tensor, " l"]]:
        """Return the things of these items, with the position in `items` that each comes from."""
        sizes = self.first[items + 1] - self.first[items]
        position = torch.repeat_interleave(sizes)
        within = torch.arange(len(position)) - (sizes.cumsum(0) - sizes)[position]
        return position, self.things[self.first[items][position] + within]


@dataclass(frozen=True)
class Chain:
    """States, and the steps between them while all edges are present.

    For the uniform walk of DeepWalk the states are the nodes. For node2vec they are the nodes, where walks start, and
    the ways to cross an edge, since there the next step depends on the last.

    Attributes:
        node: The node of each state; state u < n is a walk that starts at node u.
        source: The state that each step leaves.
        target: The state it reaches.
        weight: Its weight.
        edge: The edge it crosses.
        closing: The edge from the last node to the next one, or −1: a step weighs `loose` as much without it.
        loose: 1/q of node2vec.
        steps_of: Of each edge, the steps whose weight depends on it.
    """

    node: Int[Tensor, " s"]
    source: Int[Tensor, " t"]
    target: Int[Tensor, " t"]
    weight: Float[Tensor, " t"]
    edge: Int[Tensor, " t"]
    closing: Int[Tensor, " t"]
    loose: float
    steps_of: Incidence

    @classmethod
    def uniform(cls, graph: Graph) -> "Chain":
        """Return the walk that takes each edge with probability proportional to its weight."""
        start, end, edge = graph.arcs()
        open_ = torch.full_like(edge, -1)
        steps_of = Incidence.of(edge, torch.arange(len(edge)), len(graph.ends))
        return cls(torch.arange(graph.n_nodes), start, end, graph.weights[edge], edge, open_, 1.0, steps_of)

    @classmethod
    def node2vec(cls, graph: Graph, p: float, q: float) -> "Chain":
        """Return node2vec's walk: weight 1/p to go straight back, 1/q to a node the last one has no edge to."""
        start, end, edge = graph.arcs()
        n, arcs = graph.n_nodes, torch.arange(len(start))
        first, second = Incidence.of(start, arcs, n).lists(end)
        keys, order = torch.sort(start * n + end)
        wanted = start[first] * n + end[second]
        place = torch.searchsorted(keys, wanted).clamp_max(len(keys) - 1)
        closing = torch.where(keys[place] == wanted, edge[order[place]], -1)
        back = start[first] == end[second]
        one = torch.tensor(1.0, dtype=torch.float64)
        bias = torch.where(back, one / p, torch.where(closing >= 0, one, one / q))
        # A return has no closing edge; in a directed graph none may exist either.
        closing = torch.cat([torch.full_like(arcs, -1), torch.where(back, -1, closing)])
        crossed = torch.cat([edge, edge[second]])
        closed = (closing >= 0).nonzero().flatten()
        items, things = torch.cat([crossed, closing[closed]]), torch.cat([torch.arange(len(crossed)), closed])
        return cls(
            node=torch.cat([torch.arange(n), end]),
            source=torch.cat([start, n + first]),
            target=torch.cat([n + arcs, n + second]),
            weight=torch.cat([graph.weights[edge], graph.weights[edge[second]] * bias]),
            edge=crossed,
            closing=closing,
            loose=1 / q,
            steps_of=Incidence.of(items, things, len(graph.ends)),
        )

    def weights(self, edges: Float[Tensor, " m"]) -> Float[Tensor, " t"]:
        """Return the weight of each step when these edges are present."""
        weight = self.weight.to(edges) * edges[self.edge]
        if self.loose == 1.0:
            return weight
        closed = torch.where(self.closing >= 0, edges[self.closing.clamp_min(0)], 1.0)
        return weight * (self.loose + (1 - self.loose) * closed)


@dataclass(frozen=True)
class Changes:
    """What removals change: for each of k removals, the weights of a few steps and the nodes that are gone.

    Attributes:
        step: The steps that change.
        column: The removal for which they do.
        delta: New weight minus old.
        nodes: Presence of each node, a column a removal.
    """

    step: Int[Tensor, " c"]
    column: Int[Tensor, " c"]
    delta: Float[Tensor, " c"]
    nodes: Float[Tensor, "n k"]

    @classmethod
    def of(
        cls, chain: Chain, nodes: Float[Tensor, "n k"], *, column: Int[Tensor, " e"], edge: Int[Tensor, " e"]
    ) -> "Changes":
        """Return them where removal `column` takes away `edge`."""
        m, count = len(chain.steps_of.first) - 1, len(chain.edge)
        taken = torch.unique(column * m + edge)
        column, edge = taken // m, taken % m
        position, step = chain.steps_of.lists(edge)
        # A step may both cross a removed edge and have lost its closing one.
        pairs = torch.unique(column[position] * count + step)
        column, step = pairs // count, pairs % count
        crossed = torch.isin(column * m + chain.edge[step], taken)
        opened = (chain.closing[step] >= 0) & torch.isin(column * m + chain.closing[step], taken)
        # Of two numbers `torch.where` makes single precision.
        left = torch.where(crossed, 0.0, torch.where(opened, chain.weight.new_full((), chain.loose), 1.0))
        return cls(step, column, chain.weight[step] * (left - 1), nodes)


@dataclass(frozen=True)
class Steps:
    """The transition matrix P, for one presence or for many removals side by side.

    Attributes:
        chain: States and steps.
        weight: Weight of each step.
        total: Weight of all steps out of each state, a column a removal.
        dead: 1 where no step leaves a state.
        stay: Whether a walk stays there, or ends.
        changes: What differs from column to column.
        ways: The weights as sparse matrices, ahead and behind, for plain numbers.
    """

    chain: Chain
    weight: Float[Tensor, " t"]
    total: Float[Tensor, "s k"]
    dead: Float[Tensor, "s k"]
    stay: bool
    changes: Changes | None = None
    ways: tuple[sp.csr_array, sp.csr_array] | None = None

    @classmethod
    def of(
        cls,
        chain: Chain,
        weight: Float[Tensor, " t"],
        *,
        stay: bool,
        changes: Changes | None = None,
        plain: bool = False,
    ) -> "Steps":
        """Return P for these weights of the steps; `plain` where nothing is differentiated, for speed."""
        full = weight.new_zeros(len(chain.node)).index_add(0, chain.source, weight)[:, None]
        total = full
        if changes is not None:
            total = full.expand(-1, changes.nodes.shape[1]).clone()
            total.index_put_((chain.source[changes.step], changes.column), changes.delta, accumulate=True)
        dead = (total <= DEAD_END * full).to(weight)
        ways = None
        # SciPy multiplies them on the processor alone.
        if plain and weight.device.type == "cpu":
            size = (len(chain.node), len(chain.node))
            ahead = sp.csr_array((weight.numpy(), (chain.source.numpy(), chain.target.numpy())), shape=size)
            ways = ahead, ahead.T.tocsr()
        return cls(chain, weight, total + dead, dead, stay, changes, ways)

    def matrix(self) -> sp.csr_array:
        """Return P of one presence as a sparse matrix."""
        share = (self.weight / self.total[self.chain.source, 0] * (1 - self.dead[self.chain.source, 0])).cpu().numpy()
        size = (len(self.chain.node), len(self.chain.node))
        ends = self.chain.source.cpu().numpy().astype(np.int32), self.chain.target.cpu().numpy().astype(np.int32)
        moving = sp.csr_array((share, ends), shape=size)
        return sp.csr_array(moving + sp.diags_array(self.dead[:, 0].cpu().numpy())) if self.stay else moving

    def ahead(self, values: Float[Tensor, "s k d"]) -> Float[Tensor, "s k d"]:
        """Return P x: the expected value of x one step later."""
        summed = self._summed(values, ahead=True)
        alive = summed * ((1 - self.dead) / self.total)[..., None]
        return alive + self.dead[..., None] * values if self.stay else alive

    def behind(self, visits: Float[Tensor, "s k"]) -> Float[Tensor, "s k"]:
        """Return Pᵀ s: where walks in states s are one step later."""
        return self.behind_each(visits[..., None])[..., 0]

    def behind_each(self, visits: Float[Tensor, "s k d"]) -> Float[Tensor, "s k d"]:
        """Return Pᵀ s for several s."""
        arrived = self._summed(visits * ((1 - self.dead) / self.total)[..., None], ahead=False)
        return arrived + self.dead[..., None] * visits if self.stay else arrived

    def _summed(self, values: Float[Tensor, "s k d"], *, ahead: bool) -> Float[Tensor, "s k d"]:
        source, target = self.chain.source, self.chain.target
        read, write = (target, source) if ahead else (source, target)
        if self.ways is not None and values.device.type == "cpu":
            flat = self.ways[0 if ahead else 1] @ values.reshape(len(values), -1).numpy()
            summed = torch.from_numpy(flat).reshape(values.shape)
        else:
            summed = torch.zeros_like(values).index_add(0, write, self.weight[:, None, None] * values[read])
        if self.changes is None:
            return summed
        step, column = self.changes.step, self.changes.column
        moved = self.changes.delta[:, None] * values[read[step], column]
        size, k, d = summed.shape
        return summed.reshape(size * k, d).index_add(0, write[step] * k + column, moved).reshape(size, k, d)
