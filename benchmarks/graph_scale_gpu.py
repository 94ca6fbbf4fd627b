"""The largest graph of `graph_scale` on a GPU: training, and scores of six nodes.

Seconds are of the clock, after a first small graph. The record was made of a copy of the files of commit 815b526.

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
    torch.cuda.reset_peak_memory_stats()
    n = 300 if run.quick else 20000
    numbers["20,000 nodes"] = negative_sampling(n, refits=0, seed=run.seed, device="cuda")
    numbers["20,000 nodes"]["peak memory of the device, GB"] = torch.cuda.max_memory_allocated() / 1e9
    run.record(numbers)
    print(numbers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
