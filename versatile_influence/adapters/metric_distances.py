"""Distances of embeddings to each other and to proxies, as pytorch-metric-learning takes them."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize


@dataclass(frozen=True)
class Distances:
    """Distances of rows to rows, twice differentiable; negative where theirs is a similarity.

    Attributes:
        euclidean: Whether they are ‖a − b‖; else −a·b.
        normalized: Whether rows are taken at length 1.
        power: Of the distance or the similarity.
    """

    euclidean: bool
    normalized: bool
    power: float

    @property
    def sign(self) -> int:
        """1 of a distance, −1 of a similarity: what a margin of theirs is times, among these."""
        return 1 if self.euclidean else -1

    def __call__(self, z: Float[Tensor, "n d"], others: Float[Tensor, "m d"] | None = None) -> Float[Tensor, "n m"]:
        """Return the distance of each row to each of the others, or to each row."""
        z = normalize(z, dim=-1) if self.normalized else z
        others = z if others is None else normalize(others, dim=-1) if self.normalized else others
        products = z @ others.T
        if not self.euclidean:
            return -(products**self.power)
        sums = z.square().sum(-1)[:, None] + others.square().sum(-1)
        squares = sums - 2 * products
        # The root has no derivative at 0, where a row meets itself or its copy.
        apart = squares > 1e-14 * sums
        return torch.where(apart, torch.where(apart, squares, 1.0) ** (self.power / 2), 0.0)


class Proxied(torch.nn.Module):
    """Distances of a model's embeddings to proxies, one a class: where these started plus a change that is trained.

    A cosine leaves the length of a proxy free, so that a penalty on the proxies themselves has no minimum; that on
    their change pulls towards the start, as that of a `ResidualHead` does.

    Attributes:
        model: From rows to embeddings.
        start: (classes, d) the proxies as they were.
        proxy_change: (classes, d) what is added to them, trained from 0.
    """

    start: Tensor

    def __init__(self, model: torch.nn.Module, proxies: Float[Tensor, "C d"], between: Distances):
        super().__init__()
        self.model, self.between = model, between
        self.register_buffer("start", proxies.detach().double().clone())
        self.proxy_change = torch.nn.Parameter(torch.zeros_like(self.start))

    def forward(self, x: Tensor) -> Float[Tensor, "n C"]:
        """Return the distance of each row's embedding to each proxy."""
        return self.between(self.model(x), self.start + self.proxy_change)


def distances(distance: Any) -> Distances:
    """Return their distance as ours.

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
    return Distances(euclidean, bool(distance.normalize_embeddings), float(distance.power))
