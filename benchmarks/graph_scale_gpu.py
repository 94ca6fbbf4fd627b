"""The larger graphs of `graph_scale` on a GPU: training, scores of six nodes, and of the smaller one refits of them.

Seconds are of the clock, after a first small graph.

    python benchmarks/graph_scale_gpu.py [--quick]     # quick: 300 nodes; needs a GPU
"""

import sys
import warnings

import torch

from benchmarks.graph_scale import negative_sampling
from experiments.run import Run


def main() -> int:
    """Measure and write the record."""
    run, numbers = Run.of(__file__, __doc__), {}
    warnings.simplefilter("ignore")
    if not torch.cuda.is_available():
        sys.exit("There is no GPU here: `python benchmarks/graph_scale.py` measures on the processor.")
    numbers["device"] = torch.cuda.get_device_name()
    # What is paid once, the libraries of the device, is paid before.
    negative_sampling(300, refits=0, seed=run.seed, device="cuda")
    for size, refits in ((20000, 0), (5000, 6)):
        torch.cuda.reset_peak_memory_stats()
        name, n = f"{size:,} nodes", 300 if run.quick else size
        numbers[name] = negative_sampling(n, refits=refits, seed=run.seed, device="cuda")
        numbers[name]["peak memory of the device, GB"] = torch.cuda.max_memory_allocated() / 1e9
        run.record(numbers)
        print(name, numbers[name], sep=": ", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
