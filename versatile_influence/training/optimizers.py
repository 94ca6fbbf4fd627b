"""The optimisers of torch as pure functions, so that many trainings step together.

Each step is elementwise: θ may be one vector, or one row a training. Updates are those of `torch.optim`, in the same
order of operations, with their default settings unless said otherwise.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from versatile_influence.core.settings import Settings, setting

State = tuple[Tensor, ...]


@runtime_checkable
class Optimizer(Protocol):
    """A frozen value that steps θ along a gradient."""

    def start(self, theta: Tensor, /) -> State:
        """Return the state before the first step."""
        ...

    def step(
        self, theta: Tensor, gradient: Tensor, state: State, /, *, number: int, lr: float, weight_decay: float
    ) -> tuple[Tensor, State]:
        """Return θ and state after step `number`, counted from 1."""
        ...


@dataclass(frozen=True)
class SGD(Settings):
    """Gradient descent with momentum, as `torch.optim.SGD`.

    Attributes:
        momentum: Share of the last direction that is kept.
        nesterov: Whether to look ahead along it.

    Example:
        >>> theta, _ = SGD().step(torch.tensor([1.0]), torch.tensor([2.0]), (), number=1, lr=0.25, weight_decay=0.0)
        >>> theta
        tensor([0.5000])
    """

    momentum: float = setting(0.0, least=0, below=1)
    nesterov: bool = setting(False)

    def start(self, theta: Tensor) -> State:
        """Return no velocity."""
        return (torch.zeros_like(theta),) if self.momentum else ()

    def step(
        self, theta: Tensor, gradient: Tensor, state: State, *, number: int, lr: float, weight_decay: float
    ) -> tuple[Tensor, State]:
        """Return θ − lr · direction."""
        direction = gradient + weight_decay * theta if weight_decay else gradient
        if self.momentum:
            velocity = direction if number == 1 else self.momentum * state[0] + direction
            direction = direction + self.momentum * velocity if self.nesterov else velocity
            state = (velocity,)
        return theta - lr * direction, state


@dataclass(frozen=True)
class Adam(Settings):
    """Adam (Kingma & Ba 2015), as `torch.optim.Adam`; with `decoupled`, AdamW (Loshchilov & Hutter 2019).

    Attributes:
        betas: Decay of the running means of gradient and squared gradient.
        eps: Added to the denominator.
        decoupled: Shrink θ itself by lr · weight_decay, where Adam adds weight_decay · θ to the gradient.

    Example:
        >>> adam = Adam()
        >>> theta = torch.tensor([1.0])
        >>> adam.step(theta, torch.tensor([2.0]), adam.start(theta), number=1, lr=0.25, weight_decay=0.0)[0]
        tensor([0.7500])
    """

    betas: tuple[float, float] = setting((0.9, 0.999), least=0, below=1)
    eps: float = setting(1e-8, least=0)
    decoupled: bool = setting(False)

    def start(self, theta: Tensor) -> State:
        """Return running means of zero."""
        return torch.zeros_like(theta), torch.zeros_like(theta)

    def step(
        self, theta: Tensor, gradient: Tensor, state: State, *, number: int, lr: float, weight_decay: float
    ) -> tuple[Tensor, State]:
        """Return θ after one step, with the new running means."""
        if weight_decay and self.decoupled:
            theta = theta * (1 - lr * weight_decay)
        elif weight_decay:
            gradient = gradient + weight_decay * theta
        (first, second), (beta1, beta2) = state, self.betas
        first = torch.lerp(first, gradient, 1 - beta1)
        second = beta2 * second + (1 - beta2) * gradient.square()
        size = second.sqrt() / (1 - beta2**number) ** 0.5 + self.eps
        return theta - lr / (1 - beta1**number) * first / size, (first, second)


def AdamW(*, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8) -> Adam:
    """Return `Adam` with decoupled weight decay; how much is for `train` to say, 0 by default (0.01 in torch).

    Example:
        >>> AdamW().decoupled
        True
    """
    return Adam(betas=betas, eps=eps, decoupled=True)
