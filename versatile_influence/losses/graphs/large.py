"""Value, gradient and curvature of an embedding loss of many nodes: by blocks of centres, no table of all pairs.

What is linear in the scores, ⟨C, s⟩, is a product with the counts; the scores of a block stay near the processor.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.sizes import CENTRE_NUMBERS, PAIR_NUMBERS, at_once, slices
from versatile_influence.losses.graphs.context_models import Embeddings, Model, Terms
from versatile_influence.losses.graphs.meetings import Meetings
from versatile_influence.losses.graphs.together import together

# Some centres, and derivatives by the scores of each context.
Pairs = tuple[slice, Float[Tensor, "_ n"], Float[Tensor, "_ n"]]
# Some centres, and what they add.
Blocks = Iterator[tuple[slice, Terms]]


@dataclass(frozen=True)
class Large:
    """A model of contexts for one presence.

    Attributes:
        model: The model.
        meetings: How often each node meets each.
        nodes: Which nodes are present.
        precision: In which scores of pairs, and all that is made of them, are evaluated.
    """

    model: Model
    meetings: Meetings
    nodes: Float[Tensor, " n"]
    precision: torch.dtype = torch.float64

    @cached_property
    def weights(self) -> Float[Tensor, " n"]:
        """What the model needs to know of each context."""
        return self.model.weights(self.meetings, self.nodes)

    def rounded(self, params: Embeddings) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"]]:
        """Return both layers in the precision."""
        return params["embedding"].to(self.precision), params["output"].to(self.precision)

    def blocks(self, params: Embeddings, parts: Iterable[slice]) -> Blocks:
        """Yield what each block of centres adds."""
        e, o = self.rounded(params)
        contexts, weights = o.T.contiguous(), self.weights.to(o)
        for part in parts:
            yield part, self.model.rows(e[part] @ contexts, self.meetings, part, weights)

    def parts(self) -> list[slice]:
        """Return the blocks."""
        n, most = len(self.nodes), CENTRE_NUMBERS if self.threads else PAIR_NUMBERS
        return slices(n, at_once(n, most=most))

    @property
    def threads(self) -> int:
        """How many sum up blocks: those of PyTorch, and none where blocks are not summed by the processor."""
        return torch.get_num_threads() if self.nodes.device.type == "cpu" else 0

    def over_blocks(self, params: Embeddings, work: Callable[[Blocks], Tensor]) -> Tensor:
        """Return the sum of what `work` returns of what some blocks of centres add."""
        parts = self.parts()
        return together(lambda chosen: work(self.blocks(params, parts[chosen])), len(parts), self.threads)

    def gradient_and_value(self, params: Embeddings) -> tuple[Embeddings, Float[Tensor, ""]]:
        """Return the gradient and the loss."""
        back, agreed = self.meetings.products(params["embedding"], params["output"])
        e, o = self.rounded(params)
        # Narrow products are several times as fast with their short side first.
        contexts, inward, values = o.T.contiguous(), torch.zeros_like(e.T), e.new_zeros(len(e), dtype=torch.float64)

        def work(blocks: Blocks) -> Tensor:
            outward = e.new_zeros(e.T.shape)
            for part, terms in blocks:
                values[part.start] = terms.value()
                inward[:, part] = contexts @ terms.table.T * terms.scale.T
                outward.addmm_((terms.scale * e[part]).T, terms.table)
            return outward

        outward = self.over_blocks(params, work)
        value = values.sum() - (params["embedding"] * agreed).sum()
        return {"embedding": inward.T - agreed, "output": outward.T - back}, value

    def hessian_products(self, params: Embeddings, vectors: Float[Tensor, "p q"]) -> Float[Tensor, "p q"]:
        """Return ∇²L V: the scores of a block are taken once for all columns."""
        e, o = self.rounded(params)
        (n, d), q = e.shape, vectors.shape[1]
        moved, moves = vectors.T.reshape(q, 2, n, d).unbind(1)
        de, do = (one.permute(0, 2, 1).reshape(q * d, n) for one in (moved, moves))
        back, agreed = (found.T.to(e) for found in self.meetings.products(de.T, do.T))
        moved, moves, de, do = (one.to(e) for one in (moved, moves, de, do))
        # ⟨de_u, o_v⟩ + ⟨e_u, do_v⟩ is one product; the last row of the other sums it up.
        left = torch.cat([moved, e.expand(q, n, d)], dim=2)
        right = torch.cat([o.T.expand(q, d, n), do.reshape(q, d, n)], dim=1)
        summed, known, inward = torch.cat([o.T, o.new_ones(1, n)]), torch.cat([do, o.T]), -agreed

        def work(blocks: Blocks) -> Tensor:
            outward = torch.zeros_like(back)
            for part, terms in blocks:
                bend, shared, scale, here = terms.bend, terms.shared, terms.scale.T, e[part].T
                there = known @ terms.table.T
                inner, cotangent = there[: q * d], de[:, part].clone()
                for column in range(q):
                    own = slice(column * d, (column + 1) * d)
                    bent = (left[column, part] @ right[column]).mul_(bend)
                    found = summed @ bent.T
                    inner[own] += found[:d]
                    outward[own].addmm_(scale * here, bent)
                    if shared is not None:
                        mean = found[d:] * shared.T
                        inner[own] -= mean * there[q * d :]
                        cotangent[own] -= mean * here
                inward[:, part] += scale * inner
                outward.addmm_(scale * cotangent, terms.table)
            return outward

        outward = self.over_blocks(params, work) - back
        return torch.stack([inward, outward]).reshape(2, q, d, n).permute(0, 3, 2, 1).reshape(-1, q).to(vectors)

    def pairs(self, params: Embeddings) -> list[Pairs]:
        """Return of each block of centres first and second derivative by each score, where that is by itself."""
        found: list[Pairs] = []

        def work(blocks: Blocks) -> Tensor:
            found.extend((part, terms.table, terms.bend) for part, terms in blocks)
            return self.nodes.new_zeros(())

        self.over_blocks(params, work)
        return sorted(found, key=lambda pair: pair[0].start)

    def across(
        self, held: list[Pairs] | None, params: Embeddings, vectors: Float[Tensor, "m q"], *, outward: bool
    ) -> Float[Tensor, "m q"]:
        """Return what vectors of one layer give in the other through ∇²L: of embeddings `outward`, or of outputs.

        The `pairs` may be held from product to product.
        """
        e, o = self.rounded(params)
        (n, d), q = e.shape, vectors.shape[1]
        moved = vectors.reshape(n, d, q).permute(2, 1, 0).reshape(q * d, n)
        nothing = moved.T[:, :0]
        there = self.meetings.products(*((moved.T, nothing) if outward else (nothing, moved.T)))[0 if outward else 1]
        moved, there, o = moved.to(e), there.T.contiguous().to(e), o.T.contiguous()

        def work(known: Iterable[Pairs]) -> Tensor:
            found = torch.zeros_like(there)
            for part, slopes, bend in known:
                here, bent = e[part].T.contiguous(), torch.empty_like(bend)
                if outward:
                    found.addmm_(moved[:, part], slopes)
                else:
                    found[:, part] += moved @ slopes.T
                for own in range(0, q * d, d):
                    rows = slice(own, own + d)
                    if outward:
                        found[rows].addmm_(here, torch.mm(moved[rows, part].T, o, out=bent).mul_(bend))
                    else:
                        found[rows, part] += o @ torch.mm(here.T, moved[rows], out=bent).mul_(bend).T
            return found

        if held is None:
            each = self.over_blocks(params, lambda blocks: work((part, one.table, one.bend) for part, one in blocks))
        else:
            each = together(lambda chosen: work(held[chosen]), len(held), self.threads)
        return (each - there).reshape(q, d, n).permute(2, 1, 0).reshape(n * d, q).to(vectors)

    def hessian(self, params: Embeddings) -> Float[Tensor, "p p"]:
        """Return ∇²L as a matrix."""
        e, o = params["embedding"], params["output"]
        n, d = e.shape
        whole, own, unit = e.new_zeros(2, n, d, 2, n, d), e.new_zeros(2, n, d, d), torch.eye(d).to(e)
        outputs = whole.view(2 * n * d, 2 * n * d)[n * d :, n * d :]
        # By one thread: others would each need such a matrix.
        for part, terms in self.blocks(params, self.parts()):
            shared, here = terms.shared, e[part]
            slopes, bend = terms.scale * terms.table, terms.scale * terms.bend
            own[0, part] = torch.einsum("uv,va,vb->uab", bend, o, o)
            own[1] += torch.einsum("uv,ua,ub->vab", bend, here, here)
            across = bend[:, None, :, None] * o.T[None, :, :, None]
            if shared is not None:
                # Less Σ_u x_u x_uᵀ/c_u, with x_u the derivative of what u's contexts add up to: its row, all outputs.
                mean, others = slopes @ o, (slopes[:, :, None] * here[:, None, :]).reshape(-1, n * d)
                inverse = 1 / terms.met.clamp_min(torch.finfo(e.dtype).tiny)
                own[0, part] -= (inverse * mean)[:, :, None] * mean[:, None, :]
                across = across - ((inverse * mean)[:, :, None] * slopes[:, None, :])[..., None]
                outputs.addmm_(others.T, inverse * others, alpha=-1)
            slopes = slopes - self.meetings.rows(part, e.dtype)
            whole[0, part, :, 1] = across * here[:, None, None, :] + slopes[:, None, :, None] * unit[:, None, :]
        place = torch.arange(n)
        for side in range(2):
            whole[side, place, :, side, place] += own[side]
        whole[1, :, :, 0] = whole[0, :, :, 1].permute(2, 3, 0, 1)
        return whole.reshape(2 * n * d, 2 * n * d)

    def roots(self, params: Embeddings, ridge: float) -> Float[Tensor, "r d d"]:
        """Return a root of the inverse of each row's own block of H, curvatures less than `ridge` taken for it."""
        e, o = (one.T for one in self.rounded(params))
        d, n = e.shape
        # Each pair of axes once.
        first, second = torch.triu_indices(d, d)
        pairs, squares = (one[first] * one[second] for one in (o, e))
        left = torch.zeros_like(pairs)

        def work(blocks: Blocks) -> Tensor:
            right = torch.zeros_like(squares)
            for part, terms in blocks:
                bend, shared, scale = terms.bend, terms.shared, terms.scale.T
                left[:, part] = scale * (pairs @ bend.T)
                right.addmm_(scale * squares[:, part], bend)
                if shared is not None:
                    mean = o @ terms.table.T
                    left[:, part] -= shared.T * scale * mean[first] * mean[second]
                    right.addmm_(shared.T * scale * squares[:, part], bend.square(), alpha=-1)
            return right

        right = self.over_blocks(params, work)
        own, found = params["output"].new_empty(2 * n, d, d), torch.cat([left, right], dim=1).to(params["output"]).T
        own[:, first, second] = own[:, second, first] = found
        curvature, turned = torch.linalg.eigh(own)
        return turned / (curvature + ridge).clamp_min(max(ridge, 1e-8)).sqrt()[:, None, :]
