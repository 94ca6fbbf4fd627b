"""The table of a Cox model: hazard ratios with limits and p, in as many digits as decide."""

import math
from dataclasses import dataclass
from statistics import NormalDist

from torch import Tensor

from versatile_influence.losses.cox.dfbeta import standard_errors
from versatile_influence.losses.cox.loss import CoxLoss
from versatile_influence.reading.metrics import decimals

# Beyond this, or its inverse, a hazard ratio says that nothing holds the coefficient, or that its unit is tiny.
ENDLESS = 1e6
# Below this p a coefficient is significant, and half the width of the interval that belongs to it, in standard errors.
LEVEL = 0.05
WIDTH = NormalDist().inv_cdf(1 - LEVEL / 2)


@dataclass(frozen=True)
class Effect:
    """What a Cox model says of one covariate, as numbers; `texts` are they as one reads them.

    Attributes:
        name: The covariate.
        coefficient: Log hazard ratio.
        error: Its standard error.
    """

    name: str
    coefficient: float
    error: float

    @property
    def z(self) -> float:
        """Wald's z."""
        return self.coefficient / self.error

    @property
    def p(self) -> float:
        """Wald's two-sided p."""
        return two_sided(self.z)

    @property
    def texts(self) -> list[str]:
        """Covariate, coefficient, standard error, hazard ratio, its 95 % interval, z and p."""
        low, high = (hazard(self.coefficient + sign * WIDTH * self.error) for sign in (-1, 1))
        numbers = [beside(self.coefficient, self.error), beside(self.error, self.error), hazard(self.coefficient)]
        return [self.name, *numbers, f"{low} … {high}", f"{self.z:.2f}", tail(self.p)]


def effects(loss: CoxLoss, params: Tensor) -> list[Effect]:
    """Return the rows of the table, with robust standard errors where R prints them (`loss.robust`)."""
    errors = standard_errors(loss, params)
    return [
        Effect(str(name), *pair) for name, *pair in zip(loss.columns, params.tolist(), errors.tolist(), strict=True)
    ]


def beside(value: float, error: float, sign: str = "") -> str:
    """Return a number in the digits that its standard error decides, as a power of ten where the unit is odd.

    Example:
        >>> beside(-0.37942, 0.19138), beside(2.04e-14, 7.3e-14, "+"), beside(4.912e10, 1.83e11)
        ('-0.379', '+2.04e-14', '4.9e+10')
    """
    if 1e-7 < error < 1e7 or not math.isfinite(value):
        return f"{value:{sign}.{decimals(error)}f}"
    places = math.floor(math.log10(abs(value) or error)) - math.floor(math.log10(error)) + 2
    return f"{value:{sign}.{max(0, places)}e}"


def two_sided(z: float) -> float:
    """Return the two-sided p of a z value."""
    return math.erfc(abs(z) / math.sqrt(2))


def hazard(log: float) -> str:
    """Return a hazard ratio from its logarithm, in digits that tell it from 1, or in words where it has no end.

    Example:
        >>> hazard(0.5), hazard(-4e-5), hazard(700.0), hazard(-90.0)
        ('1.649', '0.999960', '>1e6', '<1e-6')
        >>> hazard(0.095310), hazard(4e-13)  # 1 + 4e-13
        ('1.100', '1+4.0e-13')
    """
    if abs(log) > math.log(ENDLESS):
        return ">1e6" if log > 0 else "<1e-6"
    value = math.exp(log)
    near = abs(math.expm1(log))
    if not near:
        return "1"
    if near >= 0.05:
        return f"{value:#.4g}".rstrip(".")
    return f"{value:.{1 - math.floor(math.log10(near))}f}" if near > 1e-9 else f"1{math.expm1(log):+.1e}"


def tail(p: float) -> str:
    """Return a p value, in digits that tell it from 0.05.

    Example:
        >>> tail(0.0512), tail(0.04996), tail(1e-9), tail(0.3)
        ('0.051', '0.04996', '<0.001', '0.300')
    """
    if p < 0.001:
        return "<0.001"
    if math.isnan(p):
        return "–"
    digits = next((digits for digits in range(3, 9) if float(f"{p:.{digits}f}") != LEVEL), 9)
    return f"{p:.{digits}f}"
