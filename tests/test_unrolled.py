"""Training as a value is torch's, bit by bit, and what is attributed through it is its derivative."""

import json
import math
import os
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch.func import functional_call

import versatile_influence as vif
from experiments import through_training
from versatile_influence.core.removals import Removals
from versatile_influence.training.adjoint import Derivatives, backwards, forwards
from versatile_influence.training.replay import Replay

ROOT = Path(__file__).parent.parent
N, BATCH, EPOCHS = 12, 4, 4
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, 5, generator=DRAW, dtype=torch.float64)
Y = torch.randn(N, 2, generator=DRAW, dtype=torch.float64)
ORDERS = [torch.randperm(N, generator=DRAW).split(BATCH) for _ in range(EPOCHS)]
STEPS = [({"x": X[some], "y": [Y[some]]}, some) for order in ORDERS for some in order]
TESTS = torch.randn(3, 5, generator=DRAW, dtype=torch.float64)


def network(dtype=torch.float64):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(5, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).to(dtype)


NET = network()
START = {name: value.detach() for name, value in NET.named_parameters()}


def squares(params, batch, presence):
    x, y = batch["x"], batch["y"][0]
    like = params["0.weight"]
    errors = functional_call(NET, params, (x.to(like),)) - y.to(like)
    return (presence * errors.square().sum(dim=1)).sum() / len(x)


def contrastive(params, batch, presence):
    """In-batch negatives: who is absent is no row, and nobody's negative."""
    z = torch.nn.functional.normalize(functional_call(NET, params, (batch["x"],)), dim=-1)
    w = torch.nn.functional.normalize(batch["y"][0], dim=-1)
    likeness = (z @ w.T / 0.5).exp() * presence
    return (presence * (likeness.sum(dim=1) + (1 - presence)).log() - presence * (z * w).sum(dim=1) / 0.5).sum() / len(
        z
    )


def predictions(params):
    return functional_call(NET, params, (TESTS.to(params["0.weight"]),)).reshape(-1)


def made(optimizer, step_loss=squares, **options):
    return vif.Training(step_loss, STEPS, start=START, optimizer=optimizer, n_objects=N, **options)


def decaying(step):
    return 0.9**step


SGD = {"momentum": 0.9, "lr": 0.05}
ADAM = {"lr": 0.02, "eps": 1e-3}
GROUPS = [{"params": ["0.bias", "2.weight"], "weight_decay": 0.3}, {"params": ["2.bias"], "lr": 0.01}]
OPTIONS = {
    "plain": (vif.SGD(lr=0.1), torch.optim.SGD, {"lr": 0.1}, {}),
    "momentum": (vif.SGD(**SGD), torch.optim.SGD, SGD, {}),
    "dampening": (vif.SGD(dampening=0.3, **SGD), torch.optim.SGD, {"dampening": 0.3, **SGD}, {}),
    "nesterov": (vif.SGD(nesterov=True, **SGD), torch.optim.SGD, {"nesterov": True, **SGD}, {}),
    "decay": (vif.SGD(weight_decay=0.1, **SGD), torch.optim.SGD, {"weight_decay": 0.1, **SGD}, {}),
    "Adam": (vif.Adam(**ADAM), torch.optim.Adam, ADAM, {}),
    "Adam's default": (vif.Adam(), torch.optim.Adam, {}, {}),
    "Adam, decay": (vif.Adam(weight_decay=0.1, **ADAM), torch.optim.Adam, {"weight_decay": 0.1, **ADAM}, {}),
    "betas": (vif.Adam(betas=(0.8, 0.95), **ADAM), torch.optim.Adam, {"betas": (0.8, 0.95), **ADAM}, {}),
    "AdamW": (vif.AdamW(**ADAM), torch.optim.AdamW, ADAM, {}),
    "AdamW, decay": (vif.AdamW(weight_decay=0.2, **ADAM), torch.optim.AdamW, {"weight_decay": 0.2, **ADAM}, {}),
    "schedule": (vif.AdamW(**ADAM), torch.optim.AdamW, ADAM, {"schedule": decaying}),
    "clipping": (vif.SGD(**SGD), torch.optim.SGD, SGD, {"max_norm": 0.8}),
    "accumulation": (vif.AdamW(**ADAM), torch.optim.AdamW, ADAM, {"accumulation": 3}),
    "averaging": (vif.AdamW(**ADAM), torch.optim.AdamW, ADAM, {"averaging": 0.7}),
    "groups": (vif.SGD(**SGD), torch.optim.SGD, SGD, {"groups": GROUPS}),
    "everything": (
        vif.AdamW(**ADAM),
        torch.optim.AdamW,
        ADAM,
        {"schedule": decaying, "max_norm": 1.0, "accumulation": 2, "averaging": 0.4, "groups": GROUPS},
    ),
}


def by_torch(
    kind, settings, dtype, *, schedule=None, max_norm=None, accumulation=1, averaging=None, groups=(), without=()
):
    net = network(dtype)
    named = dict(net.named_parameters())
    own = [group | {"params": [named.pop(name) for name in group["params"]]} for group in groups]
    optimizer = kind([{"params": list(named.values())}, *own], **settings)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, schedule or (lambda step: 1.0))
    mean = None
    if averaging is not None:
        update = torch.optim.swa_utils.get_ema_multi_avg_fn(averaging)
        mean = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=update)
    for number, (batch, objects) in enumerate(STEPS, start=1):
        presence = torch.tensor([float(one not in without) for one in objects.tolist()], dtype=dtype)
        squares(dict(net.named_parameters()), batch, presence).backward()
        if number % accumulation:
            continue
        if max_norm is not None:
            torch.nn.utils.clip_grad_norm_(net.parameters(), max_norm)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if mean is not None:
            mean.update_parameters(net)
    return {name: value.detach() for name, value in (net if mean is None else mean.module).named_parameters()}


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_training_is_that_of_torch_to_the_last_bit(option, dtype):
    ours, kind, settings, options = OPTIONS[option]
    start = {name: value.detach() for name, value in network(dtype).named_parameters()}
    training = vif.Training(squares, STEPS, start=start, optimizer=ours, n_objects=N, **options)
    for without in ((), (3, 5)):
        expected = by_torch(kind, settings, dtype, without=without, **options)
        presence = torch.ones(N)
        presence[list(without)] = 0.0
        trained = training.run(presence)
        assert all(torch.equal(trained[name], value) for name, value in expected.items())


def along_presence(training, target, epsilon):
    """Return minus the derivative of the target along each object's weight, by central differences of trainings."""

    def after(presence):
        return target(training.unravel(training._trained(training.theta, presence)))

    rows = []
    for one in torch.eye(N, dtype=torch.float64):
        near, far = ((after(1 + step * one) - after(1 - step * one)) / (2 * step) for step in (epsilon, 2 * epsilon))
        # Richardson's: of fourth order.
        rows.append(-(4 * near - far) / 3)
    return torch.stack(rows)


@pytest.mark.parametrize("option", OPTIONS)
def test_scores_are_the_derivative_of_the_whole_training_along_presence(option):
    ours, _, _, options = OPTIONS[option]
    training = made(ours, **options)
    scores = vif.unrolled(training, predictions).scores
    expected = along_presence(training, predictions, 1e-6 if option == "Adam's default" else 1e-5)
    assert (scores - expected).abs().max() <= 1e-6 * expected.abs().max()


@pytest.mark.parametrize("step_loss", [squares, contrastive])
@pytest.mark.parametrize("objects", [None, [2, 7], [[0, 1, 2], [5], [11, 3]]])
@pytest.mark.parametrize("option", ["nesterov", "everything"])
def test_forwards_and_backwards_give_the_same_scores(step_loss, objects, option):
    ours, _, _, options = OPTIONS[option]
    training = made(ours, step_loss, **options)
    removals = Removals.of(objects, N)
    replay = Replay.of(training)
    gradients = torch.func.jacrev(lambda theta: predictions(training.unravel(theta)))(replay.theta)
    adjoint, changes = backwards(replay, gradients.clone(), removals), forwards(replay, removals)
    torch.testing.assert_close(adjoint, changes @ gradients.T, rtol=1e-10, atol=1e-13)
    # Which of them is chosen hangs on which is shorter.
    torch.testing.assert_close(
        vif.unrolled(training, predictions, objects=objects).scores, adjoint, rtol=1e-10, atol=1e-13
    )


@pytest.mark.parametrize("option", ["clipping", "everything"])
def test_columns_of_a_step_are_taken_apart_and_give_the_same(option, monkeypatch):
    ours, _, _, options = OPTIONS[option]
    whole, scores = made(ours, **options).run(), vif.unrolled(made(ours, **options), predictions).scores
    monkeypatch.setattr("versatile_influence.training.stepping.CHUNK_NUMBERS", 7)
    apart = made(ours, **options).run()
    assert all(torch.equal(apart[name], value) for name, value in whole.items())
    with vif.memory_budget(1e-5):
        torch.testing.assert_close(vif.unrolled(made(ours, **options), predictions).scores, scores)


@pytest.mark.parametrize("objects", [None, [[0, 1, 2], [5], [11, 3]]])
def test_over_a_whole_removal_forwards_and_backwards_give_the_same_and_sgd_is_as_at_a_point(objects):
    training = made(vif.AdamW(lr=0.02), contrastive, max_norm=1.0, accumulation=2)
    removals, replay = Removals.of(objects, N), Replay.of(training)
    gradients = torch.func.jacrev(lambda theta: predictions(training.unravel(theta)))(replay.theta)
    backward = backwards(replay, gradients.clone(), removals, smooth=True)
    torch.testing.assert_close(backward, forwards(replay, removals, smooth=True) @ gradients.T, rtol=1e-9, atol=1e-13)
    torch.testing.assert_close(
        vif.unrolled(training, predictions, objects=objects, smooth=True).scores, backward, rtol=1e-9, atol=1e-13
    )
    plain = made(vif.SGD(lr=0.1, momentum=0.9))
    assert torch.equal(vif.unrolled(plain, predictions, smooth=True).scores, vif.unrolled(plain, predictions).scores)


def test_over_a_whole_removal_adam_agrees_with_retraining_where_its_slope_at_a_point_does_not():
    draw = torch.Generator().manual_seed(5)
    x, y = torch.randn(40, 30, generator=draw).double(), torch.randn(40, generator=draw).double()
    step_loss = lambda theta, some, presence: (presence * (x[some] @ theta - y[some]) ** 2).sum() / len(some)  # noqa: E731
    steps = [(some, some) for some in torch.randperm(40, generator=draw).split(20)]
    start, target = torch.zeros(30).double(), lambda theta: x[:8] @ theta
    training = vif.Training(step_loss, steps, start=start, optimizer=vif.AdamW(lr=1e-2), n_objects=40)
    truth = vif.leave_one_out(training, target, progress=False)
    point, over = (vif.unrolled(training, target, smooth=smooth) for smooth in (False, True))
    assert vif.pearson(over, truth).mean() > 0.7
    assert vif.pearson(over, truth).mean() > vif.pearson(point, truth).mean() + 0.2
    # What is added to eps: the root mean square of what removals change.
    rms = [
        torch.func.vmap(lambda i, some=some: 2 * (x[some[i]] @ start - y[some[i]]) * x[some[i]] / 20)(torch.arange(20))
        for some, _ in steps[:1]
    ]
    width = Derivatives(training).width(0, start, training.gradient(0, start), Removals.of(None, 40))
    assert width == pytest.approx(rms[0].square().mean().sqrt().item(), rel=0.5)


def test_over_a_whole_removal_clipping_takes_any_scale_out_of_the_loss():
    options = {"max_norm": 0.1}
    one, other = (
        made(vif.Adam(lr=0.05), lambda params, batch, b, size=size: size * squares(params, batch, b), **options)
        for size in (1.0, 1e4)
    )
    scores = vif.unrolled(one, predictions, smooth=True).scores
    torch.testing.assert_close(vif.unrolled(other, predictions, smooth=True).scores, scores, rtol=1e-3, atol=1e-5)


def test_slopes_leave_out_pairs_about_the_removed_and_keep_what_is_constant():
    training = made(vif.SGD(lr=0.1, momentum=0.5), contrastive)
    about = torch.tensor([[3], [-1], [-1]])
    both = lambda params: torch.stack([predictions(params)[0]] * 2 + [0 * predictions(params)[0]])  # noqa: E731
    target = vif.LabelledTarget(both, ["own", "free", "constant"], about=about)
    scores = vif.unrolled(training, target)
    check = vif.spot_check(scores, training, target=target, k=12)
    truth, rest = check.truth.scores, check.truth.objects != 3
    single = scores.scores[check.truth.objects]
    slope = lambda rows, column: (  # noqa: E731
        (single[rows, column] * truth[rows, column]).sum() / single[rows, column].square().sum()
    )
    expected = torch.stack([slope(rest, 0), slope(rest | True, 1), torch.tensor(1.0).double()])
    torch.testing.assert_close(check.slopes, expected)
    assert not check.calibrated(scores).scores[:, 2].any()
    with pytest.raises(ValueError, match="other targets"):
        check.calibrated(vif.unrolled(training, predictions))


def test_removals_that_meet_in_a_batch_are_as_in_retraining():
    # Of one in four, so by small steps.
    training = made(vif.SGD(lr=1e-3, momentum=0.5), contrastive)
    for objects in (None, [[0, 1], [4, 9, 2]]):
        scores = vif.unrolled(training, predictions, objects=objects).scores
        truth = vif.leave_one_out(training, predictions, objects=objects, progress=False).scores
        # Trained together, as rows of one.
        many = vif.leave_one_out(training, predictions, objects=objects, batch_size=5, progress=False).scores
        torch.testing.assert_close(many, truth, rtol=1e-6, atol=1e-12)
        assert torch.corrcoef(torch.stack([scores.ravel(), truth.ravel()]))[0, 1] >= 0.99
        assert (scores - truth).abs().max() <= 0.15 * truth.abs().max()


def test_of_a_group_in_a_sum_the_score_is_the_sum_and_in_a_contrast_it_is_not():
    for step_loss, same in ((squares, True), (contrastive, False)):
        training = made(vif.SGD(lr=0.1), step_loss)
        single = vif.unrolled(training, predictions).scores
        group = vif.unrolled(training, predictions, objects=[[1, 4, 7], [0]]).scores
        assert torch.allclose(group[0], single[[1, 4, 7]].sum(dim=0), rtol=1e-9) is same
        torch.testing.assert_close(group[1], single[0])


def test_a_target_of_presence_has_its_direct_part_and_its_own_gradient():
    training = made(vif.SGD(lr=0.1, momentum=0.5))
    weights = torch.linspace(1, 2, N, dtype=torch.float64)

    def target(params, presence):
        return (presence @ weights) * predictions(params)

    found = vif.unrolled(training, vif.PresenceTarget(target, labels=list("abcdef")), objects=[0, 5])
    changes = forwards(Replay.of(training), Removals.of([0, 5], N))
    trained = training.run()
    jacobian = torch.func.jacrev(lambda theta: predictions(training.unravel(theta)))(
        torch.cat([value.reshape(-1) for value in trained.values()])
    )
    left = weights.sum() - weights[[0, 5]]
    torch.testing.assert_close(found.direct, -weights[[0, 5]][:, None] * predictions(trained))
    torch.testing.assert_close(found.parameter, left[:, None] * (changes @ jacobian.T))
    torch.testing.assert_close(found.scores, found.direct + found.parameter)
    assert found.targets == list("abcdef")


def test_the_finite_difference_of_a_step_is_what_counts_and_not_the_slope():
    # One step of gradient descent: retraining is the gradient without the object, exactly.
    training = vif.Training(contrastive, STEPS[:1], start=START, optimizer=vif.SGD(lr=1e-3), n_objects=N)
    linear = lambda params: torch.stack([value.sum() for value in params.values()])  # noqa: E731
    truth = vif.leave_one_out(training, linear, progress=False).scores
    torch.testing.assert_close(vif.unrolled(training, linear).scores, truth, rtol=1e-8, atol=1e-13)


def test_an_object_twice_in_a_batch_leaves_twice_and_one_in_none_has_no_effect():
    twice = [({"x": X[[1, 1, 3]], "y": [Y[[1, 1, 3]]]}, [1, 1, 3])]
    training = vif.Training(contrastive, twice, start=START, optimizer=vif.SGD(lr=1e-3), n_objects=N)
    linear = lambda params: torch.stack([value.sum() for value in params.values()])  # noqa: E731
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        truth = vif.leave_one_out(training, linear, progress=False).scores
    scores = vif.unrolled(training, linear).scores
    torch.testing.assert_close(scores, truth, rtol=1e-8, atol=1e-13)
    assert not scores[[0, 2]].any()


@pytest.mark.parametrize("gigabytes", [1e-5, 1e-4, 1e-3])
def test_states_kept_and_states_repeated_give_the_same(gigabytes):
    steps = STEPS * 3
    training = vif.Training(contrastive, steps, start=START, optimizer=vif.AdamW(**ADAM), n_objects=N)
    whole = vif.unrolled(training, predictions).scores
    with vif.memory_budget(gigabytes):
        torch.testing.assert_close(vif.unrolled(training, predictions).scores, whole, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("length", [1, 2, 7, 100, 1000])
def test_a_long_training_holds_few_states(length, monkeypatch):
    monkeypatch.setattr("versatile_influence.training.replay.STATE_BYTES", 0)
    steps = [(X[:2], [0, 1])] * length
    step_loss = lambda theta, x, presence: (presence * (x.mean(dim=1) - theta) ** 2).sum()  # noqa: E731
    start = torch.tensor(0.0, dtype=torch.float64)
    training = vif.Training(step_loss, steps, start=start, optimizer=vif.SGD(lr=1e-3), n_objects=2)
    counted, held = [], 0
    replay = Replay.of(training)
    run = vif.Training.gradient

    def counting(self, step, *rest):
        counted.append(step)
        return run(self, step, *rest)

    monkeypatch.setattr(vif.Training, "gradient", counting)
    assert [step for step, _, _ in replay.backwards()] == list(reversed(range(length)))
    held = len(replay.marks) + replay.room
    assert held <= 2 * math.isqrt(length) + 3
    # Each step once more, and the last to see that it gives the same.
    assert len(counted) <= length + 1


def test_where_a_unit_is_dead_scores_are_finite_and_it_has_none():
    def step_loss(params, batch, presence):
        hidden = torch.relu(batch["x"] @ params["first"] + params["shift"])
        return (presence * (hidden @ params["second"] - batch["y"][0][:, 0]) ** 2).sum()

    # The first unit never lives, whoever is there.
    start = {
        "first": X[:5, :3] * 0.3,
        "shift": torch.tensor([-50.0, 0.4, 0.2]).double(),
        "second": torch.ones(3).double(),
    }
    training = vif.Training(step_loss, STEPS, start=start, optimizer=vif.Adam(lr=0.01, eps=1e-3), n_objects=N)
    scores = vif.unrolled(training, lambda params: params["first"].reshape(-1)).scores.reshape(N, 5, 3)
    assert scores.isfinite().all()
    assert not scores[:, :, 0].any()
    assert scores[:, :, 1:].any()


def test_scores_of_a_training_in_float32_are_in_float64_and_right():
    exact = vif.unrolled(made(vif.AdamW(**ADAM)), predictions).scores
    start = {name: value.float() for name, value in START.items()}
    training = vif.Training(squares, STEPS, start=start, optimizer=vif.AdamW(**ADAM), n_objects=N)
    scores = vif.unrolled(training, predictions).scores
    assert scores.dtype == torch.float64
    torch.testing.assert_close(scores, exact, rtol=1e-3, atol=1e-5 * exact.abs().max().item())


def test_what_is_frozen_is_a_constant():
    frozen = {name: torch.nn.Parameter(value, requires_grad=name != "0.weight") for name, value in START.items()}
    training = vif.Training(squares, STEPS, start=frozen, optimizer=vif.SGD(lr=0.1), n_objects=N)
    assert torch.equal(training.run()["0.weight"], START["0.weight"])

    def held(params, batch, presence):
        return squares(params | {"0.weight": START["0.weight"]}, batch, presence)

    rest = {name: value for name, value in START.items() if name != "0.weight"}
    same = vif.Training(held, STEPS, start=rest, optimizer=vif.SGD(lr=0.1), n_objects=N)
    expected = vif.unrolled(same, lambda params: predictions(params | {"0.weight": START["0.weight"]})).scores
    torch.testing.assert_close(vif.unrolled(training, predictions).scores, expected)


def test_a_loss_that_is_random_is_named():
    def step_loss(params, batch, presence):
        return squares(params, batch, presence) * (1 + 0.1 * torch.rand(()))

    drawn = iter(range(1000))

    def changing(params, batch, presence):
        return squares(params, batch, presence) * (2 if next(drawn) == 17 else 1)

    with vif.memory_budget(1e-6), pytest.raises(ValueError, match="One of steps [0-9]+ to [0-9]+ of the training"):
        vif.unrolled(made(vif.SGD(lr=0.1), changing), predictions)
    with pytest.raises(ValueError, match=r"Step 11 of the training .* `step_loss` is random"):
        vif.unrolled(made(vif.SGD(lr=0.1), step_loss), predictions)


def test_attention_is_computed_by_the_formula():
    x = torch.randn(6, 1, 3, 4, generator=DRAW)

    def step_loss(params, batch, presence):
        asked = batch @ params
        seen = torch.nn.functional.scaled_dot_product_attention(asked, asked, batch)
        return (presence * seen.square().sum(dim=(1, 2, 3))).sum()

    training = vif.Training(step_loss, [(x, range(6))] * 3, start=torch.eye(4), optimizer=vif.SGD(lr=1e-3), n_objects=6)
    truth = vif.leave_one_out(training, lambda theta: theta.reshape(-1), progress=False).scores
    scores = vif.unrolled(training, lambda theta: theta.reshape(-1)).scores
    assert vif.pearson(scores, truth).min() > 0.98


@pytest.mark.parametrize("batch_size", [None, 3])
def test_a_ready_loss_makes_the_training_that_train_runs(batch_size):
    loss = vif.losses.PairwiseLoss([0, 1, 2, 3, 1], [1, 2, 3, 4, 4], penalty=0.5)
    given = {"epochs": 5, "batch_size": batch_size, "seed": 2, "scale": 0.2}
    training = vif.Training.of(loss, loss.zeros(), optimizer=vif.SGD(lr=0.02), **given)
    assert torch.equal(training.run(), vif.train(loss, loss.zeros(), optimizer=vif.SGD(), lr=0.02, **given))
    scores = vif.unrolled(training, lambda theta: theta).scores
    alone = vif.leave_one_out(training, lambda theta: theta, progress=False).scores
    together = vif.leave_one_out(training, lambda theta: theta, batch_size=loss.n_objects, progress=False).scores
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-12)
    assert torch.corrcoef(torch.stack([scores.ravel(), alone.ravel()]))[0, 1] > 0.99


def test_a_few_retrainings_say_how_scores_agree_and_calibrate_them():
    training = made(vif.SGD(lr=0.1, momentum=0.5), contrastive)
    scores = vif.unrolled(training, predictions)
    check = vif.spot_check(scores, training, target=predictions, k=12)
    truth = vif.leave_one_out(training, predictions, progress=False)
    assert check.truth.objects.tolist() != list(range(N))
    torch.testing.assert_close(check.truth.scores, truth.scores[check.truth.objects])
    slopes = (scores.scores * truth.scores).sum(dim=0) / scores.scores.square().sum(dim=0)
    torch.testing.assert_close(check.slopes, slopes)
    calibrated = check.calibrated(scores)
    torch.testing.assert_close(calibrated.scores, scores.scores * slopes)
    assert (calibrated.scores - truth.scores).norm() < (scores.scores - truth.scores).norm()
    assert calibrated.made["calibrated"] == "on 12 removals"
    with pytest.raises(TypeError, match="parameters of its own"):
        vif.spot_check(scores, training, START, predictions)
    with pytest.raises(TypeError, match="Which parameters"):
        vif.spot_check(scores, lambda params, presence: presence.sum(), target=predictions)


def test_of_a_target_of_presence_the_direct_part_is_not_calibrated():
    training = made(vif.SGD(lr=0.1, momentum=0.5))
    target = vif.PresenceTarget(lambda params, presence: presence.sum() * predictions(params))
    scores = vif.unrolled(training, target)
    check = vif.spot_check(scores, training, target=target, k=12)
    calibrated = check.calibrated(scores)
    torch.testing.assert_close(calibrated.scores, calibrated.direct + calibrated.parameter)
    assert torch.equal(calibrated.direct, scores.direct)
    truth = vif.leave_one_out(training, target, progress=False)
    assert (calibrated.scores - truth.scores).norm() < (scores.scores - truth.scores).norm()


def kinked(params, batch, presence):
    hidden = (batch["x"].to(params["first"]) @ params["first"]).relu()
    return (presence * (hidden @ params["second"] - batch["y"][0][:, 0]) ** 2).sum()


def test_metasmoothness_is_one_of_small_steps_and_less_at_kinks():
    smooth = made(vif.SGD(lr=1e-3))
    near = vif.metasmoothness(smooth, predictions, pairs=6)
    assert near.value > 0.99
    together = vif.metasmoothness(smooth, predictions, pairs=6, batch_size=9)
    assert together.value == pytest.approx(near.value)
    # By hand, of the pair drawn first.
    one, two = torch.randperm(N, generator=torch.Generator().manual_seed(3))[:2].tolist()
    training = made(vif.SGD(lr=0.3), contrastive)
    a, b, both = vif.leave_one_out(
        training, predictions, objects=[[one], [two], [one, two]], progress=False
    ).scores.unbind()
    by_hand = [
        (there.abs() * torch.sign(there) * torch.sign(both - other)).sum() / there.abs().sum()
        for there, other in ((a, b), (b, a))
    ]
    found = vif.metasmoothness(training, predictions, pairs=1, seed=3)
    assert found.value == pytest.approx(sum(by_hand).item() / 2)
    start = {"first": X[:5, :3], "second": torch.ones(3, dtype=torch.float64)}
    rough = vif.Training(kinked, STEPS * 10, start=start, optimizer=vif.Adam(lr=0.3, eps=1e-12), n_objects=N)
    values = lambda params: (TESTS @ params["first"]).relu() @ params["second"]  # noqa: E731
    far = vif.metasmoothness(rough, values, pairs=6)
    assert far.value < 0.8
    with pytest.raises(ValueError, match="at least two removals"):
        vif.metasmoothness(training, predictions, objects=[3])


def test_what_makes_no_training_is_named():
    with pytest.raises(ValueError, match=r"`steps\[0\]` is 12 at position 1; it must be a whole number, 0 to 11"):
        vif.Training(squares, [(X, [0, 12])], start=START, optimizer=vif.SGD(), n_objects=N)
    with pytest.raises(ValueError, match="a multiple of accumulation=5"):
        made(vif.SGD(), accumulation=5)
    with pytest.raises(ValueError, match="needs momentum"):
        vif.SGD(nesterov=True)
    with pytest.raises(ValueError, match="diverged"):
        vif.unrolled(made(vif.SGD(lr=1e200)), predictions)
    with pytest.warns(UserWarning, match="Every score is 0"):
        vif.unrolled(made(vif.SGD(), lambda params, batch, presence: squares(params, batch, 1.0)), predictions)


class Augmented(torch.utils.data.Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, number):
        return {"x": number + torch.rand(()), "name": str(number)}


def test_a_loader_is_recorded_as_a_loop_over_it_would_see_it():
    def loader():
        torch.manual_seed(0)
        draw = torch.Generator().manual_seed(1)
        return torch.utils.data.DataLoader(Augmented(), batch_size=3, shuffle=True, generator=draw)

    looped = loader()
    expected = [batch for _ in range(2) for batch in looped]
    steps = vif.recorded(loader(), epochs=2)
    assert len(steps) == len(expected) == 6
    for (batch, objects), seen in zip(steps, expected, strict=True):
        assert torch.equal(batch["x"], seen["x"])
        assert batch["name"] == seen["name"] == [str(number) for number in objects.tolist()]
    with pytest.raises(TypeError, match="must make batches of numbered items"):
        vif.recorded(torch.utils.data.DataLoader(X, batch_size=None), epochs=1)


def test_the_example_of_the_page_finds_the_pairs_and_agrees_with_retraining(capsys):
    page = (ROOT / "docs" / "through_training.md").read_text()
    torch.manual_seed(0)
    exec(compile(re.findall(r"```python\n(.*?)```", page, flags=re.S)[0], "through_training.md", "exec"), {})
    told = capsys.readouterr().out.split("against retraining: ")[1]
    assert min(json.loads(told)) > 0.85


@pytest.mark.data
def test_the_experiment_runs_and_its_record_holds_what_is_asked(tmp_path, monkeypatch):
    if "VIF_DATA" not in os.environ:
        pytest.skip("no real data here: set VIF_DATA to the folder that holds them")
    monkeypatch.setattr("sys.argv", ["through_training.py", "--quick", "--out", str(tmp_path)])
    through_training.main()
    quick = json.loads((tmp_path / "through_training-quick.json").read_text())["numbers"]
    assert quick["METABRIC, tanh"]["over starts"]["r"]["least"] > 0.9
    record = json.loads((ROOT / "experiments" / "results" / "through_training.json").read_text())["numbers"]
    assert record["METABRIC, tanh"]["over starts"]["pooled"]["least"] >= 0.92
    assert record["METABRIC, softplus"]["over starts"]["pooled"]["least"] >= 0.95
    assert all(record[f"SimCLR, seed {seed}"]["through training"]["r"] >= 0.93 for seed in (0, 1))
