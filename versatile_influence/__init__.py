"""Which training objects made a model say this, and what would it say without them? For any loss."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence import adapters, losses, solvers
    from versatile_influence.cli.report import Report, report
    from versatile_influence.core import owned
    from versatile_influence.core.composed import Composed
    from versatile_influence.core.gauss_newton import GaussNewton
    from versatile_influence.core.hessian import Hessian
    from versatile_influence.core.loss import Loss
    from versatile_influence.core.memory import memory_budget
    from versatile_influence.core.removals import Removals
    from versatile_influence.core.result import Attribution
    from versatile_influence.core.scale_free import NoMinimumError
    from versatile_influence.core.target import LabelledTarget, PresenceTarget, Target
    from versatile_influence.core.warn import UntrustedWarning
    from versatile_influence.reading import detection, evaluation, metrics, plots
    from versatile_influence.reading.ensemble import ensemble
    from versatile_influence.reading.metasmoothness import metasmoothness
    from versatile_influence.reading.metrics import agreement, pearson, spearman
    from versatile_influence.reading.spot_check import SpotCheck, spot_check
    from versatile_influence.solvers.cg import CG
    from versatile_influence.solvers.ekfac import EKFAC
    from versatile_influence.solvers.explicit import Explicit
    from versatile_influence.solvers.lissa import LiSSA
    from versatile_influence.solvers.woodbury import Woodbury
    from versatile_influence.training.minimize import minimize
    from versatile_influence.training.optimizers import SGD, Adam, AdamW
    from versatile_influence.training.recorded import recorded
    from versatile_influence.training.recording import recording
    from versatile_influence.training.train import train
    from versatile_influence.training.training import Training
    from versatile_influence.verbs import conclusions
    from versatile_influence.verbs.attribute import attribute, parameter_changes
    from versatile_influence.verbs.check_loss import check_loss
    from versatile_influence.verbs.descend import descend
    from versatile_influence.verbs.influence_frame import influence_frame
    from versatile_influence.verbs.leave_one_out import leave_one_out
    from versatile_influence.verbs.newton_step import newton_step
    from versatile_influence.verbs.overturned import Sensitivity
    from versatile_influence.verbs.refit import refit
    from versatile_influence.verbs.sensitivity import sensitivity
    from versatile_influence.verbs.subset import subset
    from versatile_influence.verbs.unrolled import unrolled
    from versatile_influence.verbs.write_scores import write_scores
else:
    __getattr__, __dir__ = on_demand(__name__)

__version__ = "0.2.0"

__all__ = [
    "CG",
    "EKFAC",
    "SGD",
    "Adam",
    "AdamW",
    "Attribution",
    "Composed",
    "Explicit",
    "GaussNewton",
    "Hessian",
    "LabelledTarget",
    "LiSSA",
    "Loss",
    "NoMinimumError",
    "PresenceTarget",
    "Removals",
    "Report",
    "Sensitivity",
    "SpotCheck",
    "Target",
    "Training",
    "UntrustedWarning",
    "Woodbury",
    "adapters",
    "agreement",
    "attribute",
    "check_loss",
    "conclusions",
    "descend",
    "detection",
    "ensemble",
    "evaluation",
    "influence_frame",
    "leave_one_out",
    "losses",
    "memory_budget",
    "metasmoothness",
    "metrics",
    "minimize",
    "newton_step",
    "owned",
    "parameter_changes",
    "pearson",
    "plots",
    "recorded",
    "recording",
    "refit",
    "report",
    "sensitivity",
    "solvers",
    "spearman",
    "spot_check",
    "subset",
    "train",
    "unrolled",
    "write_scores",
]
