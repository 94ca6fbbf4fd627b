"""The Neumann series of H⁻¹, each of its steps on a sample of the loss's terms."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.curvature import Curvature, Scaled, without
from versatile_influence.core.draws import normal
from versatile_influence.core.loss import number_of_terms
from versatile_influence.core.settings import setting
from versatile_influence.core.sizes import DIVERGED, POWER_STEPS, SCALE_MARGIN, SCALE_SAMPLES
from versatile_influence.core.solution import Solution
from versatile_influence.core.solver import POSITIVE, Solver, finite, true_residual


@dataclass(frozen=True)
class LiSSA(Solver):
    """Solve by the recursion v ← b + v − H_T v / σ from v = b, which tends to σ H⁻¹ b in the mean.

    H_T is the Hessian of `batch_size` terms drawn anew at each step, scaled to the whole (`n_terms / batch_size`), so
    a step costs a fraction of a product with H. σ must exceed the curvatures of the samples. Differs from the reference
    in this: iterates of the last half of the steps are averaged, which takes out most of the sampling noise, and with
    `batch_size=None` the whole loss is used and the recursion ends when a column's residual is `rtol`: then it is
    the Neumann series, without randomness, and takes any loss. With a loss whose terms couple objects (an event's risk
    set, an anchor's negatives) it is the *terms* that are sampled, with all the objects in them.

    Attributes:
        batch_size: Terms a step, or None for the whole loss.
        max_steps: Steps of a recursion. Directions of curvature λ need about σ/λ of them.
        repeats: Independent recursions, averaged; a whole loss needs only one.
        scale: σ, or None for 1.1 times the largest curvature that a few power iterations find, on the whole and on
            samples.
        rtol: Above this relative residual the solution comes with a warning.
        seed: Seed of the samples.

    References:
        Agarwal, Bullins & Hazan (2017), "Second-order stochastic optimization for machine learning in linear time";
        Koh & Liang (2017); Appendix C of the paper.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: presence.sum() * theta @ theta
        >>> H = vif.Hessian(loss, torch.zeros(2).double(), torch.ones(1).double())
        >>> vif.LiSSA(batch_size=None, rtol=1e-6).solve(H, torch.ones(2, 1).double()).value.squeeze()
        tensor([0.5000, 0.5000], dtype=torch.float64)
    """

    batch_size: int | None = setting(64, least=1)
    max_steps: int = setting(1000, least=1)
    repeats: int = setting(1, least=1)
    scale: float | None = setting(None, above=0)
    rtol: float = setting(0.1, least=0)
    seed: int = setting(0)
    any_basis: ClassVar[bool] = True
    advice: ClassVar[str] = (
        "Raise max_steps (flat directions need more), repeats or batch_size (noise), add damping=…, or use vif.CG, "
        "which needs fewer products."
    )

    @property
    def tolerated(self) -> float:
        """What it tolerates is `rtol`."""
        return self.rtol

    def solved(self, hessian: Curvature, rhs: Float[Tensor, "p k"]) -> Solution:
        """Return X ≈ H⁻¹ B with measured residuals.

        Raises:
            TypeError: If terms are to be sampled and the loss has none.
            ValueError: If the recursion diverges.
        """
        null = hessian.null_space()
        rhs = without(null, rhs)
        generator = torch.Generator().manual_seed(self.seed)
        batch, repeats = self.batch_size, 1 if self.batch_size is None else self.repeats
        number = 0 if batch is None else number_of_terms(hessian.loss)

        def sampled() -> Curvature | Scaled:
            if batch is None:
                return hessian
            return hessian.sample(torch.randint(number, (batch,), generator=generator, device="cpu"))

        scale, total, step = self.scale, torch.zeros_like(rhs), 0
        if scale is None:
            samples = [] if batch is None else [sampled() for _ in range(SCALE_SAMPLES)]
            scale = self._scale([hessian, *samples], rhs, generator)
        for _ in range(repeats):
            part, step = self._recursion(hessian, lambda columns: without(null, sampled() @ columns), rhs, scale)
            total += part
        value = total / (scale * repeats)
        return Solution(value, true_residual(hessian, value, rhs, null), num_steps=step, dropped=null)

    def _scale(self, operators: list[Curvature | Scaled], rhs: Tensor, generator: torch.Generator) -> float:
        """Return σ: a little more than the largest curvature of the whole and of some samples."""
        largest = 0.0
        for operator in operators:
            vector = normal(generator, len(rhs), 1, like=rhs)
            for _ in range(POWER_STEPS):
                vector = finite(operator @ (vector / vector.norm().clamp_min(torch.finfo(rhs.dtype).tiny)))
            largest = max(largest, vector.norm().item())
        if largest == 0:
            raise ValueError("The Hessian is zero along a random direction: the loss is flat here. Add damping=….")
        return SCALE_MARGIN * largest

    def _recursion(
        self, hessian: Curvature, product: Callable[[Tensor], Tensor], rhs: Float[Tensor, "p k"], scale: float
    ) -> tuple[Float[Tensor, "p k"], int]:
        """Return the average of the last half of the iterates, or for the whole loss the last, and the steps taken."""
        size = rhs.norm(dim=0).clamp_min(torch.finfo(rhs.dtype).tiny)
        value, total, step = rhs.clone(), torch.zeros_like(rhs), 0
        averaged = self.max_steps - self.max_steps // 2
        while step < self.max_steps:
            change = rhs - product(value) / scale
            # For the whole loss the change is the residual of v / σ.
            furthest = (change.norm(dim=0) / size).max().item()
            if self.batch_size is None and furthest <= self.rtol:
                break
            value, step = value + change, step + 1
            if not furthest < DIVERGED:
                raise ValueError(self._divergence(hessian, value, scale, step))
            if step > self.max_steps - averaged:
                total += value
        return (value if self.batch_size is None else total / averaged), step

    def _divergence(self, hessian: Curvature, value: Tensor, scale: float, step: int) -> str:
        """Return what to change: the scale, or a Hessian that curves downward."""
        start = f"LiSSA diverged at step {step} (scale {scale:.3g})"
        finite_part = torch.nan_to_num(value, 0.0, 0.0, 0.0)
        column = finite_part[:, [int(finite_part.norm(dim=0).argmax())]]
        column = column / column.norm().clamp_min(torch.finfo(value.dtype).tiny)
        curvature = (column * finite(hessian @ column)).sum().item()
        if curvature < 0:
            return f"{start}: the Hessian is not positive definite, with a curvature of {curvature:.3g}. {POSITIVE}"
        sampled = "the loss has" if self.batch_size is None else f"samples of {self.batch_size} terms have"
        return (
            f"{start}: {sampled} larger curvatures than that; along the direction that grew, the whole loss has "
            f"{curvature:.3g}. Raise scale=…{'' if self.batch_size is None else ' or batch_size'}, or use vif.CG."
        )
