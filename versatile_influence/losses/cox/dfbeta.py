"""The classical influence function of Cox regression, for comparison."""

from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from versatile_influence.core.checks import instance
from versatile_influence.core.derivatives import jacobian_products
from versatile_influence.core.ravel import Params, ravel
from versatile_influence.losses.cox.loss import CoxLoss


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
        >>> loss = CoxLoss([[1.0], [0.0], [1.0], [0.0]], durations=[1, 2, 3, 4], events=[1, 1, 0, 1])
        >>> dfbeta(loss, torch.tensor([0.3466], dtype=torch.float64)).shape
        torch.Size([4, 1])
    """
    theta, unravel = ravel(params)
    theta, outer = theta.double(), instance(loss, "loss", CoxLoss, "vif.losses.CoxLoss(…)").outer
    everyone = torch.ones_like(outer.weights)

    def value(weights: Tensor, flat: Tensor) -> Tensor:
        return outer.event_terms(outer.weighted(loss.outputs(unravel(flat)), weights, everyone)).sum()

    scores = outer.weights[:, None] * jacobian_products(partial(torch.func.grad(value), outer.weights), theta)
    by_object = scores.new_zeros(loss.n_objects, len(theta)).index_add(0, outer.object_of_row, scores)
    return -torch.linalg.solve(loss.hessian(unravel(theta), loss.everyone(theta)), by_object.T).T
