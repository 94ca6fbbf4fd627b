"""The optimisers of torch as pure functions, so that many trainings step together, and steps have derivatives.

Each step is elementwise: θ may be one vector, or one row a training. Updates are those of `torch.optim`, bit by bit:
the same operations in the same order, with the same names and defaults of what is set.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from versatile_influence.core.checks import listed, told
from versatile_influence.core.settings import Settings, setting

State = tuple[Tensor, ...]


@dataclass(frozen=True, kw_only=True)
class Optimizer(Settings, ABC):
    """A frozen value that steps θ along a gradient.

    Attributes:
        lr: The learning rate.
        weight_decay: As the optimiser understands it.
    """

    lr: float
    weight_decay: float

    @abstractmethod
    def start(self, theta: Tensor) -> State:
        """Return the state before the first step."""

    @property
    def kinked(self) -> bool:
        """Whether a step turns where a gradient changes its sign, so that its derivative there says little."""
        return False

    @abstractmethod
    def step(
        self, theta: Tensor, gradient: Tensor, state: State, *, number: int, lr: float, width: float = 0.0
    ) -> tuple[Tensor, State]:
        """Return θ and state after step `number`, counted from 1, at the learning rate of that step.

        `width` is 0 but for derivatives: the size of gradients over which a kink is smoothed.
        """


@dataclass(frozen=True, kw_only=True)
class SGD(Optimizer):
    """Gradient descent with momentum, as `torch.optim.SGD`.

    Attributes:
        momentum: Share of the last direction that is kept.
        dampening: Share of the gradient that is left out of the direction.
        weight_decay: Times θ, is added to the gradient.
        nesterov: Whether to look ahead along the direction.

    Example:
        >>> theta, _ = SGD().step(torch.tensor([1.0]), torch.tensor([2.0]), (), number=1, lr=0.25)
        >>> theta
        tensor([0.5000])
    """

    lr: float = setting(1e-3, above=0)
    momentum: float = setting(0.0, least=0, below=1)
    dampening: float = setting(0.0, least=0)
    weight_decay: float = setting(0.0, least=0)
    nesterov: bool = setting(False)

    def __post_init__(self):
        super().__post_init__()
        if self.nesterov and (not self.momentum or self.dampening):
            raise ValueError("`nesterov` looks ahead along a momentum: it needs momentum=… above 0, and no dampening.")

    def start(self, theta: Tensor) -> State:
        """Return no velocity."""
        return (torch.zeros_like(theta),) if self.momentum else ()

    def step(
        self,
        theta: Tensor,
        gradient: Tensor,
        state: State,
        *,
        number: int,
        lr: float,
        width: float = 0.0,  # noqa: ARG002
    ) -> tuple[Tensor, State]:
        """Return θ − lr · direction."""
        direction = torch.add(gradient, theta, alpha=self.weight_decay) if self.weight_decay else gradient
        if self.momentum:
            share = 1 - self.dampening
            velocity = direction if number == 1 else torch.add(self.momentum * state[0], direction, alpha=share)
            direction = torch.add(direction, velocity, alpha=self.momentum) if self.nesterov else velocity
            state = (velocity,)
        return torch.add(theta, direction, alpha=-lr), state


@dataclass(frozen=True, kw_only=True)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015), as `torch.optim.Adam`; with decoupled decay, AdamW (Loshchilov & Hutter 2019).

    Where a squared gradient has been zero in every step (a dead unit, a row not seen yet), the step has no derivative
    of use, 1/eps or infinity, and is differentiated as constant.

    Attributes:
        betas: Decay of the running means of gradient and squared gradient.
        eps: Added to the denominator.
        weight_decay: Times θ, is added to the gradient.
        decoupled_weight_decay: Shrink θ itself by lr · weight_decay instead.

    Example:
        >>> adam = Adam()
        >>> theta = torch.tensor([1.0])
        >>> adam.step(theta, torch.tensor([2.0]), adam.start(theta), number=1, lr=0.25)[0]
        tensor([0.7500])
    """

    lr: float = setting(1e-3, above=0)
    betas: tuple[float, float] = setting((0.9, 0.999), least=0, below=1)
    eps: float = setting(1e-8, least=0)
    weight_decay: float = setting(0.0, least=0)
    decoupled_weight_decay: bool = setting(False)

    def start(self, theta: Tensor) -> State:
        """Return running means of zero."""
        return torch.zeros_like(theta), torch.zeros_like(theta)

    @property
    def kinked(self) -> bool:
        """Yes: its first step is the gradient's sign."""
        return True

    def step(
        self, theta: Tensor, gradient: Tensor, state: State, *, number: int, lr: float, width: float = 0.0
    ) -> tuple[Tensor, State]:
        """Return θ after one step, with the new running means; `width` is added to `eps`."""
        if self.weight_decay and self.decoupled_weight_decay:
            theta = theta * (1 - lr * self.weight_decay)
        elif self.weight_decay:
            gradient = torch.add(gradient, theta, alpha=self.weight_decay)
        (first, second), (beta1, beta2) = state, self.betas
        first = torch.lerp(first, gradient, 1 - beta1)
        second = torch.addcmul(beta2 * second, gradient, gradient, value=1 - beta2)
        dead = second == 0
        # The root's derivative at 0 is infinite: it must not be taken, not even to be multiplied by 0.
        root = torch.where(dead, 0.0, torch.where(dead, 1.0, second).sqrt())
        along = torch.where(dead, first.detach(), first)
        size = root / (1 - beta2**number) ** 0.5 + (self.eps + width)
        return torch.addcdiv(theta, along, size, value=-(lr / (1 - beta1**number))), (first, second)


def AdamW(
    *, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 1e-2
) -> Adam:
    """Return `Adam` with decoupled weight decay, as `torch.optim.AdamW`.

    Example:
        >>> AdamW().weight_decay
        0.01
    """
    return Adam(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, decoupled_weight_decay=True)


def clipped(gradient: Tensor, sizes: list[int], most: float) -> Tensor:
    """Return the gradient of parameters of these sizes, of norm at most `most`: `torch.nn.utils.clip_grad_norm_`."""
    norms = [torch.linalg.vector_norm(part, dim=-1) for part in gradient.split(sizes, dim=-1)]
    norm = torch.linalg.vector_norm(torch.stack(norms, dim=-1), dim=-1, keepdim=True)
    return gradient * (most / (norm + 1e-6)).clamp(max=1.0)


def by_group(
    optimizer: Optimizer, groups: object, trained: dict[str, int], frozen: Collection[str] = ()
) -> list[tuple[slice, Optimizer]]:
    """Return what steps each stretch of the flat parameters, of these sizes, where some have settings of their own.

    Raises:
        TypeError: If `groups` is no sequence of dicts as `torch.optim` takes them, of names.
        ValueError: If a name is no parameter's, or in two groups, or a setting is none of the optimiser's.
    """
    owner = dict.fromkeys(trained, optimizer)
    seen: set[str] = set()
    for place, group in enumerate(listed(groups, "groups", "dicts of names and settings")):
        if not isinstance(group, dict) or not isinstance(group.get("params"), list | tuple | set):
            raise TypeError(
                f"`groups[{place}]` must be a dict as torch.optim takes it, with names of parameters and the settings "
                f'that differ, as {{"params": ["bias"], "weight_decay": 0.0}}; got {told(group)}.'
            )
        settings = {name: value for name, value in group.items() if name != "params"}
        if unknown := settings.keys() - {"lr", "weight_decay"}:
            raise ValueError(
                f"`groups[{place}]`: {sorted(unknown)[0]} is the same for all; lr, weight_decay may differ."
            )
        names = set(group["params"])
        if wrong := [name for name in names if name in seen or (name not in trained and name not in frozen)]:
            raise ValueError(f"`groups[{place}]`: {wrong[0]!r} is in two groups, or no parameter of `start`.")
        seen |= names
        owner |= dict.fromkeys(names & trained.keys(), replace(optimizer, **settings))
    found, end = [], 0
    for name, size in trained.items():
        # Neighbours that step alike do so together.
        first = found.pop()[0].start if found and found[-1][1] == owner[name] else end
        end += size
        found.append((slice(first, end), owner[name]))
    return found
