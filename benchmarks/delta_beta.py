"""Residuals `delta_beta` of lifelines beside what deleting a patient really does, and beside this library.

Data sets that ship with lifelines, covariates as they are. Exact deletion is lifelines' own fit to everybody else, for
each patient in turn; r is Pearson's over patients, one a covariate.

    python benchmarks/delta_beta.py
"""

import time
import warnings
from importlib import metadata

import numpy as np
import pandas as pd
import torch
from lifelines import CoxPHFitter, datasets, utils

import versatile_influence as vif
from experiments.run import Run


def gbsg2() -> pd.DataFrame:
    """Return the German breast cancer study with numbers for words."""
    frame = datasets.load_gbsg2()
    words = {"horTh": {"no": 0, "yes": 1}, "menostat": {"Pre": 0, "Post": 1}, "tgrade": {"I": 1, "II": 2, "III": 3}}
    return frame.assign(**{name: frame[name].map(numbers) for name, numbers in words.items()})


DATA = {
    "larynx": (datasets.load_larynx, "time", "death"),
    "Rossi": (datasets.load_rossi, "week", "arrest"),
    "GBSG 2": (gbsg2, "time", "cens"),
}


def correlations(estimate: np.ndarray, exact: np.ndarray) -> list[float]:
    """Return Pearson's r over patients for each covariate."""
    return [float(np.corrcoef(a, b)[0, 1]) for a, b in zip(estimate.T, exact.T, strict=True)]


def spread(estimate: np.ndarray, exact: np.ndarray) -> dict[str, float]:
    """Return the least and the largest correlation, and the relative error of all."""
    r = correlations(estimate, exact)
    scale = exact.std(0)
    return {
        "least r": min(r),
        "largest r": max(r),
        "relative error": float(np.linalg.norm((estimate - exact) / scale) / np.linalg.norm(exact / scale)),
    }


def standardised(model: CoxPHFitter, frame: pd.DataFrame) -> pd.DataFrame:
    """Return the residuals computed from covariates in the units that the method takes them to be in."""
    x, times, events, weights, _, index, _ = model._preprocess_dataframe(frame)
    x = pd.DataFrame(
        utils.normalize(x.values, model._norm_mean.values, model._norm_std.values), index=x.index, columns=x.columns
    )
    return model._compute_delta_beta(x, times, events, weights, index=index)


def measured(load, duration: str, event: str) -> dict:
    """Return what each way says of one data set."""
    frame = load()
    model = CoxPHFitter().fit(frame, duration, event)
    began = time.process_time()
    exact = np.stack(
        [(model.params_ - CoxPHFitter().fit(frame.drop(index=i), duration, event).params_) for i in frame.index]
    )
    found: dict = {"patients": len(frame), "lifelines' refits, seconds": time.process_time() - began}
    theirs = model.compute_residuals(frame, "delta_beta").loc[frame.index]
    names = list(theirs.columns)
    found["lifelines, compute_residuals"] = spread(theirs.to_numpy(), exact)
    found["lifelines, of standardised covariates"] = spread(
        standardised(model, frame).loc[frame.index].to_numpy(), exact
    )
    loss = vif.losses.CoxLoss.from_frame(frame, duration_col=duration, event_col=event)
    order = [[str(column) for column in loss.columns].index(name) for name in names]
    theta = vif.minimize(loss, loss.zeros())
    for name, verb in {"attribute": vif.attribute, "newton_step": vif.newton_step}.items():
        began = time.process_time()
        # With the patient, less without: the sign of residuals.
        scores = -verb(loss, theta, loss.coefficients()).scores[:, order].numpy()
        found[f"Versatile Influence, {name}"] = spread(scores, exact) | {"seconds": time.process_time() - began}
    return found


def main() -> None:
    """Measure each data set and record."""
    run = Run.of(__file__, __doc__)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    numbers: dict = {"lifelines": metadata.version("lifelines")}
    for name, given in list(DATA.items())[: 1 if run.quick else None]:
        numbers[name] = measured(*given)
        print(name, numbers[name], flush=True)
    run.record(numbers)


if __name__ == "__main__":
    main()
