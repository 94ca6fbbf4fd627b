"""Contrastive losses over fixed batches."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import listed, number, numbers
from versatile_influence.core.loss import Loss
from versatile_influence.core.models import Mapped
from versatile_influence.core.ravel import Params
from versatile_influence.core.tables import codes, kept, tell_idle, whole_numbers
from versatile_influence.losses.embedded import embedded
from versatile_influence.losses.softmax.linear_items import matrix
from versatile_influence.losses.softmax.loss import SoftmaxLoss
from versatile_influence.losses.softmax.owners import Owners
from versatile_influence.losses.softmax.shared_rows import SharedRows


class InfoNCELoss(SoftmaxLoss):
    """Contrastive loss in fixed batches: each view of an object finds its other views among the batch.

        L(θ, b) = −Σ_batches Σ_anchors b_a Σ_p T_ap b_p log (e^{s_ap} / Σ_l b_l e^{s_al}) + (λ/2)‖θ‖²

    SimCLR: two views by one model, candidates all other views. CLIP: `across=True`, candidates the other side's.
    Queries and documents: `one_way=True`, each query finds its document among all documents, hard negatives too.
    SupCon: `classes`, positives all views of the class, divided by their number with everybody there, which does not
    change when one goes. The batches are fixed, since another partition is another loss.

    Args:
        views: (V, n, d) views of n objects.
        batches: Lists of objects, or None for one batch of all.
        dim: Dimension of the linear embedding x W.
        model: A network from (V, n, d) to embeddings; with `across`, one that maps each side by its own part.
        temperature: τ.
        across: Compare each view with the other side only.
        one_way: The first view's are the only anchors; their positives are the second view's, and all views but the
            first are candidates.
        classes: (n,) class of each object.
        positive_counts: (n,) divisors of SupCon's anchors in place of the number of their positives.
        penalty: λ. Cosines feel no scale, which a penalty drives to 0: leave it out unless the model has a scale.
        labels: Names of the objects.

    References:
        van den Oord et al. (2018); Chen et al. (2020), SimCLR; Radford et al. (2021), CLIP; Khosla et al. (2020),
        SupCon.

    Example:
        >>> loss = InfoNCELoss(torch.ones(2, 3, 4).double(), dim=2, temperature=1.0)
        >>> loss(loss.zeros(), torch.ones(3).double()).item()  # 6 log 5
        9.656...
    """

    def __init__(
        self,
        views: object,
        *,
        batches: Sequence[Sequence[int]] | None = None,
        dim: int = 2,
        model: torch.nn.Module | None = None,
        temperature: float = 0.1,
        across: bool = False,
        one_way: bool = False,
        classes: object = None,
        positive_counts: object = None,
        penalty: float = 0.0,
        labels: Sequence[object] | None = None,
    ):
        views = numbers(views, "views", shape=[None] * 3) if model is None else kept(views, "views")
        if views.dim() < 3 or (across and len(views) != 2):
            raise ValueError(
                f"`views` must be (views, objects, features), two with `across`; got {tuple(views.shape)}."
            )
        if one_way and (across or len(views) < 2):
            raise ValueError(f"`one_way` needs two views or more and no `across`; got {len(views)} and {across}.")
        temperature, n = number(temperature, "temperature", above=0), views.shape[1]
        table = batch_table(batches, n)
        embeddings = embedded(model, views, dim)
        scores = partial(similarities, batches=table, temperature=temperature, across=across, one_way=one_way)
        rows = batch_rows(table, views.shape, across=across, one_way=one_way, classes=classes, given=positive_counts)
        compared = Cosines(embeddings, scores) if model is None else Mapped(embeddings, scores)
        super().__init__(rows, compared, penalty=penalty, labels=labels)


@dataclass(frozen=True, eq=False)
class Cosines(Mapped):
    """Cosines of linear embeddings x W: the same for every multiple of W, and for W turned by a rotation."""

    def null_directions(self, outer: Loss, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:  # noqa: ARG002
        weights = matrix(params)
        directions: dict[str, Params] = {"scale": weights}
        for a, b in combinations(range(weights.shape[1]), 2):
            turned = torch.zeros_like(weights)
            turned[:, a], turned[:, b] = weights[:, b], -weights[:, a]
            directions[f"rotation of axes {a} and {b}"] = turned
        return directions


def similarities(
    embeddings: Float[Tensor, "V n d"],
    batches: Int[Tensor, "G B"],
    temperature: float,
    *,
    across: bool,
    one_way: bool,
    cosine: bool = True,
) -> Float[Tensor, "R W B"]:
    """Return cosines, or dot products, over τ of each anchor, batch by batch, view by view, with its candidates."""
    z = torch.nn.functional.normalize(embeddings, dim=-1) if cosine else embeddings
    z = torch.cat([z, torch.zeros_like(z[:, :1])], dim=1)[:, batches]
    if one_way:
        scores = torch.einsum("gad,vgbd->gavb", z[0], z[1:])[:, None]
    elif across:
        scores = torch.einsum("vgad,vgbd->gvab", z, z.flip(0))[:, :, :, None]
    else:
        scores = torch.einsum("vgad,wgbd->gvawb", z, z)
    return scores.flatten(0, 2) / temperature


def batch_table(batches: Sequence[Sequence[int]] | None, n: int) -> Int[Tensor, "G B"]:
    """Return the batches as one table, n past a batch's end.

    Raises:
        ValueError: If a batch has fewer than two objects, or an object is unknown or in two places.
    """
    given = [range(n)] if batches is None else listed(batches, "batches", "lists")
    lists = [
        whole_numbers(batch, f"batches[{place}]", shape=[None], most=n - 1).tolist()
        for place, batch in enumerate(given)
    ]
    flat = [i for batch in lists for i in batch]
    if not lists or min(map(len, lists)) < 2:
        raise ValueError("Each batch must hold at least two objects, or an anchor has nothing to be told from.")
    if len(set(flat)) < len(flat):
        raise ValueError(f"`batches` must name objects from 0 to {n - 1}, each at most once.")
    tell_idle(n - len(flat), n, "in no batch")
    width = max(map(len, lists))
    return torch.tensor([batch + [n] * (width - len(batch)) for batch in lists])


def batch_rows(
    table: Int[Tensor, "G B"],
    shape: Sequence[int],
    *,
    across: bool,
    one_way: bool,
    classes: object,
    given: object,
) -> SharedRows:
    """Return the terms of all batches: a row for each anchor (batch, view, object)."""
    (g, b), (n_views, n, *_) = table.shape, shape
    anchors, others = (1, n_views - 1) if one_way else (2, 1) if across else (n_views, n_views)
    there = table < n
    same = torch.eye(b, dtype=torch.bool)
    if classes is not None:
        kind = codes(classes, n, "object", "classes")[0]
        kind = torch.cat([kind, kind[:1]])[table]
        same = kind[:, :, None] == kind[:, None, :]
    pairs = there[:, :, None] & there[:, None, :]
    allowed, positive = (some[:, None, :, None, :].expand(g, anchors, b, others, b) for some in (pairs, same & pairs))
    if one_way:
        positive = positive & (torch.arange(others) == 0)[:, None]
    elif not across:
        apart = torch.einsum("vw,ab->vawb", torch.eye(n_views), torch.eye(b)) == 0
        allowed, positive = allowed & apart, positive & apart
    counts = positive.double().sum((-2, -1), keepdim=True).clamp_min(1.0)
    if given is not None:
        divisors = numbers(given, "positive_counts", shape=[n], above=0)
        counts = torch.cat([divisors, divisors.new_ones(1)])[table][:, None, :, None, None]
    units, objects = table[:, None, None].expand(g, anchors, b, b), table[:, None].expand(g, anchors, b)
    owners = Owners(n, units.reshape(-1, b), objects.reshape(-1))
    return SharedRows(owners, (positive.double() / counts).flatten(0, 2), allowed.flatten(0, 2))
