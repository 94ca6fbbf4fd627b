"""Linear datamodelling scores (Park et al. 2023) through training, beside methods that look at its end.

50 random halves of the objects are left out; the score of a method is the rank correlation over halves of what the sums
of its scores say and what retraining without them shows, by the same start and the same steps, a target at a time, then
averaged. Intervals are normal ones from a bootstrap over the halves, on Fisher's scale.

SimCLR on digits: the training of `through_training.py`, two seeds. Methods of the end are of the contrastive loss of
the last epoch's batches: influence by the Gauss–Newton matrix with a little damping, EK-FAC, and gradients of the
removal differences on 512 random projections, (ΦᵀΦ + λ)⁻¹ among them, as TRAK does with gradients of samples.
all-MiniLM-L6-v2: the training of `sentence_encoder.py` on 96 pairs in two epochs; of the end, influence by the
Gauss–Newton matrix of the last epoch's batches with the penalty of AdamW's weight decay, 0.01 of the mean loss,
solved by CG to 3e-2, and the gradients of the removal differences on 512 projections (each parameter on one of them,
signed).

    python experiments/linear_datamodeling.py [--quick]
"""

import tempfile
import warnings

import torch

import versatile_influence as vif
from experiments.run import Run
from experiments.sentence_encoder import ASKED, Encoder, fine_tuned
from experiments.sentence_encoder import BATCH as PAIR_BATCH
from experiments.sentence_encoder import TEMPERATURE as PAIR_TEMPERATURE
from experiments.sentence_scores import LOOSE, WEIGHT_DECAY, Sentences
from experiments.through_training import BATCH, IMAGES, TEMPERATURE, simclr
from versatile_influence.reading.evaluation import bootstrap_interval, lds, random_groups, summed

HALVES, EPOCHS, PROJECTED, DAMPING = 50, 40, 512, 0.02
PAIRS, PAIR_EPOCHS = 96, 2


def scored(scores, truth):
    """Return the score with its interval."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        value = lds(scores, truth).nanmean().item()
        interval = bootstrap_interval(summed(scores, truth), truth, statistic=vif.spearman, fisher=True)
    return {"LDS": value, "low": interval.low, "high": interval.high}


def projected(features, gradients, *, seed, scores):
    """Return scores by removal differences (n, p) and gradients of targets (t, p) on a few random projections."""
    draw = torch.Generator().manual_seed(seed)
    down = torch.randn(features.shape[1], min(PROJECTED, features.shape[1]), generator=draw) / PROJECTED**0.5
    return by_kernel(*(part.float() @ down for part in (features, gradients)), scores=scores)


def by_kernel(few, asked, *, scores):
    """Return scores by projections of the removal differences (n, k) and of the gradients of targets (t, k)."""
    kernel = few.T @ few
    kernel.diagonal().add_(DAMPING * kernel.diagonal().mean())
    return vif.Attribution((few @ torch.linalg.solve(kernel, asked.T)).double(), scores.objects, scores.n_objects)


def images(run, seed):
    """Return the scores of SimCLR."""
    training, target, _ = simclr(seed, epochs=2 if run.quick else EPOCHS)
    halves = random_groups(IMAGES, count=6 if run.quick else HALVES, fraction=0.5, seed=seed)
    truth = vif.leave_one_out(training, target, objects=halves, batch_size=10, progress=False)
    scores = vif.unrolled(training, target)
    last = training.steps[-(IMAGES // BATCH) :]
    views = torch.zeros(2, IMAGES, 64, dtype=torch.float64)
    for both, some in last:
        views[:, some] = both.double().reshape(2, len(some), 64)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 8)).double()
    loss = vif.losses.InfoNCELoss(
        views, batches=[some for _, some in last], model=model, temperature=TEMPERATURE, penalty=1e-3 * IMAGES
    )
    params = {name: value.double() for name, value in training.run().items()}
    wide = lambda params: target({name: value.float() for name, value in params.items()}).double()  # noqa: E731
    given = {"curvature": vif.GaussNewton, "check": False}
    found = {"through training": scores}
    with warnings.catch_warnings():
        # That this is no minimum is what is measured.
        warnings.simplefilter("ignore")
        found["end, Gauss-Newton"] = vif.attribute(loss, params, wide, damping=DAMPING, **given)
        found["end, EK-FAC"] = vif.attribute(loss, params, wide, solver=vif.EKFAC(), **given)
    differences = loss.removal_products(params)
    flat = torch.cat([value.reshape(-1) for value in params.values()])
    shaped = training.unravel
    gradients = torch.func.jacrev(lambda vector: wide(shaped(vector)))(flat)
    found["end, projected gradients"] = projected(differences, gradients, seed=seed, scores=scores)
    return {name: scored(one, truth) for name, one in found.items()}


def at_the_end(encoder, training, asked, *, seed, scores):
    """Return the scores of methods that look at the end of the sentence encoder's training."""
    encoder.model.set_attn_implementation("sdpa")
    model, end = Sentences(encoder.model), training.run()
    encoder.model.load_state_dict({name: value.float() for name, value in end.items()}, strict=False)
    params = {name: value.detach() for name, value in model.named_parameters()}
    batches = training.steps[-(PAIRS // PAIR_BATCH) :]
    outer = vif.losses.Contrast(one_way=True, temperature=PAIR_TEMPERATURE)

    def target(params):
        one, other = torch.func.functional_call(model, params, tuple(asked))
        return (one * other).sum(dim=1)

    with warnings.catch_warnings():
        # That this is no minimum is what is measured.
        warnings.simplefilter("ignore")
        loss = vif.losses.BatchedLoss(model, batches, outer, penalty=WEIGHT_DECAY * PAIRS)
        given = {"solver": vif.CG(rtol=LOOSE), "curvature": vif.GaussNewton, "check": False}
        influence = vif.attribute(loss, params, target, **given)
    draw, trained = torch.Generator().manual_seed(seed), list(model.parameters())
    size = sum(one.numel() for one in trained)
    place, sign = torch.randint(PROJECTED, (size,), generator=draw), 2.0 * torch.randint(2, (size,), generator=draw) - 1

    def sketched(value):
        slopes = torch.autograd.grad(value, trained, retain_graph=True)
        flat = torch.cat([slope.reshape(-1) for slope in slopes])
        return torch.zeros(PROJECTED).index_add_(0, place, sign * flat)

    few = torch.zeros(PAIRS, PROJECTED)
    for batch, some in batches:
        questions, answers = model(*batch)
        alike = questions @ answers.T / PAIR_TEMPERATURE
        for row, one in enumerate(some.tolist()):
            others = [other for other in range(len(some)) if other != row]
            # What goes without it: its own term, and what it is among the candidates of others.
            lost = alike.logsumexp(dim=1) - alike.diagonal()
            left = alike[others][:, others].logsumexp(dim=1) - alike.diagonal()[others]
            few[one] = sketched(lost.sum() - left.sum())
    one, other = model(*asked)
    gradients = torch.stack([sketched(value) for value in (one * other).sum(dim=1)])
    return {
        "end, Gauss-Newton": influence,
        "end, projected gradients": by_kernel(few, gradients, scores=scores),
    }


def sentences(run):
    """Return the scores of the sentence encoder."""
    encoder = Encoder()
    training = fine_tuned(encoder, count=PAIRS, epochs=PAIR_EPOCHS, seed=run.seed)
    asked = [encoder.tokens(some) for some in zip(*ASKED.values(), strict=True)]
    target = lambda params: (encoder(params, asked[0]) * encoder(params, asked[1])).sum(dim=1)  # noqa: E731
    halves = random_groups(PAIRS, count=3 if run.quick else HALVES, fraction=0.5, seed=run.seed)
    with tempfile.TemporaryDirectory() as folder:
        scores = vif.unrolled(training, target, store=folder)
    truth = vif.leave_one_out(training, target, objects=halves)
    found = {"through training": scores} | at_the_end(encoder, training, asked, seed=run.seed, scores=scores)
    return {name: scored(one, truth) for name, one in found.items()}


def main():
    """Run all, and record after each."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    numbers = {"halves": HALVES}
    for seed in (0,) if run.quick else (0, 1):
        numbers[f"SimCLR, seed {seed}"] = images(run, seed)
        print(numbers, flush=True)
        run.record(numbers)
    numbers["MiniLM"] = sentences(run)
    print(numbers, flush=True)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
