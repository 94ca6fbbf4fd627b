"""Where training starts from on a large graph: scores of low rank, as the counts alone suggest them."""

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.sizes import LEADING_STEPS
from versatile_influence.losses.graphs.context_models import Embeddings, NegativeSampling
from versatile_influence.losses.graphs.meetings import Meetings


def leading(
    model: NegativeSampling, meetings: Meetings, nodes: Float[Tensor, " n"], start: Float[Tensor, "n d"]
) -> Embeddings:
    """Return the parameters of the scores that one Newton step from zero would give, cut off to rank d.

    With f (c rᵀ − C) the slopes at zero scores and g c rᵀ their curvature, these are (f/g) (C − c rᵀ)/(c rᵀ), entry by
    entry. In weights √c and √r, which make that curvature g everywhere, a few steps of subspace iteration from `start`
    find the leading singular vectors.

    References:
        Levy & Goldberg (2014), "Neural word embedding as implicit matrix factorization", whose log is this to first
        order.
    """
    factor, share = model.at_zero(meetings, nodes)
    met, some = meetings.centres, torch.finfo(start.dtype).tiny
    rows, columns = (weight.clamp_min(some).rsqrt()[:, None] * (weight > 0)[:, None] for weight in (met, share))

    def ahead(right: Tensor) -> Tensor:
        right = columns * right
        return rows * (meetings.products(right[:, :0], right)[1] - torch.outer(met, share @ right))

    def back(left: Tensor) -> Tensor:
        left = rows * left
        return columns * (meetings.products(left, left[:, :0])[0] - torch.outer(share, met @ left))

    basis = start
    for _ in range(LEADING_STEPS):
        basis = torch.linalg.qr(ahead(back(basis)))[0]
    right, size, turned = torch.linalg.svd(back(basis), full_matrices=False)
    size = (factor * size).sqrt()
    embedding, output = rows * (basis @ turned.mT) * size, columns * right * size
    # Both layers alike, as the penalty has them.
    ratio = (output.norm().clamp_min(some) / embedding.norm().clamp_min(some)).sqrt()
    return {"embedding": embedding * ratio, "output": output / ratio}
