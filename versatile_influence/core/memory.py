"""Memory: what would not fit is refused before it is asked for."""

import os
from pathlib import Path

import torch
from torch import Tensor

from versatile_influence.core.sizes import SMALL_BYTES


def check_room(numbers: int, like: Tensor, *, what: str, instead: str) -> None:
    """Refuse what needs more memory than there is.

    Args:
        numbers: How many numbers are to be held at once.
        like: A tensor of their dtype, on their device.
        what: What they are, for the message.
        instead: What to do, for the message.

    Raises:
        MemoryError: If they do not fit.
    """
    needed = numbers * like.element_size()
    # Asking for every small matrix would cost more than it saves.
    if needed < SMALL_BYTES:
        return
    free = available(like.device)
    if free is not None and needed > free:
        raise MemoryError(
            f"{what} would need about {needed / 1e9:,.3g} GB, and {free / 1e9:,.3g} GB are free. {instead}"
        )


def available(device: torch.device) -> int | None:
    """Return how many bytes are free on a device, or None where that is not known."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type != "cpu":
        return None
    table = Path("/proc/meminfo")
    if table.exists():
        rows = dict(line.split(":", 1) for line in table.read_text().splitlines() if ":" in line)
        if "MemAvailable" in rows:
            return 1024 * int(rows["MemAvailable"].split()[0])
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):
        return None
