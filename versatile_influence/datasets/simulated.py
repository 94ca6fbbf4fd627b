"""Simulated survival data, which need no file."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import root_scalar
from torch import Tensor

from versatile_influence.core.checks import number, numbers, whole

if TYPE_CHECKING:
    import pandas as pd

# What the trial is simulated with: log hazard ratios, a year or a unit.
TRIAL_EFFECTS = {"age": 0.03, "female": -0.25, "treatment": -0.5, "biomarker": 0.4, "stage": 0.5}


def simulated_trial(n: int = 400, seed: int = 0, *, unit_errors: int = 0) -> "pd.DataFrame":
    """Return a simulated clinical trial: patients by name, five covariates, a site, months of follow-up, who died.

    Survival follows a Cox model with the log hazard ratios `TRIAL_EFFECTS` and a baseline hazard that grows with time
    and differs between the three sites. Patients enter over two years, the trial ends after five, and some leave
    before: six in ten are censored. Months are rounded to a tenth, so some deaths are tied.

    Args:
        n: Number of patients.
        seed: Seed of the draw.
        unit_errors: How many patients have their biomarker recorded in a wrong unit, ten times too large: the kind of
            mistake that influence finds. They are drawn among the third with the highest biomarker.

    Returns:
        Columns age (years), female, treatment, biomarker, stage (1…4), site, months, died; index P001, P002, ….
        `frame.attrs["unit_errors"]` names the patients recorded wrongly.

    Raises:
        ValueError: If there are fewer than 2 patients, or more mistakes than a third of them.

    Example:
        >>> trial = simulated_trial()
        >>> len(trial), trial.index[0], list(trial.columns)
        (400, 'P001', ['age', 'female', 'treatment', 'biomarker', 'stage', 'site', 'months', 'died'])
    """
    import pandas as pd

    n = whole(n, "n", least=2)
    # A third of the patients.
    unit_errors = whole(unit_errors, "unit_errors", most=n // 3)
    draw = np.random.default_rng(whole(seed, "seed"))
    frame = pd.DataFrame(
        {
            "age": draw.normal(62, 9, n).clip(30, 90).round(1),
            "female": draw.integers(0, 2, n),
            "treatment": draw.permutation(np.arange(n) % 2),
            "biomarker": draw.lognormal(0.5, 0.4, n).round(2),
            "stage": draw.choice([1, 2, 3, 4], n, p=[0.3, 0.35, 0.25, 0.1]),
            "site": draw.choice(["Aarhus", "Basel", "Cork"], n),
        },
        index=pd.Index([f"P{i:0{len(str(n))}d}" for i in range(1, n + 1)], name="patient"),
    )
    effects = pd.Series(TRIAL_EFFECTS)
    log_risk = ((frame[effects.index] - [62, 0, 0, 1.6, 2]) @ effects).to_numpy(dtype=float)
    log_risk += np.select([frame["site"] == "Basel", frame["site"] == "Cork"], [0.3, -0.3])
    # Weibull of shape 1.3 and scale 60 months; administrative censoring between 36 and 60 months, some leave before.
    death = 60 * (draw.exponential(size=n) / np.exp(log_risk)) ** (1 / 1.3)
    censored = np.minimum(draw.uniform(36, 60, n), draw.exponential(150, n))
    frame["months"] = np.minimum(death, censored).clip(0.1).round(1)
    frame["died"] = (death <= censored).astype(int)
    wrong = draw.choice(np.argsort(frame["biomarker"].to_numpy())[n - n // 3 :], unit_errors, replace=False)
    frame.loc[frame.index[wrong], "biomarker"] = (frame["biomarker"].iloc[wrong] * 10).round(1)
    frame.attrs["unit_errors"] = frame.index[np.sort(wrong)].tolist()
    return frame


def simulated_survival(
    n: int,
    d: int,
    *,
    seed: int = 0,
    censored: float = 0.3,
    coefficients: Sequence[float] | Float[Tensor, " d"] | None = None,
) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return covariates, durations and events drawn from a Cox model with a constant baseline hazard of 1.

    Covariates are standard normal; times are continuous, so that no two are tied; censoring is exponential and
    independent. For measurements at any size: a million patients take a second.

    Args:
        n: Number of patients.
        d: Number of covariates.
        seed: Seed of the draw.
        censored: Expected fraction of censored patients, 0 ≤ censored < 1.
        coefficients: True log hazard ratios; by default ±1/√d in turn, so that log-risks have variance 1.

    Returns:
        x (n, d), durations and events (1 or 0), in float64.

    Raises:
        ValueError: If a size or fraction is not allowed, or the number of coefficients is not d.

    Example:
        >>> x, durations, events = simulated_survival(1000, 3)
        >>> x.shape, round(1 - events.mean().item(), 1)
        (torch.Size([1000, 3]), 0.3)
    """
    n, d = whole(n, "n", least=1), whole(d, "d", least=1)
    if number(censored, "censored", least=0) >= 1:
        raise ValueError(f"`censored` must be a fraction, 0 ≤ censored < 1, got {censored}.")
    theta = (-1.0) ** torch.arange(d, dtype=torch.float64) / d**0.5
    theta = numbers(theta if coefficients is None else coefficients, "coefficients", shape=[d])
    generator = torch.Generator().manual_seed(whole(seed, "seed"))
    x = torch.randn(n, d, generator=generator, dtype=torch.float64)
    hazard = (x @ theta).exp()
    death = torch.empty(n, dtype=torch.float64).exponential_(generator=generator) / hazard
    if censored == 0:
        return x, death, torch.ones_like(death)
    leaving = torch.empty(n, dtype=torch.float64).exponential_(generator=generator) / _rate(hazard, censored)
    return x, torch.minimum(death, leaving), (death <= leaving).double()


def _rate(hazard: Float[Tensor, " n"], censored: float) -> float:
    """Return the hazard r of censoring for which E[r / (r + hazard)], the chance to be censored, is as asked."""
    typical = hazard[:10_000]
    low, high = np.log(typical.min().item()) - 30, np.log(typical.max().item()) + 30

    def excess(log_rate: float) -> float:
        return (1 / (1 + typical * np.exp(-log_rate))).mean().item() - censored

    return float(np.exp(root_scalar(excess, bracket=(low, high), xtol=1e-6).root))
