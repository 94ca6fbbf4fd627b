"""On another device every loss, solver and verb gives what it gives on the processor.

On a GPU; where there is none, on a made-up device that refuses what a GPU would refuse.
"""

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import LOSSES, SOLVERS, data, mlp
from joblib import parallel_config

import versatile_influence as vif
from versatile_influence.core.ravel import flat

if torch.cuda.is_available():
    DEVICE = torch.device("cuda", 0)
else:
    from elsewhere import ELSEWHERE as DEVICE
    from elsewhere import MAKERS

    @pytest.fixture(autouse=True)
    def _tensors_are_made_there(monkeypatch):
        for name, make in MAKERS.items():
            monkeypatch.setattr(torch, name, make)


THERE = runpy.run_path(str(Path(__file__).parents[1] / "cases.py"), {"DEVICE": DEVICE})["LOSSES"]


# Losses with functions of the user's, which hold data of their own.
OF_OWN_DATA = {"any network", "logistic regression of groups", "logistic regression of groups, linear outputs"}


def numbers(params):
    parts = params.values() if isinstance(params, dict) else [params]
    return torch.cat([part.reshape(-1) for part in parts])[:6].sin()


def moved(params):
    if isinstance(params, dict):
        return {name: value.to(DEVICE) for name, value in params.items()}
    return params.to(DEVICE)


def same(there, here):
    assert there.device == DEVICE
    torch.testing.assert_close(there.cpu(), here, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize(("here", "there"), [*zip(LOSSES, THERE, strict=True)], ids=[case.name for case in LOSSES])
@pytest.mark.filterwarnings("ignore")
def test_a_loss_whose_data_are_there_scores_as_on_the_processor(here, there):
    if DEVICE.type == "elsewhere" and ("NDCG" in here.name or "Lambda" in here.name):
        pytest.skip("PyTorch's derivative of log σ knows no device but its own")
    params, loss, other = here.params(), here.loss(), there.loss()
    given = {"damping": 3.0, "check": False}
    found = vif.attribute(other, moved(params), numbers, **given).scores
    same(found, vif.attribute(loss, params, numbers, **given).scores)
    vif.check_loss(other, moved(params))
    if here.name not in OF_OWN_DATA:
        # Made on the processor, it follows the parameters.
        same(vif.attribute(loss, moved(params), numbers, **given).scores, found.cpu())
        steps = {"epochs": 3, "lr": 0.01}
        same(flat(vif.train(loss, moved(params), **steps)), flat(vif.train(loss, params, **steps)))


def row_losses(device):
    """Return a network's loss of twelve rows in several dresses."""
    x, y = data(1, 12, 2).to(device), data(2, 12).to(device)
    squares = lambda outputs, b: (b * (outputs[:, 0] - y) ** 2).sum()  # noqa: E731
    model = mlp(2, 1).to(device)

    def own(params, b):
        outputs = torch.func.functional_call(model, params, (x,))
        return squares(outputs, b) + 0.15 * sum(p.square().sum() for p in params.values())

    # Batches come from a DataLoader's workers, on the processor.
    parts = [list(range(12))[place : place + 5] for place in (0, 5, 10)]
    batches = [((data(1, 12, 2)[part], data(2, 12)[part]), part) for part in parts]
    each = vif.losses.EachObject(lambda outputs: (outputs[0][:, 0] - outputs[1]) ** 2)
    call = lambda model, batch: (model(batch[0].to(device)), batch[1].to(device))  # noqa: E731
    return {
        "outputs": vif.losses.OutputLoss(model, x, squares, n_objects=12, penalty=0.3),
        "batches": vif.losses.BatchedLoss(model, batches, each, call=call, penalty=0.3),
        "own": own,
    }


def by(solver):
    """Return a verb that solves so, with a Gauss–Newton matrix."""
    given = {"solver": solver, "damping": 1.0, "check": False, "curvature": vif.GaussNewton}
    return lambda *args, **more: vif.attribute(*args, **given, **more)


VERBS = {
    "attribute": vif.attribute,
    "newton step": vif.newton_step,
    "descend": vif.descend,
    "refit": vif.refit,
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
@pytest.mark.parametrize("dress", ["outputs", "own", "batches"])
@pytest.mark.filterwarnings("ignore")
def test_a_verb_gives_there_what_it_gives_here(verb, dress):
    here, there = row_losses("cpu")[dress], row_losses(DEVICE)[dress]
    start = {name: value.detach() for name, value in mlp(2, 1).named_parameters()}
    params = vif.minimize(here, start, n_objects=12)
    trained = vif.minimize(there, moved(start), n_objects=12)
    for name, value in trained.items():
        torch.testing.assert_close(value.cpu(), params[name], rtol=1e-5, atol=1e-7)
    same(verb(there, moved(params), numbers, n_objects=12).scores, verb(here, params, numbers, n_objects=12).scores)


@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
@pytest.mark.filterwarnings("ignore")
def test_every_solver_works_there(solver):
    here, there, params = (
        row_losses("cpu")["outputs"],
        row_losses(DEVICE)["outputs"],
        row_losses("cpu")["outputs"].zeros(),
    )
    found = by(solver)(there, moved(params), numbers).scores
    torch.testing.assert_close(found.cpu(), by(solver)(here, params, numbers).scores, rtol=1e-6, atol=1e-9)


@pytest.mark.filterwarnings("ignore")
def test_what_is_made_of_refits_and_training_there_is_what_it_is_here():
    made = []
    for device in ("cpu", DEVICE):
        loss = row_losses(device)["outputs"]
        start = {name: value.to(device) for name, value in loss.zeros().items()}
        params = vif.minimize(loss, start)
        scores = vif.attribute(loss, params, numbers)
        checked = vif.spot_check(scores, loss, params, numbers, k=3)
        first = lambda params: numbers(params)[:1]  # noqa: E731
        sets = vif.sensitivity(loss, params, vif.conclusions.below(first, first(params).item() + 0.01))
        trained = vif.train(loss, start, epochs=3, lr=0.05)
        changes = vif.parameter_changes(loss, params)
        made.append([checked.error, checked.truth.scores, numbers(trained), changes])
        made[-1].append(torch.tensor([*map(float, sets.removed)]))
    for here, there in zip(*made, strict=True):
        torch.testing.assert_close(there.cpu(), here.cpu(), rtol=1e-4, atol=1e-7)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("jobs", [1, 2])
def test_scores_are_written_there(tmp_path, jobs):
    here, there = row_losses("cpu")["outputs"], row_losses(DEVICE)["outputs"]
    params = vif.minimize(here, here.zeros())
    with parallel_config("threading"):
        found = vif.write_scores(there, moved(params), numbers, tmp_path, n_jobs=jobs).scores
    torch.testing.assert_close(found, vif.attribute(here, params, numbers).scores)


def test_a_cox_regression_has_its_frame_there():
    loss = LOSSES[0].loss()
    params = vif.minimize(loss, loss.zeros())
    there = THERE[0].loss()
    frame = vif.influence_frame(there, params.to(DEVICE))
    np.testing.assert_allclose(frame, vif.influence_frame(loss, params), rtol=1e-6, atol=1e-9)


def test_a_training_is_gone_through_there():
    def scored(device):
        x, y, model = data(1, 12, 2).to(device), data(2, 12).to(device), mlp(2, 1).to(device)

        def step_loss(params, some, presence):
            outputs = torch.func.functional_call(model, params, (x[some],))[:, 0]
            return (presence * (outputs - y[some]) ** 2).sum()

        steps = [(some.to(device), some) for some in torch.arange(60).reshape(20, 3) % 12]
        start = {name: value.detach() for name, value in model.named_parameters()}
        optimizer = vif.Adam(lr=0.05)
        return vif.unrolled(vif.Training(step_loss, steps, start=start, optimizer=optimizer, n_objects=12), numbers)

    same(scored(DEVICE).scores, scored("cpu").scores)


@pytest.mark.parametrize("model", [vif.losses.Softmax(), vif.losses.NegativeSampling()], ids=["softmax", "negative"])
@pytest.mark.filterwarnings("ignore")
def test_a_large_graph_is_trained_and_scored_there(model):
    import networkx as nx

    loss = vif.losses.WalkEmbeddingLoss(
        nx.barabasi_albert_graph(300, 3, seed=0), length=6, window=3, dim=4, penalty=0.5, model=model
    )
    params = vif.minimize(loss, loss.start())
    trained = vif.minimize(loss, moved(loss.start()))
    target = loss.pair_losses([(0, 1), (5, 9)])
    presence = torch.ones(300).double()
    torch.testing.assert_close(
        loss({name: one.cpu() for name, one in trained.items()}, presence), loss(params, presence), rtol=1e-6, atol=0
    )
    given = {"objects": [3, 30, 200], "solver": vif.CG(rtol=1e-6), "check": False}
    found = vif.attribute(loss, moved(params), target, **given).scores
    torch.testing.assert_close(found.cpu(), vif.attribute(loss, params, target, **given).scores, rtol=1e-3, atol=1e-8)
