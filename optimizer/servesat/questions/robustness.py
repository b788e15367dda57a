"""Does the winner survive? A roofline is never exact: the plans under errors of step time and of HBM."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import Layouts, execution_signatures
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.core.arrays import Floats, Ints
from servesat.core.errors import SolverError, SpecError
from servesat.core.plan import Plan
from servesat.core.result import Result
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.k_best import row_of
from servesat.spec.spec import Spec

RIVALS = 10
"""How many layouts are shown beside the best."""


@dataclass(frozen=True, kw_only=True)
class Survival:
    """How one layout fares; its `plan` is its best without errors. Shares are of the samples, regrets relative.

    Regret is how much more a token costs than on the layout that is best under the same errors. `worst_regret` is over
    every error within the noise, exactly; None where an error leaves the layout without a plan.
    """

    plan: Plan
    best_share: float
    feasible_share: float
    mean_regret: float | None
    worst_sampled_regret: float | None
    worst_regret: float | None


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The answer to a spec, and how it and its rivals fare under errors of at most `noise`, either way.

    `survivals` hold the best plan's layout first, then others by how often they are best. `least_regret` is the layout
    whose worst regret is least; None where every layout has an error that leaves it without a plan.
    """

    result: Result
    noise: float
    samples: int
    seed: int
    survivals: tuple[Survival, ...]
    least_regret: Survival | None


def assess_robustness(
    spec: Spec | Mapping[str, Any] | str | Path,
    noise: float,
    *,
    samples: int = 1000,
    seed: int = 0,
    settings: Settings | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Robustness:
    """Ask how often the best layout stays the best when step times and HBM use are off by up to `noise`, and the cost.

    Layouts that run the same program (chip, ways, dtypes, mode, chunk) share their errors, uniform in
    1 ± noise: one factor on every term of the step, one on the bytes held. Programs err independently. The batch adapts
    to the error, since it can be set without renting anything else. The worst regret is exact: a layout's cost only
    rises with its own errors, so it is worst where it errs by +noise and all other programs by -noise. Raises SpecError
    for a noise outside (0, 1).
    """
    if not 0 < noise < 1:
        raise SpecError(f"noise = {noise:g}: expected a fraction between 0 and 1, as in 0.1 or 10%")
    if samples < 1:
        raise SpecError(f"samples = {samples}: expected at least 1")
    spec = Spec.load(spec).in_one_pool()
    result = solve(spec, settings)
    if result.plan is None:
        return Robustness(result=result, noise=noise, samples=samples, seed=seed, survivals=(), least_regret=None)
    layouts = enumerate_layouts(spec)
    in_reach = np.isfinite(_cost_of_each(spec, _with_errors(layouts, 1 - noise, 1 - noise)))
    layouts = layouts.take(np.flatnonzero(in_reach))
    drawn = _sampled(spec, layouts, _Errors(noise, samples, seed), on_progress)
    worst = _worst_regret(spec, layouts, noise)
    usd = _cost_of_each(spec, layouts)

    def survival(row: int) -> Survival:
        plan = solve(spec, settings, layouts=layouts.take(np.array([row]))).plan
        if plan is None:
            raise SolverError("a layout with a cost has no plan")
        served = int(drawn.feasible[row])
        return Survival(
            plan=plan,
            best_share=float(drawn.best[row] / samples),
            feasible_share=served / samples,
            mean_regret=float(drawn.regret_sum[row] / served) if served else None,
            worst_sampled_regret=float(drawn.worst_regret[row]) if served else None,
            worst_regret=float(worst[row]) if np.isfinite(worst[row]) else None,
        )

    own = row_of(layouts, result.plan)
    least = min(np.flatnonzero(np.isfinite(usd)).tolist(), key=lambda row: (worst[row], usd[row], layouts.chips[row]))
    if worst[least] * (1 + COST_TIE_RTOL) >= worst[own]:
        least = own
    return Robustness(
        result=result,
        noise=noise,
        samples=samples,
        seed=seed,
        survivals=tuple(map(survival, [own, *_rivals(layouts, usd, drawn, own)])),
        least_regret=survival(least) if np.isfinite(worst[least]) else None,
    )


def _rivals(layouts: Layouts, usd: Floats, drawn: "_Drawn", own: int) -> list[int]:
    """One layout of each other program, those that are best most often first."""
    program = execution_signatures(layouts)
    serving = [int(row) for row in np.lexsort((layouts.chips, usd, -drawn.best)) if np.isfinite(usd[row])]
    _, first_of_program = np.unique(program[serving], return_index=True)
    rivals = [row for row in map(serving.__getitem__, sorted(first_of_program)) if program[row] != program[own]]
    return rivals[:RIVALS]


class _Errors(NamedTuple):
    """How large the errors are, how many are drawn, and from which seed."""

    noise: float
    samples: int
    seed: int


@dataclass(frozen=True)
class _Drawn:
    """What the samples say of each layout; arrays of shape [layouts]. Regrets are over the samples that it serves."""

    best: Ints
    feasible: Ints
    regret_sum: Floats
    worst_regret: Floats


def _sampled(spec: Spec, layouts: Layouts, errors: _Errors, on_progress: Callable[[int], None]) -> _Drawn:
    """Draw errors, and compare the layouts under each draw."""
    random, program = np.random.default_rng(errors.seed), execution_signatures(layouts)
    best, feasible = np.zeros(len(layouts), dtype=np.int64), np.zeros(len(layouts), dtype=np.int64)
    regret_sum, worst = np.zeros(len(layouts)), np.zeros(len(layouts))
    for _ in range(errors.samples):
        step, held = random.uniform(1 - errors.noise, 1 + errors.noise, (2, program.max() + 1))[:, program]
        usd = _cost_of_each(spec, _with_errors(layouts, step, held))
        serves = np.isfinite(usd)
        regret = np.where(serves, usd, 0.0) / usd.min() - 1 if serves.any() else np.zeros(len(usd))
        best += serves & (regret <= COST_TIE_RTOL)
        feasible += serves
        regret_sum += np.where(serves, regret, 0.0)
        worst = np.maximum(worst, np.where(serves, regret, 0.0))
        on_progress(1)
    return _Drawn(best, feasible, regret_sum, worst)


def _worst_regret(spec: Spec, layouts: Layouts, noise: float) -> Floats:
    """The worst regret of each layout over all errors within the noise; infinite where one leaves it without a plan.

    Its own errors at +noise, those of every other program at -noise. Layouts of its own program share its errors, and
    cost the same a token as long as both have a plan.
    """
    program = execution_signatures(layouts)
    slowest = _cost_of_each(spec, _with_errors(layouts, 1 + noise, 1 + noise))
    fastest = np.full(program.max() + 1, np.inf)
    np.minimum.at(fastest, program, _cost_of_each(spec, _with_errors(layouts, 1 - noise, 1 - noise)))
    order = np.argsort(fastest, kind="stable")
    rival = np.full(len(layouts), fastest[order[0]])
    rival[program == order[0]] = fastest[order[1]] if len(order) > 1 else np.inf
    regret = np.full(len(layouts), np.inf)
    finite = np.isfinite(slowest)
    regret[finite] = np.maximum(slowest[finite] / rival[finite] - 1, 0.0)
    return regret


def _cost_of_each(spec: Spec, layouts: Layouts) -> Floats:
    """The least cost of each layout at a batch that meets every requirement; infinite where there is none [$/1M]."""
    columns = evaluate(spec, layouts)
    usd = np.full(int(layouts.number.max(initial=0)) + 1, np.inf)
    meets = columns.violated == 0
    np.minimum.at(usd, columns.layouts.number[meets], columns.usd_per_million[meets])
    return usd[layouts.number]


def _with_errors(layouts: Layouts, step: Floats | float, held: Floats | float) -> Layouts:
    """The layouts with every term of their step and their prefill, and the bytes they hold, off by a factor."""
    replica, serving = layouts.replica, layouts.serving
    return replace(
        layouts,
        hbm_bytes=layouts.hbm_bytes / held,
        serving=replace(
            serving,
            prefill_s=serving.prefill_s * step,
            first_token_s=serving.first_token_s * step,
            chunk_s_per_step=serving.chunk_s_per_step * step,
            prefill_s_per_output_token=serving.prefill_s_per_output_token * step,
        ),
        replica=replace(
            replica,
            hbm_bytes_per_s=replica.hbm_bytes_per_s / step,
            flop_per_s=replica.flop_per_s / step,
            tp_bytes_per_s=replica.tp_bytes_per_s / step,
            ep_bytes_per_s=replica.ep_bytes_per_s / step,
        ),
    )
