"""Training steps are those of torch.optim, and many trainings at once are each what training alone gives."""

import pytest
import torch

import versatile_influence as vif

N, D = 30, 4
DRAW = torch.Generator().manual_seed(0)
X = torch.randn(N, D, generator=DRAW, dtype=torch.float64)
Y = X @ torch.arange(1.0, D + 1, dtype=torch.float64) + torch.randn(N, generator=DRAW, dtype=torch.float64)
MASKS = 1 - torch.eye(N, dtype=torch.float64)
INIT = torch.zeros(D, dtype=torch.float64)


class Regression(vif.Loss):
    n_objects = N

    def __init__(self, rows=None):
        self.rows = torch.arange(N) if rows is None else rows
        self.n_terms = len(self.rows)

    def __call__(self, params, presence):
        return self.terms(params, presence).sum()

    def terms(self, params, presence):
        theta, rows = params if isinstance(params, torch.Tensor) else params["slope"], self.rows
        return presence[rows] * (Y[rows].to(theta) - X[rows].to(theta) @ theta) ** 2 / 2

    def part(self, terms):
        return Regression(self.rows[terms])


def test_the_loss_that_is_trained_is_what_it_says():
    vif.check_loss(Regression(), INIT + 0.3)


OPTIMIZERS = [
    (vif.Adam(), torch.optim.Adam, {}),
    (vif.Adam(betas=(0.8, 0.95), eps=1e-4), torch.optim.Adam, {"betas": (0.8, 0.95), "eps": 1e-4}),
    (vif.AdamW(), torch.optim.AdamW, {}),
    (vif.SGD(), torch.optim.SGD, {}),
    (vif.SGD(momentum=0.9), torch.optim.SGD, {"momentum": 0.9}),
    (vif.SGD(momentum=0.5, nesterov=True), torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
]


def by_torch(kind, presence, *, dtype, weight_decay, batch_size, **settings):
    theta = INIT.to(dtype, copy=True).requires_grad_()
    optimizer = kind([theta], lr=0.01, weight_decay=weight_decay, **settings)
    order = torch.Generator().manual_seed(7)
    for _ in range(6):
        for terms in torch.randperm(N, generator=order).split(batch_size or N):
            optimizer.zero_grad()
            (Regression(terms)(theta, presence.to(dtype)) / len(terms)).backward()
            optimizer.step()
    return theta.detach()


@pytest.mark.parametrize(("ours", "kind", "settings"), OPTIMIZERS)
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
@pytest.mark.parametrize("batch_size", [None, 8])
def test_steps_are_those_of_torch(ours, kind, settings, weight_decay, batch_size):
    for dtype, rtol in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        expected = by_torch(kind, MASKS[3], dtype=dtype, weight_decay=weight_decay, batch_size=batch_size, **settings)
        given = {"optimizer": ours, "weight_decay": weight_decay, "batch_size": batch_size, "scale": 1 / N}
        trained = vif.train(Regression(), INIT.to(dtype), MASKS[3], epochs=6, lr=0.01, seed=7, **given)
        torch.testing.assert_close(trained, expected, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("optimizer", [vif.Adam(), vif.AdamW(), vif.SGD(momentum=0.9)])
@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("gigabytes", [1.0, 3e-6])
def test_many_at_once_are_each_what_one_alone_is(optimizer, batch_size, gigabytes):
    given = {"optimizer": optimizer, "epochs": 4, "lr": 0.01, "batch_size": batch_size, "seed": 3, "scale": 1 / N}
    start = {"slope": INIT}
    with vif.memory_budget(gigabytes):
        together = vif.train(Regression(), start, MASKS[:9], **given)["slope"]
    alone = torch.stack([vif.train(Regression(), start, mask, **given)["slope"] for mask in MASKS[:9]])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_a_loss_with_gradients_by_hand_trains_as_without(dtype, ties):
    loss = vif.losses.CoxLoss(X, Y.abs().round(decimals=1), torch.arange(N) % 3 > 0, ties=ties, penalty=0.1)
    given = {"epochs": 20, "lr": 0.1, "scale": 1 / N}
    together = vif.train(loss, INIT.to(dtype), MASKS[:7], **given)
    assert together.dtype == dtype
    alone = torch.stack([vif.train(loss, INIT.to(dtype), mask, **given) for mask in MASKS[:7]])
    rtol = 1e-10 if dtype == torch.float64 else 1e-4
    torch.testing.assert_close(together, alone, rtol=rtol, atol=rtol)


def test_training_long_enough_reaches_the_least_squares_solution():
    trained = vif.train(Regression(), INIT, epochs=2000, lr=0.02, optimizer=vif.SGD())
    torch.testing.assert_close(trained, torch.linalg.lstsq(X, Y[:, None]).solution[:, 0])


def test_leave_one_out_takes_batched_training_as_its_fit():
    def fit(presence, *, seed):
        return vif.train(Regression(), INIT, presence, epochs=5, lr=0.1, batch_size=8, seed=seed)

    given = {"n_objects": N, "seeds": [0, 1], "progress": False}
    alone = vif.leave_one_out(fit, torch.sin, **given)
    together = vif.leave_one_out(fit, torch.sin, batch_size=N, **given)
    torch.testing.assert_close(together.by_seed, alone.by_seed, rtol=1e-10, atol=1e-12)


def test_a_loss_of_float64_alone_is_trained_in_float32_too():
    def stubborn(theta, presence):
        return (presence * (Y - X @ theta) ** 2).sum() / 2

    given = {"epochs": 30, "lr": 0.01, "scale": 1 / N}
    rounded = vif.train(stubborn, INIT.float(), MASKS[:3], **given)
    assert rounded.dtype == torch.float32
    exact = vif.train(stubborn, INIT, MASKS[:3], **given)
    torch.testing.assert_close(rounded.double(), exact, rtol=1e-5, atol=1e-6)


def test_another_seed_is_another_training_and_the_same_seed_the_same():
    def run(seed):
        return vif.train(Regression(), INIT, epochs=2, lr=0.1, batch_size=4, seed=seed)

    assert torch.equal(run(1), run(1))
    assert not torch.equal(run(1), run(2))


def test_bad_settings_are_named():
    good = {"epochs": 1, "lr": 0.1}
    for wrong, message in [
        ({"epochs": 0}, "`epochs` must be .* at least 1"),
        ({"lr": -1.0}, "`lr` must be .* more than 0"),
        ({"batch_size": 0}, "`batch_size` must be .* at least 1"),
        ({"scale": 0.0}, "`scale` must be .* more than 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            vif.train(Regression(), INIT, **(good | wrong))
    with pytest.raises(ValueError, match="30 objects"):
        vif.train(Regression(), INIT, torch.ones(4), **good)
    with pytest.raises(ValueError, match=r"must be of shape \(30,\), or \(k, 30\)"):
        vif.train(Regression(), INIT, torch.ones(1, 1, N), **good)
    with pytest.raises(TypeError, match=r"Sampling terms needs a loss with `n_terms` terms.*without `batch_size`"):
        vif.train(lambda theta, presence: presence.sum() * theta.sum(), INIT, torch.ones(N), batch_size=2, **good)
    with pytest.raises(ValueError, match="diverged"):
        vif.train(Regression(), INIT, epochs=300, lr=100.0, optimizer=vif.SGD())
