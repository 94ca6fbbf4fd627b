"""One file a solver."""

from typing import TYPE_CHECKING

from versatile_influence.core.faces import on_demand

if TYPE_CHECKING:
    from versatile_influence.core.preconditioner import Preconditioner
    from versatile_influence.core.solution import Solution
    from versatile_influence.core.solver import Solver
    from versatile_influence.solvers.arnoldi import Arnoldi
    from versatile_influence.solvers.automatic import Automatic
    from versatile_influence.solvers.cg import CG
    from versatile_influence.solvers.diagonal import Diagonal
    from versatile_influence.solvers.ekfac import EKFAC
    from versatile_influence.solvers.explicit import Explicit
    from versatile_influence.solvers.lissa import LiSSA
    from versatile_influence.solvers.nystrom import Nystrom
    from versatile_influence.solvers.projected import Projected
    from versatile_influence.solvers.woodbury import Woodbury
else:
    __getattr__, __dir__ = on_demand(__name__)

__all__ = [
    "CG",
    "EKFAC",
    "Arnoldi",
    "Automatic",
    "Diagonal",
    "Explicit",
    "LiSSA",
    "Nystrom",
    "Preconditioner",
    "Projected",
    "Solution",
    "Solver",
    "Woodbury",
]
