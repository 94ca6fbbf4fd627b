"""Training as a value: a recorded stream of batches, and how an optimiser steps over it."""

import json
import math
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from os import PathLike

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap
from tqdm.auto import tqdm

from versatile_influence.core.arguments import folder
from versatile_influence.core.boundary import as_loss, as_presence
from versatile_influence.core.checks import number, whole
from versatile_influence.core.derivatives import by_formula
from versatile_influence.core.given import unfrozen
from versatile_influence.core.places import follow, verb
from versatile_influence.core.ravel import Params, everything
from versatile_influence.core.sizes import CACHE_NUMBERS, CHUNK_NUMBERS, PATIENCE, at_once
from versatile_influence.training.optimizers import Optimizer, State
from versatile_influence.training.states import States, digest, opened
from versatile_influence.training.stepping import Steps, finite
from versatile_influence.training.steps import Terms


@dataclass(frozen=True, repr=False, eq=False)
class Training(Steps):
    """What made the parameters, completely: a loss of each step, over a recorded stream, an optimiser and a start.

    `run()` is bit-equal to a loop that calls `torch.optim` on the same stream, `run(presence)` the same training
    without some. Attention is computed by the formula (`torch.nn.attention.SDPBackend.MATH`), here and in all that
    looks back at the training: fused kernels have no second derivative, and round otherwise.

    Attributes:
        step_loss: `step_loss(params, batch, presence) -> scalar`, with the presence of the batch's objects in their
            order, in the dtype of the parameters. Multiply by it; let no divisor count who is present. What is drawn in
            it must be in the batch, numbers or a seed.
        steps: (batch, objects) of each step: any nested structure of tensors, and the numbers of the objects in it.
        start: Where it starts, a tensor or a dict of tensors; what is frozen stays.
        optimizer: `vif.SGD(…)`, `vif.Adam(…)` or `vif.AdamW(…)`, with the arguments of `torch.optim`.
        n_objects: How many objects there are.
        schedule: The learning rate is lr · schedule(step), steps counted from 0: `torch.optim.lr_scheduler.LambdaLR`.
        max_norm: Gradients are clipped to this norm: `torch.nn.utils.clip_grad_norm_`.
        accumulation: Batches whose gradients are added up before the optimiser steps.
        averaging: Decay of a running mean of the parameters, which is then what training gives:
            `torch.optim.swa_utils.AveragedModel` with `get_ema_multi_avg_fn(decay)`.
        groups: Parameters with a learning rate or weight decay of their own, as `torch.optim` takes groups, by their
            names in `start`: [{"params": ["bias"], "weight_decay": 0.0}]. The schedule is a factor for all of them.

    Raises:
        TypeError: If an argument is of another kind.
        ValueError: If an object is not one of n, or steps make no whole number of accumulations.

    Example:
        >>> import torch, versatile_influence as vif
        >>> x = torch.tensor([1.0, 2.0, 6.0, 7.0])
        >>> steps = [(x[some], some) for some in torch.tensor([[0, 3], [2, 1], [3, 1], [0, 2]])]
        >>> step_loss = lambda theta, batch, presence: (presence * (batch - theta) ** 2).sum() / 2
        >>> optimizer = vif.SGD(lr=0.2, momentum=0.5)
        >>> training = vif.Training(step_loss, steps, start=torch.tensor(0.0), optimizer=optimizer, n_objects=4)
        >>> training.run()
        tensor(4.8856)
        >>> training.run(presence=torch.tensor([1.0, 1.0, 1.0, 0.0]))
        tensor(3.4226)
    """

    @classmethod
    def of(
        cls,
        loss: object,
        start: Params,
        *,
        epochs: int,
        optimizer: Optimizer,
        batch_size: int | None = None,
        seed: int = 0,
        scale: float = 1.0,
        n_objects: int | None = None,
    ) -> "Training":
        """Return the training that `vif.train` runs, with its arguments.

        Example:
            >>> import versatile_influence as vif
            >>> loss = vif.losses.PairwiseLoss([0, 1, 1], [1, 2, 2], penalty=1.0)
            >>> Training.of(loss, loss.zeros(), epochs=10, optimizer=vif.Adam(lr=0.1), batch_size=2)
            Training(20 steps of Adam(lr=0.1, ...), 3 objects)
        """
        epochs, seed = whole(epochs, "epochs", least=1), whole(seed, "seed")
        size = None if batch_size is None else whole(batch_size, "batch_size", least=1)
        checked, trained = unfrozen(as_loss(loss, n_objects), start)
        checked = follow(checked, trained)
        terms = Terms(checked, trained, number(scale, "scale", above=0))
        steps = terms.drawn(epochs, size, seed)
        return cls(terms, steps, start=start, optimizer=optimizer, n_objects=checked.n_objects)

    def __repr__(self) -> str:
        return f"Training({len(self)} steps of {self.optimizer}, {self.n_objects} objects)"

    @verb
    def run(self, presence: object = None, *, store: str | PathLike | None = None) -> Params:
        """Return the trained parameters, with those of presence 1.0: None for all, (n,), or (k, n) for k trainings.

        Several are trained together, and the parameters come stacked along a first dimension: each is what training
        alone gives, to rounding.

        Args:
            presence: Who is present.
            store: A folder for some states of one training, some three times √T: the same call with the same folder
                goes on where a killed one stopped, and `vif.unrolled` goes backwards from there.

        Raises:
            ValueError: If every training diverged, or the folder is of another, or being filled by another run.
            OSError: If the folder cannot be written.
        """
        given = as_presence(presence, self.n_objects, rows=store is None)
        with by_formula():
            given = given.to(self.theta.device, self.precision)
            if store is not None:
                with self.kept(store, given) as (_, end):
                    return self.whole(finite(end[self.given]))
            if given.dim() == 1:
                return self.whole(finite(self._trained(self.theta, given)))
            most = CACHE_NUMBERS if len(self.steps) and self.steps[0][0] is None else CHUNK_NUMBERS
            size = at_once(max(given.shape[1], len(self.theta)), most=most)
            rows = [self._trained(self.theta.expand(len(part), -1), part) for part in given.split(size)]
            return everything(self.start, vmap(self.unravel)(finite(torch.cat(rows))), frozen=True)

    def whole(self, theta: Float[Tensor, " p"]) -> Params:
        """Return all parameters, those that are frozen too."""
        return everything(self.start, self.unravel(theta), frozen=True)

    def _trained(self, theta: Float[Tensor, "*k p"], presence: Float[Tensor, "*k n"]) -> Float[Tensor, "*k p"]:
        last = deque(self.walk(self.begun(theta), presence), maxlen=1)[0]
        return self.stepped(*last)[self.given]

    @contextmanager
    def kept(
        self, store: str | PathLike, presence: Float[Tensor, " n"] | None = None
    ) -> Iterator[tuple[States, State]]:
        """Yield the states of a folder, what was missing made, and the state after the last step.

        Raises:
            ValueError: If the folder is of another training.
        """
        with opened(folder(store, "store"), self._about(presence)) as states:
            yield states, self._end(states, presence)

    def _end(self, states: States, presence: Float[Tensor, " n"] | None) -> State:
        """Return the state after the last step, from what a folder holds, and write what it does not."""
        mark, end = states.newest(len(self)), states.read(len(self))
        first, state = (0, self.begun(self.theta)) if mark is None else mark[:2]
        if mark is not None and not torch.equal(self.gradient(first, state[0], presence), mark[2]):
            states.refuse(f"The gradient of step {first} is another: the loss is, or is random")
        if end is not None:
            return end[0]
        spacing, last = max(1, math.isqrt(len(self)) // 3), mark
        for last in tqdm(
            self.walk(state, presence, first=first),
            total=len(self),
            initial=first,
            desc="training",
            unit="step",
            delay=PATIENCE,
            leave=False,
        ):
            if last[0] % spacing == 0 and (mark is None or last[0] > first):
                states.write(*last)
        assert last is not None
        state = self.stepped(*last)
        states.write(len(self), state, None)
        return state

    def _about(self, presence: Float[Tensor, " n"] | None) -> dict[str, object]:
        """Return what says which training this is."""
        settings = {name: repr(vars(self)[name]) for name in ("n_objects", "max_norm", "accumulation", "averaging")}
        rates = [1.0 if self.schedule is None else self.schedule(step) for step in range(len(self))]
        present = torch.ones(self.n_objects) if presence is None else presence
        told = {"start": self.theta, "steps": self.steps, "schedule": rates, "presence": present.double()}
        return {
            **settings,
            **{name: digest(value) for name, value in told.items()},
            # As JSON gives it back: tuples are lists.
            "optimizers": json.loads(json.dumps([[some.start, asdict(one)] for some, one in self.stretches])),
        }
