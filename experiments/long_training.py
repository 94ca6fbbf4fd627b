"""What attribution through a long training costs, and what shorter ways say.

Cost: a regression network of p parameters, T steps of AdamW on batches of 32, in float32; the seconds of
`vif.unrolled` on the processor beside those of a training, for one target and for eight, and the states that are held.

Accuracy: SimCLR on digits (`through_training.py`) trained by SGD, 240 steps, images removed in groups of 12 against
retraining. Beside the exact adjoint: the last k steps alone; and the segments of Bae et al. (2024, SOURCE), each with
one averaged Hessian, dense, without its negative part, and averaged gradients of the removal differences: with η the
learning rate, K the steps of a segment and H̄ = QΛQᵀ,

    Δθ = Σ_l (Π_{l' > l} exp(−ηK H̄_{l'})) H̄_l⁻¹ (1 − exp(−ηK H̄_l)) ḡ_l.

    python experiments/long_training.py [--quick]
"""

import time
from dataclasses import replace

import matplotlib as mpl

mpl.use("agg")
import torch
from matplotlib import pyplot as plt

import versatile_influence as vif
from experiments.run import Run
from experiments.through_training import simclr
from versatile_influence.training.replay import Replay

LENGTHS, WIDTHS, TARGETS = (10, 100, 1000), (8, 128, 1024), (1, 8)
FEATURES, BATCH = 32, 32
EPOCHS, RATE = 40, 0.05
LAST, SEGMENTS = (5, 15, 60, 240), (1, 3, 6)


def timed(work):
    """Return what `work` gives, and its seconds on the processor."""
    began = time.process_time()
    return work(), time.process_time() - began


def regression(width, length):
    """Return a training of a network of one hidden layer, and a target of eight predictions."""
    draw = torch.Generator().manual_seed(0)
    x, y = torch.randn(256, FEATURES, generator=draw), torch.randn(256, generator=draw)
    start = {
        "first": torch.randn(FEATURES, width, generator=draw) / FEATURES**0.5,
        "second": torch.randn(width, generator=draw) / width**0.5,
    }

    def step_loss(params, batch, presence):
        inputs, wanted = batch
        found = (inputs @ params["first"]).tanh() @ params["second"]
        return (presence * (found - wanted) ** 2).sum() / len(inputs)

    some = [torch.randint(256, (BATCH,), generator=draw) for _ in range(length)]
    steps = [((x[rows], y[rows]), rows) for rows in some]
    training = vif.Training(step_loss, steps, start=start, optimizer=vif.AdamW(lr=1e-3), n_objects=256)
    tests = torch.randn(8, FEATURES, generator=draw)
    return training, lambda params: (tests @ params["first"]).tanh() @ params["second"]


def costs(run):
    """Return what lengths and sizes cost."""
    rows = []
    for width in WIDTHS[: 1 if run.quick else None]:
        for length in LENGTHS[: 2 if run.quick else None]:
            training, target = regression(width, length)
            training.run()
            _, alone = timed(training.run)
            row = {"parameters": len(training.theta), "steps": length, "seconds of a training": alone}
            for count in TARGETS:
                asked = lambda params, count=count, target=target: target(params)[:count]  # noqa: E731
                _, spent = timed(lambda asked=asked, training=training: vif.unrolled(training, asked))
                row[f"trainings a target, of {count}"] = spent / alone / count
            replay = Replay.of(training)
            row["states held"] = len(replay.marks) + replay.room
            rows.append(row)
            print(row, flush=True)
    return rows


def by_segments(training, gradients, count):
    """Return scores (n, t) by segments with one Hessian each, taken in the middle."""
    length, rate = len(training), training.optimizer.lr
    size, states = -(-length // count), []
    sums = [torch.zeros(training.n_objects, len(training.theta)) for _ in range(count)]
    for step, state, _ in training.walk(training.begun(training.theta)):
        for loss, objects, _ in training.pieces(step):
            sums[step // size].index_add_(0, objects, loss.removal_products(training.unravel(state[0])))
        states.append(state[0])
    adjoint, scores = gradients.T.double(), torch.zeros(training.n_objects, len(gradients), dtype=torch.float64)
    for segment in reversed(range(count)):
        steps = range(segment * size, min(length, (segment + 1) * size))
        middle, hessian = states[steps[len(steps) // 2]], 0.0
        # Of an epoch in the middle: all objects, once each.
        near = range(max(0, steps[len(steps) // 2] - 6), min(length, steps[len(steps) // 2] + 6))
        for step in near:
            for loss, objects, _ in training.pieces(step):
                everybody = torch.ones(len(objects))
                value = lambda vector, loss=loss, everybody=everybody: loss(training.unravel(vector), everybody)  # noqa: E731
                one = torch.func.hessian(value)(middle)
                hessian = hessian + one / len(near)
        values, vectors = torch.linalg.eigh(hessian.double())
        # As of a Gauss–Newton matrix, which SOURCE takes: along what bends down, one Hessian held for long explodes.
        values = values.clamp_min(0.0)
        decay = torch.exp((-rate * len(steps) * values).clamp(max=50))
        # (1 − exp(−x)) / λ, which is ηK where λ is 0.
        flat = values.abs() < 1e-9
        gain = torch.where(flat, rate * len(steps), (1 - decay) / torch.where(flat, 1.0, values))
        turned = vectors.T @ adjoint
        # Without an object its gradient is missing from each step: the sign is that of the step itself.
        scores += (sums[segment].double() / len(steps)) @ (vectors @ (gain[:, None] * turned))
        adjoint = vectors @ (decay[:, None] * turned)
    return scores


def accuracy(run):
    """Return what shorter ways say, and what they cost."""
    training, target, groups = simclr(run.seed, epochs=4 if run.quick else EPOCHS)
    training = replace(training, optimizer=vif.SGD(lr=RATE))
    training.run()
    end, alone = timed(training.run)
    truth = vif.leave_one_out(training, target, objects=groups, batch_size=12, progress=False).scores
    members = torch.zeros(len(groups), training.n_objects, dtype=torch.float64)
    for row, group in enumerate(groups):
        members[row, group] = 1.0
    rows = []

    def told(name, singles, spent):
        rows.append(
            {
                "way": name,
                "r with retraining": vif.pearson(members @ singles, truth).mean().item(),
                "trainings": spent / alone,
            }
        )
        print(rows[-1], flush=True)

    for last in LAST[: 2 if run.quick else None]:
        first = len(training) - last
        state, _ = timed(lambda first=first: replace(training, steps=training.steps[:first]).run() if first else None)
        part = replace(training, steps=training.steps[first:], start=state or training.start)
        found, spent = timed(lambda part=part: vif.unrolled(part, target))
        told(f"last {last} steps", found.scores, spent + alone * first / len(training))
    flat = torch.cat([value.reshape(-1) for value in end.values()])
    gradients = torch.func.jacrev(lambda vector: target(training.unravel(vector)))(flat)
    for count in SEGMENTS[: 1 if run.quick else None]:
        singles, spent = timed(lambda count=count: by_segments(training, gradients, count))
        told(f"{count} segments", singles, spent)
    return rows


def drawn(run):
    """Draw the recorded cost against length, and accuracy against cost."""
    numbers = run.numbers()
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for size in sorted({row["parameters"] for row in numbers["cost"]}):
        rows = [row for row in numbers["cost"] if row["parameters"] == size]
        for count, style in zip(TARGETS, ("-", "--"), strict=True):
            values = [row[f"trainings a target, of {count}"] for row in rows]
            left.plot(
                [row["steps"] for row in rows],
                values,
                style,
                marker="o",
                label=f"p = {size:,}, {count} target{'s' * (count > 1)}",
            )
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="trainings a target")
    left.axhline(3, color="grey", linewidth=0.8)
    left.legend(fontsize=7)
    for row in numbers["accuracy"]:
        right.plot(row["trainings"], row["r with retraining"], "o", color="C1" if "seg" in row["way"] else "C0")
        right.annotate(row["way"], (row["trainings"], row["r with retraining"]), fontsize=8, ha="right", va="bottom")
    right.margins(x=0.25)
    right.set(xscale="log", xlabel="trainings for all targets", ylabel="r with retraining")
    figure.tight_layout()
    run.savefig(figure, "_figure.png", dpi=130)


def main():
    """Run all, record and draw."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    if not run.drawn_only:
        print(run.record({"accuracy": accuracy(run), "cost": costs(run)}))
    drawn(run)


if __name__ == "__main__":
    main()
