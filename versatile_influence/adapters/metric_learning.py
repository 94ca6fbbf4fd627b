"""Losses of pytorch-metric-learning on a frozen miner, their own proxies among the parameters."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.adapters.head import ResidualHead
from versatile_influence.adapters.metric_distances import Proxied, distances
from versatile_influence.adapters.metric_terms import SERVED, Batch
from versatile_influence.core.arguments import module
from versatile_influence.core.checks import instance, told
from versatile_influence.core.composed import Composed
from versatile_influence.core.models import Network, through
from versatile_influence.core.ravel import Params, squared_norm
from versatile_influence.core.tables import features, kept, whole_numbers


def from_metric_learning(
    loss_fn: Any,
    x: Float[Tensor, "n ..."],
    classes: Int[Tensor, " n"],
    *,
    model: torch.nn.Module | None = None,
    rank: int | None = None,
    mined: tuple[Tensor, ...] | None = None,
    penalty: float = 0.0,
    labels: Sequence[object] | None = None,
) -> Composed:
    """Return a loss of pytorch-metric-learning as a loss of the presence of each row of x.

    Served are ArcFaceLoss, ContrastiveLoss, MultiSimilarityLoss, NTXentLoss, ProxyAnchorLoss, ProxyNCALoss, SupConLoss
    and TripletMarginLoss. A row that is gone is gone from their batch: its tuples die, and it leaves every sum and mean
    over positives, negatives or the rows of a proxy. What is fixed once, with everybody there: the tuples that a miner
    gave (mining anew without a row is another loss), the weights that ArcFaceLoss, ProxyNCALoss and ProxyAnchorLoss
    make of them, and the divisors of their reducer. Ours is the sum of what their reducer takes the mean of; of two
    parts, the second in the proportion in which theirs adds their means, at the embeddings that we start from.

    Parameters are those of the model; of a loss with proxies `model.…` and `proxy_change`, what is added to the proxies
    of `loss_fn`, from 0: without a `penalty` trained as theirs, with one held near where they start, as a cosine leaves
    their length free. `embeddings(loss, params, x)` embeds other rows, for a target.

    Args:
        loss_fn: One of those, with an `LpDistance` (p = 2), `CosineSimilarity` or `DotProductSimilarity`. A hinge has
            no curvature at its kink: prefer `smooth_loss=True`.
        x: (n, …) input of the model, or frozen embeddings (n, d).
        classes: (n,) class of each row, their `labels`.
        model: A network from x to embeddings; None for a `ResidualHead` on x.
        rank: Axes of that head; None for 8, or as many as there are.
        mined: What a miner returned (`miner(embeddings, classes)`): 3 index tensors of triplets or 4 of pairs.
        penalty: λ of (λ/2)‖θ‖².
        labels: Names of the rows.

    Raises:
        TypeError: If the loss or its distance is another one; it is named.
        ValueError: If there is no tuple, proxies or tuples do not go with the rows, or the value differs from theirs (a
            subclass, a regularizer).

    References:
        Musgrave, Belongie & Lim (2020), "PyTorch Metric Learning".

    Example:
        >>> from pytorch_metric_learning.losses import TripletMarginLoss
        >>> x, classes = torch.eye(4).double(), torch.tensor([0, 0, 1, 1])
        >>> loss = from_metric_learning(TripletMarginLoss(margin=0.5, smooth_loss=True), x, classes, rank=2)
        >>> loss(loss.zeros(), torch.ones(4).double()).item()  # 8 softplus(0.5)
        7.792...
    """
    build, between = served(loss_fn), distances(loss_fn.distance)
    # A copy: theirs turns its proxies to the precision of what it is given.
    loss_fn, x = copy.deepcopy(loss_fn), features(x, rows="row") if model is None else kept(x)
    network = ResidualHead(x, min(8, *x.shape) if rank is None else rank) if model is None else module(model)
    classes = whole_numbers(classes, "classes", shape=[len(x)])
    mined = None if mined is None else mined_tuples(mined, len(x))
    embedded = Network(network, x)
    try:
        z = embedded(embedded.start())
    except RuntimeError as error:
        raise ValueError(f"The `model` cannot embed `x`, of shape {tuple(x.shape)}: {error}.") from error
    if z.shape[:-1] != classes.shape:
        raise ValueError(f"The `model` must give a row of numbers a row of `x`, ({len(x)}, d), got {tuple(z.shape)}.")
    fitting(loss_fn, z, classes, mined)
    theirs = their_parts(loss_fn, z, classes, mined)
    parts = {name: multiple for name, (_, multiple) in theirs.items()}
    given = {"penalty": penalty, "labels": labels}
    loss = build(Batch(loss_fn, between, network, x, classes, mined, parts, given))
    start = loss.zeros()
    ours = loss(start, z.new_ones(len(z))) - loss.penalty / 2 * squared_norm(start)
    total = torch.stack([value * multiple for value, multiple in theirs.values()]).sum()
    if not torch.isfinite(total):
        raise ValueError(f"`loss_fn` is {float(total):g} of these rows. Look at its settings: margin, temperature.")
    if not torch.allclose(ours, total, rtol=1e-5, atol=1e-8):
        raise ValueError(
            f"The sum is {float(ours):.6g} here and {float(total):.6g} there. A subclass is not served: use the plain "
            "loss."
        )
    return loss


def embeddings(loss: Composed, params: Params, x: Tensor) -> Float[Tensor, "n d"]:
    """Return the embeddings of rows by the network of a loss of `from_metric_learning`, for a target.

    Args:
        loss: The loss.
        params: Its parameters.
        x: (n, …) rows, as those that the loss was made of.

    Example:
        >>> from pytorch_metric_learning.losses import ProxyNCALoss
        >>> x, classes = torch.eye(4).double(), torch.tensor([0, 0, 1, 1])
        >>> loss = from_metric_learning(ProxyNCALoss(2, 4), x, classes, rank=2)
        >>> torch.equal(embeddings(loss, loss.zeros(), x), x)
        True
    """
    network = instance(loss, "loss", Composed, "what from_metric_learning returns").model
    if isinstance(network, Proxied):
        assert isinstance(params, dict)
        inner = {name.removeprefix("model."): value for name, value in params.items() if name != "proxy_change"}
        return through(network.model, inner, x)
    assert network is not None
    return through(network, params, x)


def served(loss_fn: Any) -> Any:
    """Return how a loss of presence is made of theirs.

    Raises:
        TypeError: If that loss is not served; it is named.
    """
    from pytorch_metric_learning import losses

    if isinstance(loss_fn, type):
        raise TypeError(f"`loss_fn` must be a loss, got the class {loss_fn.__name__}. Call it: {loss_fn.__name__}(…).")
    name = type(loss_fn).__name__
    own = next((known for known in SERVED if isinstance(loss_fn, getattr(losses, known))), None)
    # Classes of theirs that extend another, such as SubCenterArcFaceLoss, are other losses.
    if own is None or (own != name and name in dir(losses)):
        raise TypeError(
            f"`loss_fn` is {name}, which is not served: use {', '.join(list(SERVED)[:-1])} or {list(SERVED)[-1]}, or "
            "write the terms as a `TermLoss` (sums of tuples) or `SoftmaxLoss` (log-softmax rows)."
        )
    if loss_fn.embedding_regularizer is not None or "weight_reg_loss" in loss_fn.sub_loss_names():
        raise ValueError("An embedding or weight regularizer is not served: use `penalty` for the parameters.")
    return SERVED[own]


def mined_tuples(mined: Any, n: int) -> tuple[Tensor, ...]:
    """Return what a miner gave of n rows.

    Raises:
        TypeError: If it is no tuple of 3 or 4.
        ValueError: If their lengths do not go together, or a row is named that there is not.
    """
    if not isinstance(mined, tuple | list) or len(mined) not in (3, 4):
        raise TypeError(
            "`mined` must be what a miner returns, miner(embeddings, classes): 3 index tensors of triplets or 4 of "
            f"pairs, got {told(mined)}."
        )
    found = tuple(whole_numbers(part, "mined", shape=[None], most=n - 1) for part in mined)
    sizes = [len(part) for part in found]
    if sizes[0] != sizes[1] or sizes[2] != sizes[-1] or (len(sizes) == 3 and sizes[0] != sizes[2]):
        raise ValueError(f"`mined` must hold as many of each part of a tuple, got {sizes}.")
    return found


def fitting(
    loss_fn: Any, z: Float[Tensor, "n d"], classes: Int[Tensor, " n"], mined: tuple[Tensor, ...] | None
) -> None:
    """Raise a ValueError unless a loss's proxies go with embeddings and classes, and its tuples are no draw."""
    from pytorch_metric_learning import losses

    if len(classes.unique()) < 2:
        raise ValueError("`classes` names one class alone: there is nothing to tell apart.")
    if isinstance(loss_fn, losses.TripletMarginLoss) and loss_fn.triplets_per_anchor != "all" and mined is None:
        raise ValueError(
            f"`loss_fn` draws triplets anew whenever it is asked (triplets_per_anchor={loss_fn.triplets_per_anchor!r}),"
            ' which is no function. Give triplets_per_anchor="all", or those of one draw as `mined`.'
        )
    if isinstance(loss_fn, losses.ArcFaceLoss):
        proxies = loss_fn.W.T
    elif isinstance(loss_fn, losses.ProxyAnchorLoss | losses.ProxyNCALoss):
        proxies = loss_fn.proxies
    else:
        return
    if proxies.shape[1] != z.shape[1]:
        raise ValueError(
            f"`loss_fn` has proxies of length {proxies.shape[1]}, and embeddings have length {z.shape[1]}: give it "
            f"embedding_size={z.shape[1]}, or the `model` that it was trained with."
        )
    if (most := int(classes.max())) >= len(proxies):
        raise ValueError(
            f"`loss_fn` has {len(proxies)} proxies, one a class, and `classes` names number {most}: number them from "
            f"0, or give it num_classes={most + 1}."
        )


def their_parts(
    loss_fn: Any, z: Float[Tensor, "n d"], classes: Int[Tensor, " n"], mined: tuple[Tensor, ...] | None
) -> dict[str, tuple[Tensor, float]]:
    """Return the sum of each part of their loss, and what it is multiplied by beside the first.

    Theirs is Σ sum_p / divisor_p over parts p; ours is divisor_first times that.
    """
    from pytorch_metric_learning import reducers

    plain = (reducers.AvgNonZeroReducer, reducers.DivisorReducer, reducers.MeanReducer, reducers.SumReducer)
    several = isinstance(loss_fn.reducer, reducers.MultipleReducers)
    for one in loss_fn.reducer.reducers.values() if several else [loss_fn.reducer]:
        if type(one) not in plain:
            raise ValueError(
                f"The reducer {type(one).__name__} weights terms, or leaves some out, which a sum of terms does not. "
                "Give the loss MeanReducer() or SumReducer(), as it was trained."
            )
    found = loss_fn.compute_loss(z, classes, mined, z, classes)
    sums = {name: torch.as_tensor(part["losses"]).detach().to(z).sum() for name, part in found.items()}
    reducer, divisors = loss_fn.reducer, {}
    for name, part in found.items():
        one = reducer.reducers[name] if isinstance(reducer, reducers.MultipleReducers) else reducer
        mean = torch.as_tensor(one({name: part}, z, classes)).detach()
        divisors[name] = (sums[name] / mean).item() if mean else 1.0
    first = next(iter(divisors.values()))
    return {name: (sums[name], first / divisors[name]) for name in sums}
