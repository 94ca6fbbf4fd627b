"""The paper's ranking protocol on Delicious (§4.1, App. B): Adam 1e-3, weight decay 5e-4, batches of 128, 100 epochs.

ListMLE over 100 labels as in `delicious.py`; the models without each of the items are trained together, from two random
starts with two orders of the queries ("seeds"), and compared per test query across the removed items, then averaged.
The target is each test query's loss among the items that remain; direct effects alone correlate nearly 1, so the
parameter effect stands beside the whole change. 100 epochs stop short of the minimum. A Newton step goes on to it,
which a retraining does not; so it is also taken from the loss less its slope there, which leaves what the removal does.
Ground truth *paper protocol*; λ of the influence function is the number of queries times the weight decay. A quick run
removes 5 items and trains 5 epochs.
"""

import time
import warnings

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets.label_ranking import drawn_labels, label_queries
from versatile_influence.datasets.ranking import delicious
from versatile_influence.losses import ListMLELoss, query_loss

LR, WEIGHT_DECAY, BATCH, EPOCHS = 1e-3, 5e-4, 128, 100  # Appendix B
SEEDS, AT_ONCE = (0, 1), 50
N_ITEMS = 100
PAPER = {"VIF": 0.906, "retraining": 0.999}  # Table 1


def mean_pearson(a, b):
    """Return the mean over test queries of Pearson's r across removals."""
    return vif.pearson(a, b).nanmean().item()


def start(loss, *, seed):
    """Return random parameters as torch's linear layer draws them."""
    n, width = loss.zeros().shape
    draw = torch.Generator().manual_seed(seed)
    return (2 * torch.rand(n, width, generator=draw, dtype=torch.float64) - 1) / (width - 1) ** 0.5


class Stopped(vif.Loss):
    """A loss less its slope where training stopped, L(θ, b) − ∇L(θ₀, 1)ᵀθ: what has stopped there is at a minimum."""

    hessian_written_out = True

    def __init__(self, loss, params):
        self.loss, self.n_objects = loss, loss.n_objects
        self.slope = loss.gradient(params, loss.everyone(params))

    def __call__(self, params, presence):
        """Return the loss."""
        return self.loss(params, presence) - self.slope @ params.flatten()

    def removal_products(self, params, directions=None, objects=None):
        """Return those of the loss: the slope is there whoever is present."""
        return self.loss.removal_products(params, directions, objects)

    def hessians_without(self, params, removals):
        """Return those of the loss: the slope is straight."""
        return self.loss.hessians_without(params, removals)


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    count, epochs = (5, 5) if run.quick else (N_ITEMS, EPOCHS)
    train, test = delicious()
    queries, tests = label_queries(train, test, drawn_labels(train, N_ITEMS, seed=run.seed))
    m, n = len(queries.lists), queries.n_items
    plain = ListMLELoss(queries.x, queries.lists, n_items=n)
    loss = ListMLELoss(queries.x, queries.lists, n_items=n, penalty=WEIGHT_DECAY * m)
    target = query_loss(ListMLELoss(tests.x, tests.lists, n_items=n))
    removed = sorted(torch.randperm(n, generator=torch.Generator().manual_seed(run.seed))[:count].tolist())

    def fit(presence, *, seed):
        settings = {"lr": LR, "weight_decay": WEIGHT_DECAY, "batch_size": BATCH, "scale": 1 / m, "epochs": epochs}
        init = start(plain, seed=seed)
        return vif.train(plain, init, presence, optimizer=vif.Adam(), seed=seed, **settings)

    began = time.perf_counter()
    truth = vif.leave_one_out(
        fit, target, n_objects=n, objects=removed, seeds=SEEDS, batch_size=AT_ONCE, progress=False
    )
    seconds = (time.perf_counter() - began) / (count + 1) / len(SEEDS)
    retrained = truth.by_seed
    params = fit(torch.ones(n, dtype=torch.float64), seed=SEEDS[0])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The parameters are not at a minimum")
        estimates = {
            "VIF": vif.attribute(loss, params, target, objects=removed),
            "newton_step": vif.newton_step(loss, params, target, objects=removed),
            "newton_step from where training stopped": vif.newton_step(
                Stopped(loss, params), params, target, objects=removed
            ),
        }
    numbers = {
        "ground truth": "paper protocol",
        "items": n,
        "items removed": count,
        "epochs": epochs,
        "paper": PAPER,
        "seconds per retraining": seconds,
        "retraining with retraining": mean_pearson(retrained[0], retrained[1]),
    }
    for name, estimate in estimates.items():
        direct = estimate.direct
        numbers[f"{name}, whole change, same seed"] = mean_pearson(estimate.scores, retrained[0])
        numbers[f"{name}, whole change, other seed"] = mean_pearson(estimate.scores, retrained[1])
        numbers[f"{name}, parameter effect, same seed"] = mean_pearson(estimate.parameter, retrained[0] - direct)
        numbers["direct effect alone, same seed"] = mean_pearson(direct, retrained[0])
    print(numbers)
    print(run.record(numbers))


if __name__ == "__main__":
    main()
