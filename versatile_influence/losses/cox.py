"""Cox regression: the negative log partial likelihood as a function of who is present.

    L(θ, b) = −Σ_{i: Δᵢ=1} wᵢ bᵢ (ηᵢ − log Σ_{j at risk at Yᵢ} wⱼ bⱼ exp ηⱼ) + (λ/2)‖θ‖²,      η = xθ      (Eq. 4)

with the risk set Yⱼ ≥ Yᵢ (and entryⱼ < Yᵢ) and tied events by Breslow's or Efron's method, both as R's `survival`
defines them, so that coefficients agree with `coxph`.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from versatile_influence._forward import jacobian_products, whole_jacobian
from versatile_influence._ravel import Params, ravel
from versatile_influence._rows import output_products
from versatile_influence.loss import masked_differences
from versatile_influence.losses import cox_targets
from versatile_influence.losses.composed import Composed
from versatile_influence.losses.modules import named
from versatile_influence.losses.partial_likelihood import PartialLikelihood
from versatile_influence.losses.segments import pick
from versatile_influence.losses.survival_data import frame_columns, overlapping_objects, survival_rows, tensor
from versatile_influence.removals import Removals

if TYPE_CHECKING:
    import pandas as pd

# Numbers that the derivatives along one block of directions may hold.
PRODUCT_NUMBERS = 1_000_000


class CoxLoss(Composed, cox_targets.CoxTargets):
    """The Cox negative log partial likelihood; objects are rows, or subjects where rows share one.

    Args:
        x: (rows, d) covariates; a tensor, an array, or anything NumPy reads.
        durations: Times of event or censoring.
        events: 1 where the event happened, 0 where the row is censored.
        ties: "efron" (as R and lifelines) or "breslow" (as scikit-survival).
        entry: Times from which rows are at risk (left truncation, start–stop rows).
        strata: Labels of strata with a baseline hazard of their own.
        weights: Case weights; a removed row goes with its whole weight.
        subjects: Labels that rows of one subject share; then subjects are the objects.
        penalty: λ in (λ/2)‖θ‖², added to the summed loss.
        model: A network from covariates to one log-risk each, in place of xθ; parameters are then the dict of its
            `named_parameters()`.
        columns: Names of the covariates.
        labels: Names of the rows, for messages and tables.

    Raises:
        TypeError: If data are not numeric.
        ValueError: If a value is not allowed, or a covariate is constant or collinear (without penalty).

    References:
        Cox (1972); Breslow (1974); Efron (1977); Eq. 4 of the paper, with ties and Y_j ≥ Y_i.

    Example:
        >>> loss = CoxLoss([[1.0], [0.0], [1.0], [0.0]], durations=[1, 2, 3, 4], events=[1, 1, 0, 1])
        >>> loss(loss.zeros(), torch.ones(4).double()).item()  # log 4 + log 3 + log 1
        2.484...
        >>> [round(change, 3) for change in loss.removal_differences(loss.zeros()).tolist()]
        [1.386, 1.386, 0.693, 0.693]
    """

    def __init__(
        self,
        x: object,
        durations: object,
        events: object,
        *,
        ties: str = "efron",
        entry: object = None,
        strata: object = None,
        weights: object = None,
        subjects: object = None,
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
        columns: list[str] | None = None,
        labels: Sequence[object] | None = None,
    ):
        if ties not in ("efron", "breslow"):
            raise ValueError(f'`ties` must be "efron" or "breslow", got {ties!r}.')
        if not penalty >= 0:
            raise ValueError(f"`penalty` must be ≥ 0, got {penalty}.")
        labels = None if labels is None else list(labels)
        rows = survival_rows(
            x,
            durations,
            events,
            entry=entry,
            strata=strata,
            weights=weights,
            subjects=subjects,
            columns=columns,
            rows=labels,
            collinear=penalty > 0 or model is not None,
        )
        self.ties, self.penalty, self.model = ties, float(penalty), model
        self.columns, self.labelled = rows.columns, labels
        self.likelihood = PartialLikelihood(rows, ties=ties)
        order = self.likelihood.sets.order.numpy()
        self.n_terms = len(self.likelihood.sets.event_rows)
        self._unsorted = torch.argsort(self.likelihood.sets.order)
        self.x = tensor(rows.x[order])
        self.by_row = (self.log_risks, self.x.index_select(0, self._unsorted))
        self.object_of_row = tensor(rows.subject[order])
        self.object_labels = labels if rows.subjects is None else rows.subjects
        self.n_objects = len(rows.x) if rows.subjects is None else len(rows.subjects)
        self.n_features = rows.x.shape[1]
        self.strata_labels, self.strata_cols = rows.strata, []
        self._place_of_object = torch.argsort(self.object_of_row) if rows.subjects is None else None
        self._overlapping = overlapping_objects(rows) if rows.subjects is not None else set()

    @classmethod
    def from_frame(
        cls,
        frame: "pd.DataFrame",
        *,
        duration_col: str,
        event_col: str,
        entry_col: str | None = None,
        strata_cols: str | list[str] | None = None,
        weights_col: str | None = None,
        subject_col: str | None = None,
        ties: str = "efron",
        penalty: float = 0.0,
        model: torch.nn.Module | None = None,
    ) -> "CoxLoss":
        """Return the loss of a pandas frame; every column not named here is a covariate.

        The frame's index, or the values of `subject_col`, name the objects in every result.
        """
        given = {"duration_col": duration_col, "event_col": event_col, "entry_col": entry_col}
        given |= {"strata_cols": strata_cols, "weights_col": weights_col, "subject_col": subject_col}
        columns = frame_columns(frame, given)
        strata = [strata_cols] if isinstance(strata_cols, str) else strata_cols
        loss = cls(
            frame[columns].to_numpy(dtype=float),
            frame[duration_col].to_numpy(),
            frame[event_col].to_numpy(),
            entry=None if entry_col is None else frame[entry_col].to_numpy(),
            strata=None if not strata else frame[strata].to_numpy(),
            weights=None if weights_col is None else frame[weights_col].to_numpy(),
            subjects=None if subject_col is None else frame[subject_col].to_numpy(),
            ties=ties,
            penalty=penalty,
            model=model,
            columns=columns,
            labels=frame.index.tolist(),
        )
        loss.strata_cols = strata or []
        return loss

    @property
    def parameter_names(self) -> list[str] | None:
        """Names of the coefficients; None for a network."""
        return self.columns if self.model is None else None

    def zeros(self) -> Params:
        """Return parameters to start from: zeros, or a network's present values."""
        if self.model is None:
            return torch.zeros(self.n_features, dtype=torch.float64)
        return named(self.model)

    def outputs(self, params: Params) -> Float[Tensor, " rows"]:
        """Return the log-risk of each row, in the order in which the rows were given."""
        return self.log_risks(params, self.x).index_select(0, self._unsorted)

    def outer_terms(self, outputs: Float[Tensor, "..."], presence: Float[Tensor, " n"]) -> Float[Tensor, " T"]:
        """Return the terms of the negative log partial likelihood of log-risks, one an event."""
        present = presence.index_select(0, self.object_of_row)
        return self.likelihood.event_terms(self._sorted(outputs), self.likelihood.weights * present, present)

    def gradients(self, params: Params, presence: Float[Tensor, "k n"]) -> Float[Tensor, "k p"] | None:
        """Return ∇L of a linear model at k stacked parameters, each with its own presence; None for a network."""
        if not isinstance(params, Tensor):
            return None
        present = pick(presence.to(self.x), self.object_of_row)
        theta = params.to(self.x)
        slopes = self.likelihood.slopes(theta @ self.x.T, self.likelihood.weights * present, present)
        return slopes @ self.x + self.penalty * theta

    def outer_differences(
        self, outputs: Float[Tensor, "..."], objects: Int[Tensor, " k"] | None = None
    ) -> Float[Tensor, " k"]:
        """Return ΔL_i as a function of the log-risks, in near-linear time.

        Exact to rounding. Objects with rows that overlap in time are evaluated one by one.
        """
        rows = self.likelihood.row_differences(self._sorted(outputs))
        return self._by_object(rows, objects, lambda one: self._masked(outputs, one))

    def _sorted(self, outputs: Tensor) -> Float[Tensor, " rows"]:
        """Return log-risks, (rows,) or (rows, 1), in the likelihood's order."""
        if outputs.numel() != len(self.x):
            raise ValueError(f"Cox needs one log-risk for each of {len(self.x)} rows, got {tuple(outputs.shape)}.")
        return outputs.reshape(-1).index_select(0, self.likelihood.sets.order)

    def removal_products(
        self, params: Params, directions: Float[Tensor, "p q"] | None = None, objects: Tensor | None = None
    ) -> Float[Tensor, "k q"]:
        """Return the derivative of `removal_differences` along each direction, all at once, or their Jacobian."""
        theta, unravel = ravel(params)
        if directions is None:
            chunk = max(2, PRODUCT_NUMBERS // len(self.x))
            return whole_jacobian(lambda part: self.removal_products(params, part, objects), theta, chunk_size=chunk)
        if isinstance(params, Tensor):
            moved = directions.T @ self.x.T
        else:
            moved = output_products(self, params, directions).index_select(0, self.likelihood.sets.order).T
        rows = self.likelihood.row_products(self.log_risks(params, self.x), moved)

        def one_by_one(chosen: list[int]) -> Tensor:
            masked = lambda flat: self._masked(self.outputs(unravel(flat)), chosen)  # noqa: E731
            return jacobian_products(masked, theta, directions).T

        return self._by_object(rows, objects, one_by_one).T

    def dense_hessian(self, params: Params, presence: Float[Tensor, " n"]) -> Float[Tensor, "p p"] | None:
        """Return ∇²L(θ, 1) of a linear model; None for a network, or with someone absent."""
        if isinstance(params, dict) or not bool((presence == 1).all()):
            return None
        ridge = self.penalty * torch.eye(len(params), dtype=params.dtype)
        return self.likelihood.hessian(self.log_risks(params, self.x), self.x) + ridge

    def _masked(self, outputs: Tensor, objects: list[int]) -> Float[Tensor, " k"]:
        return masked_differences(self.outer, outputs, Removals.of(objects, self.n_objects))

    def _by_object(
        self, rows: Float[Tensor, "... rows"], objects: Tensor | None, one_by_one: Callable[[list[int]], Tensor]
    ) -> Float[Tensor, "... k"]:
        """Return what rows amount to for the objects asked for; objects with overlapping rows are done one by one."""
        if self._place_of_object is not None:
            changes = rows.index_select(-1, self._place_of_object)
        else:
            changes = rows.new_zeros(*rows.shape[:-1], self.n_objects).index_add(-1, self.object_of_row, rows)
        if self._overlapping:
            asked = range(self.n_objects) if objects is None else objects.tolist()
            chosen = [number for number in asked if number in self._overlapping]
            if chosen:
                changes = changes.index_copy(-1, torch.tensor(chosen), one_by_one(chosen))
        return changes if objects is None else changes.index_select(-1, objects)
