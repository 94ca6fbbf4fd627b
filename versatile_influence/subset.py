"""Attribution through some of the parameters only: the others are held at their trained values."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from jaxtyping import Float
from torch import Tensor

from versatile_influence.loss import has_outputs, removal_differences, squared_norm
from versatile_influence.problem import known_objects
from versatile_influence.removals import Removals

Named = dict[str, Tensor]


@dataclass(frozen=True)
class Subset:
    """A loss as a function of some parameters, with the others held; `subset` makes it.

    Attributes:
        whole: The loss of all parameters.
        held: The parameters held, by name.
        names: All names, in the order of the whole.
        n_objects: How many objects there are.
    """

    whole: Any
    held: Named
    names: Sequence[str]
    n_objects: int

    @property
    def object_labels(self) -> Sequence[object] | None:
        """Names of the objects, where the whole loss has them."""
        return getattr(self.whole, "object_labels", None)

    @property
    def penalty(self) -> float:
        """λ."""
        return getattr(self.whole, "penalty", 0.0)

    def joined(self, params: Named) -> Named:
        """Return all parameters: those given and those held, in the dtype of those given."""
        like = next(iter(params.values()))
        return {name: params[name] if name in params else self.held[name].to(like) for name in self.names}

    def __call__(self, params: Named, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the whole loss."""
        return self.whole(self.joined(params), presence)

    def target(self, fn: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """Return a target of all parameters as one of those chosen."""
        return lambda params: fn(self.joined(params))

    def removal_differences(self, params: Named, objects: Any = None) -> Float[Tensor, " k"]:
        """Return the whole loss's removal differences."""
        return removal_differences(self.whole, self.joined(params), Removals.of(objects, self.n_objects))

    @property
    def by_row(self) -> tuple[Callable[[Named, Tensor], Tensor], Tensor] | None:
        """The whole loss's function of each row by itself, where it has one, with the others held."""
        whole = getattr(self.whole, "by_row", None)
        return whole and (lambda params, rows: whole[0](self.joined(params), rows), whole[1])

    @property
    def outputs(self) -> Callable[[Any], Tensor] | None:
        """The outputs as a function of the chosen parameters, where the whole loss has outputs."""
        return (lambda params: self.whole.outputs(self.joined(params))) if has_outputs(self.whole) else None

    def outer(self, outputs: Tensor, presence: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        """Return the outer loss, with the constant that the held parameters' penalty adds."""
        return self.whole.outer(outputs, presence) + self.penalty / 2 * squared_norm(self.held)


def subset(loss: Any, params: Named, patterns: Sequence[str], *, n_objects: int | None = None) -> tuple[Subset, Named]:
    """Return the loss as a function of the parameters that match, and those parameters; the others are held.

    Targets of all parameters are wrapped, `subset_loss.target(fn)`. What the held parameters would have changed in a
    retraining is not in the scores.

    Args:
        loss: A loss of a dict of parameters.
        params: All trained parameters.
        patterns: Names, or shell patterns of them such as `head.*`.
        n_objects: How many objects there are, where the loss does not say.

    Raises:
        ValueError: If a pattern matches no name.

    Example:
        >>> import torch
        >>> both = {"a": torch.zeros(2).double(), "b.c": torch.ones(1).double()}
        >>> loss = lambda p, presence: presence.sum() * (p["a"].sum() + p["b.c"].sum())
        >>> part, chosen = subset(loss, both, ["b.*"], n_objects=3)
        >>> list(chosen), part(chosen, torch.ones(3).double()).item()
        (['b.c'], 3.0)
    """
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in params):
            raise ValueError(f"`{pattern}` matches none of the parameters: {', '.join(params)}.")
    chosen = {name: value for name, value in params.items() if any(fnmatchcase(name, p) for p in patterns)}
    held = {name: value for name, value in params.items() if name not in chosen}
    return Subset(loss, held, tuple(params), known_objects(loss, n_objects)), chosen
