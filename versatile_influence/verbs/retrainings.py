"""One training and what is read from it: what travels to the workers of `leave_one_out`."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.memory import ran_out
from versatile_influence.core.ravel import Params, ravel
from versatile_influence.core.target import PresenceTarget, Target, checked_target, flat_target

# Characters kept of why a training failed: some messages hold an array.
REASON = 2000


@dataclass(frozen=True)
class Outcome:
    """What one training gave.

    Attributes:
        values: The target; empty where the training failed.
        reason: Why it failed, or None.
        digest: Checksum of the parameters; empty where the training failed.
        passing: Whether it failed for want of memory, which another try may find.
    """

    values: np.ndarray
    reason: str | None = None
    digest: str = ""
    passing: bool = False


@dataclass(frozen=True)
class Retraining:
    """The user's functions, with how they are called.

    Attributes:
        fit: `fit(presence)`, or `fit(presence, seed=seed)` where there are seeds.
        target: What is read from the parameters.
        n_objects: How many objects there are.
        batched: Whether `fit` takes many presences at once, and gives stacked parameters.
    """

    fit: Callable[..., Params]
    target: Target | PresenceTarget
    n_objects: int
    batched: bool

    def full(self, position: int, seed: int | None) -> tuple[int, Params, Outcome]:
        """Return the parameters and targets with everyone present, for seed number `position`."""
        # Always float64: a `fit` that wants another dtype knows its own.
        presence = torch.ones(self.n_objects, dtype=torch.float64)
        params = self._apart(self._fit(presence[None], seed), 1)[0]
        shapes(params)
        theta, shaped = ravel(params)
        # A copy: `fit` may train one module in place again and again, and return its parameters themselves.
        params = shaped(theta.clone())
        return position, params, self._outcome(params, presence)

    def without(
        self, groups: Sequence[Sequence[int]], seed: int | None, expected: dict[str, tuple[int, ...]]
    ) -> list[Outcome]:
        """Return the outcome of training without each group.

        Raises:
            TypeError: If the parameters are not of the expected shapes.
        """
        presences = torch.ones(len(groups), self.n_objects, dtype=torch.float64)
        for presence, group in zip(presences, groups, strict=True):
            presence[list(group)] = 0.0
        try:
            fitted = self._fit(presences, seed)
        except Exception as error:
            if len(groups) > 1:
                # One bad training must not take those beside it along.
                return [outcome for group in groups for outcome in self.without([group], seed, expected)]
            return [_failure(error)]
        separate = self._apart(fitted, len(groups))
        return [
            self._checked(params, presence, group, expected)
            for params, presence, group in zip(separate, presences, groups, strict=True)
        ]

    def _checked(
        self, params: Params, presence: Tensor, group: Sequence[int], expected: dict[str, tuple[int, ...]]
    ) -> Outcome:
        if (given := shapes(params)) != expected:
            raise TypeError(
                f"`fit` returned parameters {given} without {_named(group)}, but {expected} with everyone present. "
                "Keep the parameters of what is absent: their shapes must not depend on who is present."
            )
        try:
            return self._outcome(params, presence)
        except Exception as error:
            return _failure(error)

    def _fit(self, presences: Float[Tensor, "b n"], seed: int | None):
        given = {} if seed is None else {"seed": seed}
        return self.fit(presences, **given) if self.batched else [self.fit(presence, **given) for presence in presences]

    def _apart(self, fitted: Any, count: int) -> list[Any]:
        """Return the parameters of each training of a batch."""
        if not self.batched:
            return fitted
        if any(shape[:1] != (count,) for shape in shapes(fitted).values()):
            raise TypeError(
                f"With `batch_size`, `fit` is given {count} presences at a time and must return parameters stacked "
                f"along a first dimension of {count}, got {shapes(fitted)}. Leave `batch_size` out to fit singly."
            )
        if isinstance(fitted, dict):
            return [{name: tensor[row] for name, tensor in fitted.items()} for row in range(count)]
        return list(fitted)

    def _outcome(self, params: Params, presence: Tensor) -> Outcome:
        # Checked, and a checksum in place of parameters: thousands of networks fit no memory.
        theta = ravel(params)[0]
        values = self.value(params, presence)
        return Outcome(
            values, digest=hashlib.sha256(theta.cpu().contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
        )

    def value(self, params: Params, presence: Float[Tensor, " n"]) -> np.ndarray:
        """Return the target as float64 numbers, checked."""
        with torch.no_grad():
            values = self.target(params, presence) if isinstance(self.target, PresenceTarget) else self.target(params)
        # A copy, for the same reason.
        return checked_target(flat_target(values)).detach().cpu().double().numpy().copy()


def shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of parameters.

    Raises:
        TypeError: If they are neither a tensor nor a dict of tensors.
    """
    named = params if isinstance(params, dict) else {"params": params}
    if not named or not all(isinstance(tensor, Tensor) for tensor in named.values()):
        kinds = {name: type(value).__name__ for name, value in named.items()}
        raise TypeError(
            "`fit` must return the trained parameters, a tensor or a dict of tensors "
            "(dict(module.named_parameters())), "
            f"got {kinds if isinstance(params, dict) else kinds['params']}."
        )
    return {str(name): tuple(tensor.shape) for name, tensor in named.items()}


def _failure(error: Exception) -> Outcome:
    return Outcome(np.empty(0), f"{type(error).__name__}: {error}"[:REASON], passing=ran_out(error))


def _named(group: Sequence[int]) -> str:
    return f"object {group[0]}" if len(group) == 1 else f"the {len(group)} objects {group[0]}, {group[1]}, …"
