"""Attribution through training (`vif.unrolled`) against retraining with the same start and the same steps.

METABRIC: the paper's neural Cox model, 9 → 4 → 1 without bias, by its protocol (Appendix B: Adam, learning rate 0.01,
full batch, 200 epochs; weight decay 0.01 in the mean loss). One patient at a time; targets are the relative risks of
test patients. Beside it the endpoint's scores, which is what the paper's Table 5 reports (VIF, explicit: 0.238). Wider
networks, of 64 and 256 units, with 200 patients removed.

Digits: SimCLR as it is trained, with augmentations drawn anew in each step, AdamW, and batches of 40 shuffled images;
objects are images, removed in groups of 12, and targets the cosine similarities of pairs of test images.

r is the mean over targets of the correlation across removals; `pooled` that over all numbers; the slope is that of
retraining on scores through 0; a jump is a removal that moves all targets together more than five times the median.
`metasmoothness` is that of `vif.metasmoothness` with its interval, of ten pairs of removals; `trainings a target`
counts the seconds of `vif.unrolled`, its own training too, in those of one training.

    python experiments/through_training.py [--quick]
"""

import time
import warnings

import torch
from sklearn.datasets import load_digits

import versatile_influence as vif
from experiments.run import Run
from experiments.table5 import EPOCHS, HIDDEN, LR, loss_of, network, ranged
from versatile_influence import datasets

ACTIVATIONS = {"tanh": torch.nn.Tanh, "softplus": torch.nn.Softplus, "ReLU": torch.nn.ReLU}
PAPER = 0.238  # Table 5, VIF (explicit), METABRIC, neural network
AT_ONCE = 64  # retrainings together
WIDE, FEW = (64, 256), 200  # units of wider networks, and patients removed there
IMAGES, TESTED, PAIRS, GROUPS, GROUP, BATCH = 240, 40, 60, 24, 12, 40
TEMPERATURE, NOISE, STEP, WEIGHT_DECAY = 0.5, 0.15, 3e-3, 1e-2


def against(scores, truth):
    """Return how scores agree with retraining, with and without removals that jump."""
    # Of a test patient for whom every hidden unit of ReLU is dead nothing changes.
    alive = truth.std(dim=0) * scores.std(dim=0) > 0
    scores, truth = scores[:, alive], truth[:, alive]
    size = truth.norm(dim=1)
    calm = size <= 5 * size.median()
    return {
        "r": vif.pearson(scores, truth).mean().item(),
        "pooled": vif.pearson(scores.reshape(-1, 1), truth.reshape(-1, 1)).item(),
        "slope": ((scores * truth).sum() / scores.square().sum()).item(),
        "jumps": int((~calm).sum()),
        "r without jumps": vif.pearson(scores[calm], truth[calm]).mean().item(),
    }


def timed(work):
    """Return what `work` gives, and its seconds on the processor."""
    began = time.process_time()
    return work(), time.process_time() - began


def measured(training, target, endpoint, *, objects, batch_size=None):
    """Return the numbers of one training."""
    training.run()
    params, alone = timed(training.run)
    found, seconds = timed(lambda: vif.unrolled(training, target, objects=objects))
    truth, spent = timed(
        lambda: vif.leave_one_out(training, target, objects=objects, batch_size=batch_size, progress=False)
    )
    smooth = vif.metasmoothness(training, target, objects=objects, pairs=10, batch_size=batch_size or 10)
    numbers = {
        "through training": against(found.scores, truth.scores),
        "metasmoothness": [smooth.low, smooth.value, smooth.high],
    }
    with warnings.catch_warnings():
        # That this is no minimum, and that the scores are not to be trusted, is what is measured.
        warnings.simplefilter("ignore")
        for name, scores in endpoint(params).items():
            numbers[name] = against(scores, truth.scores)
    return numbers | {
        "removals": truth.scores.shape[0],
        "targets": truth.scores.shape[1],
        "seconds of a training": alone,
        "trainings for all scores": seconds / alone,
        "trainings a target": seconds / alone / truth.scores.shape[1],
        "seconds of all retrainings": spent,
    }


def of_patients(data, activation, seed, *, removed, epochs=EPOCHS, hidden=HIDDEN):
    """Return the numbers of the Cox network."""
    loss = loss_of(data, network(activation, seed, hidden))
    training = vif.Training.of(loss, loss.zeros(), epochs=epochs, optimizer=vif.Adam(lr=LR), scale=1 / loss.n_objects)
    target = loss.relative_risk(data.test)

    def endpoint(params):
        given = {"objects": removed, "curvature": vif.GaussNewton}
        return {"endpoint, Gauss-Newton": vif.attribute(loss, params, target, **given).scores}

    return measured(training, target, endpoint, objects=removed, batch_size=AT_ONCE)


def simclr(seed, *, epochs):
    """Return the training of an encoder of digits, its target and the groups."""
    digits, draw = load_digits(), torch.Generator().manual_seed(0)
    order = torch.randperm(len(digits.data), generator=draw)[: IMAGES + TESTED]
    images = torch.tensor(digits.data[order.numpy()] / 16, dtype=torch.float32)
    pairs = torch.randint(TESTED, (2, PAIRS), generator=draw)
    groups = [torch.randperm(IMAGES, generator=draw)[:GROUP].tolist() for _ in range(GROUPS)]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8))
    embedded = lambda params, x: torch.nn.functional.normalize(  # noqa: E731
        torch.func.functional_call(model, params, (x,)), dim=-1
    )

    def step_loss(params, views, presence):
        z, there = embedded(params, views), presence.repeat(2)
        own = torch.eye(len(z), dtype=torch.bool)
        # Who is absent is nobody's candidate; the divisor is that of the batch.
        scores = (z @ z.T / TEMPERATURE).masked_fill(own, -torch.inf) + torch.where(there > 0, 0.0, -1e9)
        partner = (z * z.roll(len(z) // 2, 0)).sum(dim=1) / TEMPERATURE
        return (there * (scores.logsumexp(dim=1) - partner)).sum() / len(z)

    def view(x):
        shift = torch.randint(-1, 2, (2,), generator=drawn).tolist()
        return torch.roll(x.reshape(-1, 8, 8), shift, (1, 2)).flatten(1) + NOISE * torch.randn(x.shape, generator=drawn)

    def target(params):
        z = embedded(params, images[IMAGES:])
        return (z[pairs[0]] * z[pairs[1]]).sum(dim=1)

    drawn = torch.Generator().manual_seed(seed)
    steps = [
        (torch.cat([view(images[some]), view(images[some])]), some)
        for _ in range(epochs)
        for some in torch.randperm(IMAGES, generator=drawn).split(BATCH)
    ]
    start = {name: value.detach() for name, value in model.named_parameters()}
    optimizer = vif.AdamW(lr=STEP, weight_decay=WEIGHT_DECAY)
    return vif.Training(step_loss, steps, start=start, optimizer=optimizer, n_objects=IMAGES), target, groups


def main():
    """Run all, and record after each."""
    run = Run.of(__file__, __doc__)
    data = datasets.metabric()
    removed = list(range(20 if run.quick else len(data.train)))
    numbers = {"paper, VIF": PAPER}

    def recorded(name, found):
        numbers[name] = found
        print(name, found, flush=True)
        run.record(numbers)

    for name, activation in ACTIVATIONS.items():
        seeds = range(run.seed, run.seed + (1 if run.quick else 3))
        given = {"removed": removed, "epochs": 10 if run.quick else EPOCHS}
        each = [of_patients(data, activation, seed, **given) for seed in seeds]
        over = {part: ranged([one["through training"][part] for one in each]) for part in ("r", "pooled")}
        recorded(f"METABRIC, {name}", {"over starts": over, "starts": each})
    for hidden in () if run.quick else WIDE:
        some = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(run.seed))[:FEW].tolist()
        found = of_patients(data, torch.nn.Tanh, run.seed, removed=some, hidden=hidden)
        recorded(f"METABRIC, tanh, {hidden} units", found)
    for seed in (0,) if run.quick else (0, 1):
        training, target, groups = simclr(seed, epochs=2 if run.quick else 40)
        recorded(f"SimCLR, seed {seed}", measured(training, target, lambda _: {}, objects=groups))


if __name__ == "__main__":
    main()
