"""One file a solver."""

from versatile_influence.solvers.cg import CG
from versatile_influence.solvers.explicit import Explicit
from versatile_influence.solvers.solver import Solution, Solver

__all__ = ["CG", "Explicit", "Solution", "Solver"]
