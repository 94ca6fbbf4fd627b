"""Influence as statisticians know it, one row an object: dfbeta, dfbetas, displacement, leverage, case deletion."""

from statistics import NormalDist
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from versatile_influence.core.arguments import flag
from versatile_influence.core.checks import instance, number
from versatile_influence.core.curvature import in_units
from versatile_influence.core.finished import warn_if_unfinished
from versatile_influence.core.places import follow, verb
from versatile_influence.core.problem import Problem
from versatile_influence.core.ravel import Params
from versatile_influence.core.sizes import at_once
from versatile_influence.core.target import PresenceTarget
from versatile_influence.losses.cox.dfbeta import dfbeta, standard_errors
from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.losses.cox.wald import covariance, inverse, normal_tail, score_residuals
from versatile_influence.verbs.newton_step import newton_step
from versatile_influence.verbs.refit import refit
from versatile_influence.verbs.without import hessians_without

if TYPE_CHECKING:
    import pandas as pd


@verb
def influence_frame(loss: CoxLoss, params: Params, *, exact: bool = False, level: float = 0.95) -> "pd.DataFrame":
    """Return what each object does to a Cox regression, one row an object, in the manner of statsmodels' frames.

    For each coefficient, with its name behind an underscore:

    - `dfbeta`: the classical estimate of θ − θ₋ᵢ; R's `residuals(fit, "dfbeta", weighted = TRUE)`, with its sign;
    - `dfbetas`: that over the standard error from the information; R's `residuals(fit, "dfbetas", …)`;
    - `score`: the score residual; R's `residuals(fit, "score", weighted = TRUE)`;
    - `coef`, `hr`, `hr_low`, `hr_high`, `p`: what deleting the object adds to the coefficient, the hazard ratio, its
      confidence limits and Wald's p, standard errors computed anew (robust ones where `loss.robust`).

    And of the object: `displacement`, 2 (L(θ₋ᵢ) − L(θ)) with everybody in L (Cook 1986), and `leverage`, the share of
    the information that goes with it, tr H⁻¹(H − H₋ᵢ). Subjects and clusters are deleted, and summed, with all their
    rows. The frame's `attrs` hold `se` and `robust_se` by coefficient. Takes time ∝ n².

    Args:
        loss: A linear Cox loss.
        params: Its minimum.
        exact: Whether deletions are refitted; otherwise they are one Newton step each.
        level: Of the confidence limits.

    Raises:
        TypeError: If the loss is none of Cox regression.
        ValueError: If it is of a network, or the level is not between 0 and 1.

    Warns:
        UserWarning: If the parameters are not at a minimum.

    References:
        Reid & Crepeau (1985); Cook (1986), "Assessment of local influence"; Therneau & Grambsch (2000), §7.

    Example:
        >>> trial = CoxLoss([[1.0], [0.0], [1.0], [0.0], [1], [0]], range(1, 7), [1, 1, 1, 1, 0, 1], columns=["drug"])
        >>> from versatile_influence.training.minimize import minimize
        >>> frame = influence_frame(trial, minimize(trial, trial.zeros()), exact=True)
        >>> frame[["dfbeta_drug", "coef_drug"]].round(2).iloc[0].tolist()
        [0.36, -0.61]
    """
    import pandas as pd

    instance(loss, "loss", CoxLoss, "vif.losses.CoxLoss(…)")
    exact, level = flag(exact, "exact"), number(level, "level", above=0, below=1)
    names = [str(name) for name in loss.coefficients().labels or []]
    problem = Problem.of(loss, params)
    theta, everyone, loss = problem.theta, problem.everyone(), follow(loss, problem.theta)
    changes, naive = dfbeta(loss, theta), standard_errors(loss, theta, robust=False)
    deleted = (refit if exact else newton_step)(loss, theta, _wald(loss, level)).scores
    # At no minimum, what deletion adds is mixed with what finishing the fit would.
    unfinished = inverse(loss.hessian(theta, everyone), loss.units) @ problem.gradient
    warn_if_unfinished(problem, unfinished, deleted[:, : len(theta)].nan_to_num(0.0))
    moved = theta + deleted[:, : len(theta)]
    # What could not be left out has no numbers of its own.
    there = moved.nan_to_num(0.0)
    values = vmap(lambda point: loss(point, everyone), chunk_size=at_once(loss.n_objects))(there)
    displacement = torch.where(moved.isnan().any(1), torch.nan, 2 * (values - problem.value()))
    blocks = {"dfbeta": changes, "dfbetas": changes / naive, "score": score_residuals(loss, theta)}
    blocks |= dict(zip(("coef", "hr", "hr_low", "hr_high", "p"), deleted.split(len(theta), dim=1), strict=True))
    columns = {
        f"{kind}_{name}": block[:, place].cpu().numpy()
        for kind, block in blocks.items()
        for place, name in enumerate(names)
    }
    columns |= {"displacement": displacement.cpu().numpy(), "leverage": _leverage(problem).cpu().numpy()}
    labels = range(loss.n_objects) if loss.object_labels is None else loss.object_labels
    frame = pd.DataFrame(columns, index=pd.Index(list(labels), name="object", tupleize_cols=False))
    robust = standard_errors(loss, theta, robust=True)
    frame.attrs = {
        kind: dict(zip(names, of.tolist(), strict=True)) for kind, of in (("se", naive), ("robust_se", robust))
    }
    return frame


def _wald(loss: CoxLoss, level: float) -> PresenceTarget:
    """Return coefficients, hazard ratios, their limits and p as one target."""
    width = NormalDist().inv_cdf((1 + level) / 2)

    def numbers(params: Tensor, presence: Tensor) -> Tensor:
        errors = covariance(loss, params, presence, robust=loss.robust).diagonal().sqrt()
        limits = [(params + sign * width * errors).exp() for sign in (-1, 1)]
        return torch.cat([params, params.exp(), *limits, normal_tail(params / errors)])

    return PresenceTarget(numbers)


def _leverage(problem: Problem) -> Float[Tensor, " n"]:
    """Return tr H⁻¹(H − H₋ᵢ) of each object, the penalty being nobody's."""
    loss = problem.loss
    whole = loss.hessian(problem.params, problem.everyone())
    factor, shares = torch.linalg.cholesky(in_units(whole, loss.units)), []
    for _, curvatures in hessians_without(problem):
        lost = in_units(whole - curvatures, loss.units)
        shares.append(torch.cholesky_solve(lost, factor).diagonal(dim1=-2, dim2=-1).sum(-1))
    return torch.cat(shares)
