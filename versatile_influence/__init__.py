"""Which training objects made a model say this, and what would it say without them? For any loss."""

from versatile_influence import adapters, losses, plots, solvers
from versatile_influence.attribution import attribute, parameter_changes
from versatile_influence.descent import descend
from versatile_influence.ensemble import ensemble
from versatile_influence.gauss_newton import GaussNewton
from versatile_influence.hessian import Hessian
from versatile_influence.loss import PresenceTarget
from versatile_influence.metrics import agreement, pearson, spearman
from versatile_influence.minimisation import minimize
from versatile_influence.newton import newton_step
from versatile_influence.optimizers import SGD, Adam, AdamW
from versatile_influence.refit import refit
from versatile_influence.result import Attribution
from versatile_influence.retraining import leave_one_out
from versatile_influence.solvers import CG, EKFAC, Explicit, LiSSA, Woodbury
from versatile_influence.subset import subset
from versatile_influence.training import train

__all__ = [
    "CG",
    "EKFAC",
    "SGD",
    "Adam",
    "AdamW",
    "Attribution",
    "Explicit",
    "GaussNewton",
    "Hessian",
    "LiSSA",
    "PresenceTarget",
    "Woodbury",
    "adapters",
    "agreement",
    "attribute",
    "descend",
    "ensemble",
    "leave_one_out",
    "losses",
    "minimize",
    "newton_step",
    "parameter_changes",
    "pearson",
    "plots",
    "refit",
    "solvers",
    "spearman",
    "subset",
    "train",
]
