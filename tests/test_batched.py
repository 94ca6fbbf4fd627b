"""A module over batches that are read one at a time: the same numbers as with all data in one tensor."""

import pytest
import torch
from sklearn.datasets import load_digits

import versatile_influence as vif
from experiments.digits_contrastive import TEMPERATURE, encoder, views

N, BATCH = 40, 20


class Two(torch.nn.Module):
    """Both views by one encoder."""

    def __init__(self, one):
        super().__init__()
        self.one = one

    def forward(self, first, second):
        """Return the embeddings of each."""
        return self.one(first), self.one(second)


@pytest.fixture(scope="module")
def digits():
    """Return the in-memory loss, its trained parameters, a target, and the views."""
    images = torch.from_numpy(load_digits().images)[:N] / 16
    model, seen = encoder(0), views(images, 0)
    batches = torch.arange(N).reshape(-1, BATCH).tolist()
    loss = vif.losses.InfoNCELoss(seen, batches=batches, model=model, temperature=TEMPERATURE, penalty=8.0)
    params = vif.minimize(loss, loss.zeros(), gtol=1e-6)

    def target(params):
        z = torch.nn.functional.normalize(torch.func.functional_call(model, params, (seen[0, :8],)), dim=-1)
        return (z[:4] * z[4:]).sum(1)

    scores = vif.attribute(loss, params, target, curvature=vif.GaussNewton, check=False).scores
    return model, seen, params, target, scores


def streamed(model, seen, **arguments):
    batches = [(tuple(seen[:, some]), some) for some in torch.arange(N).split(BATCH)]
    outer = vif.losses.Contrast(temperature=TEMPERATURE)
    call = lambda model, batch: (model(batch[0]), model(batch[1]))  # noqa: E731
    return vif.losses.BatchedLoss(model, batches, outer, call=call, penalty=8.0, **arguments)


@pytest.mark.parametrize("arguments", [{}, {"at_once": 7}, {"at_once": 1}, {"differences": True}])
@pytest.mark.parametrize("solver", [vif.CG(rtol=1e-10), vif.Explicit()])
def test_scores_are_those_of_the_loss_in_memory_at_any_size_of_reading(digits, arguments, solver):
    model, seen, params, target, scores = digits
    loss = streamed(model, seen, **arguments)
    found = vif.attribute(loss, params, target, curvature=vif.GaussNewton, solver=solver, check=False).scores
    assert (found - scores).abs().max() <= 1e-6 * scores.abs().max()
