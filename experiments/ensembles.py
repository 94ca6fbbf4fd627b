"""Issue 6: does averaging over seeds get beyond the paper's 0.238 for neural Cox models? 1 to 16 networks.

METABRIC, networks 9 → 4 → 1 without bias (Appendix C), weight decay 0.01 in the mean loss. The mean scores of K
networks from K random starts are compared with the mean change measured by K retrainings from K *other* random starts.
Ceiling: the measured means of two such disjoint sets of starts against each other. Ground truths:

    paper protocol   Adam, learning rate 0.01, full batch, 200 epochs (Appendix B), from a start that is the same with
                     and without the patient; networks are at no minimum, so members use the Gauss-Newton matrix
    stationary       the same training, brought to its own minimum; refits warm-started from there

Correlations are across removed patients, averaged over test patients; each number is the mean over random disjoint
splits of the seeds, with the range that holds 95 % of the splits (for the largest K, splits share most seeds). Writes
`experiments/results/ensembles.json` and a figure.

    python experiments/ensembles.py [--quick]
"""

import time
import warnings
from functools import partial

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets
from versatile_influence.losses import CoxLoss

HIDDEN, WEIGHT_DECAY, EPOCHS, LR = 4, 0.01, 200, 0.01  # Appendices B and C
SETTINGS = {
    "ReLU, paper protocol": (torch.nn.ReLU, False),
    "tanh, paper protocol": (torch.nn.Tanh, False),
    "softplus, stationary": (torch.nn.Softplus, True),
}
SIZES, N_SPLITS = (1, 2, 4, 8, 16), 40
PAPER = {"explicit": 0.238, "CG": 0.201, "LiSSA": 0.197, "brute force": 0.219}


def network(activation, seed):
    """Return the network with weights drawn by `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        first, second = torch.nn.Linear(9, HIDDEN, bias=False), torch.nn.Linear(HIDDEN, 1, bias=False)
        return torch.nn.Sequential(first, activation(), second).double()


def fit(presence, *, seed, loss, activation):
    """Train by the paper's protocol, many presences at once."""
    start = {name: value.detach() for name, value in network(activation, seed).named_parameters()}
    return vif.train(loss, start, presence, epochs=EPOCHS, lr=LR, scale=1 / loss.n_objects)


def members(data, activation, *, stationary, removed, seeds):
    """Return predictions and measured changes, one attribution a seed."""
    n = len(data.train)
    given = {"duration_col": "duration", "event_col": "event", "ties": "breslow"}
    loss = CoxLoss.from_frame(data.train, **given, model=network(activation, 0), penalty=WEIGHT_DECAY * n)
    target, train = loss.relative_risk(data.test), partial(fit, loss=loss, activation=activation)
    everyone, predicted, measured = torch.ones(n, dtype=torch.float64), [], []
    for seed in seeds:
        params = train(everyone, seed=seed)
        if stationary:
            params = vif.minimize(loss, params)
            measured.append(vif.refit(loss, params, target, objects=removed))
        else:
            trainings = {"seeds": [seed], "batch_size": len(removed), "progress": False}
            measured.append(vif.leave_one_out(train, target, n_objects=n, objects=removed, **trainings))
        curvature = vif.Hessian if stationary else vif.GaussNewton
        predicted.append(vif.attribute(loss, params, target, objects=removed, curvature=curvature))
        print(seed, round(vif.pearson(predicted[-1].scores, measured[-1].scores).nanmean().item(), 3), flush=True)
    return predicted, measured


def correlation(one, other):
    """Return the correlation of two lists of attributions' means, averaged over the targets that have one."""
    return vif.pearson(vif.ensemble(one).scores, vif.ensemble(other).scores).nanmean()


def spread(values):
    """Return mean and ends of the middle 95 %."""
    values = torch.stack(values)
    low, high = values.quantile(torch.tensor([0.025, 0.975], dtype=values.dtype)).tolist()
    return {"mean": round(values.mean().item(), 4), "low": round(low, 4), "high": round(high, 4)}


def by_size(predicted, measured, sizes, draw):
    """Return, for each K, prediction with measurement and measurement with measurement, over splits of the seeds."""
    numbers = {}
    for size in sizes:
        scores, ceiling = [], []
        for _ in range(N_SPLITS):
            order = torch.randperm(len(predicted), generator=draw).tolist()
            one, other = order[:size], order[size : 2 * size]
            truth = [measured[s] for s in other]
            scores.append(correlation([predicted[s] for s in one], truth))
            ceiling.append(correlation([measured[s] for s in one], truth))
        numbers[f"K = {size}"] = {"scores": spread(scores), "ceiling": spread(ceiling)}
    return numbers


def main():
    """Run the settings, record and draw."""
    run = Run.of(__file__, __doc__)
    if run.drawn_only:
        figure(run)
        return
    data = datasets.metabric()
    draw = torch.Generator().manual_seed(run.seed)
    removed = torch.randperm(len(data.train), generator=draw)[: 10 if run.quick else 60].tolist()
    sizes = SIZES[:2] if run.quick else SIZES
    seeds = range(2 * sizes[-1])
    numbers = {"removed": len(removed), "seeds": len(seeds), "splits": N_SPLITS, "paper, network": PAPER}
    for name, (activation, stationary) in SETTINGS.items():
        began = time.perf_counter()
        with warnings.catch_warnings():
            # Of a training stopped before its minimum, and of targets that no removal moves.
            warnings.simplefilter("ignore", UserWarning)
            predicted, measured = members(data, activation, stationary=stationary, removed=removed, seeds=seeds)
            own = [correlation([one], [other]) for one, other in zip(predicted, measured, strict=True)]
            numbers[name] = {"own seed": spread(own)} | by_size(predicted, measured, sizes, draw)
        numbers[name]["seconds"] = round(time.perf_counter() - began, 1)
        print(name, numbers[name], flush=True)
        run.record(numbers)
    figure(run)


def figure(run):
    """Draw the recorded correlation over K, with its ceiling and the paper's numbers."""
    from matplotlib import pyplot as plt

    numbers = run.numbers()
    sizes = [int(key.removeprefix("K = ")) for key in numbers[next(iter(SETTINGS))] if key.startswith("K = ")]
    canvas, axes = plt.subplots(figsize=(9, 4.5))
    for name, colour in zip(SETTINGS, ("tab:blue", "tab:orange", "tab:green"), strict=True):
        for kind, line in (("scores", "-"), ("ceiling", ":")):
            rows = [numbers[name][f"K = {size}"][kind] for size in sizes]
            label = name if kind == "scores" else f"{name}: ceiling"
            axes.plot(sizes, [row["mean"] for row in rows], line, marker="o", color=colour, label=label)
            if kind == "scores":
                ends = [row["low"] for row in rows], [row["high"] for row in rows]
                axes.fill_between(sizes, *ends, color=colour, alpha=0.15)
    axes.axhline(PAPER["explicit"], color="black", linewidth=0.8, label="paper, one network: 0.238")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.set_ylim(top=1.02)
    axes.set_xlabel("K networks averaged, and K retrainings from other starts")
    axes.set_ylabel("correlation across removed patients")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    axes.grid(alpha=0.3)
    canvas.tight_layout()
    run.savefig(canvas, "_figure.png", dpi=150)


if __name__ == "__main__":
    main()
