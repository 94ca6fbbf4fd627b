"""Two sets of scores about the same removals and targets, side by side, and their second moments."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from versatile_influence.core.checks import instance
from versatile_influence.core.result import Attribution
from versatile_influence.core.sizes import BLOCK_NUMBERS, NAMED

Scores = Attribution | Float[Tensor, "k t"] | Float[Tensor, " k"]


@dataclass(frozen=True)
class Moments:
    """Centred sums over removals that have a result, one number a target.

    Attributes:
        count: Number of removals.
        mean_a, mean_b: Means.
        aa, bb, ab: Sums of centred squares and products, 0 where a column is constant up to rounding.
    """

    count: Float[Tensor, " t"]
    mean_a: Float[Tensor, " t"]
    mean_b: Float[Tensor, " t"]
    aa: Float[Tensor, " t"]
    bb: Float[Tensor, " t"]
    ab: Float[Tensor, " t"]

    @property
    def correlation(self) -> Float[Tensor, " t"]:
        """Pearson's r, NaN where either column is constant."""
        size = self.aa.sqrt() * self.bb.sqrt()
        return torch.where(size > 0, (self.ab / size).clamp(-1.0, 1.0), torch.nan)

    @property
    def slope(self) -> Float[Tensor, " t"]:
        """Least-squares slope of b on a, with an intercept, NaN where a is constant."""
        return torch.where(self.aa > 0, self.ab / self.aa, torch.nan)

    def pooled(self) -> "Moments":
        """Return the moments over all pairs of a removal and a target, as one column."""
        number = self.count.sum()
        mean_a, mean_b = ((self.count * mean).sum() / number for mean in (self.mean_a, self.mean_b))
        shift_a, shift_b = self.mean_a - mean_a, self.mean_b - mean_b
        aa = (self.aa + self.count * shift_a**2).sum()
        bb = (self.bb + self.count * shift_b**2).sum()
        ab = (self.ab + self.count * shift_a * shift_b).sum()
        aa, bb = _variation(aa, mean_a, number), _variation(bb, mean_b, number)
        return Moments(number[None], mean_a[None], mean_b[None], aa[None], bb[None], ab[None])


@dataclass(frozen=True)
class Pair:
    """Scores of the same removals on the same targets, a and b, without the removals that either has no result for.

    Attributes:
        a, b: (k, t) scores; NaN in both where a target is about what is removed itself.
        left_out: Names of the removals that were left out.
    """

    a: Float[Tensor, "k t"]
    b: Float[Tensor, "k t"]
    left_out: tuple[str, ...]

    @classmethod
    def of(cls, a: Scores, b: Scores) -> "Pair":
        """Return the pair, after checking that both are about the same things.

        A target without a single result, and a removal that lacks one of the other targets, are told apart: the first
        stays, undefined, and the second is left out.

        Raises:
            ValueError: If they are about different removals or targets, or no removal is left.
        """
        left, right = _matrix(a, "first"), _matrix(b, "second")
        _check_same(a, b, left, right)
        kept = _complete(left, right)
        if not kept.any():
            raise ValueError(f"None of the {len(kept)} removals has a result in both: there is nothing to compare.")
        named = next((scores.names() for scores in (a, b) if isinstance(scores, Attribution)), range(len(kept)))
        missing = tuple(str(name) for name, here in zip(named, kept.tolist(), strict=True) if not here)
        left, right = (part if kept.all() else part[kept.to(part.device)] for part in (left, right))
        own = next((own for side in (a, b) if isinstance(side, Attribution) and (own := _own(side)) is not None), None)
        if own is not None:
            left, right = (part.masked_fill(own[kept].to(part.device), float("nan")) for part in (left, right))
        return cls(left, right, missing)

    def blocks(self) -> Iterator[tuple[Float[Tensor, "c t"], Float[Tensor, "c t"]]]:
        """Yield both in float64 on one device, some rows at a time."""
        rows = max(1, BLOCK_NUMBERS // max(1, self.a.shape[1]))
        for a, b in zip(self.a.split(rows), self.b.split(rows), strict=True):
            yield a.double(), b.to(a.device).double()

    def moments(self) -> Moments:
        """Return the centred second moments of each target, in two passes."""
        there = [a.isfinite() & b.isfinite() for a, b in self.blocks()]
        count = torch.stack([seen.sum(0) for seen in there]).sum(0).double()

        def summed(of: Callable[[Tensor, Tensor], list[Tensor]]) -> Tensor:
            blocks = zip(self.blocks(), there, strict=True)
            sums = [[torch.where(seen, part, 0.0).sum(0) for part in of(a, b)] for (a, b), seen in blocks]
            return torch.stack([torch.stack(part) for part in sums]).sum(0)

        mean_a, mean_b = summed(lambda a, b: [a, b]) / count.clamp_min(1)
        centred = lambda a, b: (a - mean_a, b - mean_b)  # noqa: E731
        aa, bb, ab = summed(lambda a, b: [(u := centred(a, b))[0] ** 2, u[1] ** 2, u[0] * u[1]])
        return Moments(count, mean_a, mean_b, _variation(aa, mean_a, count), _variation(bb, mean_b, count), ab)


def _variation(
    squares: Float[Tensor, "*t"], mean: Float[Tensor, "*t"], count: Float[Tensor, "*t"]
) -> Float[Tensor, "*t"]:
    """Return centred sums of squares, 0 where they are no more than the rounding of equal numbers' mean."""
    return torch.where(squares <= count * (1e-13 * mean) ** 2, 0.0, squares)


def _matrix(scores: object, which: str) -> Float[Tensor, "k t"]:
    values = scores.scores if isinstance(scores, Attribution) else scores
    if not isinstance(values, Tensor) or not values.is_floating_point() or values.dim() not in (1, 2):
        given = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise TypeError(
            f"The {which} scores must be an Attribution, what vif.attribute and vif.leave_one_out return, got {given}. "
            "Make one of an array: vif.Attribution(torch.as_tensor(scores), torch.arange(n), n_objects=n)."
        )
    return values[:, None] if values.dim() == 1 else values


def _own(scores: Attribution) -> Bool[Tensor, "k t"] | None:
    """Return where a target is about what is removed itself; None where targets do not say."""
    if scores.about is None:
        return None
    # One column more, for -1.
    removed = torch.zeros(len(scores.scores), scores.n_objects + 1, dtype=torch.bool)
    for row, members in enumerate(scores.objects):
        removed[row, torch.as_tensor(members)] = True
    own = torch.zeros(scores.scores.shape, dtype=torch.bool)
    for column in scores.about.T:
        own |= removed[:, column]
    return own


def attribution(value: object, name: str = "attribution") -> Attribution:
    """Return what must be an `Attribution`."""
    return instance(value, name, Attribution, "what vif.attribute returns")


def _complete(left: Float[Tensor, "k t"], right: Float[Tensor, "k t"]) -> Tensor:
    """Return which rows have every result, in targets that have any."""

    def finite() -> Iterator[Tensor]:
        return (a.isfinite() & b.isfinite() for a, b in Pair(left, right, ()).blocks())

    every = torch.cat([block.all(1) for block in finite()])
    if every.all():
        return every
    seen = torch.stack([block.any(0) for block in finite()]).any(0)
    return torch.cat([block[:, seen].all(1) & block.any(1) for block in finite()])


def _check_same(a: Scores, b: Scores, left: Tensor, right: Tensor) -> None:
    if left.shape != right.shape:
        raise ValueError(
            f"The scores are about different things: {left.shape[0]} removals × {left.shape[1]} targets, and "
            f"{right.shape[0]} × {right.shape[1]}. Compute both for the same `objects` and target."
        )
    if not (isinstance(a, Attribution) and isinstance(b, Attribution)):
        return
    if a.n_objects != b.n_objects:
        raise ValueError(
            f"The scores come from different data: {a.n_objects} objects and {b.n_objects}. Use the same loss in both."
        )
    for what, first, second in (
        ("objects", _listed(a.objects), _listed(b.objects)),
        ("labels of objects", a.labels, b.labels),
        ("targets", a.targets, b.targets),
    ):
        if first is None or second is None or first is second:
            continue
        if len(first) != len(second):
            raise ValueError(f"The scores have different {what}: {len(first)} and {len(second)} of them.")
        place = next((i for i, (x, y) in enumerate(zip(first, second, strict=True)) if str(x) != str(y)), None)
        if place is not None:
            raise ValueError(
                f"The scores have different {what}: at position {place}, {first[place]} and {second[place]}. "
                "Compute both for the same ones, in the same order."
            )


def _listed(objects) -> list:
    return objects.tolist() if isinstance(objects, Tensor) else list(objects)


def few(names: tuple[str, ...]) -> str:
    """Return the first names and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
