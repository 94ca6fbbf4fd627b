"""The eight losses of pytorch-metric-learning, each as outputs and one of two outer losses that know who is present.

Tuples and rows of a softmax die with their objects, and a removed row leaves the sums of the others:

    pairs, triplets     Σ_t ℓ_t Π_{i of t} b_i                              TripletMargin, Contrastive
    softmax rows        Σ_a b_a w_a (log Σ_j b_j e^{s_aj} − s_a+)           NTXent, SupCon, ArcFace, ProxyNCA,
                                                                            MultiSimilarity, ProxyAnchor

where 1 + Σ e^s, as in the last two, is a candidate of score 0 that is nobody's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import one_hot, relu, softplus

from versatile_influence.adapters.metric_distances import Distances, Proxied
from versatile_influence.core.composed import Composed
from versatile_influence.core.models import Mapped, Network
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.owners import Owners
from versatile_influence.losses.softmax.shared_rows import SharedRows
from versatile_influence.losses.terms.loss import TermLoss


@dataclass(frozen=True)
class Batch:
    """What a loss of presence is made of.

    Attributes:
        fn: Their loss.
        between: Its distance.
        model, x: Embeddings are model(x).
        classes: Of the rows.
        mined: Their tuples, or None for all that the classes allow.
        parts: What each of their parts is multiplied by, by name.
        given: `penalty` and `labels`.
    """

    fn: Any
    between: Distances
    model: torch.nn.Module
    x: Tensor
    classes: Int[Tensor, " n"]
    mined: tuple[Tensor, ...] | None
    parts: dict[str, float]
    given: dict[str, Any]

    @property
    def n(self) -> int:
        """How many rows."""
        return len(self.x)

    def rows_apart(self, function: Callable[[Tensor], Tensor]) -> Mapped:
        """Return a function of the distances of all rows to each other, as outputs."""
        return Mapped(Network(self.model, self.x), lambda z: function(self.between(z)))

    def proxies_apart(self, proxies: Tensor, function: Callable[[Tensor], Tensor], *, each: bool = True) -> Mapped:
        """Return a function of the distances of all rows to the proxies, as outputs."""
        module = Proxied(self.model, proxies, self.between)
        return Mapped(Network(module, self.x), function, each=each)

    def pairs(self) -> tuple[Tensor, ...]:
        """Return anchors and positives, anchors and negatives."""
        from pytorch_metric_learning.utils import loss_and_miner_utils as tuples

        return tuple(tuples.convert_to_pairs(self.mined, self.classes, self.classes))

    def weights(self, *, anchors: bool = False) -> Float[Tensor, " n"]:
        """Return how much each row counts, by how many mined tuples hold it, or have it as anchor; 1 if none."""
        from pytorch_metric_learning.utils import loss_and_miner_utils as tuples

        return tuples.convert_to_weights(self.mined, self.classes, dtype=torch.float64, using_ref=anchors)

    def against(self) -> tuple[Tensor, Tensor]:
        """Return (n, n) which rows are an anchor's positives, and which its negatives."""
        anchors, positives, others, negatives = self.pairs()
        near, far = torch.zeros(2, self.n, self.n, dtype=torch.bool).unbind()
        near[anchors, positives], far[others, negatives] = True, True
        return near, far


def triplets(batch: Batch) -> Composed:
    """Return TripletMarginLoss: softplus or hinge of margin + near − far."""
    from pytorch_metric_learning.utils import loss_and_miner_utils as tuples

    fn, many = batch.fn, batch.fn.triplets_per_anchor
    mined = tuples.convert_to_triplets(batch.mined, batch.classes, batch.classes, t_per_anchor=many)
    anchor, positive, negative = some(mined)

    def leads(apart: Tensor) -> Tensor:
        far = apart[anchor, negative]
        if fn.swap:
            far = torch.minimum(far, apart[positive, negative])
        return fn.margin + apart[anchor, positive] - far

    terms, members = softplus if fn.smooth_loss else relu, torch.stack([anchor, positive, negative], dim=1)
    return TermLoss(terms, members, n_objects=batch.n, outputs=batch.rows_apart(leads), **batch.given)


def contrasted(batch: Batch) -> Composed:
    """Return ContrastiveLoss: hinges of positive pairs beyond their margin, and of negative pairs within theirs."""
    anchors, positives, others, negatives = some(batch.pairs())
    sign, margins = batch.between.sign, (batch.fn.pos_margin, batch.fn.neg_margin)
    counts = [batch.parts["pos_loss"], batch.parts["neg_loss"]]
    weights = torch.tensor(counts).double().repeat_interleave(torch.tensor([len(anchors), len(others)]))

    def beyond(apart: Tensor) -> Tensor:
        near, far = apart[anchors, positives], apart[others, negatives]
        return torch.cat([near - sign * margins[0], sign * margins[1] - far])

    members = torch.stack([torch.cat([anchors, others]), torch.cat([positives, negatives])], dim=1)
    outputs = batch.rows_apart(beyond)
    return TermLoss(
        partial(weighted_hinges, weights=weights), members, n_objects=batch.n, outputs=outputs, **batch.given
    )


def weighted_hinges(beyond: Tensor, weights: Tensor) -> Tensor:
    """Return w max(0, x)."""
    return weights.to(beyond) * relu(beyond)


def pair_rows(batch: Batch) -> Composed:
    """Return NTXentLoss: of each positive pair the candidates are the positive and the anchor's negatives."""
    anchors, positives, _, _ = some(batch.pairs())
    targets = one_hot(positives, batch.n).double()
    allowed = batch.against()[1][anchors] | (targets > 0)
    scores = batch.rows_apart(lambda apart: -apart.index_select(0, anchors) / batch.fn.temperature)
    return softmax(batch, scores, targets, allowed, Owners(batch.n, torch.arange(batch.n), anchors))


def supervised(batch: Batch) -> Composed:
    """Return SupConLoss: each anchor's mean over its positives among all others."""
    some(batch.pairs())
    near, far = batch.against()
    every = torch.arange(batch.n)
    scores = batch.rows_apart(lambda apart: -apart / batch.fn.temperature)
    return softmax(batch, scores, near.double(), near | far, Owners(batch.n, every, every), mean=True)


def similar(batch: Batch) -> Composed:
    """Return MultiSimilarityLoss: log(1 + Σ e^{…}) over each anchor's positives, and over its negatives."""
    near, far = batch.against()
    alpha, beta, base = batch.fn.alpha, batch.fn.beta, batch.between.sign * batch.fn.base

    def beside_one(apart: Tensor) -> Tensor:
        return with_zeros(torch.cat([alpha * (apart - base), beta * (base - apart)]))

    targets, allowed = beyond_ones(torch.cat([near, far]), torch.tensor([1 / alpha, 1 / beta]).double(), batch.n)
    every = torch.arange(batch.n + 1)
    owners = Owners(batch.n, every, every[:-1].repeat(2))
    return softmax(batch, batch.rows_apart(beside_one), targets, allowed, owners)


def anchored(batch: Batch) -> Composed:
    """Return ProxyAnchorLoss: log(1 + Σ e^{…}) over the rows of each proxy's class, and over all others."""
    fn, member = batch.fn, one_hot(batch.classes, batch.fn.num_classes).T.bool()
    margin, shift = batch.between.sign * fn.margin, batch.weights() - 1

    def beside_one(apart: Tensor) -> Tensor:
        near, far = apart.T - margin, -apart.T - margin
        return with_zeros(fn.alpha * torch.cat([near, far]) + shift.to(apart))

    counts = torch.tensor([batch.parts["pos_loss"], batch.parts["neg_loss"]]).double()
    targets, allowed = beyond_ones(torch.cat([member, ~member]), counts, len(member))
    scores = batch.proxies_apart(fn.proxies, beside_one, each=False)
    return softmax(batch, scores, targets, allowed, Owners(batch.n, torch.arange(batch.n + 1)))


def nearest(batch: Batch) -> Composed:
    """Return ProxyNCALoss: cross-entropy of each row's distances to the proxies."""
    scores = batch.proxies_apart(batch.fn.proxies, lambda apart: -batch.fn.softmax_scale * apart)
    return entropy(batch, scores, len(batch.fn.proxies), weights=batch.weights(anchors=True))


def angular(batch: Batch) -> Composed:
    """Return ArcFaceLoss: cross-entropy of scaled cosines, that of the row's own class at a larger angle."""
    margin, scale = float(batch.fn.margin), batch.fn.scale
    own = one_hot(batch.classes, batch.fn.num_classes).bool()

    def logits(apart: Tensor) -> Tensor:
        cosine = -apart
        angle = torch.acos(torch.where(own, cosine, 0.0).clamp(-1, 1))
        # Beyond π − margin the cosine would rise again.
        further = torch.where(angle <= torch.pi - margin, torch.cos(angle + margin), cosine - margin * sin(margin))
        return scale * torch.where(own, further, cosine)

    scores = batch.proxies_apart(batch.fn.W.T, logits, each=False)
    return entropy(batch, scores, batch.fn.num_classes, weights=batch.weights())


def sin(angle: float) -> float:
    """Return the sine of a number."""
    return torch.tensor(angle, dtype=torch.float64).sin().item()


def entropy(batch: Batch, scores: Mapped, number: int, *, weights: Tensor) -> Composed:
    """Return the cross-entropy of each row's scores of the proxies."""
    targets = one_hot(batch.classes, number).double() * weights[:, None]
    owners = Owners(batch.n, torch.full((number,), batch.n), torch.arange(batch.n))
    return softmax(batch, scores, targets, torch.ones_like(targets).bool(), owners)


def softmax(
    batch: Batch, scores: Mapped, targets: Tensor, allowed: Tensor, owners: Owners, *, mean: bool = False
) -> Composed:
    """Return a loss of softmax rows whose candidates have one view each."""
    rows = SharedRows(owners, targets[:, None], allowed[:, None], mean)
    return SoftmaxLoss(rows, scores, **batch.given)


def with_zeros(scores: Float[Tensor, "R B"]) -> Float[Tensor, "R one_more"]:
    """Return the scores with a candidate of score 0 in each row: the 1 of log(1 + Σ e^s)."""
    return torch.cat([scores, scores.new_zeros(len(scores), 1)], dim=1)


def beyond_ones(allowed: Tensor, weights: Float[Tensor, " two"], each: int) -> tuple[Tensor, Tensor]:
    """Return targets and candidates of log(1 + Σ e^s): the 1 is the positive, weighted, of two kinds of rows."""
    heavy = weights.repeat_interleave(each)[:, None]
    targets = torch.cat([torch.zeros(allowed.shape, dtype=torch.float64), heavy], dim=1)
    return targets, torch.cat([allowed, torch.ones(len(allowed), 1, dtype=torch.bool)], dim=1)


def some(mined: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """Return tuples if there is one.

    Raises:
        ValueError: If there is none.
    """
    if not len(mined[0]):
        raise ValueError("There is no tuple: each class needs two rows, and there must be two classes.")
    return tuple(mined)


SERVED: dict[str, Callable[[Batch], Composed]] = {
    "ArcFaceLoss": angular,
    "ContrastiveLoss": contrasted,
    "MultiSimilarityLoss": similar,
    "NTXentLoss": pair_rows,
    "ProxyAnchorLoss": anchored,
    "ProxyNCALoss": nearest,
    "SupConLoss": supervised,
    "TripletMarginLoss": triplets,
}
