"""Finding wrong preference pairs: what influence adds to the loss, and does not.

400 simulated items with 5 features, 2,000 pairs ordered by a noisy linear preference; the order of 200 of them is
planted the wrong way round. A linear pairwise model is trained (stationary), and pairs are ranked by

- self-influence: the growth of a pair's own loss when it is left out, to first order and after a Newton step;
- the fall of the mean loss of 500 trusted pairs when it is left out, likewise, the trusted ones ordered by the same
  noisy preference;
- its own loss, and at random.

Area under the ROC curve and precision among the first 200, means over ten seeds. A quick run has two seeds.

Found: the loss wins. Trusted pairs bring influence near it; a Newton step changes nothing.
"""

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.losses import PairwiseLoss
from versatile_influence.reading.detection import area, precision

N_ITEMS, N_FEATURES, N_PAIRS, N_WRONG, N_TRUSTED, NOISE, PENALTY = 400, 5, 2000, 200, 500, 0.5, 1.0


def ordered(x, taste, *, count, draw):
    """Return pairs of items, the noisily preferred one first."""
    pairs = torch.stack([torch.randperm(len(x), generator=draw)[:2] for _ in range(count)])
    lead = (x[pairs[:, 0]] - x[pairs[:, 1]]) @ taste + NOISE * torch.randn(count, generator=draw).double()
    return torch.where((lead > 0)[:, None], pairs, pairs.flip(1))


def scores(seed):
    """Return every way to rank pairs, worst first, and which are wrong."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(N_ITEMS, N_FEATURES, generator=draw, dtype=torch.float64)
    taste = torch.randn(N_FEATURES, generator=draw, dtype=torch.float64)
    wrong = torch.arange(N_PAIRS) < N_WRONG
    pairs = ordered(x, taste, count=N_PAIRS, draw=draw)
    pairs = torch.where(wrong[:, None], pairs.flip(1), pairs)
    trusted = ordered(x, taste, count=N_TRUSTED, draw=draw)
    loss = PairwiseLoss(pairs[:, 0], pairs[:, 1], x=x, penalty=PENALTY)
    clean = PairwiseLoss(trusted[:, 0], trusted[:, 1], x=x)
    params = vif.minimize(loss, loss.zeros())
    # The parameters themselves are the target: both scores are read off their change.
    changes = {
        "first order": vif.parameter_changes(loss, params),
        "Newton step": vif.newton_step(loss, params, same).scores,
    }
    # What leaves with a pair is its own term.
    gradients = torch.func.jacrev(loss.removal_differences)(params)
    trusted_gradient = torch.func.jacrev(clean.removal_differences)(params).mean(0)
    own = {f"self-influence, {name}": (change * gradients).sum(1) for name, change in changes.items()}
    others = {f"loss of trusted pairs, {name}": -(change @ trusted_gradient) for name, change in changes.items()}
    return own | others | {
        "loss": loss.removal_differences(params),
        "random": torch.rand(N_PAIRS, generator=draw),
    }, wrong


def same(params):
    """Return the parameters as they are."""
    return params


def measured(seed):
    """Return area and precision of each way to rank pairs."""
    found, wrong = scores(seed)
    return {
        f"{measure.__name__}: {name}": measure(score, wrong)
        for measure in (area, precision)
        for name, score in found.items()
    }


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    seeds = 2 if run.quick else 10
    each = [measured(run.seed + number) for number in range(seeds)]
    means = {name: sum(found[name] for found in each) / seeds for name in each[0]}
    print("\n".join(f"{value:8.4f}  {name}" for name, value in means.items()))
    settings = {"pairs": N_PAIRS, "wrong pairs": N_WRONG, "trusted pairs": N_TRUSTED, "seeds": seeds}
    print(run.record(settings | {"ground truth": "planted", "mean": means, "each seed": each}))


if __name__ == "__main__":
    main()
