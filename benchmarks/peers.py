"""Attribution libraries beside this one on a job that all of them can do, and on one that none of the others can.

Logistic regression (n = 1,000 rows, d = 20 features of unequal scale, condition number about 700) and the loss of 200
test rows, through `vif.losses.TermLoss`, against dattri, pyDVL, captum, kronfluence, and influence in plain PyTorch, in
one run, one thread, float64, parameters given. Accuracy against the exact influence by the formula for this model, and
against exact refits of every row; time is the least processor time of repeats after a warm-up, split into what a
library prepares once (its model, Hessian or factors) and the scores. Estimates of each score's error are left out
(`check=False`), as the others have none, but in a row of their own. What this library checks of loss, parameters and
target at each call takes most of the time of so small a job, so that the same is timed on `MANY` rows beside the
formula. Then
Cox regression on METABRIC, whose loss is no sum over rows, given
to the same libraries as rows.

    pip install --no-deps -r benchmarks/requirements-peers.txt   # in an environment of their own; see that file
    python benchmarks/peers.py

A library that is not installed is named in the record and left out.
"""

import os
import sys
import time
import warnings
from importlib import metadata

os.environ["TQDM_DISABLE"] = "1"

import torch
from torch import Tensor
from torch.func import grad, vmap

import versatile_influence as vif
from benchmarks.peer_calls import PEERS, Job, Steps
from experiments.run import Run
from versatile_influence.datasets import metabric

N, MANY, D, T, PENALTY = 1000, 20_000, 20, 200, 0.1
ENOUGH_SECONDS = 3.0


def bernoulli(params: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Return the logistic loss of rows with y in {0, 1}."""
    return torch.nn.functional.softplus((1 - 2 * y) * (x @ params))


def drawn(seed: int, n: int, t: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return training rows and labels, and test rows and labels; the features' scales run from 1 to 0.03."""
    draw = torch.Generator().manual_seed(seed)
    scale = torch.logspace(0, -1.5, D, dtype=torch.float64)
    x = torch.randn(n + t, D, generator=draw, dtype=torch.float64) * scale
    truth = torch.randn(D, generator=draw, dtype=torch.float64) / scale / 2
    y = torch.bernoulli(torch.sigmoid(x @ truth), generator=draw)
    return x[:n], y[:n], x[n:], y[n:]


def network(theta: Tensor) -> torch.nn.Module:
    """Return a linear network with these weights."""
    model = torch.nn.Sequential(torch.nn.Linear(len(theta), 1, bias=False)).double()
    model[0].weight.data = theta[None].clone()
    return model


def labels(outputs: Tensor, _: Tensor) -> Tensor:
    """Return labels drawn from the model."""
    return torch.bernoulli(torch.sigmoid(outputs))


def formula(theta: Tensor, job: Job) -> Steps:
    """Return the exact influence written out for logistic regression: no automatic differentiation."""

    def score(_):
        p, q = torch.sigmoid(job.x @ theta), torch.sigmoid(job.x_test @ theta)
        hessian = (job.x * (p * (1 - p))[:, None]).T @ job.x
        hessian.diagonal().add_(job.penalty)
        gradients = (q - job.y_test[:, 0])[:, None] * job.x_test
        return (p - job.y[:, 0])[:, None] * job.x @ torch.linalg.solve(hessian, gradients.T)

    return lambda: None, score


def plain(theta: Tensor, job: Job) -> Steps:
    """Return the same in plain PyTorch for any loss of rows: gradients by `vmap`, `torch.func.hessian`, a solve."""

    def total(params):
        return bernoulli(params, job.x, job.y[:, 0]).sum() + job.penalty / 2 * params @ params

    def score(hessian):
        rows = vmap(grad(bernoulli), (None, 0, 0))
        gradients = rows(theta, job.x_test, job.y_test[:, 0])
        return rows(theta, job.x, job.y[:, 0]) @ torch.linalg.solve(hessian, gradients.T)

    return lambda: torch.func.hessian(total)(theta), score


def timed(steps: Steps) -> tuple[Tensor, float, float]:
    """Return the scores, and the least processor seconds of preparing and of scoring, after one warm-up."""
    prepare, score = steps
    scores = score(prepare())
    times, start = [], time.perf_counter()
    while len(times) < 3 or (len(times) < 200 and time.perf_counter() - start < ENOUGH_SECONDS):
        begin = time.process_time()
        prepared = prepare()
        middle = time.process_time()
        score(prepared)
        times.append((middle - begin, time.process_time() - middle))
    best = min(times, key=sum)
    return scores, *best


def agreement(scores: Tensor, truth: Tensor) -> dict[str, float]:
    """Return pooled Pearson's r and the relative error."""
    pair = torch.stack([scores.flatten(), truth.flatten()]).double()
    error = ((pair[0] - pair[1]).norm() / pair[1].norm()).item()
    return {"pearson": torch.corrcoef(pair)[0, 1].item(), "relative error": error}


def logistic(run: Run) -> tuple[dict, list[str]]:
    """Return each way's accuracy and seconds, and which libraries are missing."""
    n, t = (200, 40) if run.quick else (N, T)
    x, y, x_test, y_test = drawn(run.seed, n, t)
    loss = vif.losses.TermLoss(
        lambda params: bernoulli(params, x, y), torch.arange(n), penalty=PENALTY, start=torch.zeros(D).double()
    )
    start = time.perf_counter()
    theta = vif.minimize(loss, loss.zeros())
    numbers: dict = {
        "rows": n,
        "features": D,
        "test rows": t,
        "fit seconds (vif.minimize)": time.perf_counter() - start,
    }
    cross_entropy = torch.nn.functional.binary_cross_entropy_with_logits
    job = Job(network(theta), cross_entropy, x, y[:, None], x_test, y_test[:, None], penalty=PENALTY, draw=labels)

    def target(params):
        return bernoulli(params, x_test, y_test)

    def masked(params, presence):
        return presence @ bernoulli(params, x, y) + PENALTY / 2 * params @ params

    def ours(loss, target=target, check=False):
        return lambda: None, lambda _: vif.attribute(loss, theta, target, n_objects=n, check=check).scores

    def newton(loss, target):
        return lambda: None, lambda _: vif.newton_step(loss, theta, target, n_objects=n).scores

    linear, values = by_outputs(x, y, x_test, y_test)
    ways: dict[str, Steps] = {
        "Versatile Influence, TermLoss": ours(linear, values),
        "Versatile Influence, TermLoss, with every score's error estimated": ours(linear, values, check="all"),
        "Versatile Influence, TermLoss of any terms": ours(loss),
        "Versatile Influence, any function of presence": ours(masked),
        "Versatile Influence, TermLoss, newton_step": newton(linear, values),
        "plain PyTorch, automatic": plain(theta, job),
        "plain PyTorch, formula of this model": formula(theta, job),
    }
    missing = []
    for name, peer in PEERS.items():
        try:
            ways[f"{name} {metadata.version(name)}"] = peer(job)
        except ImportError as error:
            missing.append(f"{name}: {error}")
    exact = formula(theta, job)[1](None)
    refits = vif.refit(loss, theta, target).scores
    for name, steps in ways.items():
        scores, prepare, score = timed(steps)
        numbers[name] = {"exact influence": agreement(scores, exact), "exact refits": agreement(scores, refits)}
        numbers[name] |= {"prepare seconds": prepare, "score seconds": score, "seconds": prepare + score}
        print(f"{name:46} r = {numbers[name]['exact influence']['pearson']:.6f}  {1e3 * (prepare + score):9.2f} ms")
    numbers |= on_many_rows(run)
    seconds = numbers["Versatile Influence, TermLoss"]["seconds"]
    others = {name: numbers[name]["seconds"] for name in ways if not name.startswith("Versatile")}
    numbers["our seconds over those of others"] = {name: seconds / theirs for name, theirs in others.items()}
    return numbers, missing


def by_outputs(x: Tensor, y: Tensor, x_test: Tensor, y_test: Tensor):
    """Return the loss and the target of test rows as terms of outputs that are linear in the features."""
    rows = [vif.losses.Linear(features) for features in (x, x_test)]
    loss, test = (
        vif.losses.TermLoss(vif.losses.Logistic(answers), range(len(answers)), penalty=penalty, outputs=row)
        for answers, row, penalty in zip((y, y_test), rows, (PENALTY, 0.0), strict=True)
    )
    return loss, vif.losses.term_values(test)


def on_many_rows(run: Run) -> dict[str, float]:
    """Return the seconds of this library and of the formula on many rows."""
    n = N if run.quick else MANY
    rows = drawn(run.seed, n, T)
    loss, target = by_outputs(*rows)
    theta = vif.minimize(loss, loss.zeros())
    x, y, x_test, y_test = rows
    job = Job(network(theta), torch.nn.functional.mse_loss, x, y[:, None], x_test, y_test[:, None], PENALTY, labels)
    ours = sum(timed((lambda: None, lambda _: vif.attribute(loss, theta, target, check=False).scores))[1:])
    theirs = sum(timed(formula(theta, job))[1:])
    return {
        f"{n} rows, seconds: Versatile Influence, TermLoss": ours,
        f"{n} rows, seconds: plain PyTorch, formula of this model": theirs,
        f"{n} rows, our seconds over those of the formula": ours / theirs,
    }


def partial_likelihood(outputs: Tensor, y: Tensor) -> Tensor:
    """Return the mean Breslow loss of rows with y = (time, event, 0), or their mean relative risk where y ends in 1.

    The second is how a library whose target is its loss can be asked about relative risks.
    """
    log_risk, (times, events, asked) = outputs[:, 0], y.unbind(1)
    at_risk = (times >= times[:, None]).to(y.dtype)
    loss = events @ ((at_risk @ log_risk.exp()).log() - log_risk)
    return torch.where(asked[0] > 0, log_risk.exp().sum(), loss) / len(y)


def cox() -> dict:
    """Return what each library says of Cox regression on METABRIC, given as rows, beside exact refits.

    A patient's term needs all patients at risk. A library that differentiates the loss of one row alone meets a
    constant; one that hooks into a layer during the whole batch's loss takes a part of the gradient for all of it.
    """
    data = metabric()
    columns = [column for column in data.train.columns if column.startswith("x")]
    loss = vif.losses.CoxLoss.from_frame(data.train, duration_col="duration", event_col="event", ties="breslow")
    theta = vif.minimize(loss, loss.zeros())
    rows = [torch.tensor(frame[columns].to_numpy()).double() for frame in (data.train, data.test)]
    ends = [torch.tensor(frame[["duration", "event"]].to_numpy()).double() for frame in (data.train, data.test)]
    y, y_test = (
        torch.cat([end, torch.full((len(end), 1), asked)], dim=1) for end, asked in zip(ends, (0.0, 1.0), strict=True)
    )

    def target(params):
        return (rows[1] @ params).exp()

    truth = vif.refit(loss, theta, target).scores
    numbers: dict = {"patients": len(y), "test patients": len(y_test)}
    numbers["Versatile Influence, CoxLoss"] = agreement(vif.attribute(loss, theta, target).scores, truth)
    job = Job(network(theta), partial_likelihood, rows[0], y, rows[1], y_test, penalty=0.0, draw=lambda _, y: y)
    for name, peer in PEERS.items():
        try:
            prepare, score = peer(job)
            scores = score(prepare())
        except Exception as error:  # whatever it says is the finding
            numbers[name] = f"{type(error).__name__}: {str(error).strip()[:200]}"
            continue
        size = (scores.abs().max() / truth.abs().max()).item()
        constant = size < 1e-9
        numbers[name] = {"largest score over largest measured": size}
        numbers[name] |= {"all scores": "0 up to rounding"} if constant else agreement(scores, truth)
    return numbers


def main() -> int:
    """Run and record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    torch.manual_seed(run.seed)
    warnings.simplefilter("ignore")  # theirs, on every call
    numbers, missing = logistic(run)
    record = {"logistic regression": numbers, "not installed": missing}
    if not run.quick:
        record["Cox regression on METABRIC, not expressible as rows"] = cox()
    print("not installed:", ", ".join(missing) or "none")
    run.record(record)
    return 0


if __name__ == "__main__":
    sys.exit(main())
