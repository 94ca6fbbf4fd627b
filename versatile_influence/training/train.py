"""Training for a number of epochs, one model or many at once."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.boundary import with_presence
from versatile_influence.core.checks import instance
from versatile_influence.core.places import verb
from versatile_influence.core.ravel import Params
from versatile_influence.training.optimizers import Adam, Optimizer
from versatile_influence.training.training import Training


@verb
def train(
    loss: object,
    init: Params,
    presence: Float[Tensor, "... n"] | None = None,
    *,
    epochs: int,
    lr: float | None = None,
    optimizer: Optimizer = Adam(),  # noqa: B008  (a frozen value)
    batch_size: int | None = None,
    weight_decay: float | None = None,
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
        lr: The learning rate; None for the optimiser's.
        optimizer: `Adam()`, `AdamW()` or `SGD()`, with settings of their own.
        batch_size: Terms of the loss in a step; None for all of them.
        weight_decay: As the optimiser understands it; None for its own.
        seed: Of the order in which terms are seen; without `batch_size` nothing is random.
        scale: The loss minimised is scale · L, of which a mini-batch estimates the whole. 1 / n_terms gives the mean
            over a mini-batch, which is what a torch training loop usually steps on.
        n_objects: How many objects there are, where neither loss nor presence says.

    Raises:
        TypeError: If mini-batches are asked for and the loss cannot be evaluated on some of its terms.
        ValueError: If a setting makes no sense, or every training diverged.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = lambda theta, presence: (presence * (x - theta) ** 2).sum() / 2
        >>> masks = 1 - torch.eye(3, dtype=torch.float64)
        >>> train(loss, torch.zeros(1, dtype=torch.float64), masks, optimizer=vif.SGD(), epochs=100, lr=0.3).squeeze()
        tensor([4.0000, 3.5000, 1.5000], dtype=torch.float64)
    """
    instance(optimizer, "optimizer", Optimizer, "vif.Adam()")
    own = {"lr": lr, "weight_decay": weight_decay}
    stepped = replace(optimizer, **{name: value for name, value in own.items() if value is not None})
    known, given = with_presence(loss, presence, n_objects, rows=True)
    settings = {"epochs": epochs, "batch_size": batch_size, "seed": seed, "scale": scale}
    return Training.of(known, init, optimizer=stepped, **settings).run(given)
