"""Eight losses of pytorch-metric-learning on digits: what a row's removal does to distances, predicted and refitted.

100 digits of scikit-learn, 10 a class, as 64 grey values divided by 16, through a residual head of rank 6 that is
trained; losses with proxies train these too, from the means of their classes (from a random start whose side they must
leave, penalised proxies end at length 0). Losses as the library makes them, temperatures and margins in the code; the
smooth one of triplets, on those that a semihard miner gave at the start. λ is a hundredth of the number of terms, as a
weight decay of 0.01 on their mean, minima to the gradient's rounding. Targets: cosine similarity of 40 pairs of test
digits. Removed, one at a time: 30 rows drawn with the seed. Pearson's r over removals, mean over targets, and over all
scores at once, of `attribute` (Hessian), `attribute` with the Gauss–Newton matrix, `attribute(tolerance=0.1)` and
`newton_step` against warm-started refits. The margin of ContrastiveLoss is the largest distance of vectors of length 1,
so that no hinge has a kink: with its default of 1 the minimum lies on kinks, which no curvature knows of and no
gradient settles at. A quick run has 60 digits and 8 removals.

    python experiments/metric_losses.py
"""

import time
import warnings

import torch
from pytorch_metric_learning import losses, miners
from sklearn.datasets import load_digits

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.adapters import embeddings, from_metric_learning

CLASSES, RANK, DECAY, PAIRS = 10, 6, 0.01, 40


def chosen(n_each, seed):
    """Return training and test digits, as many a class, with their classes."""
    digits = load_digits()
    x, y = torch.tensor(digits.data / 16).double(), torch.tensor(digits.target)
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed))
    rows = [order[y[order] == kind] for kind in range(CLASSES)]
    train, test = (torch.cat([one[part] for one in rows]) for part in (slice(n_each), slice(n_each, n_each + 8)))
    return x[train], y[train], x[test], y[test]


def served(width):
    """Return the losses."""
    return {
        "SupCon": losses.SupConLoss(temperature=0.5),
        "NTXent": losses.NTXentLoss(temperature=0.5),
        "MultiSimilarity": losses.MultiSimilarityLoss(alpha=2, beta=10, base=0.5),
        "Contrastive": losses.ContrastiveLoss(pos_margin=0, neg_margin=2),
        "TripletMargin": losses.TripletMarginLoss(margin=0.2, smooth_loss=True),
        "ProxyNCA": losses.ProxyNCALoss(CLASSES, width, softmax_scale=3),
        "ProxyAnchor": losses.ProxyAnchorLoss(CLASSES, width, margin=0.1, alpha=8),
        "ArcFace": losses.ArcFaceLoss(CLASSES, width, margin=10, scale=8),
    }


def at_means(theirs, x, classes):
    """Put proxies at the means of their classes."""
    means = torch.stack([x[classes == kind].mean(0) for kind in range(CLASSES)])
    for proxies in theirs.parameters():
        proxies.data = means if proxies.shape == means.shape else means.T


def measured(loss, target, objects):
    """Return how predictions agree with refits."""
    start = time.perf_counter()
    best = vif.minimize(loss, loss.zeros())
    seconds, found = {"minimize": time.perf_counter() - start}, {}
    ways = {
        "attribute": lambda: vif.attribute(loss, best, target, objects=objects, check=False),
        "attribute, Gauss-Newton": lambda: vif.attribute(
            loss, best, target, objects=objects, check=False, curvature=vif.GaussNewton
        ),
        "attribute, tolerance 0.1": lambda: vif.attribute(loss, best, target, objects=objects, tolerance=0.1),
        "newton_step": lambda: vif.newton_step(loss, best, target, objects=objects),
        "refit": lambda: vif.refit(loss, best, target, objects=objects),
    }
    for name, way in ways.items():
        start = time.perf_counter()
        with warnings.catch_warnings():
            # What is to be trusted is what is measured here.
            warnings.simplefilter("ignore")
            found[name] = way()
        seconds[name] = round(time.perf_counter() - start, 2)
    truth = found.pop("refit")
    return {
        "parameters": sum(value.numel() for value in best.values()),
        "terms": loss.n_terms,
        "r, mean over targets": {name: vif.pearson(one, truth).nanmean().item() for name, one in found.items()},
        "r over all scores": {
            name: torch.corrcoef(torch.stack([one.scores.flatten(), truth.scores.flatten()]))[0, 1].item()
            for name, one in found.items()
        },
        "seconds": seconds,
    }


def main():
    """Measure every loss and record."""
    run = Run.of(__file__, __doc__)
    torch.manual_seed(run.seed)
    n_each, removed = (6, 8) if run.quick else (10, 30)
    x, classes, x_test, _ = chosen(n_each, run.seed)
    draw = torch.Generator().manual_seed(run.seed)
    pairs = torch.randint(len(x_test), (2, PAIRS), generator=draw)
    objects = torch.randperm(len(x), generator=draw)[:removed].tolist()
    numbers = {"rows": len(x), "removed": removed, "penalty over terms": DECAY}
    for name, theirs in served(x.shape[1]).items():
        at_means(theirs, x, classes)
        mined = miners.TripletMarginMiner(0.2, "semihard")(x, classes) if name == "TripletMargin" else None
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*objects are in no term")
            given = {"rank": RANK, "mined": mined}
            terms = from_metric_learning(theirs, x, classes, **given).n_terms
            loss = from_metric_learning(theirs, x, classes, **given, penalty=DECAY * terms)

        def similarity(params, loss=loss):
            z = torch.nn.functional.normalize(embeddings(loss, params, x_test), dim=-1)
            return (z[pairs[0]] * z[pairs[1]]).sum(-1)

        # Newton steps of many removals at once would hold as many Hessians of pairs.
        with vif.memory_budget(1.0):
            numbers[name] = measured(loss, similarity, objects)
        print(name, numbers[name], flush=True)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
