"""A contrastive encoder of handwritten digits (scikit-learn's): which images taught it that two others are alike?

SimCLR: two noisy, shifted views of each image, drawn once and fixed, must find each other among the views of their
batch (temperature 0.5). The encoder has a convolution and a linear layer, 560 parameters, and weight decay. Embeddings
get a last coordinate of 1 before they are normalised: else their length would not matter to the loss, weight decay
would shrink them to zero, and there would be no minimum. Objects are images; without one, its anchors go and all
others of its batch lose two candidates, so the loss is no sum over images. Targets are the cosine similarity of pairs
of test images, and the contrastive loss of test images. Ground truth *stationary*: refits warm-started from the trained
parameters. The picture shows, for one test image, the training images whose removal changes its contrastive loss most.

    python experiments/digits_contrastive.py [--quick]
"""

import time
import warnings

import torch
from sklearn.datasets import load_digits

import versatile_influence as vif
from experiments.run import Run

TEMPERATURE, WEIGHT_DECAY, BATCH, NOISE, GTOL = 0.5, 0.1, 20, 0.15, 1e-6
N_TRAIN, N_TEST, N_PAIRS, N_REMOVED = 100, 30, 40, 20
SHOWN = 7
# No rotation of all embeddings changes the loss: the Hessian is flat there, and a little damping keeps CG away.
DAMPING = 0.02
METHODS = {
    "CG on the Hessian": {"solver": vif.CG(rtol=1e-3, max_steps=300), "damping": DAMPING},
    "CG on Gauss-Newton": {"solver": vif.CG(rtol=1e-3, max_steps=300), "curvature": vif.GaussNewton},
    "EK-FAC": {"solver": vif.EKFAC(num_draws=32), "curvature": vif.GaussNewton},
    "EK-FAC, rank 16": {"solver": vif.EKFAC(num_draws=32, rank=16), "curvature": vif.GaussNewton},
    "EK-FAC and 10 steps of CG": {
        "solver": vif.CG(rtol=1e-3, max_steps=10, preconditioner=vif.EKFAC(num_draws=32)),
        "damping": DAMPING,
    },
}


def encoder(seed):
    """Return the encoder: from (…, 64) pixels to (…, 9)."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = torch.nn.Conv2d(1, 4, 3, stride=2, padding=1), torch.nn.Tanh(), torch.nn.Flatten()
        return Encoder(torch.nn.Sequential(*layers, torch.nn.Linear(64, 8))).double()


class Encoder(torch.nn.Module):
    """Layers that take pictures, applied to (…, 64) pixels."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, pixels):
        """Return the embeddings, with a 1 appended."""
        embedded = self.layers(pixels.reshape(-1, 1, 8, 8)).reshape(*pixels.shape[:-1], -1)
        return torch.cat([embedded, torch.ones_like(embedded[..., :1])], dim=-1)


def views(images, seed):
    """Return two views (2, n, 64) of each image: shifted by at most a pixel, with noise."""
    draw = torch.Generator().manual_seed(seed)
    shifted = [
        torch.stack(
            [torch.roll(image, torch.randint(-1, 2, (2,), generator=draw).tolist(), (0, 1)) for image in images]
        )
        for _ in range(2)
    ]
    noisy = torch.stack(shifted)
    return (noisy + NOISE * torch.randn(noisy.shape, generator=draw, dtype=torch.float64)).flatten(2)


def contrastive_test_loss(model, pairs, params):
    """Return the contrastive loss of each test image: its views find each other among those of all test images."""
    z = torch.nn.functional.normalize(torch.func.functional_call(model, params, (pairs,)), dim=-1).flatten(0, 1)
    n = pairs.shape[1]
    scores = z @ z.T / TEMPERATURE - 1e9 * torch.eye(2 * n, dtype=z.dtype)
    return -scores.log_softmax(1)[torch.arange(2 * n), torch.arange(2 * n).roll(n)].reshape(2, n).sum(0)


def shuffled_digits(draw):
    """Return all images and their classes in a random order."""
    digits = load_digits()
    order = torch.randperm(len(digits.images), generator=draw)
    return torch.from_numpy(digits.images)[order] / 16, torch.from_numpy(digits.target)[order]


def main():
    """Train, attribute, refit, record and draw."""
    run = Run.of(__file__, __doc__)
    n_train, n_removed = (40, 3) if run.quick else (N_TRAIN, N_REMOVED)
    if run.drawn_only:
        draw_digits(run)
        return
    draw = torch.Generator().manual_seed(run.seed)
    images, _ = shuffled_digits(draw)
    train, test = images[:n_train], images[n_train : n_train + N_TEST]
    model = encoder(run.seed)
    loss = vif.losses.InfoNCELoss(
        views(train, run.seed),
        batches=torch.arange(n_train).split(BATCH),
        model=model,
        temperature=TEMPERATURE,
        penalty=WEIGHT_DECAY * 2 * n_train,
    )
    pairs = torch.randint(N_TEST, (2, N_PAIRS), generator=draw)
    test_views, pixels = views(test, run.seed + 1), test.flatten(1)

    def target(params):
        z = torch.nn.functional.normalize(torch.func.functional_call(model, params, (pixels,)), dim=-1)
        return torch.cat([(z[pairs[0]] * z[pairs[1]]).sum(1), contrastive_test_loss(model, test_views, params)])

    began = time.perf_counter()
    params = vif.minimize(loss, loss.zeros(), gtol=GTOL)
    gradient = torch.func.grad(loss)(params, torch.ones(n_train, dtype=torch.float64))
    numbers = {
        "ground truth": "stationary: refits warm-started from the trained parameters",
        "training images": n_train,
        "parameters": sum(value.numel() for value in params.values()),
        "removed": n_removed,
        "targets: similarities, losses": [N_PAIRS, N_TEST],
        "training, seconds": round(time.perf_counter() - began, 1),
        "largest gradient entry over n": max(part.abs().max().item() for part in gradient.values()) / n_train,
        "trained loss an anchor": loss(params, torch.ones(n_train, dtype=torch.float64)).item() / 2 / n_train,
    }
    removed = torch.randperm(n_train, generator=draw)[:n_removed]
    began = time.perf_counter()
    truth = vif.refit(loss, params, target, objects=removed.tolist(), gtol=GTOL)
    numbers["refits, seconds"] = round(time.perf_counter() - began, 1)
    numbers["failed refits"] = len(truth.failed or {})
    kinds = {"similarities": slice(0, N_PAIRS), "losses": slice(N_PAIRS, None)}
    found = {}
    for name, method in METHODS.items():
        began = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found[name] = vif.attribute(loss, params, target, **method)
        numbers[f"{name}, seconds"] = round(time.perf_counter() - began, 1)
        numbers[f"{name}, steps"] = found[name].solution.num_steps
        for kind, columns in kinds.items():
            both = found[name].scores[removed][:, columns], truth.scores[:, columns]
            # A pair of one image with itself is always alike, and has no correlation.
            r = vif.pearson(*both)
            numbers[f"{name}, {kind}, warm refits"] = round(r.nanmean().item(), 4)
            numbers[f"{kind} that move"] = int(r.isfinite().sum())
        numbers[f"{name}, warnings"] = sorted({str(w.message)[:160] for w in caught if w.category is UserWarning})
        print(name, *[value for key, value in numbers.items() if key.startswith(f"{name}, ")], flush=True)
    scores = found["CG on the Hessian"].scores[:, kinds["losses"]]
    shown = int(scores.abs().amax(0).argmax())
    order = scores[:, shown].argsort(descending=True)
    numbers["picture"] = {"test image": n_train + shown}
    for name, chosen in (("helped", order[:SHOWN]), ("hurt", order.flip(0)[:SHOWN])):
        numbers["picture"] |= {name: chosen.tolist(), f"{name}, scores": scores[chosen, shown].tolist()}
    run.record(numbers)
    draw_digits(run)


def draw_digits(run):
    """Draw the recorded test image beside the training images that matter most to its contrastive loss."""
    from matplotlib import pyplot as plt

    picture = run.numbers()["picture"]
    images, classes = shuffled_digits(torch.Generator().manual_seed(run.seed))
    rows = {"without it the loss rises\n(it helped)": "helped", "without it the loss falls\n(it hurt)": "hurt"}
    figure, grid = plt.subplots(2, SHOWN + 1, figsize=(11, 3.6))
    for axes in grid.flat:
        axes.set_xticks([])
        axes.set_yticks([])
    for row, (title, name) in zip(grid, rows.items(), strict=True):
        for axes, i, score in zip(row[1:], picture[name], picture[f"{name}, scores"], strict=True):
            axes.imshow(images[i], cmap="gray_r")
            axes.set_title(f"{classes[i].item()}: {score:+.3f}", fontsize=9)
        row[1].set_ylabel(title, fontsize=8)
    grid[0, 0].imshow(images[picture["test image"]], cmap="gray_r")
    grid[0, 0].set_title(f"test image, {classes[picture['test image']].item()}", fontsize=9)
    grid[1, 0].set_axis_off()
    figure.tight_layout()
    run.savefig(figure, "_figure.png", dpi=130)


if __name__ == "__main__":
    main()
