"""Finding wrong preference pairs: self-influence beside the loss and chance.

400 simulated items with 5 features, 2,000 pairs ordered by a noisy linear preference; the order of 200 of them is
planted the wrong way round. A linear pairwise model is trained, and pairs are ranked by self-influence: the growth of a
pair's own loss when it is left out. Area under the ROC curve over ten seeds.
"""

import torch

import versatile_influence as vif
from versatile_influence.experiment import Run
from versatile_influence.losses import PairwiseLoss

N_ITEMS, N_FEATURES, N_PAIRS, N_WRONG, NOISE, PENALTY, SEEDS = 400, 5, 2000, 200, 0.5, 1.0, 10


def area(score: torch.Tensor, wrong: torch.Tensor) -> float:
    """Return the probability that a wrong pair scores above a right one."""
    ranks = score.argsort().argsort().double() + 1
    n = wrong.sum().item()
    return ((ranks[wrong].sum() - n * (n + 1) / 2) / (n * (len(wrong) - n))).item()


def areas(seed: int) -> dict[str, float]:
    """Return the area of each way to rank pairs."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(N_ITEMS, N_FEATURES, generator=draw, dtype=torch.float64)
    taste = torch.randn(N_FEATURES, generator=draw, dtype=torch.float64)
    pairs = torch.stack([torch.randperm(N_ITEMS, generator=draw)[:2] for _ in range(N_PAIRS)])
    lead = (x[pairs[:, 0]] - x[pairs[:, 1]]) @ taste + NOISE * torch.randn(N_PAIRS, generator=draw).double()
    wrong = torch.arange(N_PAIRS) < N_WRONG
    pairs = torch.where((lead > 0)[:, None] ^ wrong[:, None], pairs, pairs.flip(1))
    loss = PairwiseLoss(pairs[:, 0], pairs[:, 1], x=x, penalty=PENALTY)
    params = vif.minimize(loss, loss.zeros())
    changes = vif.parameter_changes(loss, params)
    # Objects are pairs, so that a removal difference is the loss of a pair.
    own = (changes * torch.func.jacrev(loss.removal_differences)(params)).sum(1)
    return {
        "self-influence": area(own, wrong),
        "loss": area(loss.removal_differences(params), wrong),
        "random": area(torch.rand(N_PAIRS, generator=draw), wrong),
    }


def main():
    """Measure and write; a quick run has two seeds."""
    run = Run.of(__file__, __doc__)
    each = [areas(run.seed + seed) for seed in range(2 if run.quick else SEEDS)]
    means = {name: torch.tensor([found[name] for found in each]).mean().item() for name in each[0]}
    print(means)
    run.record({"mean area": means, "area of each seed": each})


if __name__ == "__main__":
    main()
