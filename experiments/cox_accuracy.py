"""Table 1, Cox rows, on stationary ground: predicted against exactly refitted relative risks.

METABRIC and SUPPORT with the paper's split. Ground truth *stationary*: parameters at the minimum of the true partial
likelihood, and every refit too, so that nothing is random and retraining twice would agree to rounding. The paper's
own protocol is in `experiments/paper_cox.py`. Writes `experiments/results/cox_accuracy.json`.

    python experiments/cox_accuracy.py
"""

import time
from dataclasses import asdict

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence import datasets
from versatile_influence.losses import CoxLoss

THREADS = 2
PAPER = {"metabric": 0.997, "support": 0.943}
QUICK_REMOVALS = 300


def measure(name: str, data, *, ties: str, removals: int | None) -> list[dict]:
    """Return the agreement of each estimator with the refits."""
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties=ties)
    theta = vif.minimize(loss, loss.zeros())
    target = loss.relative_risk(data.test)
    objects = None if removals is None else list(range(removals))
    start = time.perf_counter()
    truth = vif.refit(loss, theta, target, objects=objects)
    refitting = time.perf_counter() - start
    found = []
    for estimator in (vif.attribute, vif.newton_step):
        start = time.perf_counter()
        estimate = estimator(loss, theta, target, objects=objects)
        seconds = time.perf_counter() - start
        compared = asdict(vif.agreement(estimate, truth))
        found.append(
            {
                "data": name,
                "ties": ties,
                "estimator": estimator.__name__,
                "train": loss.n_objects,
                "test": len(data.test),
                "paper": PAPER[name],
                **compared,
                "seconds": seconds,
                "refit seconds": refitting,
            }
        )
        print(
            f"{name:9} {ties:8} {estimator.__name__:12} pooled Pearson {compared['pooled_pearson']:.7f}  "
            f"slope {compared['slope']:.4f}  (paper {PAPER[name]})"
        )
    return found


def main() -> None:
    """Measure and write the record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(THREADS)
    data = {"metabric": datasets.metabric(), "support": datasets.support()}
    removals = QUICK_REMOVALS if run.quick else None
    runs = [
        row
        for name in data
        for ties in ("breslow", "efron")
        for row in measure(name, data[name], ties=ties, removals=removals)
    ]
    run.record(
        {"ground truth": "stationary: minimised, and every refit too", "removals": removals or "all", "runs": runs}
    )


if __name__ == "__main__":
    main()
