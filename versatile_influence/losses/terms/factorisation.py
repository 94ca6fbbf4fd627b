"""Matrix factorisation of interactions: recommenders whose objects are interactions, users or items."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.checks import listed, numbers, one_of, whole
from versatile_influence.core.composed import Composed
from versatile_influence.core.loss import Loss
from versatile_influence.core.models import Mapped
from versatile_influence.core.outputs import Outputs
from versatile_influence.core.ravel import Params, flat, shaper
from versatile_influence.core.sizes import DENSE_PARAMETERS
from versatile_influence.core.tables import codes, whole_numbers
from versatile_influence.core.target import LabelledTarget
from versatile_influence.losses.softmax.owners import Owners
from versatile_influence.losses.softmax.shared_rows import SharedRows
from versatile_influence.losses.terms.factors import Factors, factor_scores
from versatile_influence.losses.terms.families import Logistic, SquaredError
from versatile_influence.losses.terms.negatives import known, negative_items
from versatile_influence.losses.terms.outer import Terms, members_of

KINDS = ["bpr", "squared", "logistic", "softmax"]


class MatrixFactorisationLoss(Composed):
    """Factors of users and items learnt from interactions, plus (λ/2)‖θ‖².

    With s_ui = p_u · q_i + b_i, and items j that user u never had to do with beside each interaction (u, i):

        bpr        Σ log(1 + e^{−(s_ui − s_uj)})                    each item above those
        squared    Σ (s_ui + a_u − r_ui)² / 2                       ratings r; take their mean away before
        logistic   Σ log(1 + e^{−s_ui − a_u}) + Σ log(1 + e^{s_uj + a_u})
        softmax    Σ −log e^{s_ui} / (e^{s_ui} + Σ_j e^{s_uj})      sampled; all items but those had to do with, if many

    Those j are drawn once, uniformly, or are given; drawing anew without an object is another loss. They go with the
    interaction that they stand beside, and where objects are items, with themselves. Users and items own their rows of
    the parameters, which fall to 0 with them.

    The loss bends by more than its outputs do: take the Hessian (`vif.attribute`'s default), not `vif.GaussNewton`,
    which leaves out how p_u and q_i pull at each other, Σ ∂ℓ/∂s ∇²s: on BPR its scores correlate 0.65 with refits
    where those of the Hessian do 0.93 (`benchmarks/recommender.py`). Go to a minimum first, `vif.minimize`: elsewhere
    the Hessian is indefinite. `tolerance=0.1` corrects the removals that move far.

    Args:
        users: (R,) user of each interaction, from 0.
        items: (R,) its item.
        kind: "bpr", "squared", "logistic" or "softmax".
        ratings: (R,) r, of "squared" alone.
        negatives: How many j beside each interaction, or which: (R, k); None for one; not of "squared".
        dim: d.
        objects: What is removed: "interactions", "users", "items", or what each interaction is part of, (R,) names:
            those of one session, say, go together.
        n_users: How many users there are; None for the largest number and one.
        n_items: How many items there are, likewise.
        penalty: λ. Without any, factors grow without end.
        seed: Of what is drawn: j, and where training starts.
        labels: Names of the objects; of what interactions are part of, those that they are given by.

    Raises:
        ValueError: If ratings or negatives do not go with the kind, or a user has had to do with all items.

    References:
        Rendle et al. (2009), "BPR: Bayesian personalized ranking from implicit feedback"; Koren, Bell & Volinsky
        (2009), "Matrix factorization techniques for recommender systems".

    Example:
        >>> loss = MatrixFactorisationLoss([0, 0, 1], [0, 1, 2], dim=2, objects="users")
        >>> start = {name: 0 * value for name, value in loss.zeros().items()}
        >>> loss(start, torch.ones(2).double()).item()  # 3 log 2
        2.079...
    """

    outputs: Outputs

    def __init__(
        self,
        users: object,
        items: object,
        *,
        kind: Literal["bpr", "squared", "logistic", "softmax"] = "bpr",
        ratings: object = None,
        negatives: object = None,
        dim: int = 8,
        objects: Literal["interactions", "users", "items"] | Sequence[Hashable] = "interactions",
        n_users: int | None = None,
        n_items: int | None = None,
        penalty: float = 1.0,
        seed: int = 0,
        labels: Sequence[object] | None = None,
    ):
        who = whole_numbers(users, "users", shape=[None])
        what = whole_numbers(items, "items", shape=[len(who)])
        if not len(who):
            raise ValueError("There is no interaction: `users` is empty.")
        one_of(kind, "kind", KINDS)
        count = [known(n_users, who, "n_users", "users"), known(n_items, what, "n_items", "items")]
        seed, rated = whole(seed, "seed"), kind == "squared"
        if rated != (ratings is not None):
            raise ValueError(f'`ratings` go with kind="squared", got {kind!r} {"without" if rated else "with"} them.')
        if rated and negatives is not None:
            raise ValueError('`negatives` do not go with kind="squared": ratings are learnt alone. Leave them out.')
        table = what[:, None]
        if not rated:
            beside = negative_items(1 if negatives is None else negatives, who, what, n_items=count[1], seed=seed)
            table = torch.cat([table, beside], dim=1)
        owner, number, found = owners_of(objects, who, count)
        labels = found if labels is None else labels
        owners: Any = objects if isinstance(objects, str) and objects != "interactions" else None
        biased = kind in ("squared", "logistic")
        given = {"dim": whole(dim, "dim", least=1), "user_bias": biased, "owners": owners, "seed": seed}
        self.factors = Factors(who, table, n_users=count[0], n_items=count[1], **given)
        self.leading, self.dim = kind == "bpr", self.factors.dim
        if kind == "softmax":
            outputs, outer = self.factors, softmax_rows(table, owner, number)
        else:
            answers = numbers(ratings, "ratings", shape=[len(who)]) if rated else None
            outputs, outer = terms_of(kind, self.factors, answers, owner, number)
        super().__init__(outputs, outer, penalty=penalty, labels=labels)

    def gradient(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, " p"]:
        return self.gradient_and_value(params, presence)[0]

    def gradient_and_value(
        self, params: Params, presence: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, " p"], Float[Tensor, ""]]:
        """Return ∇L and L, written out: a quarter of the cost of differentiating."""
        assert isinstance(params, dict)
        slopes, value = self.outer.gradient_and_value(self.outputs(params), presence)
        found = self.factors.back(params, self._to_scores(slopes))
        return found + self.ridge * flat(params), self._held(value, params)

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k p"]:
        assert isinstance(params, dict)
        each = [{name: value[row] for name, value in params.items()} for row in range(len(presence))]
        return torch.stack([self.gradient(some, there) for some, there in zip(each, presence, strict=True)])

    def hessian_products(
        self, params: Params, presence: Float[Tensor, " n"], vectors: Float[Tensor, "p k"]
    ) -> Float[Tensor, "p k"]:
        """Return ∇²L(θ, b) V, written out: an eighth of the cost of differentiating twice."""
        assert isinstance(params, dict)
        if len(vectors) <= DENSE_PARAMETERS:
            # Of few parameters all columns at once.
            return super().hessian_products(params, presence, vectors)
        unravel, outputs = shaper(params), self.outputs(params)
        slopes = self._to_scores(self.outer.gradient(outputs, presence))

        def bend(along: Float[Tensor, "R B"]) -> Float[Tensor, "R B"]:
            moved = leads(along) if self.leading else along.flatten()
            return self._to_scores(self.outer.hessian_products(outputs, presence, moved[:, None])[:, 0])

        moves: list[Any] = [unravel(vector) for vector in vectors.unbind(1)]
        found = torch.stack([self.factors.bent(params, move, slopes, bend) for move in moves], dim=1)
        return found + self.ridge * vectors

    def null_directions(self, params: Params, presence: Float[Tensor, " n"]) -> dict[str, Params]:  # noqa: ARG002
        """Return the rotations of two columns of the factors: neither scores nor the penalty know of them."""
        assert isinstance(params, dict)
        return {f"rotation of factors {a} and {b}": rotation(params, a, b) for a, b in combinations(range(self.dim), 2)}

    def _to_scores(self, slopes: Float[Tensor, " m"]) -> Float[Tensor, "R B"]:
        """Return what is along the outputs along the scores that they are made of."""
        table = slopes.reshape(len(self.factors.users), -1)
        return torch.cat([table.sum(1, keepdim=True), -table], dim=1) if self.leading else table

    def preference(self, pairs: Iterable[Sequence[int]]) -> LabelledTarget:
        """Return the target of how much a user prefers an item: s_ui, or s_ui − s_uj, for each (u, i) or (u, i, j).

        Where that is above 0 for the item j just below a list, i is on it.

        Raises:
            ValueError: If there is none, or no such user or item.
        """
        rows = listed(pairs, "pairs", "pairs of user and item, or triples with another item")
        width = len(rows[0]) if rows and isinstance(rows[0], Sequence | Tensor) else 2
        table = whole_numbers(rows, "pairs", shape=[None, 3 if width == 3 else 2])
        if not len(table):
            raise ValueError("`pairs` is empty. Name at least one user and item.")
        for column, n in zip(table.T, (self.factors.n_users, *[self.factors.n_items] * 2), strict=False):
            whole_numbers(column, "pairs", shape=[None], most=n - 1)
        owners, about = self.factors.owners, None
        if owners is not None:
            about = table[:, :1] if owners == "users" else table[:, 1:]

        def value(params: dict[str, Tensor]) -> Float[Tensor, " t"]:
            scores = factor_scores(params, table[:, 0], table[:, 1:])
            return scores[:, 0] - scores[:, 1] if scores.shape[1] > 1 else scores[:, 0]

        return LabelledTarget(value, [tuple(row) for row in table.tolist()], None, about)


def rotation(params: dict[str, Tensor], a: int, b: int) -> dict[str, Tensor]:
    """Return the direction in which columns a and b of the factors turn."""
    turned = {name: torch.zeros_like(value) for name, value in params.items()}
    for name in ("user", "item"):
        turned[name][:, a], turned[name][:, b] = params[name][:, b], -params[name][:, a]
    return turned


def owners_of(objects: Any, who: Int[Tensor, " R"], count: list[int]) -> tuple[Tensor | None, int, list | None]:
    """Return the object of each interaction, None where items are, with their number, and names that they are given by.

    Raises:
        TypeError: If they are neither words nor names.
        ValueError: If there is no such word, or not one name an interaction.
    """
    if not isinstance(objects, str | None):
        owner, found = codes(objects, len(who), "interaction", "objects")
        return owner, len(found), found
    word: str = one_of(objects, "objects", ["interactions", "users", "items"])
    known = {"interactions": (torch.arange(len(who)), len(who)), "users": (who, count[0]), "items": (None, count[1])}
    return *known[word], None


def softmax_rows(table: Int[Tensor, "R B"], owner: Int[Tensor, " R"] | None, number: int) -> SharedRows:
    """Return rows of an interaction's item among those beside it; items are candidates, others own rows."""
    targets = torch.zeros(table.shape, dtype=torch.float64)
    targets[:, 0] = 1.0
    units = table if owner is None else torch.full((table.shape[1],), number)
    return SharedRows(Owners(number, units, owner), targets[:, None], torch.ones(table.shape).bool()[:, None])


def terms_of(
    kind: str, factors: Factors, ratings: Float[Tensor, " R"] | None, owner: Int[Tensor, " R"] | None, number: int
) -> tuple[Outputs, Loss]:
    """Return leads or scores as outputs, and the terms of them, each with its objects."""
    table, bpr = factors.items, kind == "bpr"
    outputs = Mapped(factors, leads if bpr else torch.Tensor.flatten)
    width = table.shape[1] - bpr
    if owner is None:
        # A pair of items dies with either.
        own = table[:, :1].expand(-1, width)
        members = torch.stack([own, table[:, 1:] if bpr else table], dim=2).flatten(0, 1)
    else:
        members = owner.repeat_interleave(width)[:, None]
    answers = torch.zeros(len(table), width, dtype=torch.float64)
    # Of BPR each lead should be won, of others the item and not those beside it.
    answers[:, : width if bpr else 1] = 1.0
    family = Logistic(answers.flatten()) if ratings is None else SquaredError(ratings)
    return outputs, Terms(family, members_of(members, number), number, elementwise=True)


def leads(scores: Float[Tensor, "R B"]) -> Float[Tensor, " T"]:
    """Return by how much the first of each row is above the others."""
    return (scores[:, :1] - scores[:, 1:]).flatten()
