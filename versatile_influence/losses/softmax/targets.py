"""What to explain about a ranking: test queries' loss, NDCG@k, membership of the top k; all know who is present."""

from functools import partial

import torch
from torch import Tensor

from versatile_influence.core.checks import instance, numbers, whole
from versatile_influence.core.target import PresenceTarget
from versatile_influence.losses.softmax.closed_forms import removal_effects
from versatile_influence.losses.softmax.linear_items import LinearItems
from versatile_influence.losses.softmax.loss import SoftmaxLoss


def query_loss(test: SoftmaxLoss) -> PresenceTarget:
    """Return the target of each test query's loss among the items that remain.

    Args:
        test: A ranking loss made from the test queries over the same items.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = vif.losses.ListMLELoss([[0.0], [1.0]], [[0, 1], [2]], n_items=3, penalty=1.0)
        >>> test = vif.losses.ListMLELoss([[0.5]], [[0, 2]], n_items=3)
        >>> params = vif.minimize(loss, loss.zeros())
        >>> vif.attribute(loss, params, query_loss(test)).direct.shape
        torch.Size([3, 1])
    """
    instance(test, "test", SoftmaxLoss, "vif.losses.ListMLELoss(…)")
    scores, rows = test.scores, test.rows
    if isinstance(scores, LinearItems) and rows.owners.each_candidate:
        return PresenceTarget(test.row_losses, closed=partial(removal_effects, rows, scores.x))
    return PresenceTarget(test.row_losses)


def ndcg_change(test: SoftmaxLoss, gains: object, *, k: int = 10) -> PresenceTarget:
    """Return the target NDCG@k of each test query among the items present, for plug-in changes.

    NDCG is flat almost everywhere, so its gradient says nothing: use it with `newton_step` or `refit`, which evaluate
    it at the parameters without the object, and not with `attribute`. A query without a relevant item left counts 0.

    Args:
        test: A ranking loss made from the test queries over the same items.
        gains: 2^relevance − 1 of each item for each query.
        k: How deep.

    References:
        Järvelin & Kekäläinen (2002), "Cumulated gain-based evaluation of IR techniques".

    Example:
        >>> import torch, versatile_influence as vif
        >>> test = vif.losses.ListMLELoss([[1.0]], [[0]], n_items=2)
        >>> target = ndcg_change(test, torch.tensor([[1.0, 0.0]]).double(), k=1)
        >>> target(torch.tensor([[1.0, 0.0], [0.0, 0.0]]).double(), torch.ones(2).double()).item()
        1.0
    """
    shape = instance(test, "test", SoftmaxLoss, "vif.losses.ListMLELoss(…)").rows.allowed.shape
    k, gains = whole(k, "k", least=1), numbers(gains, "gains", shape=shape, least=0)

    def value(params: Tensor, presence: Tensor) -> Tensor:
        scores = torch.where(presence > 0, test.scores(params), -torch.inf)
        there = gains.to(presence) * presence
        depth = min(k, there.shape[1])
        discounts = 1 / torch.log2(torch.arange(depth, dtype=presence.dtype, device=presence.device) + 2)
        top = scores.argsort(dim=1, descending=True, stable=True)[:, :depth]
        best = there.sort(dim=1, descending=True).values[:, :depth] @ discounts
        return there.gather(1, top) @ discounts / torch.where(best > 0, best, 1.0)

    return PresenceTarget(value)


def top_k_probability(
    test: SoftmaxLoss, item: int, *, k: int = 10, n_draws: int = 256, seed: int = 0
) -> PresenceTarget:
    """Return the target P(item among the first k) of each test query under Plackett–Luce.

    With Gumbel noise g added to all other scores, the item is in the top k when its own noisy score is above the k-th
    largest of the others, which has probability 1 − exp(−e^{s_i − c}) given that score c. The mean over draws of g with
    common random numbers is smooth in the parameters and the same function at every removal; its standard error is
    at most 1/(2 √n_draws).

    Args:
        test: A ranking loss made from the test queries over the same items.
        item: The item.
        k: How deep.
        n_draws: Number of draws.
        seed: Of the draws.

    References:
        Plackett (1975); Yellott (1977) for the Gumbel form.

    Example:
        >>> import torch, versatile_influence as vif
        >>> test = vif.losses.ListMLELoss([[0.0]], [[0]], n_items=4)
        >>> target = top_k_probability(test, 0, k=1, n_draws=4000)
        >>> abs(target(test.zeros(), torch.ones(4).double()).item() - 0.25) < 0.02
        True
    """
    n = instance(test, "test", SoftmaxLoss, "vif.losses.ListMLELoss(…)").n_objects
    item, k = whole(item, "item", most=n - 1), whole(k, "k", least=1, most=n - 1)
    draw = torch.Generator().manual_seed(whole(seed, "seed"))
    uniform = torch.rand(whole(n_draws, "n_draws", least=1), n, generator=draw, dtype=torch.float64)
    noise = -torch.log(-torch.log(uniform))

    def value(params: Tensor, presence: Tensor) -> Tensor:
        scores = test.scores(params)
        others = presence * (torch.arange(n) != item)
        noisy = torch.where(others > 0, scores[:, None, :] + noise, -torch.inf)
        kth = noisy.topk(k, dim=-1).values[..., -1]
        # With fewer than k others the item is in for certain.
        few = torch.isinf(kth)
        own = scores[:, item, None] - torch.where(few, 0.0, kth)
        return presence[item] * torch.where(few, 1.0, -torch.expm1(-own.exp())).mean(dim=1)

    return PresenceTarget(value)
