"""Ready conclusions for `vif.sensitivity`: a number that is positive while the conclusion holds."""

from statistics import NormalDist

from torch import Tensor

from versatile_influence.core.boundary import as_target
from versatile_influence.core.checks import number
from versatile_influence.core.ravel import Params, ravel
from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target, flat_target, target_values

Conclusion = Target | PresenceTarget

__all__ = ["above", "below", "insignificant", "sign", "significant"]


def above(target: object, value: float) -> Conclusion:
    """Return the conclusion that a target of one number is above a value.

    Example:
        >>> import torch
        >>> above(lambda theta: theta.exp(), 1.0)(torch.tensor(0.0)).item()
        0.0
    """
    return _of(target, number(value, "value"), 1.0)


def below(target: object, value: float) -> Conclusion:
    """Return the conclusion that a target of one number is below a value."""
    return _of(target, number(value, "value"), -1.0)


def sign(target: object, params: Params) -> Conclusion:
    """Return the conclusion that a target of one number has the sign that it has at `params`, as a coefficient.

    Raises:
        TypeError: If it depends on who is present: use `above` or `below`.
        ValueError: If it is 0 there.
    """
    asked = as_target(target)
    if isinstance(asked, PresenceTarget):
        raise TypeError(
            "`target` depends on who is present. Say which sign it has: above(target, 0), below(target, 0)."
        )
    ravel(params)
    now = target_values(asked, params)
    if len(now) != 1 or now == 0:
        raise ValueError(f"`target` must be one number with a sign, got {now.tolist()}.")
    return above(asked, 0.0) if now > 0 else below(asked, 0.0)


def significant(z: object, *, level: float = 0.05) -> Conclusion:
    """Return the conclusion that a z value, as `loss.z_values(["drug"])`, is significant in a two-sided test.

    Raises:
        ValueError: If the level is not between 0 and 1.
    """
    return above(_size(z), _critical(level))


def insignificant(z: object, *, level: float = 0.05) -> Conclusion:
    """Return the conclusion that a z value is not significant in a two-sided test."""
    return below(_size(z), _critical(level))


def _critical(level: float) -> float:
    return NormalDist().inv_cdf(1 - number(level, "level", above=0, below=1) / 2)


def _size(z: object) -> Conclusion:
    asked = as_target(z)
    if isinstance(asked, PresenceTarget):
        return PresenceTarget(lambda params, presence: flat_target(asked(params, presence)).abs(), asked.labels)
    return LabelledTarget(lambda params: flat_target(asked(params)).abs(), asked.labels)


def _of(target: object, value: float, side: float) -> Conclusion:
    asked = as_target(target)

    def margin(values: Tensor) -> Tensor:
        return side * (values - value)

    if isinstance(asked, PresenceTarget):
        return PresenceTarget(lambda params, presence: margin(asked(params, presence)), asked.labels)
    return LabelledTarget(lambda params: margin(asked(params)), asked.labels)
