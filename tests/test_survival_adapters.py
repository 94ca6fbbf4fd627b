"""Fitted models of other survival libraries as they are: coefficients, penalties and log-risks are theirs."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

import versatile_influence as vif
from versatile_influence.adapters import (
    from_lifelines,
    from_pycox,
    from_scikit_survival,
    from_statsmodels,
    from_torchsurv,
)
from versatile_influence.losses import CoxLoss, standard_errors

PRECISE = {"fit_options": {"precision": 1e-12}}


def trial(n: int = 120, seed: int = 0) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    frame = pd.DataFrame({"age": generator.normal(60, 9, n), "dose": generator.normal(size=n)})
    frame.index = [f"P{i}" for i in range(n)]
    frame["months"] = np.ceil(12 * generator.exponential(np.exp(0.03 * (60 - frame["age"]) + 0.5 * frame["dose"])))
    frame["died"] = generator.integers(0, 2, n)
    labels = {"site": generator.integers(0, 3, n), "cell": generator.choice(list("abc"), n)}
    return frame.assign(**labels, w=generator.integers(1, 4, n), entered=frame["months"] * 0.2)


def lifelines_fit(columns: list[str], penalizer: float = 0.0, **given):
    from lifelines import CoxPHFitter

    frame = trial()[columns]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return CoxPHFitter(penalizer=penalizer).fit(frame, "months", "died", **PRECISE, **given), frame


BASE = ["age", "dose", "months", "died"]


@pytest.mark.parametrize(
    ("columns", "given"),
    [
        (BASE, {}),
        ([*BASE, "w"], {"weights_col": "w"}),
        ([*BASE, "site"], {"strata": ["site"]}),
        ([*BASE, "entered"], {"entry_col": "entered"}),
        ([*BASE, "site"], {"cluster_col": "site"}),
        ([*BASE, "cell"], {"formula": "age * dose + cell"}),
        ([*BASE, "site", "w", "entered"], {"strata": ["site"], "weights_col": "w", "entry_col": "entered"}),
    ],
)
def test_lifelines_coefficients_and_errors_are_the_model_s(columns, given):
    pytest.importorskip("lifelines")
    model, frame = lifelines_fit(columns, **given)
    loss, theta = from_lifelines(model, frame)
    assert theta.numpy() == pytest.approx(model.params_[loss.columns].to_numpy(), abs=1e-6)
    # lifelines' robust errors are not R's, which ours are held to in test_cox_frames.py.
    if "cluster_col" not in given:
        assert standard_errors(loss, theta).numpy() == pytest.approx(
            model.standard_errors_[loss.columns].to_numpy(), rel=1e-5
        )
    risks = loss.log_risk(frame[:4])(theta)
    theirs = model.predict_log_partial_hazard(frame[:4]).to_numpy()
    assert (risks - risks[0]).numpy() == pytest.approx(theirs - theirs[0], abs=1e-6)


@pytest.mark.parametrize("formula", [None, "age + dose + cell"])
def test_a_penalizer_of_lifelines_is_a_ridge_on_standardised_covariates(formula):
    pytest.importorskip("lifelines")
    columns = BASE if formula is None else [*BASE, "cell"]
    model, frame = lifelines_fit(columns, penalizer=0.3, formula=formula)
    loss, theta = from_lifelines(model, frame)
    assert loss.penalty == pytest.approx(0.3 * len(frame))
    risks = loss.log_risk(frame[:4])(theta)
    theirs = model.predict_log_partial_hazard(frame[:4]).to_numpy()
    assert (risks - risks[0]).numpy() == pytest.approx(theirs - theirs[0], abs=1e-6)
    # A patient fewer, fitted by lifelines with the same penalty on the same scale, is what a refit says.
    change = vif.refit(loss, theta, loss.log_risk(frame[:2]), objects=[5]).scores[0]
    assert change.isfinite().all()


@pytest.mark.parametrize("penalizer", [0.0, 0.2])
def test_time_varying_models_of_lifelines_have_their_ids_as_objects(penalizer):
    pytest.importorskip("lifelines")
    from lifelines import CoxTimeVaryingFitter

    first = trial().assign(id=[f"s{i}" for i in range(120)]).drop(columns=["site", "w", "cell", "entered"])
    early = first.assign(start=0.0, stop=first["months"] / 2, died=0)
    late = first.assign(start=first["months"] / 2, stop=first["months"], dose=first["dose"] + 0.3)
    frame = pd.concat([early, late], ignore_index=True).drop(columns="months")
    frame.index = [0] * len(frame)
    roles = {"id_col": "id", "event_col": "died", "start_col": "start", "stop_col": "stop"}
    model = CoxTimeVaryingFitter(penalizer=penalizer).fit(frame, **roles)
    loss, theta = from_lifelines(model, frame)
    spread = frame[loss.columns].std() if penalizer else 1.0
    assert theta.numpy() / np.array(spread) == pytest.approx(model.params_.to_numpy(), abs=1e-6)
    assert (loss.n_objects, loss.object_labels[0]) == (120, "s0")


def test_what_differs_from_the_model_is_named():
    pytest.importorskip("lifelines")
    model, frame = lifelines_fit(BASE)
    with pytest.raises(ValueError, match="`(age|dose)` is .* in the model and .* here"):
        from_lifelines(model, frame.assign(dose=frame["dose"].to_numpy()[::-1]))
    with pytest.raises(ValueError, match="one ridge penalizer"):
        from_lifelines(lifelines_fit(BASE, penalizer=np.array([0.1, 0.2]))[0], frame)
    with pytest.raises(TypeError, match="`model` must be"):
        from_lifelines(3, frame)
    from lifelines import CoxPHFitter

    with pytest.raises(ValueError, match="not fitted"):
        from_lifelines(CoxPHFitter(), frame)
    # Fitted with Efron's ties, told to be Breslow's.
    settings = {"durations": frame["months"], "events": frame["died"]}
    x = frame[["age", "dose"]].to_numpy()

    def build(**changes):
        return CoxLoss(x, **settings, **({"ties": "breslow"} | changes))

    from versatile_influence.adapters.cox_models import checked

    with pytest.raises(ValueError, match="its ties are Efron's"):
        checked(build(), model.params_.to_numpy(), build)


@pytest.mark.parametrize("alpha", [0.0, 2.5])
@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_scikit_survival_s_coefficients_and_alpha_are_the_model_s(alpha, ties):
    linear = pytest.importorskip("sksurv.linear_model")
    from sksurv.util import Surv

    frame = trial()
    y = Surv.from_arrays(frame["died"].astype(bool), frame["months"])
    model = linear.CoxPHSurvivalAnalysis(alpha=alpha, ties=ties, tol=1e-14, n_iter=200).fit(frame[["age", "dose"]], y)
    loss, theta = from_scikit_survival(model, frame[["age", "dose"]], y)
    assert theta.numpy() == pytest.approx(model.coef_, abs=1e-6)
    assert (loss.penalty, loss.columns, loss.object_labels[0]) == (alpha, ["age", "dose"], "P0")
    other = linear.CoxPHSurvivalAnalysis(alpha=alpha, ties=ties).fit(frame[["age", "dose"]], y)
    other.set_params(ties="efron" if ties == "breslow" else "breslow")
    with pytest.raises(ValueError, match=f"its ties are {ties.capitalize()}'s"):
        from_scikit_survival(other, frame[["age", "dose"]], y)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
@pytest.mark.parametrize("more", [{}, {"strata": "site"}, {"entry": "entered"}])
def test_statsmodels_coefficients_are_the_results_own(ties, more):
    pytest.importorskip("statsmodels")
    from statsmodels.duration.hazard_regression import PHReg

    frame = trial()
    given = {name: frame[column].to_numpy() for name, column in more.items()}
    months, died = frame["months"].to_numpy(), frame["died"].to_numpy()
    model = PHReg(months, frame[["age", "dose"]], status=died, ties=ties, **given)
    results = model.fit()
    loss, theta = from_statsmodels(results)
    assert theta.numpy() == pytest.approx(results.params, abs=1e-6)
    assert standard_errors(loss, theta).numpy() == pytest.approx(results.bse, rel=1e-5)
    with pytest.raises(TypeError, match="`results` must be"):
        from_statsmodels(model)


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    last = torch.nn.Linear(3, 1, bias=False)
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Dropout(0.2), last)


def scaled() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    frame = trial()
    x = ((frame[["age", "dose"]] - frame[["age", "dose"]].mean()) / frame[["age", "dose"]].std()).to_numpy("float32")
    return x, (frame["months"].to_numpy() + np.arange(120) / 1000).astype("float32"), frame["died"].to_numpy("float32")


def test_pycox_s_log_risks_and_weight_decay_are_the_model_s():
    pytest.importorskip("pycox")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from pycox.models import CoxPH
        from torchtuples import optim

        x, durations, events = scaled()
        model = CoxPH(network(), optim.Adam(lr=0.01, weight_decay=0.1))
        model.fit(x, (durations, events), batch_size=120, epochs=30, verbose=False)
        loss, params = from_pycox(model, x, (durations, events))
    assert loss.penalty == pytest.approx(0.1 * events.sum(), rel=1e-6)
    assert loss.log_risk(x)(params).numpy() == pytest.approx(model.predict(x).ravel(), abs=1e-6)
    # Without ties the sum over events is theirs.
    ours = loss(params, torch.ones(120).double()) - loss.penalty / 2 * sum(v.square().sum() for v in params.values())
    theirs = model.loss(torch.as_tensor(model.predict(x)), torch.as_tensor(durations), torch.as_tensor(events))
    assert ours.item() / events.sum() == pytest.approx(theirs.item(), rel=1e-5)
    with pytest.raises(TypeError, match="`model` must be"):
        from_pycox(network(), x, (durations, events))


@pytest.mark.parametrize("ties", ["breslow", "efron"])
@pytest.mark.parametrize("strata", [None, "site"])
def test_torchsurv_s_likelihood_is_the_loss(ties, strata):
    pytest.importorskip("torchsurv")
    from torchsurv.loss.cox import neg_partial_log_likelihood

    x, _, events = scaled()
    times = torch.as_tensor(trial()["months"].to_numpy("float32"))
    net, happened = network(), torch.as_tensor(events).bool()
    optimiser = torch.optim.Adam(net.parameters(), lr=0.02)
    for _ in range(20):
        optimiser.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            neg_partial_log_likelihood(net(torch.as_tensor(x)), happened, times, ties_method=ties).backward()
        optimiser.step()
    net.eval()
    given = {} if strata is None else {"strata": torch.as_tensor(trial()[strata].to_numpy())}
    loss, params = from_torchsurv(net, x, happened, times, ties_method=ties, penalty=0.5, **given)
    with torch.no_grad():
        theirs = net(torch.as_tensor(x)).ravel()
    assert loss.log_risk(x)(params).numpy() == pytest.approx(theirs.numpy(), abs=1e-6)
    with pytest.raises(ValueError, match="Here it is .*, there"):
        from_torchsurv(BadNetwork(), x, happened, times)


class BadNetwork(torch.nn.Module):
    """Another network at every call."""

    def __init__(self):
        super().__init__()
        self.weight, self.calls = torch.nn.Parameter(torch.ones(2)), 0

    def forward(self, x):
        self.calls += 1
        return (x @ self.weight.to(x)) * self.calls
