"""EK-FAC and conjugate gradients beside pyDVL and kronfluence, on a job that all of them can do.

A tanh network of 64-32-10 units (2,410 parameters) on 1,400 digits of scikit-learn, cross-entropy with λ = 1, trained
to its minimum; scores of all digits on the loss of 200 others. Then EK-FAC of a network of 64-256-256-10 units
(85,002).
`user` is processor seconds of the least of three runs after one that warms up, with factors and solves, on one thread;
every library in one process, one after another. This library computes in float64 and measures its residuals, the others
in float32. Accuracy: r (mean over tests) against refits without each of 40 digits drawn at random, and against the
exact influence with the Hessian. The large network is trained to a gradient of 1e-6 n and held against the
Gauss-Newton matrix alone, by CG to 1e-3: a refit takes minutes. Estimates of the error of scores are left out
(`check=False`): the others have none.

    .venv-peers/bin/python benchmarks/solvers_beside_peers.py   # see requirements-peers.txt

A library that is not installed is named in the record and left out.
"""

import copy
import itertools
import logging
import resource
import tempfile
import time
import warnings
from importlib import metadata

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import versatile_influence as vif
from experiments.run import Run

N, TESTS, REFITS, PENALTY, RTOL = 1400, 200, 40, 1.0, 1e-3
SMALL, LARGE = (64, 32, 10), (64, 256, 256, 10)


def job(seed, widths):
    """Return training and test digits, the trained network, and what the library is asked."""
    x, y = (torch.tensor(part) for part in load_digits(return_X_y=True))
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[: N + TESTS]
    x, y = (x / 16)[order], y[order]
    torch.manual_seed(seed)
    layers = [layer for pair in itertools.pairwise(widths) for layer in (nn.Linear(*pair), nn.Tanh())]
    model = nn.Sequential(*layers[:-1]).double()
    loss = vif.losses.OutputLoss(
        model, x[:N], lambda o, b: (b * cross_entropy(o, y[:N], reduction="none")).sum(), n_objects=N, penalty=PENALTY
    )
    params = vif.minimize(loss, dict(model.named_parameters()), gtol=1e-10 if widths == SMALL else 1e-6)
    model.load_state_dict(params)
    return x, y, model, loss, params


def peers(x, y, model):
    """Return what each other library is called, and a function that makes its scores."""
    train, test = (TensorDataset(x[some].float(), y[some]) for some in (slice(N), slice(N, None)))
    single, found = copy.deepcopy(model).float(), {}
    try:
        from pydvl.influence.torch import CgInfluence, EkfacInfluence

        def scored(method):
            fitted = method.fit(DataLoader(train, batch_size=N))
            return fitted.influences(*test.tensors, *train.tensors).T

        found["pyDVL, EK-FAC"] = lambda: scored(
            EkfacInfluence(single, update_diagonal=True, hessian_regularization=PENALTY / N)
        )
        settings = {"regularization": PENALTY / N, "solve_simultaneously": True, "rtol": RTOL, "maxiter": 1000}
        found["pyDVL, block CG"] = lambda: scored(CgInfluence(single, nn.CrossEntropyLoss(), **settings))
    except ImportError as error:
        found["pyDVL"] = str(error)
    try:
        found["kronfluence, EK-FAC"] = kronfluence(single, train, test)
    except ImportError as error:
        found["kronfluence"] = str(error)
    return found


def kronfluence(model, train, test):
    """Return the function that makes its scores."""
    from kronfluence.analyzer import Analyzer, prepare_model
    from kronfluence.arguments import FactorArguments, ScoreArguments
    from kronfluence.task import Task

    class Digits(Task):
        def compute_train_loss(self, batch, model, sample=False):
            x, y = batch
            logits = model(x)
            if sample:
                y = torch.multinomial(logits.detach().softmax(-1), 1).flatten()
            return cross_entropy(logits, y, reduction="sum")

        def compute_measurement(self, batch, model):
            return self.compute_train_loss(batch, model)

    def scored():
        with tempfile.TemporaryDirectory() as folder:
            ready = prepare_model(copy.deepcopy(model), Digits())
            analyzer = Analyzer(
                "a", ready, Digits(), cpu=True, output_dir=folder, disable_tqdm=True, log_level=logging.ERROR
            )
            analyzer.fit_all_factors("f", train, per_device_batch_size=N, factor_args=FactorArguments(strategy="ekfac"))
            analyzer.compute_pairwise_scores(
                "s",
                "f",
                test,
                train,
                per_device_query_batch_size=TESTS,
                per_device_train_batch_size=N,
                score_args=ScoreArguments(damping_factor=PENALTY / N),
            )
            return analyzer.load_pairwise_scores("s")["all_modules"].T

    return scored


def measured(run, widths):
    """Yield what is measured of each library, after each."""
    x, y, model, loss, params = job(run.seed, widths)

    def target(some):
        return cross_entropy(torch.func.functional_call(model, some, (x[N:],)), y[N:], reduction="none")

    def ours(**method):
        return lambda: vif.attribute(loss, params, target, check=False, **method).scores

    gauss = {"curvature": vif.GaussNewton}
    calls = {
        "Versatile Influence, EK-FAC": ours(solver=vif.EKFAC(), **gauss),
        "Versatile Influence, CG": ours(solver=vif.CG(rtol=RTOL)),
        "Versatile Influence, CG, Gauss-Newton": ours(solver=vif.CG(rtol=RTOL), **gauss),
        "Versatile Influence, dense Hessian": ours(),
        **peers(x, y, model),
    }
    drawn = torch.randperm(N, generator=torch.Generator().manual_seed(run.seed))[: 4 if run.quick else REFITS]
    if widths == LARGE:
        truths = {"r, Gauss-Newton": (slice(None), calls["Versatile Influence, CG, Gauss-Newton"]())}
    else:
        truth = vif.refit(loss, params, target, objects=drawn.tolist(), gtol=1e-8).scores
        truths = {"r, refits": (drawn, truth), "r, dense Hessian": (slice(None), ours()())}
    if widths == LARGE:
        calls = {name: call for name, call in calls.items() if "EK-FAC" in name or isinstance(call, str)}
    numbers = {"parameters": sum(value.numel() for value in params.values())}
    for name, call in calls.items():
        if isinstance(call, str):
            numbers[name] = call
            continue
        seconds = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for _ in range(4):
                began = time.process_time()
                scores = call().detach().double()
                seconds.append(time.process_time() - began)
        numbers[name] = {
            "user": min(seconds[1:]),
            **{r: vif.pearson(scores[rows], truth).nanmean().item() for r, (rows, truth) in truths.items()},
            "peak memory of the process so far, GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        }
        print(name, numbers[name], flush=True)
        yield numbers


def main():
    """Measure, and record after each."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    numbers = {"versions of others": {name: version(name) for name in ("kronfluence", "pyDVL")}}
    for small in measured(run, SMALL):
        run.record(numbers | small)
    for large in measured(run, LARGE):
        print(run.record(numbers | small | {"large": large}), flush=True)


def version(name):
    """Return the version of a library, None where it is not installed."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
