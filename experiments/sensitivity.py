"""How many patients carry a conclusion: the search of vif.sensitivity against first order and against greedy refitting.

Rossi's and METABRIC's coefficients: the smallest set found whose removal turns a sign, or takes (or gives)
significance. Beside it the number that first order says (the sum of single changes, as zaminfluence counts), and what
greedy refitting finds, which at every step refits the model without each patient who is left and removes the worst.

    python experiments/sensitivity.py         # writes experiments/results/sensitivity.json
"""

import time
from collections.abc import Iterator

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.core.remaining import Remaining
from versatile_influence.datasets import metabric
from versatile_influence.losses import CoxLoss

# Greedy refitting is n refits a patient removed: sets larger than this are not searched so.
MOST = 80


def by_refitting(loss: CoxLoss, theta: torch.Tensor, conclusion: object) -> tuple[int | None, float]:
    """Return how many patients greedy refitting removes until the conclusion is overturned, and its seconds."""
    start, kept, value = time.perf_counter(), torch.arange(loss.n_objects), 1.0
    while value > 0 and loss.n_objects - len(kept) < MOST:
        rest = Remaining(loss, kept)
        theta = vif.minimize(rest, theta)
        asked = rest.target(conclusion)
        everyone = torch.ones(len(kept), dtype=torch.float64)
        now = asked(theta, everyone) if isinstance(asked, vif.PresenceTarget) else asked(theta)
        changes = vif.refit(rest, theta, asked).scores[:, 0].nan_to_num(float("inf"))
        worst = int(changes.argmin())
        value = (now + changes[worst]).item()
        kept = kept[torch.arange(len(kept)) != worst]
    return (loss.n_objects - len(kept) if value <= 0 else None), time.perf_counter() - start


def conclusions(loss: CoxLoss, theta: torch.Tensor) -> Iterator[tuple[str, object]]:
    """Yield the conclusions about each coefficient: its sign, and that it is significant, or is not."""
    for name in loss.columns:
        yield f"sign of {name}", vif.conclusions.sign(loss.coefficients([name]), theta)
        z = loss.z_values([name])
        size = z(theta, torch.ones(loss.n_objects, dtype=torch.float64)).abs().item()
        holds = size > torch.special.ndtri(torch.tensor(0.975, dtype=torch.float64)).item()
        ready = vif.conclusions.significant if holds else vif.conclusions.insignificant
        yield f"{name} is {'' if holds else 'not '}significant", ready(z)


def rows(name: str, loss: CoxLoss, *, quick: bool) -> list[dict]:
    """Return what each search finds, and its seconds."""
    theta, found = vif.minimize(loss, loss.zeros()), []
    for what, conclusion in list(conclusions(loss, theta))[: 2 if quick else None]:
        start = time.perf_counter()
        set_found = vif.sensitivity(loss, theta, conclusion)
        seconds = time.perf_counter() - start
        small = set_found.overturned and len(set_found) <= MOST
        count, refitting = by_refitting(loss, theta, conclusion) if small else (None, None)
        row = {
            "data": name,
            "conclusion": what,
            "found": len(set_found) if set_found.overturned else None,
            "first_order": set_found.first_order,
            "greedy_refitting": count,
            "refitted": [set_found.holds, set_found.without],
            "seconds": seconds,
            "seconds_refitting": refitting,
        }
        print(row)
        found.append(row)
    return found


def main() -> None:
    """Measure, and write the record."""
    from lifelines.datasets import load_rossi

    run = Run.of(__file__, __doc__)
    rossi = CoxLoss.from_frame(load_rossi(), duration_col="week", event_col="arrest")
    training = metabric().train
    cancer = CoxLoss.from_frame(training, duration_col="duration", event_col="event")
    found = [*rows("rossi", rossi, quick=run.quick), *rows("metabric", cancer, quick=run.quick)]
    run.record({"rows": found, "most": MOST})


if __name__ == "__main__":
    main()
