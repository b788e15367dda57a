"""Integer programs solved by HiGHS or SCIP, through OR-Tools MathOpt."""

import ctypes
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from ortools.math_opt.python import mathopt

from servesat.core.errors import SolverError

MAX_TIME_LIMIT_S = 1e9
"""The longest time limit that is passed to a solver: three decades, in seconds."""

SCIP_FEASIBILITY_TOLERANCE = 1e-9
"""SCIP's tolerance, relative to a row, and for integrality."""


def solve_model(
    model: mathopt.Model, *, relative_gap: float = 0.0, time_limit_s: float | None = None, mixes: bool = False
) -> mathopt.SolveResult:
    """Solve a model to a relative gap, or as near as the time allows. Raises SolverError if the solver fails.

    HiGHS solves it, or, if replicas serve `mixes` of requests, SCIP without cuts: HiGHS adds thousands of cuts to such
    models, to no avail. HiGHS's presolve fails on some models that HiGHS solves without it, and OR-Tools reports that
    in several ways, so any failure leads to a second attempt without presolve.
    """
    parameters = mathopt.SolveParameters(relative_gap_tolerance=relative_gap, absolute_gap_tolerance=1e-9)
    if time_limit_s is not None:
        parameters.time_limit = timedelta(seconds=min(max(time_limit_s, 1e-3), MAX_TIME_LIMIT_S))
    if mixes:
        parameters.cuts = mathopt.Emphasis.OFF
        parameters.gscip.real_params["numerics/feastol"] = SCIP_FEASIBILITY_TOLERANCE
        parameters.gscip.bool_params["misc/catchctrlc"] = False  # SCIP would end with what it has, as if in time
        try:
            return mathopt.solve(model, mathopt.SolverType.GSCIP, params=parameters)
        except Exception as fault:
            raise SolverError(f"SCIP fails on this fleet: {fault}") from fault
    with _stdout_silenced():
        start = time.perf_counter()
        try:
            return mathopt.solve(model, mathopt.SolverType.HIGHS, params=parameters)
        except Exception:
            parameters.presolve = mathopt.Emphasis.OFF
            if time_limit_s is not None:
                left_s = max(time_limit_s - (time.perf_counter() - start), 1e-3)
                parameters.time_limit = timedelta(seconds=min(left_s, MAX_TIME_LIMIT_S))
        try:
            return mathopt.solve(model, mathopt.SolverType.HIGHS, params=parameters)
        except Exception as fault:
            raise SolverError(f"HiGHS fails on this fleet: {fault}") from fault


def solve_linear(
    model: mathopt.Model,
    engine: mathopt.SolverType,
    parameters: mathopt.SolveParameters | None = None,
    model_parameters: mathopt.ModelSolveParameters | None = None,
) -> mathopt.SolveResult:
    """Solve a linear program. Raises SolverError if the solver fails."""
    try:
        return mathopt.solve(model, engine, params=parameters, model_params=model_parameters)
    except Exception as fault:
        raise SolverError(f"{engine.name} fails on this fleet: {fault}") from fault


@contextmanager
def _stdout_silenced() -> Iterator[None]:
    """Discard standard output: HiGHS prints lines that no parameter turns off, and they would corrupt our JSON."""
    c = ctypes.cdll.msvcrt if os.name == "nt" else ctypes.CDLL(None)
    sys.stdout.flush()
    c.fflush(None)
    stdout = os.dup(1)
    try:
        with open(os.devnull, "wb") as devnull:
            os.dup2(devnull.fileno(), 1)
            yield
            c.fflush(None)
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
