"""What a solver is, and what it says of its solution."""

from abc import ABC, abstractmethod
from dataclasses import replace
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import told
from versatile_influence.core.curvature import Curvature, without
from versatile_influence.core.ravel import all_finite, flat
from versatile_influence.core.settings import Settings
from versatile_influence.core.sizes import FLAT, SINGULAR
from versatile_influence.core.solution import Solution
from versatile_influence.core.warn import warn

# What to do about a curvature that bends down somewhere.
POSITIVE = (
    "Use curvature=vif.GaussNewton where the loss has outputs, add damping=…, or train closer to a "
    "minimum (vif.minimize)."
)


class Solver(Settings, ABC):
    """A frozen value that solves H X = B for many columns at once, and warns where a column falls short.

    A subclass writes `solved`; `solve` holds it to what it tolerates, by one rule for all.

    Attributes:
        any_basis: Whether it gives the same in any orthonormal basis of the parameters, as one does that meets H
            only through products with it: where outputs and targets are few, it is then given a smaller problem in
            place of that of all parameters.
        tolerated: Above this relative residual a column has fallen short.
        advice: What to do then.
    """

    any_basis: bool = False
    tolerated: float
    advice: ClassVar[str]

    def chosen(self, hessian: Curvature, columns: int) -> "Solver":  # noqa: ARG002
        """Return what solves for so many columns: itself, unless it leaves that to others."""
        return self

    @abstractmethod
    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X with its residuals."""

    def solve(self, hessian: Curvature, rhs: object) -> Solution:
        """Return X with H X ≈ B, and its residuals; B (p, k) in the precision of the parameters, columns of any size.

        Raises:
            TypeError: If the solver cannot use this curvature, or B is no tensor of real numbers.
            ValueError: If H or B is not finite, or B has not a row a parameter.

        Warns:
            UserWarning: If a column's relative residual is above `tolerated`, H curves downward, or is flat in a
                direction that a column asks for and the loss does not name.
        """
        columns, size = _columns(hessian, rhs)
        solution = self.checked(hessian, columns)
        if size is not None:
            solution = replace(solution, value=solution.value * size)
        if number := int((share_along(solution.dropped, without(hessian.null_space(), columns)) > FLAT).sum()):
            lost = 0 if solution.dropped is None else solution.dropped.shape[1]
            warn(
                f"The Hessian is singular: {lost} of {len(columns)} directions have no curvature and were left out "
                f"(see solution.dropped), and {number} of {columns.shape[1]} columns ask for them. Add a penalty or "
                "damping=…, or drop redundant parameters."
            )
        return solution

    def checked(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return what `solve` does, without a word on directions left out: a verb says what they mean to it."""
        solution = self.solved(hessian, rhs)
        residual, name = solution.residual, type(self).__name__
        # Written so that NaN counts as short.
        short = int((~(residual <= self._bound(hessian) + share_along(solution.dropped, rhs))).sum())
        if not (short or solution.bent_down):
            return solution
        worst = f"(worst relative residual {residual.max():.2g})"
        if solution.bent_down:
            said = (
                f"The Hessian is not positive definite: {name} met a curvature of {solution.smallest_curvature:.3g} "
                f"and stopped early on {solution.bent_down} of {len(residual)} columns {worst}. "
                f"{POSITIVE} Where the parameters are few, vif.Explicit() solves it as it is."
            )
        else:
            steps = f" after {solution.num_steps} steps" if solution.num_steps else ""
            said = (
                f"{name} left {short} of {len(residual)} columns short of a relative residual of {self.tolerated:g}"
                f"{steps} {worst}. {self.advice}"
            )
        warn(said)
        return solution

    def _bound(self, hessian: Curvature) -> float:
        """Return what is tolerated, and at least a thousand roundings of the loss, up to half of what is solved for."""
        return max(self.tolerated, min(0.5, 1e3 * torch.finfo(hessian.loss.precision).eps))


class Inverse:
    """H⁻¹ applied to columns: solved for, or where they are more than the parameters, multiplied.

    Args:
        hessian: H.
        solver: What solves.

    Attributes:
        solver: What solved first: of a solver that chooses, its choice.
        solution: The first solution, which the scores come from.
    """

    def __init__(self, hessian: Curvature, solver: Solver):
        self.hessian, self.solver = hessian, solver
        self.solution: Solution | None = None
        self._whole: Tensor | None = None

    def __matmul__(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        """Return H⁻¹ B."""
        p, k = columns.shape
        if self._whole is None and k >= p:
            # As many columns as parameters: H⁻¹ itself costs no more, and serves what is asked next by a product.
            unit = torch.eye(p, dtype=columns.dtype, device=columns.device)
            self._whole = self._solved(unit)
        return self._solved(columns) if self._whole is None else self._whole @ columns

    def _solved(self, columns: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
        self.solver = self.solver.chosen(self.hessian, columns.shape[1])
        solution = self.solver.checked(self.hessian, columns)
        # The first is of the targets or the removals; later ones, of a leftover or a few mended columns.
        self.solution = self.solution or solution
        return solution.value


def _columns(hessian: Curvature, rhs: object) -> tuple[Float[Tensor, "p k"], Float[Tensor, " k"] | None]:
    """Return right-hand sides that can be squared, and what each is to be multiplied by, None for nothing."""
    like = flat(hessian.params)
    if not isinstance(rhs, Tensor) or rhs.is_complex() or rhs.dtype == torch.bool:
        what = rhs.dtype if isinstance(rhs, Tensor) else told(rhs)
        raise TypeError(f"`rhs` must be a tensor of real numbers, ({len(like)}, columns), got {what}.")
    if rhs.dim() != 2 or len(rhs) != len(like):
        one = " Of one column write rhs[:, None]." if rhs.shape == like.shape else ""
        raise ValueError(f"`rhs` must be ({len(like)}, columns), a row a parameter, got {tuple(rhs.shape)}.{one}")
    rhs = rhs.to(like)
    if not all_finite(rhs):
        row, column = (~rhs.isfinite()).nonzero()[0].tolist()
        raise ValueError(f"`rhs` is {rhs[row, column].item()} in row {row} of column {column}, in {rhs.dtype}.")
    if not rhs.numel():
        return rhs, None
    size, reach = torch.stack(rhs.aminmax(dim=0)).abs().amax(0), torch.finfo(rhs.dtype).max ** 0.25
    if not (odd := (size > reach) | ((size < 1 / reach) & (size > 0))).any():
        return rhs, None
    size = torch.where(odd, size, 1.0)
    return rhs / size, size


def share_along(directions: Float[Tensor, "p d"] | None, columns: Float[Tensor, "p k"]) -> Float[Tensor, " k"]:
    """Return which share of each column lies along orthonormal directions."""
    if directions is None:
        return columns.new_zeros(columns.shape[1])
    return (directions.T @ columns).norm(dim=0) / columns.norm(dim=0).clamp_min(torch.finfo(columns.dtype).tiny)


def finite(product: Float[Tensor, "p k"]) -> Float[Tensor, "p k"]:
    """Return products with H as they are.

    Raises:
        ValueError: If one is not finite.
    """
    if not all_finite(product):
        raise ValueError(
            "The Hessian has NaN or infinite entries, though loss and gradient are finite. Look for (a) a norm or "
            "square root at zero, (b) `torch.where` around an infinite branch, (c) torch.logcumsumexp with −inf."
        )
    return product


def eigenpairs(
    projected: Float[Tensor, "m m"],
) -> tuple[Float[Tensor, " r"], Float[Tensor, "m r"], Float[Tensor, "m d"]]:
    """Return the eigenvalues and vectors of H within a subspace, and the flat ones apart; warns of negative ones."""
    curvature, turned = torch.linalg.eigh(projected)
    # A zero eigenvalue comes out negative by rounding half of the time.
    if curvature[0] < -1e-10 * curvature.abs().max():
        warn(
            f"The Hessian is indefinite: a direction found has a curvature of {curvature[0]:.3g}. {POSITIVE}",
        )
    kept = curvature.abs() > SINGULAR * curvature.abs().max()
    return curvature[kept], turned[:, kept], turned[:, ~kept]


def beside(null: Float[Tensor, "p m"] | None, flat: Float[Tensor, "p d"]) -> Float[Tensor, "p q"] | None:
    """Return directions that the loss names as constant, and those found flat, as `Solution.dropped` has them."""
    if not flat.shape[1]:
        return null
    return flat if null is None else torch.cat([null, flat], dim=1)


def true_residual(
    hessian: Curvature, value: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"], null: Tensor | None
) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, measured with H itself, outside the directions `null`."""
    return relative_residual(without(null, finite(hessian @ value)), rhs)


def relative_residual(product: Float[Tensor, "p k"], rhs: Float[Tensor, "p k"]) -> Float[Tensor, " k"]:
    """Return ‖H x − b‖ / ‖b‖ column by column, where `product` is H x."""
    # A column of zeros is solved by zeros: its residual is 0, not 0/0.
    size, distance = (columns.square().sum(dim=0).sqrt() for columns in (rhs, product - rhs))
    return distance / size.masked_fill(size == 0, 1.0)
