"""The classical influence function of Cox regression, for comparison, and the standard errors it makes robust."""

from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import instance
from versatile_influence.core.ravel import Params, ravel
from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.losses.cox.wald import covariance, inverse, score_residuals


def dfbeta(loss: CoxLoss, params: Params) -> Float[Tensor, "n p"]:
    """Return the classical estimate of θ − θ₋ᵢ, one row an object: Reid & Crepeau's influence function over n.

    It is the derivative of θ in the case weight of the object, times the weight (the infinitesimal jackknife), where
    the VIF takes the object out of every risk set exactly; the two differ by O(1/n) relative to themselves (Theorem
    3.2). Equivalent to R's `residuals(fit, "dfbeta", weighted = TRUE)`, with `collapse` by subject. Note the sign: R
    subtracts the change, `parameter_changes` returns it. n times a row is the paper's IF_n(i) of Appendix A.5.

    Args:
        loss: The Cox loss.
        params: Its minimum.

    References:
        Reid & Crepeau (1985), "Influence functions for proportional hazards regression"; Cain & Lange (1984).

    Example:
        >>> import torch
        >>> loss = CoxLoss([[1.0], [0.0], [1.0], [0.0]], durations=[1, 2, 3, 4], events=[1, 1, 0, 1])
        >>> dfbeta(loss, torch.tensor([0.3466], dtype=torch.float64)).shape
        torch.Size([4, 1])
    """
    instance(loss, "loss", CoxLoss, "vif.losses.CoxLoss(…)")
    theta, unravel = ravel(params)
    theta = theta.double()
    hessian = loss.hessian(unravel(theta), loss.everyone(theta))
    return score_residuals(loss, unravel(theta)) @ inverse(hessian, loss.units)


def standard_errors(loss: CoxLoss, params: Params, *, robust: bool | None = None) -> Float[Tensor, " p"]:
    """Return the standard errors of the coefficients.

    Robust ones are those of Lin & Wei's sandwich, √Σᵢ dfbetaᵢ², over the loss's objects, patients or subjects with all
    their rows, summed over clusters where it has any. Those from the information, √diag H⁻¹, take every row for
    a patient of its own.

    Args:
        loss: The Cox loss.
        params: Its minimum.
        robust: Which; None for what R prints by default (`loss.robust`): robust where there are clusters, weights
            that are no counts, or subjects with more than one event.

    Raises:
        ValueError: If it is of a network.

    References:
        Lin & Wei (1989), "The robust inference for the Cox proportional hazards model".

    Example:
        >>> import torch
        >>> loss = CoxLoss([[1.0], [0.0], [1.0], [0.0]], durations=[1, 2, 3, 4], events=[1, 1, 0, 1])
        >>> theta = torch.tensor([0.8814], dtype=torch.float64)
        >>> [round(standard_errors(loss, theta, robust=kind).item(), 2) for kind in (False, True)]
        [1.48, 1.23]
    """
    instance(loss, "loss", CoxLoss, "vif.losses.CoxLoss(…)").coefficients()
    theta, unravel = ravel(params)
    chosen = loss.robust if robust is None else robust
    return covariance(loss, unravel(theta.double()), loss.everyone(theta.double()), robust=chosen).diagonal().sqrt()
