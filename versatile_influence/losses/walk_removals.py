"""Removal differences of the softmax over walks, and their derivatives: walks and denominators of many at once.

A removal changes the weights of its own edges only, and 1 − p_i is what its node leaves of a denominator.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from versatile_influence.losses.context_models import Embeddings, log_normalisers

if TYPE_CHECKING:
    from versatile_influence.losses.walk_embedding import WalkEmbeddingLoss

# How many numbers the arrays of one block of removals may hold.
BLOCK_NUMBERS = 1_000_000
# How many numbers the pairs of nodes may hold, direction by direction.
PAIR_NUMBERS = 20_000_000


def softmax_differences(
    loss: "WalkEmbeddingLoss", params: Embeddings, groups: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]]
) -> Float[Tensor, " k"]:
    """Return L(θ, 1) − L(θ, 1₋ᵢ) for each removal: block by block, walks and denominators of many at once.

    A removal changes the weights of its own edges only, and 1 − p_i is what its node leaves of a denominator.
    """
    steps = loss.walks.steps()
    everyone = torch.ones(loss.n_nodes, 1, dtype=torch.float64)
    sigma = loss.walks.visits(steps, everyone)
    centres = loss.walks.centres(steps, sigma)
    normalisers = log_normalisers(params, everyone[:, 0])
    shares = torch.exp(params["embedding"] @ params["output"].T - normalisers[:, None])
    agreed = loss.walks.agreement(steps, sigma, params["embedding"], params["output"])
    size = max(1, BLOCK_NUMBERS // (len(loss.walks.chain.source) * loss.dim))
    differences = []
    for at in range(0, len(groups), size):
        row, member = _members(groups[at : at + size])
        nodes, changes = loss.changes(row, member, count=len(groups[at : at + size]))
        steps = loss.walks.steps(changes=changes)
        sigma = loss.walks.visits(steps, nodes)
        without = loss.walks.centres(steps, sigma)
        kept = loss.walks.agreement(steps, sigma, params["embedding"], params["output"])
        value = ((centres - without) * normalisers[:, None]).sum(0) + kept - agreed
        if loss.objects == "nodes":
            value = value - (without * log_shares_left(params, shares, row, member, needed=without > 0)).sum(0)
        differences.append(value)
    return torch.cat(differences)


def softmax_products(
    loss: "WalkEmbeddingLoss", params: Embeddings, directions: Float[Tensor, "p q"], objects: Int[Tensor, " k"]
) -> Float[Tensor, "k q"]:
    """Return the derivative of `removal_differences` along each direction, written out by hand."""
    n, d, q = loss.n_nodes, loss.dim, directions.shape[1]
    if q > (most := max(1, PAIR_NUMBERS // n**2)):
        return torch.cat([softmax_products(loss, params, part, objects) for part in directions.split(most, 1)], dim=1)
    e, o = params["embedding"], params["output"]
    de, do = directions.T.reshape(q, 2, n, d).unbind(1)
    shares = torch.softmax(e @ o.T, dim=1)
    tilted = de @ o.T + e @ do.mT
    moved = (shares * tilted).sum(dim=2)
    # ⟨de, o⟩ + ⟨e, do⟩ for every direction, as one long row a node.
    left = torch.cat([de, e.expand(q, n, d)], dim=2).permute(1, 0, 2).reshape(n, -1)
    right = torch.cat([o.expand(q, n, d), do], dim=2).permute(1, 0, 2).reshape(n, -1)
    steps = loss.walks.steps(plain=True)
    everyone = torch.ones(n, 1, dtype=torch.float64)
    sigma = loss.walks.visits(steps, everyone)
    centres, agreed = loss.walks.centres(steps, sigma), loss.walks.agreements(steps, sigma, left, right, parts=q)
    size = max(1, 4 * BLOCK_NUMBERS // (len(loss.walks.chain.node) * 4 * d * q))
    products = []
    for member in objects.split(size):
        nodes, changes = loss.changes(torch.arange(len(member)), member, count=len(member))
        steps = loss.walks.steps(changes=changes, plain=True)
        sigma = loss.walks.visits(steps, nodes)
        without = loss.walks.centres(steps, sigma)
        value = (centres - without).T @ moved.T + loss.walks.agreements(steps, sigma, left, right, parts=q) - agreed
        if loss.objects == "nodes":
            removed = torch.arange(len(member))
            log_left = log_shares_left(params, shares, removed, member, needed=without > 0)
            weight = without * shares[:, member] * torch.exp(-log_left)
            value = value + (weight * (tilted[:, :, member] - moved[..., None])).sum(1).T
        products.append(value)
    return torch.cat(products)


def _members(groups: Int[Tensor, " k"] | Sequence[Int[Tensor, " _"]]) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return the removed objects one after the other, with the removal that each belongs to."""
    if isinstance(groups, Tensor):
        return torch.arange(len(groups)), groups
    return torch.repeat_interleave(torch.tensor([len(group) for group in groups])), torch.cat(list(groups))


def log_shares_left(
    params: Embeddings,
    shares: Float[Tensor, "n n"],
    row: Int[Tensor, " m"],
    node: Int[Tensor, " m"],
    *,
    needed: Bool[Tensor, "n k"],
) -> Float[Tensor, "n k"]:
    """Return log(1 − p) with p the share of the removed nodes in each denominator, where it is needed.

    The largest share in a denominator may be near 1; without it the others are summed, and nothing is subtracted.
    """
    scores = params["embedding"] @ params["output"].T
    largest = torch.nn.functional.one_hot(scores.argmax(dim=1), len(scores)).to(shares)
    others = shares * (1 - largest)
    zeros = torch.zeros(needed.shape, dtype=shares.dtype)
    headless = zeros.index_add(1, row, largest[:, node]) > 0
    left = torch.where(headless, others.sum(dim=1, keepdim=True), 1.0) - zeros.index_add(1, row, others[:, node])
    return torch.log(torch.where(needed, left, 1.0))
