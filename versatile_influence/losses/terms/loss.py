"""Sums of terms, each of which dies with any of its objects: M-estimators, pairs, triplets.

The engine of every loss that is a sum over rows, pairs or triplets, whatever the objects are: rows, users, items,
clinics, annotators.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import instance, told, whole
from versatile_influence.core.composed import Composed
from versatile_influence.core.models import Linear
from versatile_influence.core.outputs import Function, Outputs, Parameters
from versatile_influence.core.ravel import Params
from versatile_influence.core.tables import kept, tell_idle
from versatile_influence.core.target import Target
from versatile_influence.losses.terms.families import check_elementwise
from versatile_influence.losses.terms.outer import Terms, incidence_table, members_of


class TermLoss(Composed):
    """A sum of terms with the objects that each needs, plus (λ/2)‖θ‖².

        L(θ, b) = Σ_t ℓ_t(θ) Π_{i ∈ objects of t} b_i + (λ/2)‖θ‖²

    Args:
        terms: From parameters to the terms ℓ(θ), (T,); from outputs, where there are any.
        incidence: Objects of each term: one number a term (T,), or a table (T, m) with −1 past the end of a row.
        n_objects: How many objects there are, or None for the largest number named, plus one.
        penalty: λ.
        start: Parameters to start from: what `zeros()` returns.
        labels: Names of the objects.
        outputs: From parameters to what the terms are made of, such as a network's outputs; None: the parameters.
            `Linear(x)` for a regression of rows, whose derivatives are then matrix products.

    Raises:
        ValueError: If an object number is out of range, a term has no object, or `Linear` outputs are in several terms.

    Warns:
        UserWarning: If an object is in no term; its score is 0.

    References:
        Lemma 3.1 and Theorem 3.1 of the paper: with one object a term this is the classical influence function.

    Example:
        >>> import torch
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> loss = TermLoss(lambda theta: (x - theta) ** 2 / 2, [0, 0, 1], start=torch.tensor(0.0).double())
        >>> loss.removal_differences(torch.tensor(3.0)).tolist()
        [2.5, 4.5]
    """

    outer: Terms

    def __init__(
        self,
        terms: Callable[[Any], Tensor],
        incidence: object,
        *,
        n_objects: int | None = None,
        penalty: float = 0.0,
        start: Params | None = None,
        labels: Sequence[object] | None = None,
        outputs: Outputs | Callable[[Any], Any] | None = None,
    ):
        if not callable(terms):
            raise TypeError(f"`terms` must be a function that returns one number a term, got {told(terms)}.")
        table = incidence_table(incidence)
        number = int(table.max()) + 1 if n_objects is None else whole(n_objects, "n_objects", least=1)
        if int(table.max()) >= number:
            term = int((table >= number).any(1).nonzero()[0])
            raise ValueError(f"Term {term} names object {int(table[term].max())}; objects run from 0 to {number - 1}.")
        if isinstance(start, dict):
            start = {name: kept(part, name) for name, part in start.items()}
        elif start is not None:
            start = kept(start, "start")
        # An object named twice by a term (a pair of one item with itself) is there once.
        members = members_of(table, number)
        through = (
            outputs if isinstance(outputs, Outputs) else Function(outputs, start) if outputs else Parameters(start)
        )
        if isinstance(through, Linear):
            check_elementwise(terms, through)
        outer = Terms(terms, members, number, elementwise=isinstance(through, Linear))
        super().__init__(through, outer, penalty=penalty, labels=labels)
        tell_idle(number - len(members[members < number].unique()), number, "in no term")


@dataclass(frozen=True)
class TermValues(Target):
    """The target of each test row's own loss, without the penalty.

    Attributes:
        test: A `TermLoss` made from the test rows, over the same parameters.

    Example:
        >>> import torch, versatile_influence as vif
        >>> y = torch.tensor([1.0, 2.0]).double()
        >>> test = vif.losses.TermLoss(lambda theta: (y - theta) ** 2, [0, 1])
        >>> vif.losses.term_values(test)(torch.tensor(0.0)).tolist()
        [1.0, 4.0]
    """

    test: TermLoss

    def __post_init__(self):
        instance(self.test, "test", TermLoss, "vif.losses.TermLoss(…)")

    def __call__(self, params: Params) -> Float[Tensor, " T"]:
        return self.test.outer.each(self.test.outputs(params))

    def gradients(self, params: Params) -> Float[Tensor, "T d"]:
        outer, outputs = self.test.outer, self.test.outputs
        if not outer.elementwise:
            return super().gradients(params)
        return outer.slopes(outputs(params))[:, None] * outputs.jacobian(params).dense()


term_values = TermValues
