"""A loss of your own, three ways: conditional logistic regression of matched sets (Breslow & Day 1980).

    L(θ, b) = Σ_sets b_case (log Σ_{j in set} b_j e^{x_j θ} − x_case θ) + (λ/2)‖θ‖²      objects: persons

Each set holds one case and its controls. A person who is gone leaves the denominator of their set; a set without its
case is gone. No sum over persons.
"""

import torch

import versatile_influence as vif


def simulated(n_sets=60, size=4, dim=6, seed=0):
    """Return features (persons, dim), sets (n_sets, size) of persons, and the column of each set's case."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n_sets * size, dim, generator=generator, dtype=torch.float64)
    sets = torch.arange(n_sets * size).reshape(n_sets, size)
    case = torch.randint(0, size, (n_sets,), generator=generator)
    x[sets[torch.arange(n_sets), case], 0] += 0.7
    return x, sets, case


def as_a_function(x, sets, case, penalty):
    """Return the loss as one function: everything is derived from it."""

    def loss(theta, presence):
        scores, present = (x @ theta)[sets], presence[sets]
        own = present.gather(1, case[:, None])[:, 0]
        total = (present * scores.exp()).sum(1)
        terms = torch.where(own > 0, total, 1.0).log() - scores.gather(1, case[:, None])[:, 0]
        return (own * terms).sum() + penalty / 2 * theta.square().sum()

    return loss


def as_parts(x, sets, case, penalty):
    """Return the loss as a value of parts: linear scores under the library's softmax rows, with all their speed."""
    positives = torch.nn.functional.one_hot(case, sets.shape[1]).double()[:, None]
    rows = vif.losses.SharedRows(vif.losses.Owners(len(x), sets), positives, torch.ones(positives.shape).bool())
    return vif.losses.SoftmaxLoss(rows, lambda theta: x[sets] @ theta, penalty=penalty)


class ConditionalLogit(vif.Loss):
    """The loss as a class: the function, and what is known to be faster: all removals from one softmax."""

    differences_together = True

    def __init__(self, x, sets, case, penalty):
        self.function = as_a_function(x, sets, case, penalty)
        self.x, self.sets, self.case, self.penalty, self.n_objects = x, sets, case, penalty, len(x)

    def __call__(self, params, presence):
        """Return the loss."""
        return self.function(params, presence)

    def removal_differences(self, params, objects=None):
        """Return −log(1 − p) of a control, the whole term of a case; groups by the answer that always holds."""
        removals = vif.Removals.of(objects, self.n_objects)
        if removals.grouped:
            return super().removal_differences(params, removals)
        log_shares = (self.x @ params)[self.sets].log_softmax(1)
        case = self.case[:, None]
        controls = -torch.log1p(-log_shares.exp().scatter(1, case, 0.0))
        changes = controls.scatter(1, case, -log_shares.gather(1, case))
        return removals.of_each(
            changes.new_zeros(self.n_objects).index_add(0, self.sets.reshape(-1), changes.flatten())
        )


def main():
    """Check all three, and compare their scores."""
    data, penalty = simulated(), 1.0
    losses = {
        "a function": as_a_function(*data, penalty),
        "parts": as_parts(*data, penalty),
        "a class": ConditionalLogit(*data, penalty),
    }
    n, start = len(data[0]), torch.zeros(6, dtype=torch.float64)
    few = simulated(n_sets=4)
    vif.check_loss(ConditionalLogit(*few, penalty), start + 0.3)
    print("vif.check_loss finds nothing wrong")
    theta = vif.minimize(losses["a function"], start, n_objects=n)
    first = vif.attribute(losses["a function"], theta, lambda theta: theta, n_objects=n)
    for name, loss in losses.items():
        scores = vif.attribute(loss, theta, lambda theta: theta, n_objects=n).scores
        print(f"{name:11} differs by {(scores - first.scores).abs().max():.1e}")
    truth = vif.refit(losses["parts"], theta, lambda theta: theta)
    print(f"Pearson with refits {vif.pearson(first, truth).mean().item():.4f}")


if __name__ == "__main__":
    main()
