"""A loss of one's own three ways, as a function, as parts and as a class: what each costs, in one process.

Conditional logistic regression of matched sets (`examples/own_loss.py`): all scores of all coefficients, and one Newton
step for every person. Processor seconds, the least of some runs, after a warm-up; one thread.

    python benchmarks/own_loss.py
"""

import time

import torch

import versatile_influence as vif
from benchmarks.cox_speed import best_seconds
from examples import own_loss
from experiments.run import Run

SETS, QUICK_SETS, REPEATS = 500, 60, 5


def main():
    """Time the three, hold their scores against each other, and record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    data = own_loss.simulated(QUICK_SETS if run.quick else SETS, seed=run.seed)
    n, penalty = len(data[0]), 1.0
    ways = {
        "function": own_loss.as_a_function(*data, penalty),
        "parts": own_loss.as_parts(*data, penalty),
        "class": own_loss.ConditionalLogit(*data, penalty),
    }
    theta = vif.minimize(ways["function"], torch.zeros(6).double(), n_objects=n)
    numbers, first = {"persons": n, "sets": len(data[1]), "threads": 1}, None
    for name, loss in ways.items():
        given = (loss, theta, lambda params: params)
        scores = vif.attribute(*given, n_objects=n).scores
        first = scores if first is None else first
        numbers[name] = {
            "attribute, processor seconds": best_seconds(
                lambda g=given: vif.attribute(*g, n_objects=n, check=False), REPEATS, time.process_time
            ),
            "newton_step, processor seconds": best_seconds(
                lambda g=given: vif.newton_step(*g, n_objects=n), REPEATS, time.process_time
            ),
            "largest difference of scores": (scores - first).abs().max().item(),
        }
    print(run.record(numbers))


if __name__ == "__main__":
    main()
