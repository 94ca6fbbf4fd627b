"""What retraining shows: the ground truth that predictions are held against.

Trainings run through joblib, and a surrounding `parallel_config` chooses the engine. Processes of this machine need
nothing but `n_jobs`. On a Dask cluster:

    with distributed.Client(address), joblib.parallel_config("dask"):
        truth = vif.leave_one_out(fit, target, n_objects=n, store="trainings")

On a Ray cluster, whose engine hands results back by blocks, so that a kill can lose a block of them:

    ray.util.joblib.register_ray()
    with joblib.parallel_config("ray", n_jobs=64):
        truth = vif.leave_one_out(fit, target, n_objects=n, store="trainings")

`fit` and `target` are sent by cloudpickle; the store is written by the calling process alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from os import PathLike

import torch
from tqdm.auto import tqdm

from versatile_influence.core.arguments import flag, folder, function
from versatile_influence.core.boundary import as_target, known_objects
from versatile_influence.core.checks import listed, whole
from versatile_influence.core.jobs import as_finished
from versatile_influence.core.made import made_by
from versatile_influence.core.ravel import Params, ravel
from versatile_influence.core.removals import Removals
from versatile_influence.core.result import Attribution
from versatile_influence.training.training import Training
from versatile_influence.verbs.retrained import assembled
from versatile_influence.verbs.retrainings import Outcome, Retraining, shapes
from versatile_influence.verbs.store import Finished, Store, opened

Seed = int | None


def leave_one_out(
    fit: Callable[..., Params] | Training,
    target: object,
    *,
    n_objects: int | None = None,
    objects: Iterable | None = None,
    n_jobs: int | None = None,
    seeds: Sequence[int] | None = None,
    batch_size: int | None = None,
    store: str | PathLike | None = None,
    key: str | None = None,
    progress: bool = True,
) -> Attribution:
    """Return the measured change of each target when the model is retrained without each object.

    A score is `target(fit(1₋ᵢ)) − target(fit(1))`. For a `PresenceTarget` f it is f(θ₋ᵢ, 1₋ᵢ) − f(θ, 1), of which
    f(θ, 1₋ᵢ) − f(θ, 1) is the direct part.

    Args:
        fit: `fit(presence) -> params`, the whole training with those of presence 1.0; presence is float64. With
            `seeds` it is called `fit(presence, seed=seed)`. A `vif.Training` is run over the same steps, the removed
            absent from each.
        target: `target(params) -> (t,)`, or a `PresenceTarget`.
        n_objects: How many objects there are; a `vif.Training` says it.
        objects: Which to remove: None for each in turn, a list of object numbers, or a list of groups of them, each
            group removed together.
        n_jobs: How many trainings at once; None for 1, or what a surrounding `joblib.parallel_config` says, which
            also chooses the engine: processes here, Dask or Ray on a cluster.
        seeds: Repeat everything with each of these seeds, the same seed with and without the object, so that the
            randomness they share cancels. Scores are means over seeds; those of each seed are kept in `by_seed`.
        batch_size: Hand `fit` this many presences at a time, (b, n), and expect parameters stacked along a first
            dimension, as `vif.train` gives them.
        store: A folder in which every finished training is kept at once. The same call with the same folder goes on
            where a killed one stopped. Before, the full training and one finished retraining are repeated, and a
            folder that another loss, data or setting has filled, or that another run is filling, is refused. A failed
            training stays failed, except for want of memory: to repeat that of row 12, delete `refit-0-12.json` (0 is
            the position of the seed).
        key: Any text that says what `fit` and `target` are, such as a version: compared with that in the folder.
        progress: Show a bar with the time left, on stderr.

    Returns:
        Scores (k, t). A training that fails, or gives NaN, has NaN scores and its reason in `failed`.

    Raises:
        TypeError: If a training returns no parameters, or of other shapes than with everyone present.
        ValueError: If the full training or its targets are not finite, every retraining fails, or the folder is of
            another run, or being filled by one.
        RuntimeError: If a worker dies.
        OSError: If the folder cannot be written.
        MemoryError: If the finished retraining that is repeated to compare ran out of it.

    Warns:
        UserWarning: If trainings failed, no removal changed the parameters, or files of the folder were damaged, whose
            trainings are repeated.

    Example:
        >>> x = torch.tensor([1.0, 2.0, 6.0], dtype=torch.float64)
        >>> mean = lambda presence: (presence @ x / presence.sum())[None]
        >>> leave_one_out(mean, lambda theta: theta, n_objects=3, progress=False).scores.squeeze().tolist()
        [1.0, 0.5, -1.5]
    """
    repeats = _repeats(seeds)
    if batch_size is not None:
        whole(batch_size, "batch_size", least=1)
    if not isinstance(key, str | None):
        raise TypeError(f"`key` must be text, got {key!r}.")
    n = known_objects(fit.n_objects if isinstance(fit, Training) else None, n_objects)
    fit = fit.run if isinstance(fit, Training) else fit
    function(fit, "fit", "presence", *(["seed="] if seeds is not None else []))
    quiet, removals = not flag(progress, "progress"), Removals.asked(objects, n)
    training = Retraining(fit, as_target(target), removals.n_objects, batched=batch_size is not None)

    settings = {"n_objects": removals.n_objects, "objects": _listed(removals), "seeds": repeats, "key": key}
    with nullcontext() if store is None else opened(folder(store, "store"), settings) as kept:
        # Also where a folder knows it: that the same `fit` gives the same again is how a folder is recognised.
        full = _full(training, repeats, n_jobs)
        expected = shapes(full[0][0])
        done: Finished = {}
        if kept is not None:
            full, done = _continued(kept, training, removals, repeats, full)
        blocks = list(_blocks(removals.count, len(repeats), batch_size or 1, done))
        everything = removals.count * len(repeats)
        with tqdm(total=everything, initial=len(done), desc="retraining", unit="fit", disable=quiet) as bar:
            calls = _calls(training, removals, repeats, blocks, expected)
            for (position, rows), given in as_finished(_without, calls, n_jobs=n_jobs):
                for row, outcome in zip(rows, given, strict=True):
                    done[position, row] = outcome
                    if kept is not None and not outcome.passing:
                        # At once: a kill loses no more than what is being trained.
                        kept.write((position, row), outcome)
                bar.update(len(rows))
    made = made_by("leave_one_out", seeds=seeds and repeats, batch_size=batch_size, key=key)
    return replace(assembled(training, removals, repeats, full, done), made=made)


def _repeats(seeds: Sequence[int] | None) -> list[Seed]:
    if seeds is None:
        return [None]
    repeats: list[Seed] = [whole(seed, "seeds") for seed in listed(seeds, "seeds", "whole numbers")]
    if not repeats or len(set(repeats)) < len(repeats):
        raise ValueError(
            f"`seeds` must name at least one seed, and each once, got {repeats}. Leave it out for one run."
        )
    return repeats


def _full(training: Retraining, repeats: list[Seed], n_jobs: int | None) -> list[tuple[Params, Outcome]]:
    """Return parameters and targets with everyone present, seed by seed."""
    calls = [(training, position, seed) for position, seed in enumerate(repeats)]
    # They come as they finish; seeds keep their order.
    given = sorted(as_finished(Retraining.full, calls, n_jobs=n_jobs), key=lambda result: result[0])
    return [(params, outcome) for _, params, outcome in given]


def _continued(
    kept: Store,
    training: Retraining,
    removals: Removals,
    repeats: list[Seed],
    full: list[tuple[Params, Outcome]],
) -> tuple[list[tuple[Params, Outcome]], Finished]:
    """Return the full trainings and finished ones as the folder has them, after repeating one to compare."""
    theta = ravel(full[0][0])[0]
    rtol = 1e-6 if theta.dtype == torch.float64 else 1e-3
    stored = kept.agreed([outcome for _, outcome in full], rtol=rtol)
    done = kept.finished(len(repeats), removals.count)
    succeeded = [place for place, outcome in done.items() if outcome.reason is None]
    if succeeded:
        position, row = succeeded[0]
        group = _groups(removals)[row]
        again = training.without([group], repeats[position], shapes(full[0][0]))[0]
        if again.passing:
            raise MemoryError(f"Retraining {row}, repeated to compare it with that in the folder: {again.reason}")
        kept.compare(done[position, row], again, which=f"in retraining {row}", rtol=rtol)
    return [(params, outcome) for (params, _), outcome in zip(full, stored, strict=True)], done


def _blocks(count: int, repeats: int, size: int, done: Finished) -> Iterator[tuple[int, list[int]]]:
    """Yield (seed number, rows) of what is trained together."""
    for position in range(repeats):
        rows = [row for row in range(count) if (position, row) not in done]
        for start in range(0, len(rows), size):
            yield position, rows[start : start + size]


def _groups(removals: Removals) -> Sequence[Sequence[int]]:
    """Return the objects of each removal."""
    removed = removals.objects()
    return removed if isinstance(removed, tuple) else [(number,) for number in removed.tolist()]


def _listed(removals: Removals) -> list | None:
    """Return what is removed as JSON holds it: None for all, one by one."""
    return None if removals.everything else [list(group) for group in _groups(removals)]


def _calls(training: Retraining, removals: Removals, repeats: list[Seed], blocks: list, expected: dict) -> Iterator:
    """Yield the arguments of each training without something."""
    groups = _groups(removals)
    for position, rows in blocks:
        yield training, (position, rows), ([groups[row] for row in rows], repeats[position], expected)


def _without(training: Retraining, block: tuple[int, list[int]], call: tuple):
    """Return the outcomes of one block, with whose they are."""
    return block, training.without(*call)
