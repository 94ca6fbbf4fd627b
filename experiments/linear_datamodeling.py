"""Linear datamodelling scores (Park et al. 2023) through training, beside methods that look at its end.

50 random halves of the objects are left out; the score of a method is the rank correlation over halves of what the sums
of its scores say and what retraining without them shows, by the same start and the same steps, a target at a time, then
averaged. Intervals are normal ones from a bootstrap over the halves, on Fisher's scale.

SimCLR on digits: the training of `through_training.py`, two seeds. Methods of the end are of the contrastive loss of
the last epoch's batches: influence by the Gauss–Newton matrix with a little damping, EK-FAC, and gradients of the
removal differences on 512 random projections, (ΦᵀΦ + λ)⁻¹ among them, as TRAK does with gradients of samples.
all-MiniLM-L6-v2: the training of `sentence_encoder.py` on 96 pairs in two epochs; no method of the end solves with 22.6
million parameters here but the projected gradients.

    python experiments/linear_datamodeling.py [--quick]
"""

import tempfile
import warnings

import torch

import versatile_influence as vif
from experiments.run import Run
from experiments.sentence_encoder import ASKED, Encoder, fine_tuned
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
    few, asked = (part.float() @ down for part in (features, gradients))
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
    return {"through training": scored(scores, truth)}


def main():
    """Run all, and record after each."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    numbers = {"halves": HALVES}
    for seed in (0,) if run.quick else (0, 1):
        numbers[f"SimCLR, seed {seed}"] = images(run, seed)
        print(numbers, flush=True)
        run.record(numbers)
    numbers["MiniLM"] = sentences(run) if not run.quick else {}
    print(numbers, flush=True)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
