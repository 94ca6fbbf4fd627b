"""pytorch-metric-learning's TripletMarginLoss and NTXentLoss on a frozen miner."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.adapters.head import ResidualHead
from versatile_influence.core.models import Mapped, Network
from versatile_influence.core.ravel import squared_norm
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.owners import Owners
from versatile_influence.losses.softmax.shared_rows import SharedRows
from versatile_influence.losses.terms.loss import TermLoss


def from_metric_learning(
    loss_fn: Any,
    x: Float[Tensor, "n ..."],
    classes: Int[Tensor, " n"],
    *,
    model: torch.nn.Module | None = None,
    rank: int = 8,
    mined: tuple[Tensor, ...] | None = None,
    penalty: float = 0.0,
    labels: Sequence[object] | None = None,
) -> TermLoss | SoftmaxLoss:
    """Return a loss of pytorch-metric-learning as a loss of the presence of each row of x.

    The tuples are fixed once, as a miner gave them or all that the classes allow: another choice is another loss. Ours
    is the sum over the tuples; theirs is that sum divided by the number of non-zero triplets (TripletMarginLoss) or of
    positive pairs (NTXentLoss). A triplet dies with any of its three, a positive pair with either of its two, and a
    removed negative leaves the denominators.

    Args:
        loss_fn: A `TripletMarginLoss` or `NTXentLoss`, with an `LpDistance` (p = 2), `CosineSimilarity` or
            `DotProductSimilarity`. A hinge has no curvature at its kink: prefer `smooth_loss=True`.
        x: (n, …) input of the model, or frozen embeddings (n, d).
        classes: (n,) class of each row, their `labels`.
        model: A network from x to embeddings; None for a `ResidualHead` on x.
        rank: Axes of that head.
        mined: What a miner returned (`miner(embeddings, classes)`): 3 index tensors of triplets or 4 of pairs.
        penalty: λ of (λ/2)‖θ‖².
        labels: Names of the rows.

    Raises:
        TypeError: If the loss or its distance is another one.
        ValueError: If there is no tuple, or the value differs from theirs (a subclass, a regularizer).

    References:
        Musgrave, Belongie & Lim (2020), "PyTorch Metric Learning".

    Example:
        >>> from pytorch_metric_learning.losses import TripletMarginLoss
        >>> x, classes = torch.eye(4).double(), torch.tensor([0, 0, 1, 1])
        >>> loss = from_metric_learning(TripletMarginLoss(margin=0.5, smooth_loss=True), x, classes, rank=2)
        >>> loss(loss.zeros(), torch.ones(4).double()).item()  # 8 softplus(0.5)
        7.792...
    """
    from pytorch_metric_learning import losses
    from pytorch_metric_learning.utils import loss_and_miner_utils as tuples

    embeddings = Network(ResidualHead(x, rank) if model is None else model, x)
    between = distances(loss_fn.distance)
    if isinstance(loss_fn, losses.TripletMarginLoss):
        many: Any = loss_fn.triplets_per_anchor
        mined = tuple(tuples.convert_to_triplets(mined, classes, classes, t_per_anchor=many))
        build = triplet_terms
    elif isinstance(loss_fn, losses.NTXentLoss):
        mined = tuple(tuples.convert_to_pairs(mined, classes, classes))
        build = pair_rows
    else:
        raise TypeError(
            f"{type(loss_fn).__name__} is not served: use TripletMarginLoss or NTXentLoss, or write the terms as a "
            "`TermLoss` (sums of tuples) or `InfoNCELoss` with `classes` (SupCon)."
        )
    if not len(mined[0]):
        raise ValueError("There is no tuple: each class needs two rows, and there must be two classes.")
    loss = build(loss_fn, mined, embeddings, between, penalty=penalty, labels=labels)
    agrees(loss, loss_fn, embeddings(embeddings.start()), classes, mined)
    return loss


def distances(distance: Any) -> Callable[[Tensor], Tensor]:
    """Return the distances of all rows (n, d), twice differentiable; negative where theirs is a similarity.

    Raises:
        TypeError: If it is none of those served.
    """
    from pytorch_metric_learning import distances as theirs

    euclidean = isinstance(distance, theirs.LpDistance)
    if distance.p != 2 or not (euclidean or isinstance(distance, theirs.DotProductSimilarity)):
        raise TypeError(
            f"{type(distance).__name__} with p = {distance.p} is not served: use LpDistance with p = 2, "
            "CosineSimilarity or DotProductSimilarity."
        )

    def between(z: Tensor) -> Tensor:
        z = torch.nn.functional.normalize(z, dim=-1) if distance.normalize_embeddings else z
        products = z @ z.T
        if not euclidean:
            return -(products**distance.power)
        norms = z.square().sum(-1)
        sums = norms[:, None] + norms
        squares = sums - 2 * products
        # The root has no derivative at 0, where a row meets itself or its copy.
        apart = squares > 1e-14 * sums
        return torch.where(apart, torch.where(apart, squares, 1.0) ** (distance.power / 2), 0.0)

    return between


def triplet_terms(
    loss_fn: Any, mined: tuple[Tensor, ...], embeddings: Network, between: Callable[[Tensor], Tensor], **given: Any
) -> TermLoss:
    """Return the sum of triplets: softplus or hinge of margin + near − far."""
    anchor, positive, negative = mined

    def leads(z: Tensor) -> Tensor:
        apart = between(z)
        far = apart[anchor, negative]
        if loss_fn.swap:
            far = torch.minimum(far, apart[positive, negative])
        return loss_fn.margin + apart[anchor, positive] - far

    terms = torch.nn.functional.softplus if loss_fn.smooth_loss else torch.nn.functional.relu
    outputs, n = Mapped(embeddings, leads), len(embeddings.x)
    return TermLoss(terms, torch.stack(mined, dim=1), n_objects=n, outputs=outputs, **given)


def pair_rows(
    loss_fn: Any, mined: tuple[Tensor, ...], embeddings: Network, between: Callable[[Tensor], Tensor], **given: Any
) -> SoftmaxLoss:
    """Return a row for each positive pair: its candidates are the positive and the anchor's negatives.

    Scores are minus the distance over τ of each pair's anchor to all rows of the embeddings.
    """
    anchors, positives, others, negatives = mined
    n = len(embeddings.x)
    against = torch.zeros(n, n, dtype=torch.bool)
    against[others, negatives] = True
    targets = torch.nn.functional.one_hot(positives, n).double()
    allowed = against[anchors] | (targets > 0)
    rows = SharedRows(Owners(n, torch.arange(n), anchors), targets[:, None], allowed[:, None])
    scores = Mapped(embeddings, lambda z: -between(z).index_select(0, anchors) / loss_fn.temperature)
    return SoftmaxLoss(rows, scores, **given)


def agrees(
    loss: TermLoss | SoftmaxLoss, loss_fn: Any, z: Float[Tensor, "n d"], classes: Tensor, mined: tuple[Tensor, ...]
) -> None:
    """Check the sum over the tuples against theirs, where we start.

    Raises:
        ValueError: If they differ.
    """
    start = loss.zeros()
    ours = loss(start, z.new_ones(len(z))) - loss.penalty / 2 * squared_norm(start)
    theirs = loss_fn.compute_loss(z, classes, mined, z, classes)["loss"]["losses"].sum()
    if loss_fn.embedding_regularizer is not None or not torch.allclose(ours, theirs, rtol=1e-5, atol=1e-8):
        raise ValueError(
            f"The sum is {float(ours):.6g} here and {float(theirs):.6g} there. A subclass or an embedding regularizer "
            "is not served: use the plain loss, and `penalty` for the parameters."
        )
