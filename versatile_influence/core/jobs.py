"""Many calls through joblib, each result handed over as soon as it is there."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from pickle import PicklingError
from typing import Any

import joblib


def as_finished(function: Callable, calls: Iterable[tuple], *, n_jobs: int | None) -> Iterator:
    """Yield `function(*call)` of each call, in the order in which they finish.

    The engine is joblib's: processes of this machine, or whatever `joblib.parallel_config` names around the call.

    Args:
        function: What is called; with processes it must be picklable, by cloudpickle.
        calls: Its arguments, call by call.
        n_jobs: How many at once; None for 1, or what `parallel_config` says; −1 for all cores.

    Raises:
        ValueError: If `n_jobs` is 0 or no whole number.
        RuntimeError: If a worker died.
        TypeError: If the function cannot be sent to the workers.
    """
    if n_jobs is not None and (not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0):
        raise ValueError(
            f"`n_jobs` must be a whole number other than 0, got {n_jobs!r}: 1 for one at a time, −1 for all."
        )
    # Arguments are made here, where an error in them is the caller's.
    calls = list(calls)
    try:
        yield from _outputs(function, calls, n_jobs)
    except BrokenExecutor as error:
        raise RuntimeError(
            f"A worker died while training ({error}). Usually it ran out of memory, or crashed in compiled code. Use "
            "fewer at once (n_jobs=…), and name a folder store=…, from which a second run continues."
        ) from error
    except Exception as error:
        if isinstance(error, PicklingError) or "pickle" in str(error) or "serialize" in str(error):
            raise TypeError(
                f"The function cannot be sent to other processes ({error}). cloudpickle sends functions, closures and "
                "lambdas, but no open files, locks, generators or connections: open those inside the function, or use "
                "n_jobs=1 or joblib.parallel_config('threading')."
            ) from error
        raise


def _outputs(function: Callable, calls: list[tuple], n_jobs: int | None) -> Iterator:
    work = joblib.delayed(function)
    one: Any = 1  # joblib annotates batch_size as text
    try:
        # One training a task: in joblib's batches, results would wait for each other and be lost together.
        parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=one, return_as="generator_unordered")
    except ValueError:
        # Engines built on multiprocessing.Pool, Ray's among them, give results back by blocks only.
        parallel = joblib.Parallel(n_jobs=n_jobs, batch_size=one)
        block = 4 * joblib.effective_n_jobs(n_jobs)  # pyright: ignore[reportArgumentType]
        for start in range(0, len(calls), block):
            yield from parallel(work(*call) for call in calls[start : start + block])
        return
    yield from parallel(work(*call) for call in calls)
