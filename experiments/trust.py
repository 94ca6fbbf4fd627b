"""How far each score can be trusted, on fifteen problems, nine of them not convex (`trust_problems`).

Ground truth: refits warm-started from the trained parameters, to a stationary point. The true error of a removal is
measured as `Attribution.error` estimates it, in units of the truth: the distance of its scores to the refit's, each
target divided by its root mean square over removals, relative to the larger of the two. Of each problem

- rank correlation of the estimated with the true error; how many removals are trusted, the 95th percentile of their
  true error, and how many of them are wrong by more than half, which `spot_check` of all removals names;
- Pearson's r with the refits, pooled over removals and targets and as the mean over targets, of the scores as they are
  and of those with `tolerance=0.1`, with the rungs taken and processor time beside that of all refits.

Then whether refits and fresh minimisations agree on Les Misérables without Myriel or Valjean, and what the errors cost
on METABRIC, SUPPORT and Delicious (linear, one thread, processor time, smallest of some repeats).

    python experiments/trust.py [--quick]     # quick: the small problems
"""

import time
import warnings
from collections import Counter
from collections.abc import Callable

import scipy.stats
import torch

import versatile_influence as vif
from benchmarks.before_after_rows import delicious
from benchmarks.cox_speed import best_seconds
from experiments.run import Run
from experiments.trust_problems import PROBLEMS, Trial
from versatile_influence.core.sizes import WRONG
from versatile_influence.datasets import metabric, support
from versatile_influence.losses import CoxLoss
from versatile_influence.verbs.trust import Scale

TOLERANCE, QUICK = 0.1, ("logistic regression", "Florentine families", "matrix factorisation")


def timed(work: Callable[[], vif.Attribution]) -> tuple[vif.Attribution, float]:
    """Return a result and the processor seconds it took."""
    start = time.process_time()
    return work(), time.process_time() - start


def correlations(estimate: vif.Attribution, truth: vif.Attribution) -> dict:
    """Return pooled and mean Pearson's r."""
    found = vif.agreement(estimate, truth)
    return {"pooled r": round(found.pooled_pearson, 4), "mean r": round(found.mean_pearson, 4)}


def measured(trial: Trial) -> dict:
    """Return what is recorded of one problem."""
    asked = {"objects": trial.objects}
    scores, seconds = timed(lambda: vif.attribute(trial.loss, trial.params, trial.target, check="all", **asked))
    mended, mending = timed(lambda: vif.attribute(trial.loss, trial.params, trial.target, tolerance=TOLERANCE, **asked))
    truth, refitting = timed(lambda: vif.refit(trial.loss, trial.params, trial.target, **asked))
    there = ~truth.scores.isnan().any(1)
    true = Scale.of(truth.scores[there]).errors(scores.scores[there], truth.scores[there])
    error, trusted = scores.error[there], scores.trusted[there]
    spot = vif.spot_check(scores, trial.loss, trial.params, trial.target, k=len(scores.scores))
    few = vif.spot_check(scores, trial.loss, trial.params, trial.target, k=20)
    return {
        "removals": len(scores.scores),
        "parameters": sum(part.numel() for part in trial.params.values())
        if isinstance(trial.params, dict)
        else trial.params.numel(),
        "convex": trial.convex,
        "no minimum without": len(truth.failed or {}),
        "rank correlation of estimated and true error": round(
            float(scipy.stats.spearmanr(error.clamp_max(1e12), true)[0]), 4
        ),
        "trusted": int(trusted.sum()),
        "95th percentile of their true error": round(true[trusted].quantile(0.95).item(), 4) if trusted.any() else None,
        "wrong by more than half": int((true > WRONG).sum()),
        "of these trusted": int(((true > WRONG) & trusted).sum()),
        "jumps named by spot_check of all": list(spot.jumps),
        "jumps named by spot_check of 20": list(few.jumps),
        "spot_check of 20": str(few),
        "as they are": correlations(scores, truth),
        f"tolerance {TOLERANCE}": correlations(mended, truth)
        | {"rungs": dict(Counter(mended.rung or ())), "seconds over refits": round(mending / refitting, 3)},
        "seconds": {"scores and errors": seconds, "with tolerance": mending, "all refits": refitting},
    }


def truth_itself() -> dict:
    """Return whether a refit and a minimisation from another start reach one loss and one answer, at the two hubs."""
    trial = PROBLEMS["Les Miserables, weighted"]()
    labels, found = [str(label) for label in trial.loss.node_labels], {}
    for name in ("Myriel", "Valjean"):
        presence = torch.ones(trial.loss.n_objects, dtype=torch.float64)
        presence[labels.index(name)] = 0.0
        ends = {"warm": vif.minimize(trial.loss, trial.params, presence)}
        for seed in range(3):
            draw = torch.Generator().manual_seed(seed)
            start = {
                key: 0.5 * torch.randn(value.shape, generator=draw, dtype=value.dtype)
                for key, value in trial.params.items()
            }
            ends[f"start {seed}"] = vif.minimize(trial.loss, start, presence)
        values = {end: trial.loss(params, presence).item() for end, params in ends.items()}
        warm = trial.target(ends["warm"])
        distance = {end: (trial.target(params) - warm).abs().max().item() for end, params in ends.items()}
        found[name] = {"loss": values, "largest difference in a target from the warm refit": distance}
    return found


def costs(quick: bool) -> dict:
    """Return what scores cost with and without errors."""
    found, repeats = {}, 2 if quick else 10
    for name, data in {"METABRIC": metabric, **({} if quick else {"SUPPORT": support})}.items():
        read = data()
        for ties in ("breslow", "efron"):
            loss = CoxLoss.from_frame(read.train, duration_col="duration", event_col="event", ties=ties)
            theta = vif.minimize(loss, loss.zeros())
            target, everyone = loss.relative_risk(read.test[loss.columns]), torch.ones(loss.n_objects).double()
            gradient = best_seconds(lambda: torch.func.grad(loss)(theta, everyone), 5 * repeats, time.process_time)  # noqa: B023
            row = {"gradient seconds": gradient}
            for check in (False, True, "all") if name == "METABRIC" else (False, True):
                seconds = best_seconds(
                    lambda: vif.attribute(loss, theta, target, check=check),  # noqa: B023
                    repeats,
                    time.process_time,
                )
                row[f"check={check}, in gradients"] = round(seconds / gradient, 1)
            row["default over check=False"] = round(
                row["check=True, in gradients"] / row["check=False, in gradients"], 3
            )
            found[f"{name}, {ties}"] = row
    if not quick:
        found["Delicious, 983 items"] = delicious_cost()
    return found


def delicious_cost() -> dict:
    """Return the same of the 983 items of Delicious."""
    call = delicious(983, None)
    held = {name: cell.cell_contents for name, cell in zip(call.__code__.co_freevars, call.__closure__, strict=True)}
    loss, target, params = held["loss"], held["test"], held["params"] - held["step"].reshape(held["params"].shape)
    seconds = {
        check: timed(lambda: vif.attribute(loss, params, target, check=check))[1]  # noqa: B023
        for check in (False, True)
    }
    return {
        "check=False, seconds": seconds[False],
        "check=True, seconds": seconds[True],
        "default over check=False": seconds[True] / seconds[False],
    }


def main() -> None:
    """Measure and record, problem by problem."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    numbers: dict = {"tolerance": TOLERANCE, "problems": {}}
    for name, make in PROBLEMS.items():
        if run.quick and name not in QUICK:
            continue
        with warnings.catch_warnings():
            # What they warn of is what is measured.
            warnings.simplefilter("ignore")
            numbers["problems"][name] = found = measured(make())
        print(
            f"{name:32} error ~ truth {found['rank correlation of estimated and true error']:.2f}; trusted "
            f"{found['trusted']} of {found['removals']}, to {found['95th percentile of their true error']}; "
            f"r {found['as they are']} -> {found[f'tolerance {TOLERANCE}']}",
            flush=True,
        )
        run.record(numbers)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers["costs"] = costs(run.quick)
        if not run.quick:
            numbers["Les Miserables without a hub"] = truth_itself()
    run.record(numbers)


if __name__ == "__main__":
    main()
