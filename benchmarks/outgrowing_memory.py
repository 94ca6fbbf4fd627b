"""Scores of 10⁵ objects × 10⁴ targets, 8 GB in float64, written to disk: time, and the most memory ever held.

Least squares with 20 parameters, so that every score has a closed form to check against: the influence of object i on
the prediction for z is −zᵀ(XᵀX)⁻¹xᵢ rᵢ. Memory is the kernel's count of this process's largest resident set, of which
importing the library alone is a part. The scores are then read back lazily, the ten largest of one target, and the
first targets are held against the closed form. The 8 GB lie beside the record and are removed; of a quick run, 80 MB.

    python benchmarks/outgrowing_memory.py --out FOLDER
"""

import resource
import tempfile
import time
from pathlib import Path

import torch

import versatile_influence as vif
from experiments.run import Run

OBJECTS, TARGETS, PARAMETERS = 100_000, 10_000, 20
QUICK_OBJECTS, QUICK_TARGETS = 10_000, 1000
CHECKED = 50


class LeastSquares(vif.Loss):
    """Σ bᵢ (yᵢ − xᵢθ)²/2, with its removal differences: each object has a term of its own."""

    differences_together = True

    def __init__(self, x, y):
        self.x, self.y, self.n_objects = x, y, len(y)

    def squares(self, params):
        """Return the term of each object."""
        return (self.y - self.x @ params) ** 2 / 2

    def __call__(self, params, presence):
        """Return the loss of those present."""
        return presence @ self.squares(params)

    def removal_differences(self, params, objects=None):
        """Return the terms that go."""
        removals = vif.Removals.of(objects, self.n_objects)
        if removals.grouped:
            return super().removal_differences(params, removals)
        return removals.of_each(self.squares(params))


def predictions(test):
    """Return the target: what the model predicts for `test`."""
    return lambda params: test @ params


def peak():
    """Return the most memory this process has held, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    """Write the scores, read some back, and record what it took."""
    run = Run.of(__file__, __doc__)
    n, t = (QUICK_OBJECTS, QUICK_TARGETS) if run.quick else (OBJECTS, TARGETS)
    numbers = {"objects": n, "targets": t, "parameters": PARAMETERS, "peak_mb_after_import": peak()}
    draw = torch.Generator().manual_seed(run.seed)
    x = torch.randn(n, PARAMETERS, generator=draw, dtype=torch.float64)
    y = x.sum(dim=1) + torch.randn(n, generator=draw, dtype=torch.float64)
    test = torch.randn(t, PARAMETERS, generator=draw, dtype=torch.float64)
    theta = torch.linalg.solve(x.T @ x, x.T @ y)
    loss = LeastSquares(x, y)
    run.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=run.out) as place:
        folder = Path(place) / "scores"
        began = time.perf_counter()
        scores = vif.write_scores(loss, theta, predictions(test), folder)
        numbers |= {"seconds": time.perf_counter() - began, "peak_mb_after_writing": peak()}
        numbers["gb_on_disk"] = (folder / "scores.npy").stat().st_size / 1e9
        first = scores.top(10, target=7)
        numbers["peak_mb_after_top"] = peak()
        residual = y - x @ theta
        closed = -residual[:, None] * (x @ torch.linalg.solve(x.T @ x, test[:CHECKED].T))
        numbers["largest_error"] = (scores.scores[:, :CHECKED] - closed).abs().max().item()
        numbers["top_agree"] = bool((first == closed[:, 7].abs().argsort(descending=True)[:10]).all())
    print(numbers)
    run.record(numbers)


if __name__ == "__main__":
    main()
