"""Sums of −log(1 − r u) over contiguous ranges of terms, without a table of all pairs.

Removing a candidate of weight r from a softmax term whose denominator is 1/u changes that term by −log(1 − r u). In
Cox regression a patient is a candidate in all terms of a contiguous range of event times, so that n patients need

    F_j = Σ_{s_j ≤ τ < e_j} −c_τ log(1 − r_j u_τ),      j = 1…q,

for T terms in near-linear rather than q·T time. Where r u is small, −log(1 − p) is a polynomial in p to rounding, and

    F_j = Σ_k a_k r_jᵏ Σ_τ c_τ u_τᵏ:

prefix sums of powers. The few pairs with larger r u are evaluated one by one. Which pairs those are depends on the
values, and is planned anew at each call: queries are put into as few classes of similar r as keep their number
proportional to q + T, so that one patient of enormous weight costs no more than a class of its own.
"""

from collections.abc import Callable
from functools import partial

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.sizes import CACHE_NUMBERS


def _polynomial(light: float, degree: int) -> list[float]:
    """Return a_1…a_K with −log(1 − p) = Σ_k a_k (p / light)ᵏ on 0 ≤ p ≤ light, by Chebyshev interpolation."""
    interpolated = np.polynomial.Chebyshev.interpolate(
        lambda p: -np.log1p(-p) / p, degree - 1, domain=[0, light]
    ).convert(kind=np.polynomial.Polynomial)
    return (np.asarray(interpolated.coef, dtype=np.float64) * light ** np.arange(1, degree + 1)).tolist()


# Members (None for all), largest r, and the terms too heavy for that r.
Class = tuple[Int[Tensor, " _"] | None, Tensor, Tensor]
Plan = tuple[float, list[Class]]
Ranges = tuple[Int[Tensor, " q"], Int[Tensor, " q"]]
# Named once: the annotation of a function made in a call would be made in each call.
Each = Float[Tensor, "k _"]

# Bounds below which a polynomial of that many powers is exact to rounding (its error falls as (4/bound)^−K).
POLYNOMIALS = {light: _polynomial(light, degree) for light, degree in ((1 / 512, 5), (1 / 64, 7), (1 / 16, 9))}


def range_log_sums(
    r: Float[Tensor, " q"], u: Float[Tensor, " T"], c: Float[Tensor, " T"], ranges: Ranges
) -> Float[Tensor, " q"]:
    """Return F_j = Σ_{start_j ≤ τ < stop_j} −c_τ log(1 − r_j u_τ) for every query j; differentiable in r, u and c.

    Args:
        r: Weights of the queries, ≥ 0.
        u: Inverse denominators of the terms, ≥ 0, with r u < 1 inside each range.
        c: Multipliers of the terms.
        ranges: First term of each range, and one past its last.
    """
    light, classes = planned(r.detach(), u.detach(), ranges)
    coefficients, total = POLYNOMIALS[light], r.new_zeros(1, len(r))
    for members, top, heavy in classes:
        rows, bounds = _members(r, ranges, members)
        kept = torch.where(heavy, 0.0, u * (top / light))
        summed = _light(rows / top, kept, c[None], bounds, coefficients, reuse=False)
        pairs, terms = _heavy_pairs(heavy, *bounds)
        if len(pairs):
            single = c.index_select(0, terms) * torch.log1p(-rows[pairs] * u[terms])
            summed = summed.index_add(1, pairs, -single[None])
        total = summed if members is None else total.index_add(1, members, summed)
    return total[0]


def range_products(
    r: Float[Tensor, " q"], u: Float[Tensor, " T"], c: Float[Tensor, " T"], ranges: Ranges
) -> Callable[[Float[Tensor, "k q"], Float[Tensor, "k T"]], Float[Tensor, "k q"]]:
    """Return the derivative of `range_log_sums` along directions, some of them at a time.

    Where r moves by r η̇ and u by −u m, −log(1 − p) moves by p/(1 − p) (η̇ − m); a function of η̇ and m, one a row. Not to
    be differentiated again.
    """
    light, classes = planned(r, u, ranges)
    coefficients = [a * k for k, a in enumerate(POLYNOMIALS[light], start=1)]
    parts = []
    for members, top, heavy in classes:
        rows, bounds = _members(r, ranges, members)
        kept = torch.where(heavy, 0.0, u * (top / light))
        light_sums = _in_order if _falls(bounds) else partial(_light, reuse=True)
        parts.append((members, light_sums, (rows / top, kept), bounds, _heavy_odds(rows, u, heavy, bounds)))

    def products(moved: Each, mean: Each) -> Each:
        inside = torch.cat([c[None], c * mean])
        total = r.new_zeros(len(inside), len(r))
        for members, light_sums, (z, v), bounds, add_heavy in parts:
            summed = add_heavy(light_sums(z, v, inside, bounds, coefficients), inside)
            total = summed if members is None else total.index_add(1, members, summed)
        return torch.mul(moved, total[:1]).sub_(total[1:])

    return products


def _members(r: Tensor, ranges: tuple, members: Tensor | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the queries of a class, and their ranges."""
    start, stop = ranges
    return (r, ranges) if members is None else (r[members], (start[members], stop[members]))


def _heavy_odds(rows: Tensor, u: Tensor, heavy: Tensor, bounds: Ranges) -> Callable[[Tensor, Tensor], Tensor]:
    """Return what adds Σ c p/(1 − p) over the heavy terms: a sparse matrix of few rows and columns, made once."""
    columns = heavy.nonzero().squeeze(1)
    some, first, count = _reach(heavy, *bounds)
    some, first, count = (part[count > 0] for part in (some, first, count))
    if not len(some):
        return lambda summed, _: summed
    ends = torch.nn.functional.pad(count.cumsum(0), (1, 0))
    values, place = rows.new_empty(int(ends[-1])), torch.empty(int(ends[-1]), dtype=torch.int32)
    high, begin = u[columns], 0
    while begin < len(some):
        # Some queries, so that what is made of their pairs stays in cache.
        end = max(begin + 1, int(torch.searchsorted(ends, ends[begin] + CACHE_NUMBERS)) - 1)
        part, inside = slice(begin, end), slice(int(ends[begin]), int(ends[end]))
        among = torch.arange(inside.start, inside.stop) - (ends[part] - first[part]).repeat_interleave(count[part])
        p = rows[some[part]].repeat_interleave(count[part]) * high[among]
        values[inside], place[inside], begin = p / (1 - p), among, end
    parts = tuple(part.cpu().numpy() for part in (values, place, ends))
    odds = scipy.sparse.csr_array(parts, shape=(len(some), len(columns)))

    def add(summed: Tensor, c: Tensor) -> Tensor:
        found = torch.from_numpy((odds @ c.index_select(1, columns).T.cpu().numpy()).T)
        return summed.index_add_(1, some, found.to(summed))

    return add


def _light(
    z: Tensor, v: Tensor, c: Tensor, ranges: Ranges, coefficients: list[float], *, reuse: bool
) -> Float[Tensor, "m q"]:
    """Return the polynomial part: Σ_k a_k z_jᵏ Σ_τ c_τ v_τᵏ over each range, with z ≤ 1 and v ≤ 1.

    With `reuse` the arrays of one power serve the next: for millions of rows, new ones cost more than the sums do.
    """
    # An end e stands for the sum up to term e − 1; those of 0 are weighted by 0.
    ends = [(bound - 1).clamp_min(0) for bound in ranges]
    begun, ended = ((bound > 0).to(z) for bound in ranges)
    from_first = not bool(begun.any())
    total, power, terms = z.new_zeros(len(c), len(z)), z.clone(), c * v
    sums, inside = (torch.empty_like(terms), torch.empty_like(total)) if reuse else (None, None)
    for k, coefficient in enumerate(coefficients):
        if k:
            power = torch.mul(power, z, out=power if reuse else None)
            terms = torch.mul(terms, v, out=terms if reuse else None)
        sums = torch.cumsum(terms, 1, out=sums if reuse else None)
        inside = torch.index_select(sums, 1, ends[1], out=inside if reuse else None)
        if not from_first:
            inside = inside - sums.index_select(1, ends[0]) * begun
        total = torch.addcmul(total, (coefficient * power)[None], inside, out=total if reuse else None)
    return torch.mul(total, ended, out=total if reuse else None)


def _falls(bounds: Ranges) -> bool:
    """Return whether ranges begin at the first term and end no later from query to query: one stratum, no entries."""
    start, stop = bounds
    return not bool(start.any()) and not bool((stop[1:] > stop[:-1]).any())


def _in_order(z: Tensor, v: Tensor, c: Tensor, ranges: Ranges, coefficients: list[float]) -> Float[Tensor, "m q"]:
    """Return `_light` of ranges that fall: some queries, and the terms between their ends, stay in cache at a time."""
    stop, total = ranges[1], c.new_empty(len(c), len(z))
    carried, begin = c.new_zeros(len(coefficients), len(c), 1), 0
    size = max(1, CACHE_NUMBERS // len(c))
    for last in range(len(z), 0, -size):
        rows = slice(max(0, last - size), last)
        end = int(stop[rows.start])
        place, power, inside = stop[rows] - begin, z[rows], c[:, begin:end]
        kept = v[begin:end]
        terms = inside * kept
        sums = c.new_empty(len(c), end - begin + 1)
        found = c.new_zeros(len(c), len(power))
        for k, coefficient in enumerate(coefficients):
            if k:
                power, terms = power * z[rows], terms.mul_(kept)
            sums[:, :1] = carried[k]
            torch.cumsum(terms, 1, out=sums[:, 1:])
            sums[:, 1:] += carried[k]
            carried[k] = sums[:, -1:]
            found.addcmul_((coefficient * power)[None], sums.index_select(1, place))
        total[:, rows], begin = found, end
    return total


def planned(r: Tensor, u: Tensor, ranges: Ranges) -> Plan:
    """Return the polynomial's bound and classes of queries that leave no more than a few heavy pairs a query."""
    bounds = list(POLYNOMIALS)
    if not len(r) or not len(u):
        return bounds[-1], []
    few, many = (len(r) + len(u)) // 16, 8 * (len(r) + len(u)) + 4096
    tries = [(bound, 1, few) for bound in bounds[:-1]] + [(bounds[-1], number, many) for number in (1, 4, 16)]
    for light, number, most in tries:
        classes, pairs = _classes(r, u, ranges, light=light, number=number)
        if pairs <= most:
            return light, classes
    return bounds[-1], _classes(r, u, ranges, light=bounds[-1], number=64)[0]


def _classes(r: Tensor, u: Tensor, ranges: Ranges, *, light: float, number: int) -> tuple[list[Class], int]:
    """Return up to `number` classes, which divide the logarithm of r evenly, and how many heavy pairs they leave."""
    tiny = torch.finfo(r.dtype).tiny
    logs = r.clamp_min(tiny).log()
    depth = (logs.max() - logs) / (logs.max() - logs.min()).clamp_min(1e-9)
    label = (depth * number).long().clamp_max(number - 1)
    classes, pairs = [], 0
    for index in range(number):
        members = (label == index).nonzero().squeeze(1)
        if not len(members):
            continue
        top = r[members].max().clamp_min(tiny)
        heavy = u * top > light
        before = torch.nn.functional.pad(heavy.long().cumsum(0), (1, 0))
        start, stop = ranges if len(members) == len(r) else (bound[members] for bound in ranges)
        pairs += int((before[stop] - before[start]).sum())
        classes.append((None if len(members) == len(r) else members, top, heavy))
    return classes, pairs


def _heavy_pairs(heavy: Tensor, start: Tensor, stop: Tensor) -> tuple[Int[Tensor, " m"], Int[Tensor, " m"]]:
    """Return query and term of every heavy term inside each query's range."""
    reach, first, count = _reach(heavy, start, stop)
    pairs = torch.repeat_interleave(count)
    place = torch.arange(len(pairs), device=pairs.device) - (count.cumsum(0) - count - first)[pairs]
    return reach[pairs], heavy.nonzero().squeeze(1)[place]


def _reach(heavy: Tensor, start: Tensor, stop: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the queries that may reach heavy terms, the place of the first among those, and how many each reaches."""
    terms = heavy.nonzero().squeeze(1)
    # Of millions of queries few reach one: late events, where few are at risk.
    reach = (stop > terms[0]).nonzero().squeeze(1) if len(terms) else terms
    before = torch.nn.functional.pad(heavy.long().cumsum(0), (1, 0))
    first = before[start[reach]]
    count = (before[stop[reach]] - first).clamp_min(0)
    return reach, first, count
