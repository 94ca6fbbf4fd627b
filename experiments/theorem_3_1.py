"""Theorem 3.1 and Lemma 3.1: for a sum over data points, the VIF is the classical influence function exactly.

Linear, logistic and Poisson regression on simulated data. Changes of parameters by Eq. 10, from the loss as a function
of presence alone, beside H⁻¹∇ℓᵢ with gradient and Hessian written by hand; and the finite-difference influence function
at ε = −1/(n−1) of Definition 3.2 beside both.

    python experiments/theorem_3_1.py
"""

import torch
from torch import Tensor

import versatile_influence as vif
from experiments.run import Run

N, FEATURES = 400, 6
REQUIRED = 1e-12
# Term of a row's score s and answer y, with its first and second derivatives in s.
MODELS = {
    "linear": (lambda s, y: (s - y) ** 2 / 2, lambda s, y: s - y, torch.ones_like),
    "logistic": (
        lambda s, y: torch.nn.functional.softplus(s) - y * s,
        lambda s, y: s.sigmoid() - y,
        lambda s: s.sigmoid() * (1 - s.sigmoid()),
    ),
    "Poisson": (lambda s, y: s.exp() - y * s, lambda s, y: s.exp() - y, torch.exp),
}


def simulated(name: str, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return covariates and answers."""
    x = torch.randn(n, FEATURES, generator=draw, dtype=torch.float64)
    score = x @ torch.linspace(-0.5, 0.5, FEATURES, dtype=torch.float64)
    if name == "linear":
        return x, score + torch.randn(n, generator=draw, dtype=torch.float64)
    if name == "logistic":
        return x, (torch.rand(n, generator=draw, dtype=torch.float64) < score.sigmoid()).double()
    return x, torch.poisson(score.exp(), generator=draw)


def compared(name: str, n: int, seed: int) -> dict:
    """Return the largest relative differences of the three."""
    term, slope, curvature = MODELS[name]
    x, y = simulated(name, n, torch.Generator().manual_seed(seed))

    def loss(theta, presence):
        return (presence * term(x @ theta, y)).sum()

    theta = vif.minimize(loss, torch.zeros(FEATURES, dtype=torch.float64), torch.ones(n, dtype=torch.float64))
    versatile = vif.parameter_changes(loss, theta, n_objects=n)
    score = x @ theta
    gradients, hessian = x * slope(score, y)[:, None], x.T @ (curvature(score)[:, None] * x)
    classical = torch.linalg.solve(hessian, gradients.T).T
    # Definition 3.2 on the mean loss: P weighs 1/n; (1 − ε)P + εδᵢ at ε = −1/(n−1) weighs 1/(n−1), and 0 at i.
    shifted = (gradients.sum(0) - gradients) / (n - 1) - gradients.mean(0)
    finite = -torch.linalg.solve(hessian / n, shifted.T).T * -(n - 1)
    size = classical.abs().max()
    return {
        "VIF and classical, relative difference": ((versatile - classical).abs().max() / size).item(),
        "finite difference and classical, relative difference": (
            (finite + n * classical).abs().max() / (n * size)
        ).item(),
    }


def main():
    """Measure and write."""
    run = Run.of(__file__, __doc__)
    n = 100 if run.quick else N
    found = {name: compared(name, n, run.seed) for name in MODELS}
    largest = max(value for row in found.values() for value in row.values())
    run.record({"data points": n, "required": REQUIRED, "largest of all": largest, "models": found})
    print(found)


if __name__ == "__main__":
    main()
