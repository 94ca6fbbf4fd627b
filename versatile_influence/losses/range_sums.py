"""Sums of −log(1 − r u) over contiguous ranges of terms, without a table of all pairs.

Removing a candidate of weight r from a softmax term whose denominator is 1/u changes that term by −log(1 − r u). In
Cox regression a patient is a candidate in all terms of a contiguous range of event times, so that n patients need

    F_j = Σ_{s_j ≤ τ < e_j} −c_τ log(1 − r_j u_τ),      j = 1…q,

for T terms in near-linear rather than q·T time. Where r u ≤ 1/16, −log(1 − p) is a polynomial in p to rounding, and

    F_j = Σ_k a_k r_jᵏ Σ_τ c_τ u_τᵏ:

prefix sums of powers. The few pairs with larger r u are evaluated one by one. Which pairs those are depends on the
values, and is planned anew at each call: queries are put into as few classes of similar r as keep their number
proportional to q + T, so that one patient of enormous weight costs no more than a class of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

# Below this r·u the polynomial is exact to rounding.
LIGHT = 1 / 16
# Numbers in one block of powers: bounds memory where there are many terms.
BLOCK = 2_000_000


def _polynomial(degree: int = 9) -> np.ndarray:
    """Return a_1…a_K with −log(1 − p) = Σ_k a_k (p / LIGHT)ᵏ on 0 ≤ p ≤ LIGHT, by Chebyshev interpolation."""
    interpolated = np.polynomial.Chebyshev.interpolate(
        lambda p: -np.log1p(-p) / p, degree - 1, domain=[0, LIGHT]
    ).convert(kind=np.polynomial.Polynomial)
    return np.asarray(interpolated.coef, dtype=np.float64) * LIGHT ** np.arange(1, degree + 1)


COEFFICIENTS = torch.from_numpy(_polynomial())


@dataclass(frozen=True)
class Summand:
    """A function of p = r u, and the a_k with f(p) = Σ_k a_k (p / LIGHT)ᵏ for p ≤ LIGHT."""

    coefficients: Float[Tensor, " K"]
    function: Callable[[Tensor], Tensor]


def range_log_sums(
    r: Float[Tensor, " q"],
    u: Float[Tensor, " T"],
    c: Float[Tensor, " T"],
    *,
    start: Int[Tensor, " q"],
    stop: Int[Tensor, " q"],
) -> Float[Tensor, " q"]:
    """Return F_j = Σ_{start_j ≤ τ < stop_j} −c_τ log(1 − r_j u_τ) for every query j; differentiable in r, u and c.

    Args:
        r: Weights of the queries, ≥ 0.
        u: Inverse denominators of the terms, ≥ 0, with r u < 1 inside each range.
        c: Multipliers of the terms.
        start: First term of each range.
        stop: One past its last.
    """
    summand = Summand(COEFFICIENTS.to(r), lambda p: -torch.log1p(-p))
    return _range_sums(r, u, c[:, None], (start, stop), summand).squeeze(1)


def range_odds_sums(
    r: Float[Tensor, " q"],
    u: Float[Tensor, " T"],
    c: Float[Tensor, "T m"],
    *,
    start: Int[Tensor, " q"],
    stop: Int[Tensor, " q"],
) -> Float[Tensor, "q m"]:
    """Return Σ_{start_j ≤ τ < stop_j} c_τ p/(1 − p), p = r_j u_τ, for every query j and several multipliers c.

    p/(1 − p) is p times the derivative of −log(1 − p): this is what derivatives of `range_log_sums` are made of.
    """
    coefficients = COEFFICIENTS.to(r) * torch.arange(1, len(COEFFICIENTS) + 1, dtype=r.dtype, device=r.device)
    return _range_sums(r, u, c, (start, stop), Summand(coefficients, lambda p: p / (1 - p)))


def _range_sums(
    r: Tensor, u: Tensor, c: Tensor, ranges: tuple[Tensor, Tensor], summand: Summand
) -> Float[Tensor, "q m"]:
    """Return Σ c_τ f(r_j u_τ) over each range."""
    total = r.new_zeros(len(r), c.shape[1])
    for members, top, heavy in _classes(r.detach(), u.detach(), *ranges):
        whole = members is None
        rows, (start, stop) = (r, ranges) if whole else (r[members], tuple(bound[members] for bound in ranges))
        light = torch.where(heavy, 0.0, u * (top / LIGHT))
        summed = _light(rows / top, light, c, (start, stop), summand.coefficients)
        pairs, terms = _heavy_pairs(heavy, start, stop)
        if len(pairs):
            single = c.index_select(0, terms) * summand.function(rows[pairs] * u[terms])[:, None]
            summed = summed.index_add(0, pairs, single)
        total = summed if whole else total.index_add(0, members, summed)
    return total


def _light(
    z: Tensor, v: Tensor, c: Tensor, ranges: tuple[Tensor, Tensor], coefficients: Tensor
) -> Float[Tensor, "q m"]:
    """Return the polynomial part: Σ_k a_k z_jᵏ Σ_τ c_τ v_τᵏ over each range, with z, v ≤ 1."""
    start, stop = ranges
    block = max(1, BLOCK // max(1, len(z) * c.shape[1], len(v) * c.shape[1]))
    from_first = not bool(start.any())
    total = z.new_zeros(len(z), c.shape[1])
    for low in range(0, len(coefficients), block):
        powers = torch.arange(low + 1, min(low + block, len(coefficients)) + 1, dtype=z.dtype, device=z.device)[:, None]
        sums = torch.nn.functional.pad(((v**powers)[..., None] * c).cumsum(1), (0, 0, 1, 0))
        inside = sums.index_select(1, stop)
        if not from_first:
            inside = inside - sums.index_select(1, start)
        weights = coefficients[low : low + block, None] * z**powers
        total = total + (weights[..., None] * inside).sum(0)
    return total


def _classes(
    r: Tensor, u: Tensor, start: Tensor, stop: Tensor
) -> Iterator[tuple[Int[Tensor, " m"] | None, Tensor, Tensor]]:
    """Yield classes of queries: members (None for all), largest r, and the terms too heavy for that r."""
    tiny = torch.finfo(r.dtype).tiny
    if not len(r) or not len(u):
        return
    allowed = 8 * (len(r) + len(u)) + 4096
    number = 1
    while True:
        # Classes halve the logarithm of r evenly, from the largest down.
        logs = r.clamp_min(tiny).log()
        depth = (logs.max() - logs) / (logs.max() - logs.min()).clamp_min(1e-9)
        label = (depth * number).long().clamp_max(number - 1)
        planned, pairs = [], 0
        for index in range(number):
            members = (label == index).nonzero().squeeze(1)
            if not len(members):
                continue
            top = r[members].max().clamp_min(tiny)
            heavy = u * top > LIGHT
            counts = torch.nn.functional.pad(heavy.long().cumsum(0), (1, 0))
            pairs += int((counts[stop[members]] - counts[start[members]]).sum())
            planned.append((None if len(members) == len(r) else members, top, heavy))
        if pairs <= allowed or number >= 64:
            break
        number *= 4
    yield from planned


def _heavy_pairs(heavy: Tensor, start: Tensor, stop: Tensor) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return (query, term) of every heavy term inside each query's range."""
    terms = heavy.nonzero().squeeze(1)
    before = torch.nn.functional.pad(heavy.long().cumsum(0), (1, 0))
    first, count = before[start], (before[stop] - before[start]).clamp_min(0)
    pairs = torch.repeat_interleave(count)
    if not len(pairs):
        return pairs, pairs
    offset = torch.arange(len(pairs), device=pairs.device) - (count.cumsum(0) - count)[pairs]
    return pairs, terms[first[pairs] + offset]
