"""Attribution through some parameters, against the loss with the others written in as constants."""

import pytest
import torch
from cases import LOSSES

import versatile_influence as vif

case = next(case for case in LOSSES if case.name == "cox, efron, network")


def test_scores_through_the_last_layer_are_those_of_the_loss_with_the_others_constant():
    loss = case.loss()
    params = vif.minimize(loss, case.params())
    last = list(params)[-1]
    part, chosen = vif.subset(loss, params, [last[:2] + "*"])
    assert list(chosen) == [last]

    def plain(value, presence):
        return loss(params | {last: value}, presence)

    for objects in (None, [2, 5]):
        ours = vif.attribute(part, chosen, part.target(loss.outputs), objects=objects)
        other = vif.attribute(
            plain, params[last], lambda v: loss.outputs(params | {last: v}), n_objects=12, objects=objects
        )
        torch.testing.assert_close(ours.scores, other.scores, rtol=1e-8, atol=1e-10)
    presence = torch.ones(12, dtype=torch.float64)
    torch.testing.assert_close(
        vif.GaussNewton(part, chosen, presence).dense(), vif.Hessian(part, chosen, presence).dense()
    )


def test_a_pattern_that_matches_nothing_is_refused_with_the_names():
    with pytest.raises(ValueError, match=r"`head\.\*` matches none of the parameters: 0.weight, 0.bias, 2.weight"):
        vif.subset(case.loss(), case.loss().zeros(), ["head.*"])
