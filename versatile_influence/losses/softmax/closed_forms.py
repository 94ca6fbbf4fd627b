"""Derivatives of log-softmax terms whose scores are linear in the features of a row, written out.

Scores are s = x Wᵀ, parameters W (n, a) with a row for each candidate. The masses of those who stay candidates to the
end enter all terms of a row in one proportion, so that their part of a sum over terms is a product of matrices over
rows; those who leave on the way are few, and are added one by one.
"""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.core.sizes import CLOSED_FORM_NUMBERS, CLOSED_FORM_ROWS, TRIANGLE
from versatile_influence.losses.softmax.rows import Rows, Stage


def curvature(
    rows: Rows, x: Float[Tensor, "R a"], params: Float[Tensor, "n a"], presence: Float[Tensor, " o"]
) -> Float[Tensor, "p p"]:
    """Return Σ_rows x xᵀ ⊗ Σ_stages w (diag p − p pᵀ), the Hessian of the rows' losses."""
    n, a = params.shape
    first, second = torch.triu_indices(a, a)
    # Half of each (n, n) block, to which its transpose is added in the end, and the blocks' diagonals.
    half, own = x.new_zeros(n, len(first), n), x.new_zeros(len(first), n)
    squares, stayers, curves = x[:, first] * x[:, second], [], []
    for part, some in row_parts(rows, n):
        curve = diagonal = x.new_zeros(())
        left, stages = Leavers(), list(some.stages(x[part] @ params.T, presence))
        for stage in stages:
            weight, total = stage.weight, stage.total
            # 1 − p as it is, not by difference, so that p → 1 costs no digits; so too below.
            diagonal = diagonal + weight * (stage.mass / total) * (stage.others / total)
            curve = curve + weight / total.square()
            left.add(stage, stage.staying * curve, squares[part])
        left.subtract(half)
        own += squares[part].T @ diagonal
        stayers.append(stages[-1].staying)
        curves.append(curve)
    _subtract_products(half, torch.cat(stayers), torch.cat(curves) * squares)
    matrix = x.new_empty(n, a, n, a)
    for pair, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
        block = half[:, pair] + half[:, pair].T
        block.diagonal().copy_(own[pair])
        matrix[:, i, :, j] = matrix[:, j, :, i] = block
    return matrix.reshape(n * a, n * a)


def removal_gradients(rows: Rows, x: Float[Tensor, "R a"], params: Float[Tensor, "n a"]) -> Float[Tensor, "n p"]:
    """Return ∇ΔL of each candidate: Σ_rows (diag Σ_j a_j − Σ_j a_j p_jᵀ) ⊗ x, a = w p/(1 − p), or −w on a positive."""
    n, a = params.shape
    # By the candidate whose parameters they are, then feature, then the one removed.
    total, own = x.new_zeros(n, a, n), x.new_zeros(a, n)
    for part, some in row_parts(rows, n):
        odds = diagonal = params.new_zeros(())
        here, left = x[part], Leavers()
        stages = list(some.stages(here @ params.T, params.new_ones(n)))
        for stage in stages:
            weight, mass, others = stage.weight - stage.positives, stage.mass, stage.others
            growth = weight * mass / torch.where(others > 0, others, 1.0) - stage.positives
            odds = odds + growth / stage.total
            diagonal = diagonal + (weight * mass - stage.positives * others) / stage.total
            left.add(stage, odds, here)
        for feature, value in enumerate(here.T):
            total[:, feature].addmm_((stages[-1].staying * value[:, None]).T, odds, alpha=-1.0)
        left.subtract(total)
        own += here.T @ diagonal
    total.diagonal(dim1=0, dim2=2).copy_(own)
    return total.permute(2, 0, 1).reshape(n, n * a)


def removal_effects(
    rows: Rows,
    x: Float[Tensor, "R a"],
    params: Float[Tensor, "n a"],
    changes: Float[Tensor, "k p"],
    items: Int[Tensor, " k"],
) -> tuple[Float[Tensor, "k R"], Float[Tensor, "k R"]]:
    """Return ℓ(θ, 1₋ᵢ) − ℓ(θ, 1) and ∇ℓ(θ, 1₋ᵢ)ᵀ Δᵢ of each row's loss ℓ for each removal of a candidate.

    With u = x Δᵢ and without candidate i, the second is Σ_j w_j (Σ_l m_l u_l / Σ_l m_l − u_{y_j}): one product of
    masses and changes for those who stay to the end, and running sums for those who leave.
    """
    (n, a), k = params.shape, len(items)
    steps = changes.reshape(k, n, a).clone()
    # What is gone is in no sum; its own parameters do not matter.
    steps[torch.arange(k), items] = 0.0
    by_item = steps.permute(1, 0, 2).reshape(n, k * a)
    direct = -rows.differences(x @ params.T)[0].T.index_select(0, items)
    parameter = []
    for part, some in row_parts(rows, k * a):
        here = x[part]

        def moved(weights: Tensor, here: Tensor = here) -> Float[Tensor, "c k"]:
            """Return Σ_l weights_l u_l."""
            return ((weights @ by_item).reshape(len(here), k, a) @ here[:, :, None])[..., 0]

        stages = list(some.stages(here @ params.T, params.new_ones(n)))
        sums, slope = moved(stages[-1].staying), 0.0
        for stage in reversed(stages):
            others = stage.others[:, items]
            if stage.leaving is None:
                aligned = moved(stage.positives)
            else:
                own = (by_item[stage.leaving].reshape(len(here), k, a) @ here[:, :, None])[..., 0]
                aligned = stage.weight * own
                sums = sums + (stage.weight > 0) * stage.mass.gather(1, stage.leaving[:, None]) * own
            weight = stage.weight - stage.positives[:, items]
            slope = slope + weight * sums / torch.where(others > 0, others, 1.0) - aligned
        parameter.append(slope)
    return direct, torch.cat(parameter).T


def _subtract_products(half: Float[Tensor, "n a n"], mass: Float[Tensor, "R n"], weights: Float[Tensor, "R a"]) -> None:
    """Take half of massᵀ diag(w) mass from the block of each column w of weights, up to adding its transpose."""
    for pair, weight in enumerate(weights.T):
        bent = (mass * weight[:, None]).T
        # Blocks below the diagonal are those above, transposed.
        for start in range(0, len(half), TRIANGLE):
            block, after = slice(start, start + TRIANGLE), slice(start + TRIANGLE, None)
            half[block, pair, block].addmm_(bent[block], mass[:, block], alpha=-0.5)
            half[block, pair, after].addmm_(bent[block], mass[:, after], alpha=-1.0)


class Leavers:
    """Candidates that leave after a stage, each with a row's coefficients, summed item by item."""

    def __init__(self):
        self.items, self.left, self.right = [], [], []

    def add(self, stage: Stage, right: Float[Tensor, "c n"], left: Float[Tensor, "c a"]) -> None:
        """Note the masses of who leaves times left ⊗ right."""
        if stage.leaving is None:
            return
        there = stage.weight[:, 0] > 0
        items = stage.leaving[there]
        mass = stage.mass[there].gather(1, items[:, None])
        self.items.append(items)
        self.left.append(mass * left[there])
        self.right.append(right[there])

    def subtract(self, total: Float[Tensor, "n a b"]) -> None:
        """Take what was noted away from the blocks of its items."""
        if not self.items:
            return
        items = torch.cat(self.items)
        order = items.argsort()
        present, counts = items.unique(return_counts=True)
        left, right = torch.cat(self.left)[order], torch.cat(self.right)[order]
        blocks = zip(present.tolist(), left.split(counts.tolist()), right.split(counts.tolist()), strict=True)
        for item, lefts, rights in blocks:
            total[item].addmm_(lefts.T, rights, alpha=-1.0)


def row_parts(rows: Rows, numbers: int) -> Iterator[tuple[slice, Rows]]:
    """Yield some rows at a time, so that arrays of so many numbers a stage and row fit in memory."""
    size = max(CLOSED_FORM_ROWS, CLOSED_FORM_NUMBERS // (numbers * rows.n_stages))
    for start in range(0, rows.n_terms, size):
        part = slice(start, start + size)
        yield part, rows.of_rows(part)
