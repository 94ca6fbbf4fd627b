"""Training for a number of epochs, one model or many at once."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.boundary import as_loss
from versatile_influence.core.loss import Loss, number_of_terms
from versatile_influence.core.ravel import Params, ravel, stacked
from versatile_influence.core.sizes import CACHE_NUMBERS, CHUNK_NUMBERS, at_once
from versatile_influence.training.optimizers import Adam, Optimizer


def train(
    loss: object,
    init: Params,
    presence: Float[Tensor, "... n"] | None = None,
    *,
    epochs: int,
    lr: float,
    optimizer: Optimizer = Adam(),  # noqa: B008  (a frozen value)
    batch_size: int | None = None,
    weight_decay: float = 0.0,
    seed: int = 0,
    scale: float = 1.0,
    n_objects: int | None = None,
) -> Params:
    """Return the parameters after a fixed number of epochs, with those of presence 1.0.

    Where `presence` has a row for each of k trainings, all k are trained together, from the same start and over the
    same mini-batches, and the parameters come stacked along a first dimension: `leave_one_out(fit, …, batch_size=…)`
    takes them so. Each is what training alone gives, to rounding.

    Args:
        loss: `loss(params, presence)`, a sum; with `batch_size` one of terms.
        init: The start; its dtype is that of parameters and steps. A loss that can only be evaluated in float64 is,
            and its gradient is rounded.
        presence: Who is present: None for everyone, (n,), or (k, n).
        epochs: How often all terms are seen.
        lr: The learning rate.
        optimizer: `Adam()`, `AdamW()` or `SGD()`, with settings of their own.
        batch_size: Terms of the loss in a step; None for all of them.
        weight_decay: As the optimiser understands it.
        seed: Of the order in which terms are seen; without `batch_size` nothing is random.
        scale: The loss minimised is scale · L, of which a mini-batch estimates the whole. 1 / n_terms gives the mean
            over a mini-batch, which is what a torch training loop usually steps on.
        n_objects: How many objects there are, where neither loss nor presence says.

    Raises:
        TypeError: If mini-batches are asked for and the loss cannot be evaluated on some of its terms.
        ValueError: If a setting makes no sense, or every training diverged.

    Example:
        >>> import versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> masks = 1 - torch.eye(3, dtype=torch.float64)
        >>> train(loss, torch.zeros(1, dtype=torch.float64), masks, optimizer=vif.SGD(), epochs=100, lr=0.3).squeeze()
        tensor([4.0000, 3.5000, 1.5000], dtype=torch.float64)
    """
    _check(epochs=epochs, lr=lr, batch_size=batch_size, scale=scale)
    theta, unravel = ravel(init)
    whole = as_loss(loss, n_objects if presence is None else presence.shape[-1])
    if presence is None:
        presence = theta.new_ones(whole.n_objects)
    if presence.dim() not in (1, 2):
        raise ValueError(f"`presence` must be (n,), or (k, n) for k trainings, got shape {tuple(presence.shape)}.")
    if batch_size is not None:
        number_of_terms(whole)
    course = _Course(whole, unravel, optimizer, epochs, lr, weight_decay, scale, seed, batch_size)
    presence = presence.to(theta.device, _accepted(whole, theta, unravel, presence))
    if presence.dim() == 1:
        return unravel(_finite(course.run(theta, presence)))
    size = at_once(max(presence.shape[1], len(theta)), most=CACHE_NUMBERS if batch_size is None else CHUNK_NUMBERS)
    parts = [course.run(theta.expand(len(part), -1), part) for part in presence.split(size)]
    return vmap(unravel)(_finite(torch.cat(parts)))


@dataclass(frozen=True)
class _Course:
    """All that a training is, but for its start and its presence."""

    loss: Loss
    unravel: Callable[[Tensor], Params]
    optimizer: Optimizer
    epochs: int
    lr: float
    weight_decay: float
    scale: float
    seed: int
    batch_size: int | None

    def run(self, theta: Float[Tensor, "*k p"], presence: Float[Tensor, "*k n"]) -> Float[Tensor, "*k p"]:
        """Return θ at the end, for one training or one a row."""
        state = self.optimizer.start(theta)
        for number, terms in enumerate(self._batches(), start=1):
            gradient = self._gradient(theta, presence, terms)
            theta, state = self.optimizer.step(
                theta, gradient, state, number=number, lr=self.lr, weight_decay=self.weight_decay
            )
        return theta

    def _gradient(self, theta: Tensor, presence: Tensor, terms: Int[Tensor, " b"] | None) -> Tensor:
        loss, scale = self.loss, self.scale
        if terms is not None:
            loss, scale = loss.part(terms), scale * number_of_terms(loss) / len(terms)
        there = theta.to(presence.dtype)
        if theta.dim() == 1:
            return (scale * loss.gradient(self.unravel(there), presence)).to(theta)
        return (scale * loss.gradients(stacked(self.unravel, there), presence)).to(theta)

    def _batches(self) -> Iterator[Int[Tensor, " b"] | None]:
        """Yield the terms of each step."""
        if self.batch_size is None:
            yield from (None for _ in range(self.epochs))
            return
        count, order = number_of_terms(self.loss), torch.Generator().manual_seed(self.seed)
        for _ in range(self.epochs):
            yield from torch.randperm(count, generator=order).split(self.batch_size)


def _accepted(loss: Loss, theta: Tensor, unravel: Callable[[Tensor], Params], presence: Tensor) -> torch.dtype:
    """Return the dtype of θ if the loss can be evaluated in it, else float64."""
    one = presence.reshape(-1, presence.shape[-1])[0].to(theta)
    try:
        loss(unravel(theta), one)
    except RuntimeError:
        loss(unravel(theta.double()), one.double())
        return torch.float64
    return theta.dtype


def _finite(theta: Float[Tensor, "*k p"]) -> Float[Tensor, "*k p"]:
    """Return θ; where some of many trainings diverged, their rows hold NaN, as the caller will see."""
    if not torch.isfinite(theta).all(dim=-1).any():
        raise ValueError("The training diverged: the parameters are NaN or infinite. Lower lr=…, or scale the data.")
    return theta


def _check(*, epochs: int, lr: float, batch_size: int | None, scale: float) -> None:
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if value is not None and value < 1:
            raise ValueError(f"`{name}` must be at least 1, got {value}.")
    for name, value in (("lr", lr), ("scale", scale)):
        if not 0 < value < float("inf"):
            raise ValueError(f"`{name}` must be a positive number, got {value}.")
