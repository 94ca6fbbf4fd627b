"""Memory: what would not fit is refused before it is asked for, what ran out is said in words that help; the budget."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from versatile_influence.core.checks import number
from versatile_influence.core.sizes import ALLOWED, LIVE_ARRAYS, SMALL_BYTES

# What PyTorch says on the processor, where it has no error of its own for it.
SAID = ("can't allocate memory", "not enough memory", "out of memory", "failed to allocate")


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


def ran_out(error: Exception) -> bool:
    """Return whether an error says that memory ran out."""
    # On the processor PyTorch raises a bare RuntimeError, with these words in it.
    said = isinstance(error, RuntimeError) and any(words in str(error).lower() for words in SAID)
    return said or isinstance(error, MemoryError | torch.OutOfMemoryError)


@contextmanager
def memory_budget(gigabytes: float) -> Iterator[None]:
    """Do less at once inside, so that what is beside the data takes about so much memory; results stay as they are.

    The one setting of how many removals, targets or directions are handled together. Without it sizes are chosen so
    that arrays stay near the processor.

    Args:
        gigabytes: About how much.

    Raises:
        TypeError: If it is no number.
        ValueError: If it is not positive.

    Example:
        >>> import torch, versatile_influence as vif
        >>> loss = lambda theta, presence: (presence * (torch.arange(3.0).double() - theta) ** 2).sum() / 2
        >>> with vif.memory_budget(0.1):
        ...     vif.attribute(loss, torch.tensor(1.0), lambda theta: theta, n_objects=3).scores.squeeze().tolist()
        [0.333..., 0.0, -0.333...]
    """
    token = ALLOWED.set(int(number(gigabytes, "gigabytes", above=0) * 1e9 / 8 / LIVE_ARRAYS))
    try:
        yield
    finally:
        ALLOWED.reset(token)
