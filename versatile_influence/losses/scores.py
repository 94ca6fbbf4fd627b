"""From parameters to scores: linear by default, or any `torch.nn.Module`."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence.losses.modules import named, outputs


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
