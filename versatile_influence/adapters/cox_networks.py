"""Cox networks of pycox and torchsurv as losses of presence."""

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from versatile_influence.core.arguments import module
from versatile_influence.core.checks import instance, number
from versatile_influence.losses.cox.loss import CoxLoss

Trained = tuple[CoxLoss, dict[str, Tensor]]


def from_pycox(model: Any, x: Any, target: Any, *, penalty: float | None = None) -> Trained:
    """Return the loss of a pycox `CoxPH`, and the parameters of its network.

    Theirs is the mean over events of Breslow's likelihood, in which tied times come in any order; ours is the sum. The
    optimiser's weight decay then is the penalty, times the events (of a full batch; of mini-batches it is a guess).
    Training stops early: bring it to a minimum, `vif.minimize(loss, params)`, or attribute through it, `vif.Training`.

    Args:
        model: A `pycox.models.CoxPH`.
        x: (n, d) what its network was trained on.
        target: (durations, events).
        penalty: λ of (λ/2)‖θ‖² added to the sum, in place of what the optimiser says.

    Raises:
        TypeError: If it is another model.
        ValueError: If the log-risks here are not those that the model predicts.
    """
    from pycox.models import CoxPH

    instance(model, "model", CoxPH, "pycox.models.CoxPH(net)")
    durations, events = (torch.as_tensor(column).detach().cpu() for column in target)
    if penalty is None:
        groups = model.optimizer.optimizer.param_groups if model.optimizer is not None else []
        decays = [0.0 if group.get("decoupled_weight_decay") else group.get("weight_decay", 0.0) for group in groups]
        penalty = max(decays, default=0.0) * float(events.sum())
    rows = torch.as_tensor(x).detach().cpu()
    loss, params = _trained(model.net, rows, durations, events, ties="breslow", penalty=penalty)
    theirs = torch.as_tensor(model.predict(rows.float())).reshape(-1)
    _agrees(loss.log_risk(rows)(params), theirs)
    return loss, params


def from_torchsurv(
    model: torch.nn.Module,
    x: Any,
    event: Any,
    time: Any,
    *,
    ties_method: str = "efron",
    strata: Any = None,
    penalty: float = 0.0,
) -> Trained:
    """Return torchsurv's `neg_partial_log_likelihood(…, reduction="sum")` of a network, and its parameters.

    Args:
        model: The network, to one log-hazard a row.
        x: (n, d) its input.
        event: Events, as theirs.
        time: Times, as theirs.
        ties_method: Theirs.
        strata: Theirs.
        penalty: λ of (λ/2)‖θ‖² added to the sum; theirs is a mean over events if not told otherwise, whose weight decay
            is λ over the events.

    Raises:
        TypeError: If the model is no module.
        ValueError: If the value here is not theirs.
    """
    from torchsurv.loss.cox import neg_partial_log_likelihood

    rows, times, events = (torch.as_tensor(column).detach().cpu() for column in (x, time, event))
    strata = None if strata is None else torch.as_tensor(strata)
    loss, params = _trained(model, rows, times, events, ties=ties_method, penalty=penalty, strata=strata)
    network = loss.model
    assert network is not None
    with torch.no_grad(), warnings.catch_warnings():
        # It warns of ties, which both are told how to handle.
        warnings.simplefilter("ignore")
        log_hazards = network(rows.to(next(network.parameters()).dtype)).double().reshape(-1)
        given = {"ties_method": ties_method, "reduction": "sum", "strata": strata}
        theirs = neg_partial_log_likelihood(log_hazards, events.bool(), times.double(), **given)
    held = loss.penalty / 2 * sum(float(value.double().square().sum()) for value in params.values())
    _agrees(loss(params, torch.ones(len(rows), dtype=torch.float64)).reshape(1) - held, theirs.reshape(1))
    return loss, params


def _trained(net: Any, rows: Tensor, durations: Tensor, events: Tensor, **given: Any) -> Trained:
    given["penalty"] = number(given["penalty"], "penalty", least=0)
    module(net)
    # Dropout draws, normalisation by batch mixes rows: what is explained is the network that predicts. A copy, since
    # whoever predicts with theirs or trains it on sets its mode.
    net = copy.deepcopy(net).cpu().eval()
    loss = CoxLoss(rows.double(), durations.double(), events.double(), model=net, **given)
    params = {name: value.detach().double() for name, value in net.named_parameters() if value.requires_grad}
    return loss, params


def _agrees(ours: Tensor, theirs: Tensor) -> None:
    """Raise where numbers here are not those there."""
    if not torch.allclose(ours.double(), theirs.double(), rtol=1e-4, atol=1e-5):
        worst = int((ours.double() - theirs.double()).abs().argmax())
        raise ValueError(
            f"Here it is {ours[worst].item():.6g}, there {theirs[worst].item():.6g} (number {worst}). Is the data as "
            "the network saw it: scaled, in the same order, with the same ties and strata?"
        )
