"""How likely a node is as another's context: softmax over all, or negative sampling in expectation.

Both are functions of the counts C of pairs and of the scores s_uv = ⟨e_u, o_v⟩, with value, gradient and curvature
written out. A model gives the derivative of the loss by each score, and by two scores of the same centre:

    softmax             L = Σ_u c_u log Σ_{w present} e^{s_uw} − Σ_uv C_uv s_uv,      c = C 1
    negative sampling   L = Σ_uv C_uv log(1 + e^{−s_uv}) + k Σ_u c_u Σ_w q_w log(1 + e^{s_uw})

with q_w the noise, proportional to (times that w is a context)^power. The second is what word2vec's loss is in
expectation over its draws of k negatives a pair, so that nothing is random.

References:
    Mikolov et al. (2013), "Distributed representations of words and phrases", Eq. 4. Levy & Goldberg (2014), "Neural
    word embedding as implicit matrix factorization", Eqs. 5 and 6.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from versatile_influence.core.checks import number
from versatile_influence.losses.graphs.meetings import Meetings

Embeddings = dict[str, Tensor]
Matrix = Float[Tensor, "n n"]
Rows = Float[Tensor, "b n"]


@dataclass(frozen=True)
class Terms:
    """What some centres add to the loss, but for −Σ_uv C_uv s_uv.

    Attributes:
        value: Says how much.
        table: Its derivative by each score, but for a factor a centre.
        scale: That factor.
        score: The scores s where each is by itself, its second derivative then the first times σ(−s). With None those
            of a centre share a normaliser, so that theirs is diag(f) − f fᵀ/c_u, with f the first.
        met: c_u, how often each is a centre.
    """

    value: Callable[[], Float[Tensor, ""]]
    table: Rows
    scale: Float[Tensor, "b 1"]
    score: Rows | None
    met: Float[Tensor, "b 1"]

    @property
    def bend(self) -> Rows:
        """The diagonal of the second derivative, but for the factor."""
        return self.table if self.score is None else torch.sigmoid(-self.score).mul_(self.table)

    @property
    def shared(self) -> Float[Tensor, "b 1"] | None:
        """The factor over c_u where scores share a normaliser, or None."""
        return self.scale / self.met.clamp_min(torch.finfo(self.met.dtype).tiny) if self.score is None else None


def scores(params: Embeddings) -> Matrix:
    """Return ⟨e_u, o_v⟩.

    Raises:
        TypeError: If the parameters are not those of `start()`: every derivative has their order.
    """
    if not isinstance(params, dict) or [*params] != ["embedding", "output"]:
        given = f"a dict of {[*params]}" if isinstance(params, dict) else type(params).__name__
        raise TypeError(f"The parameters must be a dict of `embedding` and `output`, in this order, got {given}.")
    return params["embedding"] @ params["output"].T


@dataclass(frozen=True)
class Softmax:
    """Negative log-softmax over the nodes that are present: no negatives are drawn, all are used.

    Attributes:
        shifts: Whether a vector added to all output rows leaves the loss as it is.
    """

    shifts: ClassVar[bool] = True

    def value(self, params: Embeddings, counts: Matrix, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the loss."""
        normalised = (counts.sum(dim=1) * log_normalisers(params, presence)).sum()
        return normalised - (counts * scores(params)).sum()

    def slopes(self, params: Embeddings, counts: Matrix, presence: Float[Tensor, " n"]) -> Matrix:
        """Return ∂L/∂s_uv."""
        return counts.sum(dim=1, keepdim=True) * self._shares(params, presence) - counts

    def hessian(self, params: Embeddings, counts: Matrix, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"]:
        """Return ∇²L over the flat parameters, embedding first."""
        shares, e = self._shares(params, presence), params["embedding"]
        met = counts.sum(dim=1, keepdim=True)
        mean, (n, d) = shares @ params["output"], e.shape
        whole = curvature(params, met * shares, met * shares - counts)
        # Less Σ_u c_u (x_u x_uᵀ), with x_u the derivative of the mean score of centre u: its own row, and all outputs.
        blocks, place = whole.reshape(2, n, d, 2, n, d), torch.arange(n)
        blocks[0, place, :, 0, place] -= (met * mean)[:, :, None] * mean[:, None, :]
        others = (shares[:, :, None] * e[:, None, :]).reshape(n, n * d)
        across = ((met * mean)[:, :, None] * others[:, None, :]).reshape(n, d, n, d)
        blocks[0, :, :, 1] -= across
        blocks[1, :, :, 0] -= across.permute(2, 3, 0, 1)
        blocks[1, :, :, 1] -= (others.T @ (met * others)).reshape(n, d, n, d)
        return whole

    def rows(self, score: Rows, meetings: Meetings, part: slice, weights: Float[Tensor, " n"]) -> Terms:
        """Return what some centres add to the loss, ⟨C, s⟩ left out, and its derivatives by their scores."""
        met, highest = meetings.centres[part, None].to(score), score.new_zeros(1, 1)
        least, most = torch.aminmax(score)
        # Where no power or sum overflows, and none vanishes, all of them need no common factor.
        if not max(-least, most) < 0.4 * math.log(torch.finfo(score.dtype).max):
            highest = score.amax(dim=1, keepdim=True)
            score.sub_(highest)
        powers = in_place(np.exp, score)
        if (weights != 1).any():
            powers.mul_(weights)
        total = powers @ torch.ones_like(weights)[:, None]
        # With nobody present there is no pair either; any finite number will do.
        total = torch.where(total > 0, total, 1.0)
        return Terms(lambda: (met * (total.log() + highest)).double().sum(), powers, met / total, None, met)

    def weights(self, meetings: Meetings, presence: Float[Tensor, " n"]) -> Float[Tensor, " n"]:  # noqa: ARG002
        """Return what `rows` needs to know of each context."""
        return presence

    def _shares(self, params: Embeddings, presence: Float[Tensor, " n"]) -> Matrix:
        return torch.exp(scores(params) - log_normalisers(params, presence)[:, None]) * presence


@dataclass(frozen=True)
class NegativeSampling:
    """Negative sampling in expectation over the negatives: word2vec's loss without its draws.

    Attributes:
        negatives: k, how many negatives a pair has on average.
        power: Of the number of times a node is a context, to which the noise is proportional.
        shifts: Whether a vector added to all output rows leaves the loss as it is.

    Raises:
        ValueError: If k is not positive, or the power not between 0 and 1.

    Example:
        >>> model = NegativeSampling(negatives=2.0)
        >>> params = {"embedding": torch.zeros(2, 1), "output": torch.zeros(2, 1)}
        >>> counts = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
        >>> round(model.value(params, counts, torch.ones(2)).item() / torch.log(torch.tensor(2.0)).item(), 4)
        6.0
    """

    shifts: ClassVar[bool] = False
    negatives: float = 5.0
    power: float = 0.75

    def __post_init__(self):
        number(self.negatives, "negatives", above=0)
        if number(self.power, "power", least=0) > 1:
            raise ValueError(f"`power` of the noise must be between 0 and 1, got {self.power}; word2vec's is 0.75.")

    def value(self, params: Embeddings, counts: Matrix, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the loss."""
        score = scores(params)
        noise = logsigmoid(-score) @ self._noise(counts, presence)
        return -(counts * logsigmoid(score)).sum() - self.negatives * counts.sum(dim=1) @ noise

    def slopes(self, params: Embeddings, counts: Matrix, presence: Float[Tensor, " n"]) -> Matrix:
        """Return ∂L/∂s_uv."""
        return self._pairs(counts, presence) * torch.sigmoid(scores(params)) - counts

    def hessian(self, params: Embeddings, counts: Matrix, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"]:
        """Return ∇²L over the flat parameters, embedding first."""
        chance, pairs = torch.sigmoid(scores(params)), self._pairs(counts, presence)
        return curvature(params, pairs * chance * (1 - chance), pairs * chance - counts)

    def rows(self, score: Rows, meetings: Meetings, part: slice, weights: Float[Tensor, " n"]) -> Terms:
        """Return what some centres add to the loss, ⟨C, s⟩ left out, and its derivatives by their scores."""
        met = meetings.centres[part, None].to(score)
        pairs, chance = meetings.rows(part, score.dtype).addmm_(met, weights[None]), torch.sigmoid(score)

        def value() -> Float[Tensor, ""]:
            # log(1 + eˢ) = s − log σ(s). By rows, so that the roundings of single precision do not add up.
            logs = in_place(np.log, chance.clamp_min(torch.finfo(chance.dtype).tiny))
            return (score - logs).clamp_min_(0).mul_(pairs).sum(dim=1).double().sum()

        return Terms(value, chance * pairs, torch.ones_like(met), score, met)

    def weights(self, meetings: Meetings, presence: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Return what `rows` needs to know of each context."""
        return self.negatives * self._shares(meetings.contexts, presence)

    def at_zero(self, meetings: Meetings, presence: Float[Tensor, " n"]) -> tuple[float, Float[Tensor, " n"]]:
        """Return f/g and r: where all scores are zero their slopes are f (c rᵀ − C), their curvature about g c rᵀ."""
        return 2 / (1 + 1 / self.negatives), self.weights(meetings, presence)

    def _noise(self, counts: Matrix, presence: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        return self._shares(counts.sum(dim=0), presence)

    def _shares(self, met: Float[Tensor, " n"], presence: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        frequency = torch.where(presence > 0, met.clamp_min(0) ** self.power, 0.0)
        return frequency / frequency.sum().clamp_min(torch.finfo(met.dtype).tiny)

    def _pairs(self, counts: Matrix, presence: Float[Tensor, " n"]) -> Matrix:
        """Return how often u meets v, as context or as a negative."""
        return counts + self.negatives * counts.sum(dim=1, keepdim=True) * self._noise(counts, presence)


Model = Softmax | NegativeSampling


def curvature(params: Embeddings, weight: Matrix, slopes: Matrix) -> Float[Tensor, "p p"]:
    """Return the Hessian of Σ_uv f_uv(⟨e_u, o_v⟩) where f″ is `weight` and f′ is `slopes`."""
    e, o = params["embedding"], params["output"]
    n, d = e.shape
    whole = torch.zeros(2, n, d, 2, n, d, dtype=e.dtype)
    place = torch.arange(n)
    whole[0, place, :, 0, place] = torch.einsum("uv,va,vb->uab", weight, o, o)
    whole[1, place, :, 1, place] = torch.einsum("uv,ua,ub->vab", weight, e, e)
    across = torch.einsum("uv,va,ub->uavb", weight, o, e)
    across += torch.einsum("uv,ab->uavb", slopes, torch.eye(d, dtype=e.dtype))
    whole[0, :, :, 1], whole[1, :, :, 0] = across, across.permute(2, 3, 0, 1)
    return whole.reshape(2 * n * d, 2 * n * d)


def in_place(function: np.ufunc, values: Rows) -> Rows:
    """Return NumPy's function of plain numbers in their place: its logarithm takes a third of the time of others."""
    if values.device.type != "cpu":
        return getattr(torch, function.__name__)(values, out=values)
    function(values.numpy(), out=values.numpy())
    return values


def log_normalisers(params: Embeddings, presence: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Return log Σ_{w present} exp⟨e_u, o_w⟩ for every u."""
    score = scores(params)
    highest = score.amax(dim=1, keepdim=True).detach()
    total = torch.exp(score - highest) @ presence
    # With nobody present there is no pair either; any finite number will do.
    return torch.log(torch.where(total > 0, total, 1.0)) + highest[:, 0]
