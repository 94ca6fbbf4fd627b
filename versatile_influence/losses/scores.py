"""From parameters to scores: linear by default, or any `torch.nn.Module`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.losses.modules import named, outputs
from versatile_influence.losses.rows import NestedRows, SharedRows, leave_one_out_sums

# Numbers held at once by the closed-form derivatives: few, to stay in the processor's cache, but many rows a product.
CLOSED_FORM_NUMBERS, CLOSED_FORM_ROWS = 2_000_000, 32


@dataclass(frozen=True)
class LinearItems:
    """Scores of n items from query features: s = x Wᵀ + c, parameters (n, d+1) with the bias last.

    Attributes:
        x: (R, d+1) features of the queries, with a column of ones.
        n_items: n.
    """

    x: Float[Tensor, "R a"]
    n_items: int

    def __call__(self, params: Float[Tensor, "n a"]) -> Float[Tensor, "R n"]:
        """Return the scores."""
        return self.x @ params.T

    def part(self, rows: Int[Tensor, " r"]) -> "LinearItems":
        """Return the scores of some queries."""
        return LinearItems(self.x[rows], self.n_items)

    def zeros(self) -> Float[Tensor, "n a"]:
        """Return parameters to start from."""
        return self.x.new_zeros(self.n_items, self.x.shape[1])

    def pulled_back(self, slopes: Float[Tensor, "*k R n"]) -> Float[Tensor, "*k n a"]:
        """Return the derivative along the parameters of what has these slopes along the scores."""
        return slopes.mT @ self.x

    def owned(self, item: int) -> Int[Tensor, " a"]:
        """Return where the item's weights and bias are in the flat parameters."""
        return torch.arange(self.x.shape[1]) + item * self.x.shape[1]

    def curvature(self, rows: NestedRows | SharedRows, params: Tensor, units: Tensor) -> Float[Tensor, "p p"]:
        """Return Σ_rows x xᵀ ⊗ Σ_stages w (diag p − p pᵀ), the Hessian of the rows' losses."""
        n, a = self.n_items, self.x.shape[1]
        first, second = torch.triu_indices(a, a)
        total = self.x.new_zeros(len(first), n * n)
        for part in row_parts(rows, n):
            mass, positives = rows.stages(self.x[part] @ params.T, part, units)
            weight = positives.sum(-1, keepdim=True)
            total_mass = torch.where(weight > 0, mass.sum(-1, keepdim=True), 1.0)
            share, rest = mass / total_mass, leave_one_out_sums(mass) / total_mass
            blocks = -((weight * share).mT @ share)
            # 1 − p as it is, not by difference, so that p → 1 costs no digits; so too below.
            blocks.diagonal(dim1=1, dim2=2).copy_((weight * share * rest).sum(1))
            total.addmm_((self.x[part][:, first] * self.x[part][:, second]).T, blocks.reshape(len(blocks), n * n))
        matrix = self.x.new_zeros(n, a, n, a)
        for pair, (i, j) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            matrix[:, i, :, j] = matrix[:, j, :, i] = total[pair].reshape(n, n)
        return matrix.reshape(n * a, n * a)

    def removal_gradients(self, rows: NestedRows | SharedRows, params: Tensor) -> Float[Tensor, "n p"]:
        """Return ∇ΔL of each item: Σ_rows (diag Σ_j a_j − Σ_j a_j p_jᵀ) ⊗ x, a = w p/(1 − p), or −w on a positive."""
        n, a = self.n_items, self.x.shape[1]
        total = self.x.new_zeros(a, n * n)
        for part in row_parts(rows, n):
            mass, positives = rows.stages(self.x[part] @ params.T, part, torch.ones_like(params[:, 0]))
            others = leave_one_out_sums(mass)
            weight = positives.sum(-1, keepdim=True)
            total_mass = torch.where(weight > 0, mass.sum(-1, keepdim=True), 1.0)
            share = mass / total_mass
            odds = (weight - positives) * mass / torch.where(others > 0, others, 1.0) - positives
            blocks = -(odds.mT @ share)
            own = (weight - positives) * share - positives * others / total_mass
            blocks.diagonal(dim1=1, dim2=2).copy_(own.sum(1))
            total.addmm_(self.x[part].T, blocks.reshape(len(blocks), n * n))
        return total.reshape(a, n, n).permute(1, 2, 0).reshape(n, n * a)


@dataclass(frozen=True)
class LinearCandidates:
    """Scores of documents from their own features: s = x w, parameters (d,); a bias would cancel.

    Attributes:
        x: (R, D, d) features of each query's documents, zeros where there is none.
    """

    x: Float[Tensor, "R D d"]

    def __call__(self, params: Float[Tensor, " d"]) -> Float[Tensor, "R D"]:
        """Return the scores."""
        return self.x @ params

    def part(self, rows: Int[Tensor, " r"]) -> "LinearCandidates":
        """Return the scores of some queries."""
        return LinearCandidates(self.x[rows])

    def pulled_back(self, slopes: Float[Tensor, "*k R D"]) -> Float[Tensor, "*k d"]:
        """Return the derivative along the parameters of what has these slopes along the scores."""
        return torch.einsum("...rc,rcd->...d", slopes, self.x)

    def zeros(self) -> Float[Tensor, " d"]:
        """Return parameters to start from."""
        return self.x.new_zeros(self.x.shape[-1])


@dataclass(frozen=True)
class ModuleScores:
    """Scores by the user's network; parameters are the dict of its `named_parameters()`.

    Attributes:
        model: The network, from `x` to one score a candidate.
        x: Its input.
        item_parameters: Names of parameters whose first axis runs over items, each row trained by its item alone.
    """

    model: torch.nn.Module
    x: Tensor
    item_parameters: Sequence[str] = ()

    def __call__(self, params: dict[str, Tensor]) -> Tensor:
        """Return the scores."""
        scores = outputs(self.model, params, self.x)
        return scores.squeeze(-1) if scores.dim() == self.x.dim() and scores.shape[-1] == 1 else scores

    def part(self, rows: Int[Tensor, " r"]) -> "ModuleScores":
        """Return the scores of some rows of its input."""
        return ModuleScores(self.model, self.x[rows], self.item_parameters)

    def zeros(self) -> dict[str, Tensor]:
        """Return the network's present parameters, in float64."""
        return named(self.model)

    def owned(self, item: int) -> Int[Tensor, " m"]:
        """Return where the item's rows of `item_parameters` are in the flat parameters."""
        start, positions = 0, [torch.arange(0)]
        for name, value in self.model.named_parameters():
            if name in self.item_parameters:
                width = value[0].numel()
                positions.append(torch.arange(width) + start + item * width)
            start += value.numel()
        return torch.cat(positions)


def row_parts(rows: NestedRows | SharedRows, n_items: int) -> list[slice]:
    """Return slices of rows small enough for an (n, n) block each."""
    count, stages = rows.ranking.shape if isinstance(rows, NestedRows) else (len(rows.targets), 1)
    size = max(CLOSED_FORM_ROWS, CLOSED_FORM_NUMBERS // (n_items * (n_items + 2 * stages)))
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
