"""Sums over blocks, by several threads."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor


def together(work: Callable[[slice], Tensor], count: int, threads: int) -> Tensor:
    """Return the sum of what `work` returns of each share `slice(first, None, step)` of so many blocks: one a thread.

    Products with one short side gain nothing from several threads each. What is made once is made by the first block,
    alone.
    """
    if min(threads, count - 1) < 2:
        return work(slice(None))
    total, inference = work(slice(1)), torch.is_inference_mode_enabled()

    def share(chosen: slice) -> Tensor:
        # A thread knows nothing of the modes of the one that started it.
        with torch.inference_mode(inference):
            return work(chosen)

    # New threads take the number that was set last.
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            for found in pool.map(share, (slice(1 + place, None, threads) for place in range(threads))):
                total += found
    finally:
        torch.set_num_threads(threads)
    return total
