"""Expected co-occurrence counts of random walks: exact, without a single walk.

With P the transition matrix, s₀ the walks started at each node and s_p = (Pᵀ)ᵖ s₀ the walks expected at each node at
position p, the expected number of times that v is seen o ≥ 0 steps after u in walks of `length` nodes is

    C_o = diag(σ_o) Pᵒ,     σ_o = Σ_{p < length − o} s_p,

and an offset −o contributes the transpose. The formula holds for every graph, also without one node or edge: who is
present changes the weights of steps, and nothing else. For node2vec it is applied to the chain of crossed edges.

References:
    Perozzi, Al-Rfou & Skiena (2014), "DeepWalk". Grover & Leskovec (2016), "node2vec", §3.2. Qiu et al. (2018),
    "Network embedding as matrix factorization", Theorem 2.3, for walks of infinite length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import array, instance, number, numbers, one_of, whole
from versatile_influence.core.sizes import DEAD_END
from versatile_influence.core.tables import whole_numbers
from versatile_influence.losses.graphs.chain import Chain, Changes, Steps
from versatile_influence.losses.graphs.graph import Graph


@dataclass(frozen=True)
class Walks:
    """Random walks of one length on a graph, and the window in which nodes count as each other's context.

    Attributes:
        graph: The graph.
        length: How many nodes a walk visits, its start included.
        window: How far context reaches: 3 for the offsets −3…3 without 0, or the offsets themselves, such as
            range(-3, 3) for the asymmetric window of public DeepWalk scripts, in which a node is its own context.
        starts: How many walks start at each node.
        dead_ends: A walk that cannot go on, as on an isolated node, keeps visiting where it is ("stay") or is cut
            short ("stop").
        p: node2vec's return parameter: going straight back has weight 1/p.
        q: node2vec's in-out parameter: going to a node that the last one has no edge to has weight 1/q.

    Raises:
        ValueError: If length, window, starts, dead_ends, p or q are out of range.

    Example:
        >>> path = Graph(3, torch.tensor([[0, 1], [1, 2]]), torch.ones(2))
        >>> Walks(path, length=2, window=1).counts()
        tensor([[0.0000, 1.5000, 0.0000],
                [1.5000, 0.0000, 1.5000],
                [0.0000, 1.5000, 0.0000]], dtype=torch.float64)
    """

    graph: Graph
    length: int
    window: int | Sequence[int]
    starts: float | Float[Tensor, " n"] = 1.0
    dead_ends: Literal["stay", "stop"] = "stay"
    p: float = 1.0
    q: float = 1.0
    offsets: tuple[int, ...] = field(init=False)
    chain: Chain = field(init=False, repr=False)

    def __post_init__(self):
        instance(self.graph, "graph", Graph, "Graph.of(…)")
        length = whole(self.length, "length", least=2)
        if isinstance(self.window, Iterable):
            window = whole_numbers(list(self.window), "window", shape=[None], least=-length)
            offsets: tuple = tuple(window.tolist())
        else:
            reach = whole(self.window, "window")
            offsets = tuple(o for o in range(-reach, reach + 1) if o)
        if not offsets or len(set(offsets)) < len(offsets):
            raise ValueError(f"`window` is a positive number or a list of different offsets, got {self.window!r}.")
        if (far := max(map(abs, offsets))) >= self.length:
            raise ValueError(f"A window that reaches {far} steps needs walks longer than length={self.length}.")
        p, q = number(self.p, "p", above=0), number(self.q, "q", above=0)
        one_of(self.dead_ends, "dead_ends", ["stay", "stop"])
        starts, n = array(self.starts, "starts"), self.graph.n_nodes
        starts = numbers(starts if starts.dim() else starts.expand(n), "starts", shape=[n], least=0)
        if not starts.sum() > 0:
            raise ValueError("`starts` is 0 for every node. Let walks start at one at least.")
        chain = Chain.node2vec(self.graph, p, q) if (p, q) != (1.0, 1.0) else Chain.uniform(self.graph)
        for name, value in (("starts", starts), ("offsets", offsets), ("chain", chain)):
            object.__setattr__(self, name, value)

    def steps(
        self, edges: Float[Tensor, " m"] | None = None, *, changes: Changes | None = None, plain: bool = False
    ) -> Steps:
        """Return the transition matrix when these edges are present, or for many removals side by side."""
        everything = torch.ones(len(self.graph.ends), dtype=torch.float64) if edges is None else edges
        weight = self.chain.weights(everything)
        return Steps.of(self.chain, weight, stay=self.dead_ends == "stay", changes=changes, plain=plain)

    def visits(self, steps: Steps, nodes: Float[Tensor, "n k"]) -> list[Float[Tensor, "s k"]]:
        """Return σ_o for o = 0…length: walks expected in each state at one of the positions before length − o."""
        assert isinstance(self.starts, Tensor)
        started = self.starts.to(nodes)[:, None] * nodes
        idle = started.new_zeros(len(self.chain.node) - len(started), started.shape[1])
        at = torch.cat([started, idle])
        sums = [torch.zeros_like(at)]
        for _ in range(self.length):
            sums.append(sums[-1] + at)
            at = steps.behind(at)
        return sums[::-1]

    def centres(self, steps: Steps, sigma: list[Float[Tensor, "s k"]]) -> Float[Tensor, "n k"]:
        """Return how often each node is the centre of a pair: the row sums of the counts."""
        reached = [torch.ones_like(sigma[0])]
        for _ in range(max(0, *self.offsets)):
            reached.append(steps.ahead(reached[-1][..., None])[..., 0])
        everywhere = sigma[0]
        # The o-th neighbour back exists at all positions but the first o.
        parts = [sigma[o] * reached[o] if o >= 0 else everywhere - sigma[self.length + o] for o in self.offsets]
        n = self.graph.n_nodes
        return everywhere.new_zeros(n, everywhere.shape[1]).index_add(0, self.chain.node, sum(parts[1:], parts[0]))

    def agreements(
        self,
        steps: Steps,
        sigma: list[Float[Tensor, "s k"]],
        left: Float[Tensor, "n c"],
        right: Float[Tensor, "n c"],
        *,
        parts: int = 1,
    ) -> Float[Tensor, "k parts"]:
        """Return Σ_uv C_uv ⟨left_u, right_v⟩ for each of `parts` equal parts of the columns, without forming C."""
        k, d = sigma[0].shape[1], left.shape[1]
        here = torch.cat([left, right], dim=1)[self.chain.node][:, None, :].expand(-1, k, -1)
        there, total = here, torch.zeros_like(sigma[0][0])[:, None]
        for o in range(max(map(abs, self.offsets)) + 1):
            if o:
                there = steps.ahead(there)
            for wanted, at, to in ((o, slice(None, d), slice(d, None)), (-o, slice(d, None), slice(None, d))):
                if wanted in self.offsets and (o or at.start is None):
                    met = (here[..., at] * there[..., to]).unflatten(-1, (parts, d // parts)).sum(-1)
                    total = total + (sigma[o][..., None] * met).sum(0)
        return total

    def met(
        self, steps: Steps, sigma: list[Float[Tensor, "s k"]], values: Float[Tensor, "n d"]
    ) -> tuple[Float[Tensor, "n k d"], Float[Tensor, "n k d"]]:
        """Return C x and Cᵀ x for each removal, without forming C."""
        here, reach = values[self.chain.node][:, None, :].expand(-1, sigma[0].shape[1], -1), max(map(abs, self.offsets))
        # Where context reaches as far back as ahead, C is its own transpose.
        sides = 1 if {*self.offsets} == {-o for o in self.offsets} else 2
        ahead, there = [torch.zeros_like(here) for _ in range(sides)], here
        for o in range(reach + 1):
            there = steps.ahead(there) if o else there
            for wanted, total in zip((o, -o), ahead, strict=False):
                total.addcmul_(sigma[o][..., None], there, value=wanted in self.offsets)
        # By Horner's rule: Σ_o (Pᵀ)ᵒ (σ_o ∘ x), each step back taken once for all offsets that go as far.
        back = [torch.zeros_like(here) for _ in ahead]
        for o in range(reach, 0, -1):
            started = sigma[o][..., None] * here
            for place, wanted in enumerate((-o, o)[: len(back)]):
                back[place] = steps.behind_each(back[place] + started if wanted in self.offsets else back[place])
        empty = here.new_zeros(self.graph.n_nodes, *here.shape[1:])
        found = [empty.index_add(0, self.chain.node, a + b) for a, b in zip(ahead, back, strict=True)]
        return found[0], found[-1]

    def counts(
        self, nodes: Float[Tensor, " n"] | None = None, edges: Float[Tensor, " m"] | None = None
    ) -> Float[Tensor, "n n"]:
        """Return the expected number of pairs, centre by context, with these nodes and edges present."""
        n, states = self.graph.n_nodes, self.chain.node
        nodes = torch.ones(n, dtype=torch.float64) if nodes is None else nodes
        ends = nodes[self.graph.ends[:, 0]] * nodes[self.graph.ends[:, 1]]
        steps = self.steps(ends if edges is None else ends * edges)
        sigma = self.visits(steps, nodes[:, None])
        there = torch.eye(n, dtype=nodes.dtype)[states][:, None, :]
        total = nodes.new_zeros(n, n)
        for o in range(max(map(abs, self.offsets)) + 1):
            if o:
                there = steps.ahead(there)
            seen = total.new_zeros(n, n).index_add(0, states, sigma[o] * there[:, 0])
            if o in self.offsets:
                total = total + seen
            if o and -o in self.offsets:
                total = total + seen.T
        return total

    def sparse_counts(self, steps: Steps, sigma: list[Float[Tensor, "s 1"]]) -> sp.csr_array:
        """Return `counts` as a sparse matrix: only nodes within reach of each other meet."""
        states = self.chain.node.cpu().numpy().astype(np.int32)
        at = sp.csr_array((np.ones(len(states)), (np.arange(len(states), dtype=np.int32), states)))
        ahead, visits = steps.matrix(), [sp.diags_array(weight[:, 0].cpu().numpy(), format="csr") for weight in sigma]
        back, left, right = ahead.T.tocsr(), [at.T @ visits[0]] if 0 in self.offsets else [], [at] * (0 in self.offsets)
        # Σ_o σ_o Pᵒ and Σ_o (Pᵀ)ᵒ σ_o by Horner's rule; the last products, by far the fullest, as one, [X Pᵀ] [P; Y].
        for sign in {1 if o > 0 else -1 for o in self.offsets if o}:
            total = visits[far := max(sign * o for o in self.offsets)]
            for o in range(far - 1, 0, -1):
                total = total @ ahead if sign > 0 else back @ total
                total = total + visits[o] if sign * o in self.offsets else total
            left.append(at.T @ (total if sign > 0 else back))
            right.append((ahead if sign > 0 else total) @ at)
        return sp.csr_array(sp.hstack(left, format="csr") @ sp.vstack(right, format="csr"))

    def drawn_counts(
        self,
        passes: int,
        *,
        seed: int,
        nodes: Float[Tensor, " n"] | None = None,
        edges: Float[Tensor, " m"] | None = None,
    ) -> Float[Tensor, "n n"]:
        """Return the counts of walks that are drawn, `starts` × `passes` from each node: the noisy alternative.

        Every walk keeps the random numbers of its start and pass, whoever is present (common random numbers), so that
        the walks which a removal does not touch stay as they are.

        Raises:
            ValueError: If `passes` times a start is no whole number.
        """
        n = self.graph.n_nodes
        nodes = torch.ones(n, dtype=torch.float64) if nodes is None else nodes
        present = nodes[self.graph.ends[:, 0]] * nodes[self.graph.ends[:, 1]]
        walks = torch.as_tensor(self.starts) * passes
        if not torch.equal(walks, walks.round()):
            raise ValueError(f"passes={passes} times the walks that start at a node must be whole. Raise `passes`.")
        order = torch.argsort(self.chain.source, stable=True)
        source, target = self.chain.source[order], self.chain.target[order]
        weight = self.chain.weights(present if edges is None else present * edges)[order]
        last = torch.bincount(source, minlength=len(self.chain.node)).cumsum(0)
        reached = torch.cat([weight.new_zeros(1), weight.cumsum(0)])
        low = reached[torch.cat([last.new_zeros(1), last[:-1]])]
        total = reached[last] - low

        state = torch.arange(n).repeat_interleave(walks.long())
        draws = torch.rand(len(state), self.length - 1, generator=torch.Generator().manual_seed(seed)).to(reached)
        kept = nodes[state] > 0
        state, draws, alive = state[kept], draws[kept], torch.ones(int(kept.sum()), dtype=torch.bool)
        visited = [self.chain.node[state]]
        for draw in draws.T:
            stuck = total[state] <= DEAD_END * reached[-1]
            step = torch.searchsorted(reached, low[state] + draw * total[state], right=True) - 1
            state = torch.where(stuck, state, target[step.clamp(0, len(target) - 1)])
            alive = alive & ~stuck if self.dead_ends == "stop" else alive
            visited.append(torch.where(alive, self.chain.node[state], -1))
        counts = torch.zeros(n * n, dtype=torch.float64)
        for at in range(self.length):
            for other in (at + o for o in self.offsets if 0 <= at + o < self.length):
                both = (visited[at] >= 0) & (visited[other] >= 0)
                counts += torch.bincount(visited[at][both] * n + visited[other][both], minlength=n * n)
        return counts.reshape(n, n)
