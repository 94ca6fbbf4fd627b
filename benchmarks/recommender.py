"""A recommender of the size of MovieLens 100k: what made this user see this item, and how far it is to be trusted.

943 users, 1,682 items, 100,000 interactions drawn by Plackett–Luce from factors of rank 4 and a popularity (simulated:
MovieLens may not be passed on); BPR with 16 factors, one negative beside each interaction, λ = 2 on the summed loss, to
the minimum. Asked: by how much the first item recommended to a user stands above the eleventh, without each of 100,000
interactions (CG with the Hessian to 1e-2), and without each user and each item. Processor seconds, one thread.

Beside it a small one that can be refitted: 60 users, 80 items, 1,500 interactions, 4 factors, each kind of loss, and
interactions, users and items as objects, 30 removals of each and 10 questions. Pearson's r over all scores at once with
warm-started refits: `attribute`, the same with the Gauss–Newton matrix, and `attribute(tolerance=0.03)`, which takes
removals further that would be wrong; NaN where a removal has no fit. A question about a user is no question where that
user is removed: such scores are left out, as `vif.agreement` leaves them out. "bend" is by how much the Hessian differs
from the Gauss–Newton matrix along the solutions of the questions, `GaussNewton.bend`, which `attribute` warns of from
0.3 on; beside it, how the scores of the two correlate.

    python benchmarks/recommender.py
"""

import time
import warnings

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.losses import MatrixFactorisationLoss

SMALL, LARGE = (60, 80, 1500), (943, 1682, 100_000)
KINDS, OBJECTS = ("bpr", "squared", "logistic", "softmax"), ("interactions", "users", "items")


def simulated(n_users, n_items, n_interactions, *, seed):
    """Return users and items of interactions, and how much users like what they had to do with."""
    draw = torch.Generator().manual_seed(seed)
    tastes, traits = (torch.randn(n, 4, generator=draw, dtype=torch.float64) for n in (n_users, n_items))
    liking = 0.5 * tastes @ traits.T + 1.2 * torch.randn(n_items, generator=draw, dtype=torch.float64)
    noise = -torch.log(-torch.log(torch.rand(n_users, n_items, generator=draw, dtype=torch.float64)))
    pairs = (liking + noise).flatten().topk(n_interactions).indices
    users, items = pairs // n_items, pairs % n_items
    return users, items, liking[users, items] + 0.5 * torch.randn(len(pairs), generator=draw, dtype=torch.float64)


def recommended(params, seen, user, places):
    """Return the items at some places of a user's list, those seen left out."""
    scores = params["item"] @ params["user"][user] + params["item_bias"]
    return scores.index_fill(0, seen, -torch.inf).argsort(descending=True)[places].tolist()


def timed(function):
    """Return what a function returns, and its seconds."""
    start = time.process_time()
    with warnings.catch_warnings():
        # What is to be trusted is what is measured here.
        warnings.simplefilter("ignore")
        found = function()
    return found, round(time.process_time() - start, 2)


def correlation(estimate, truth):
    """Return Pearson's r over all scores that are about others than the object."""
    names, about = estimate.names(), truth.about
    own = torch.zeros_like(truth.scores, dtype=torch.bool)
    if about is not None:
        removed = torch.tensor([int(name) for name in names])
        own = (removed[:, None, None] == about[None]).any(-1)
    pairs = torch.stack([estimate.scores[~own], truth.scores[~own]])
    return torch.corrcoef(pairs[:, pairs.isfinite().all(0)])[0, 1].item()


def small(kind, objects, *, sizes, seed):
    """Return how predictions agree with refits."""
    users, items, liking = simulated(*sizes, seed=seed)
    ratings = liking - liking.mean() if kind == "squared" else None
    given = {"n_users": sizes[0], "n_items": sizes[1], "dim": 4, "penalty": 2.0}
    given |= {} if kind == "squared" else {"negatives": 3}
    loss = MatrixFactorisationLoss(users, items, kind=kind, ratings=ratings, objects=objects, seed=seed, **given)
    best, fitting = timed(lambda: vif.minimize(loss, loss.zeros()))
    asked = torch.randperm(sizes[0], generator=torch.Generator().manual_seed(seed))[:10].tolist()
    places = [recommended(best, items[users == user], user, [0, 10]) for user in asked]
    target = loss.preference([(user, *pair) for user, pair in zip(asked, places, strict=True)])
    removed = torch.randperm(loss.n_objects, generator=torch.Generator().manual_seed(seed))[:30].tolist()
    if objects == "interactions":
        # Those of the users asked about: others hardly move them.
        own = torch.isin(users, torch.tensor(asked)).nonzero()[:, 0].tolist()
        removed = own[:: max(1, len(own) // 30)][:30]
    ways = {
        "attribute": lambda: vif.attribute(loss, best, target, objects=removed, check=False),
        "attribute, Gauss-Newton": lambda: vif.attribute(
            loss, best, target, objects=removed, check=False, curvature=vif.GaussNewton
        ),
        "attribute, tolerance 0.03": lambda: vif.attribute(loss, best, target, objects=removed, tolerance=0.03),
    }
    curvature = vif.GaussNewton(loss, best, torch.ones(loss.n_objects, dtype=torch.float64))
    truth, refitting = timed(lambda: vif.refit(loss, best, target, objects=removed))
    found = {name: timed(way) for name, way in ways.items()}
    newton, gauss = (found[name][0] for name in ("attribute", "attribute, Gauss-Newton"))
    return {
        "r": {name: correlation(one, truth) for name, (one, _) in found.items()},
        "bend": curvature.bend(gauss.solution.value.sum(1)),
        "r of Gauss-Newton with the Hessian": correlation(gauss, newton),
        "seconds": {"minimize": fitting, "refit": refitting} | {name: seconds for name, (_, seconds) in found.items()},
    }


def large(sizes, *, seed):
    """Return the seconds of one question of a large recommender, and what was found."""
    users, items, _ = simulated(*sizes, seed=seed)
    given = {"n_users": sizes[0], "n_items": sizes[1], "dim": 16, "penalty": 2.0, "seed": seed}
    loss = MatrixFactorisationLoss(users, items, **given)
    best, fitting = timed(lambda: vif.minimize(loss, loss.zeros()))
    question = (0, *recommended(best, items[users == 0], 0, [0, 10]))
    solver, seconds, found = vif.CG(rtol=1e-2), {"minimize": fitting}, {}
    for objects in OBJECTS:
        whole = MatrixFactorisationLoss(users, items, objects=objects, **given)
        found[objects], seconds[objects] = timed(
            lambda whole=whole: vif.attribute(whole, best, whole.preference([question]), solver=solver, check=False)
        )
    interactions = found["interactions"].scores[:, 0]
    most = interactions.abs().topk(20).indices
    return {
        "parameters": sum(value.numel() for value in best.values()),
        "seconds": seconds,
        "seconds of minimum and all interactions": seconds["minimize"] + seconds["interactions"],
        "of the 20 interactions that move it most, the user's own": int((users[most] == 0).sum()),
    }


def main():
    """Measure and record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    sizes = (200, 300, 6000) if run.quick else LARGE
    numbers: dict = {"threads": 1, "large": large(sizes, seed=run.seed) | {"users, items, interactions": sizes}}
    print(numbers, flush=True)
    for kind in KINDS[:1] if run.quick else KINDS:
        for objects in OBJECTS:
            numbers[f"{kind}, {objects}"] = small(kind, objects, sizes=SMALL, seed=run.seed)
            print(kind, objects, numbers[f"{kind}, {objects}"], flush=True)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
