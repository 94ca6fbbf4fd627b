"""Value, gradient and curvature of an embedding loss of many nodes: by blocks of centres, no table of all pairs.

What is linear in the scores, ⟨C, s⟩, is a product with the counts; the scores of a block stay near the processor.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.sizes import CENTRE_NUMBERS, at_once
from versatile_influence.losses.graphs.context_models import Embeddings, Model, Terms
from versatile_influence.losses.graphs.meetings import Meetings

# Some centres, and derivatives by the scores of each context.
Pairs = tuple[slice, Float[Tensor, "_ n"], Float[Tensor, "_ n"]]


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

    def blocks(self, params: Embeddings) -> Iterator[tuple[slice, Terms]]:
        """Yield what each block of centres adds."""
        e, o = self.rounded(params)
        contexts, weights = o.T.contiguous(), self.weights.to(o)
        size = at_once(len(e), most=CENTRE_NUMBERS)
        for start in range(0, len(e), size):
            part = slice(start, min(start + size, len(e)))
            yield part, self.model.rows(e[part] @ contexts, self.meetings, part, weights)

    def gradient_and_value(self, params: Embeddings) -> tuple[Embeddings, Float[Tensor, ""]]:
        """Return the gradient and the loss."""
        back, agreed = self.meetings.products(params["embedding"], params["output"])
        value, (e, o) = -(params["embedding"] * agreed).sum(), self.rounded(params)
        # Narrow products are several times as fast with their short side first.
        contexts, inward, outward = o.T.contiguous(), torch.zeros_like(e.T), e.new_zeros(e.T.shape)
        for part, terms in self.blocks(params):
            value += terms.value()
            inward[:, part] += contexts @ terms.table.T * terms.scale.T
            outward.addmm_((terms.scale * e[part]).T, terms.table)
        return {"embedding": inward.T - agreed, "output": outward.T - back}, value

    def hessian_products(self, params: Embeddings, vectors: Float[Tensor, "p q"]) -> Float[Tensor, "p q"]:
        """Return ∇²L V: the scores of a block are taken once for all columns."""
        e, o = self.rounded(params)
        (n, d), q = e.shape, vectors.shape[1]
        moved, moves = vectors.T.reshape(q, 2, n, d).unbind(1)
        de, do = (one.permute(0, 2, 1).reshape(q * d, n) for one in (moved, moves))
        outward, inward = (-found.T.contiguous().to(e) for found in self.meetings.products(de.T, do.T))
        moved, moves, de, do = (one.to(e) for one in (moved, moves, de, do))
        # ⟨de_u, o_v⟩ + ⟨e_u, do_v⟩ is one product; the last row of the other sums it up.
        left = torch.cat([moved, e.expand(q, n, d)], dim=2)
        right = torch.cat([o.T.expand(q, d, n), do.reshape(q, d, n)], dim=1)
        summed, known = torch.cat([o.T, o.new_ones(1, n)]), torch.cat([do, o.T])
        for part, terms in self.blocks(params):
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
        return torch.stack([inward, outward]).reshape(2, q, d, n).permute(0, 3, 2, 1).reshape(-1, q).to(vectors)

    def pairs(self, params: Embeddings) -> Iterator[Pairs]:
        """Yield of each block of centres first and second derivative by each score, where that is by itself."""
        for part, terms in self.blocks(params):
            yield part, terms.table, terms.bend

    def across(
        self, known: Iterable[Pairs], params: Embeddings, vectors: Float[Tensor, "m q"], *, outward: bool
    ) -> Float[Tensor, "m q"]:
        """Return what vectors of one layer give in the other through ∇²L: of embeddings `outward`, or of outputs."""
        e, o = self.rounded(params)
        (n, d), q = e.shape, vectors.shape[1]
        moved = vectors.reshape(n, d, q).permute(2, 1, 0).reshape(q * d, n)
        there = self.meetings.products(moved.T, moved.T)[0 if outward else 1]
        moved, found, o = moved.to(e), -there.T.contiguous().to(e), o.T.contiguous()
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
        return found.reshape(q, d, n).permute(2, 1, 0).reshape(n * d, q).to(vectors)

    def hessian(self, params: Embeddings) -> Float[Tensor, "p p"]:
        """Return ∇²L as a matrix."""
        e, o = params["embedding"], params["output"]
        n, d = e.shape
        whole, own, unit = e.new_zeros(2, n, d, 2, n, d), e.new_zeros(2, n, d, d), torch.eye(d).to(e)
        outputs = whole.view(2 * n * d, 2 * n * d)[n * d :, n * d :]
        for part, terms in self.blocks(params):
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
        left, right = torch.zeros_like(pairs), torch.zeros_like(squares)
        for part, terms in self.blocks(params):
            bend, shared, scale = terms.bend, terms.shared, terms.scale.T
            left[:, part] = scale * (pairs @ bend.T)
            right.addmm_(scale * squares[:, part], bend)
            if shared is not None:
                mean = o @ terms.table.T
                left[:, part] -= shared.T * scale * mean[first] * mean[second]
                right.addmm_(shared.T * scale * squares[:, part], bend.square(), alpha=-1)
        own, found = params["output"].new_empty(2 * n, d, d), torch.cat([left, right], dim=1).to(params["output"]).T
        own[:, first, second] = own[:, second, first] = found
        curvature, turned = torch.linalg.eigh(own)
        return turned / (curvature + ridge).clamp_min(max(ridge, 1e-8)).sqrt()[:, None, :]
