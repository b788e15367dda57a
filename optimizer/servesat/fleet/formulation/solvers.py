"""Integer programs solved by HiGHS or SCIP, through OR-Tools MathOpt."""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from ortools.math_opt.python import mathopt

from servesat.core.errors import SolverError

LONGEST_S = 1e9
"""Seconds that a time limit can say: three decades."""

FEASIBLE = 1e-9
"""SCIP's tolerance, relative to a row, and of whole numbers."""


def solved(
    model: mathopt.Model, *, relative_gap: float = 0.0, time_limit_s: float | None = None, mixes: bool = False
) -> mathopt.SolveResult:
    """Solve a model to a relative gap, or as near as the time allows. Raises SolverError where the engine gives up.

    HiGHS does, and where replicas share `mixes` of requests SCIP, without cuts: HiGHS adds thousands of them there to
    no avail. HiGHS's presolve gives up on some models that it solves without; OR-Tools passes that on in several ways.
    """
    parameters = mathopt.SolveParameters(relative_gap_tolerance=relative_gap, absolute_gap_tolerance=1e-9)
    if time_limit_s is not None:
        parameters.time_limit = timedelta(seconds=min(max(time_limit_s, 1e-3), LONGEST_S))
    if mixes:
        parameters.cuts = mathopt.Emphasis.OFF
        parameters.gscip.real_params["numerics/feastol"] = FEASIBLE
        try:
            return mathopt.solve(model, mathopt.SolverType.GSCIP, params=parameters)
        except Exception as fault:
            raise SolverError(f"SCIP fails on this fleet: {fault}") from fault
    with _silent():
        try:
            return mathopt.solve(model, mathopt.SolverType.HIGHS, params=parameters)
        except Exception:
            parameters.presolve = mathopt.Emphasis.OFF
        try:
            return mathopt.solve(model, mathopt.SolverType.HIGHS, params=parameters)
        except Exception as fault:
            raise SolverError(f"HiGHS fails on this fleet: {fault}") from fault


@contextmanager
def _silent() -> Iterator[None]:
    """Send standard output nowhere: HiGHS writes lines to it that no parameter turns off, in between our JSON."""
    c = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
    sys.stdout.flush()
    c.fflush(None)
    kept = os.dup(1)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            yield
            c.fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
