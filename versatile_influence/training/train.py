"""Training for a number of epochs, one model or many at once."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.boundary import check_value, with_presence
from versatile_influence.core.checks import instance, number, whole
from versatile_influence.core.given import everything, unfrozen
from versatile_influence.core.loss import Loss, number_of_terms
from versatile_influence.core.ravel import Params, ravel, stacked
from versatile_influence.core.sizes import CACHE_NUMBERS, CHUNK_NUMBERS, at_once
from versatile_influence.core.words import errors_named
from versatile_influence.training.optimizers import Adam, Optimizer


@errors_named()
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
        init: The start, of which what is frozen stays; its dtype is that of parameters and steps. A loss that can only
            be evaluated in float64 is, and its gradient is rounded.
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
    optimizer = instance(optimizer, "optimizer", Optimizer, "vif.Adam()")
    epochs, seed = whole(epochs, "epochs", least=1), whole(seed, "seed")
    batch_size = None if batch_size is None else whole(batch_size, "batch_size", least=1)
    lr, scale = number(lr, "lr", above=0), number(scale, "scale", above=0)
    known, given = with_presence(loss, presence, n_objects, rows=True)
    checked, trained_from = unfrozen(known, init)
    theta, unravel = ravel(trained_from)
    presence = given.to(theta.device, _accepted(checked, theta, unravel, given))
    step = partial(optimizer.step, lr=lr, weight_decay=number(weight_decay, "weight_decay", least=0))

    def trained(theta: Float[Tensor, "*k p"], presence: Float[Tensor, "*k n"]) -> Float[Tensor, "*k p"]:
        """Return θ at the end, for one training or one a row."""
        state = optimizer.start(theta)
        for step_number, (some, share) in enumerate(_batches(checked, epochs, batch_size, seed), start=1):
            there = theta.to(presence.dtype)
            if theta.dim() == 1:
                gradient = some.gradient(unravel(there), presence)
            else:
                gradient = some.gradients(stacked(unravel, there), presence)
            theta, state = step(theta, (scale * share * gradient).to(theta), state, number=step_number)
        return theta

    if presence.dim() == 1:
        return everything(init, unravel(_finite(trained(theta, presence))), frozen=True)
    size = at_once(max(presence.shape[1], len(theta)), most=CACHE_NUMBERS if batch_size is None else CHUNK_NUMBERS)
    parts = [trained(theta.expand(len(part), -1), part) for part in presence.split(size)]
    return everything(init, vmap(unravel)(_finite(torch.cat(parts))), frozen=True)


def _batches(whole: Loss, epochs: int, size: int | None, seed: int) -> Iterator[tuple[Loss, float]]:
    """Yield the loss of each step, with how many times it has to be taken to be as large as the whole."""
    if size is None:
        yield from ((whole, 1.0) for _ in range(epochs))
        return
    count, order = number_of_terms(whole), torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        yield from (
            (whole.part(terms), count / len(terms)) for terms in torch.randperm(count, generator=order).split(size)
        )


def _accepted(loss: Loss, theta: Tensor, unravel: Callable[[Tensor], Params], presence: Tensor) -> torch.dtype:
    """Return the dtype of θ if the loss can be evaluated in it, else float64."""
    one, dtype = presence.reshape(-1, presence.shape[-1])[0].to(theta), theta.dtype
    try:
        value = loss(unravel(theta), one)
    except RuntimeError:
        value, dtype = loss(unravel(theta.double()), one.double()), torch.float64
    check_value(value)
    return dtype


def _finite(theta: Float[Tensor, "*k p"]) -> Float[Tensor, "*k p"]:
    """Return θ; where some of many trainings diverged, their rows hold NaN, as the caller will see."""
    if not torch.isfinite(theta).all(dim=-1).any():
        raise ValueError("The training diverged: the parameters are NaN or infinite. Lower lr=…, or scale the data.")
    return theta
