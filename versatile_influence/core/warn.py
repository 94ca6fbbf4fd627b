"""Warnings that point at the user's line."""

import sys
import warnings

# What may stand between the library and the line that called it: decorators, transforms, workers, checkers of types.
BETWEEN = {"versatile_influence", "abc", "beartype", "contextlib", "functools", "jaxtyping", "joblib", "torch"}


class UntrustedWarning(UserWarning):
    """Some scores are off by more than half, by their estimated error, or of a curvature far from the Hessian."""


def warn(message: str, category: type[UserWarning] = UserWarning) -> None:
    """Warn the user, at the first line that is not the library's own.

    Example:
        >>> with warnings.catch_warnings(record=True) as told:
        ...     warnings.simplefilter("always")
        ...     warn("The parameters are not at a minimum.")
        >>> "versatile_influence" in told[0].filename
        False
    """
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in BETWEEN:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)
