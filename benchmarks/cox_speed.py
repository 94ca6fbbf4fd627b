"""How fast the scores of Cox regression are, as ratios to work timed in the same process.

All scores of METABRIC (1,218 × 381) and SUPPORT (5,678 × 1,775), parameters given, against

- one loss gradient (`torch.func.grad` of the same loss),
- the loop of n gradients of losses with a row deleted, timed on some rows and multiplied,
- all exact refits (`vif.refit`), and R's own warm-started `coxph.fit` loop where Rscript with `survival` is installed.

A quick run leaves out SUPPORT.

    python benchmarks/cox_speed.py            # writes benchmarks/results/cox_speed.json
"""

import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import torch

import versatile_influence as vif
from experiments.run import Run
from versatile_influence.datasets import metabric, support
from versatile_influence.losses import CoxLoss

THREADS = 2
LOOP_ROWS = 60

R_PROGRAM = """
suppressMessages(library(survival))
args <- commandArgs(TRUE)
d <- read.csv(args[1])
x <- as.matrix(d[, grepl("^x", names(d))])
y <- Surv(d$duration, d$event)
control <- coxph.control(eps = 1e-13, timefix = FALSE)
fit <- function(rows, init) coxph.fit(x[rows, , drop = FALSE], y[rows], NULL, NULL, init, control,
                                      NULL, args[2], rownames(x)[rows], resid = FALSE)$coefficients
full <- fit(seq_len(nrow(x)), rep(0, ncol(x)))
seconds <- system.time(loo <- t(vapply(seq_len(nrow(x)), function(i) fit(-i, full), full)))[["elapsed"]]
write.csv(loo, args[3], row.names = FALSE)
cat(seconds, as.character(packageVersion("survival")), R.version.string, sep = "\\n")
"""


def best_seconds(work, repeats: int, clock=time.perf_counter) -> float:
    """Return the shortest of some timings, after one that is not counted."""
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return min(times)


def loop_seconds(frame, columns: list[str], theta: torch.Tensor, *, ties: str) -> float:
    """Return the seconds that a gradient a row with that row deleted takes, for all rows."""
    rows = range(0, len(frame), max(1, len(frame) // LOOP_ROWS))
    losses = [
        CoxLoss(rest[columns].to_numpy(), rest["duration"], rest["event"], ties=ties, penalty=1e-300)
        for rest in (frame.drop(index=frame.index[row]) for row in rows)
    ]
    everyone = torch.ones(len(frame) - 1, dtype=torch.float64)

    def loop():
        for loss in losses:
            torch.func.grad(loss)(theta, everyone)

    return best_seconds(loop, 3) / len(losses) * len(frame)


def r_refits(frame, *, ties: str, ours: torch.Tensor) -> dict | None:
    """Return R's seconds for all refits, and how far its coefficients are from ours."""
    if shutil.which("Rscript") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder) / name) for name in ("data.csv", "loo.csv", "program.R")]
        frame.to_csv(paths[0], index=False, float_format="%.17g")
        Path(paths[2]).write_text(R_PROGRAM)
        command = ["Rscript", "--vanilla", paths[2], paths[0], ties, paths[1]]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        import pandas as pd

        theirs = torch.from_numpy(pd.read_csv(paths[1]).to_numpy())
    seconds, survival, version = run.stdout.split("\n")[:3]
    difference = (theirs - ours).abs().max().item()
    return {"seconds": float(seconds), "survival": survival, "R": version, "largest difference": difference}


def measure(name: str, data, *, ties: str) -> dict:
    """Return all timings of one data set and tie method."""
    columns = [column for column in data.train.columns if column.startswith("x")]
    loss = CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties=ties)
    theta = vif.minimize(loss, loss.zeros())
    target = loss.relative_risk(data.test)
    everyone = torch.ones(loss.n_objects, dtype=torch.float64)

    gradient = best_seconds(lambda: torch.func.grad(loss)(theta, everyone), 50)
    scores = best_seconds(lambda: vif.attribute(loss, theta, target, check=False), 10)
    judged = best_seconds(lambda: vif.attribute(loss, theta, target), 10)
    changes = best_seconds(lambda: vif.parameter_changes(loss, theta), 10)
    loop = loop_seconds(data.train, columns, theta, ties=ties)
    start = time.perf_counter()
    refits = vif.refit(loss, theta, loss.coefficients())
    refitting = time.perf_counter() - start
    reference = r_refits(data.train, ties=ties, ours=refits.scores + theta)
    found = {
        "data": name,
        "ties": ties,
        "objects": loss.n_objects,
        "targets": len(data.test),
        "gradient seconds": gradient,
        "scores seconds": scores,
        "scores in gradients": scores / gradient,
        "scores and estimated errors in gradients": judged / gradient,
        "parameter changes in gradients": changes / gradient,
        "loop of n gradients seconds": loop,
        "loop over scores": loop / scores,
        "all refits seconds": refitting,
        "refits over scores": refitting / scores,
        "R refits": reference,
    }
    print(
        f"{name:9} {ties:8} gradient {1e3 * gradient:6.2f} ms   scores {1e3 * scores:7.1f} ms = "
        f"{scores / gradient:5.1f} gradients; loop of n gradients {loop / scores:6.0f} times slower; "
        f"all refits {refitting:6.2f} s; R's {reference['seconds'] if reference else float('nan'):6.2f} s"
    )
    return found


def main() -> None:
    """Measure and write the record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(THREADS)
    data = {"metabric": metabric()} if run.quick else {"metabric": metabric(), "support": support()}
    run.record({"runs": [measure(name, data[name], ties=ties) for name in data for ties in ("breslow", "efron")]})


if __name__ == "__main__":
    main()
