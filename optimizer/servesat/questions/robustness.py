"""Robustness: how the best layout and its rivals fare when the model errs in step time and HBM use."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, NamedTuple

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
from servesat.questions.one_pool import LeftOut, in_one_pool
from servesat.spec.spec import Spec

MAX_RIVALS = 10
"""Layouts reported in addition to the best."""


@dataclass(frozen=True, kw_only=True)
class Survival:
    """A layout under errors; `plan` is its best without errors. Shares are of the samples.

    Regret is the relative excess of its cost over the best layout under the same errors. `worst_regret` is the exact
    maximum over all errors within the noise; None where some error leaves the layout without a plan.
    """

    plan: Plan
    best_share: float
    feasible_share: float
    mean_regret: float | None
    worst_sampled_regret: float | None
    worst_regret: float | None


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The answer to a spec, with its layout and its rivals under errors of at most ±`noise`.

    `survivals` starts with the best plan's layout; others follow by how often they are best. `least_regret` is the
    layout with the lowest worst regret; None where every layout has an error that leaves it without a plan. `left_out`
    says which modes were not compared.
    """

    result: Result
    noise: float
    samples: int
    seed: int
    survivals: tuple[Survival, ...]
    least_regret: Survival | None
    left_out: LeftOut | None


def assess_robustness(
    spec: Spec | Mapping[str, Any] | str | Path,
    noise: float | Literal["calibrated"],
    *,
    samples: int = 1000,
    seed: int = 0,
    settings: Settings | None = None,
    on_progress: Callable[[int], None] = lambda _: None,
) -> Robustness:
    """Assess how often the best layout stays the best when step times and HBM use err by up to `noise`, and its regret.

    Layouts that run the same program (chip, ways, dtypes, mode, chunk) share two errors, uniform in 1 ± noise: a factor
    on every term of the step, and a factor on the bytes held. Programs err independently. The batch adapts to the
    error, since changing it needs no other hardware. The worst regret is exact against other programs: the cost of a
    layout only rises with its errors, so the worst case is +noise for its program and -noise for all others. On other
    machines the same program has the same errors. `calibrated` is the error of the best plan's predictions. Raises
    SpecError for a noise outside (0, 1).
    """
    for name, count, least in (("samples", samples, 1), ("seed", seed, 0)):
        if not isinstance(count, Integral) or isinstance(count, bool) or count < least:
            raise SpecError(f"{name} = {count!r}: expected a whole number of at least {least}")
    if noise != "calibrated" and not (isinstance(noise, int | float) and 0 < noise < 1):
        raise SpecError(f"noise = {noise!r}: expected a fraction between 0 and 1, as in 0.1, or calibrated")
    spec, left_out = in_one_pool(Spec.load(spec).in_means(), settings)
    if noise == "calibrated" and spec.calibration is None:
        raise SpecError("noise = calibrated: the ideal cost model has no errors; give a share, as in 10%")
    result = solve(spec, settings)
    errors = _Errors(_noise_of(spec, noise, result.plan), samples, seed)
    plan = result.plan
    survivals, least_regret = ((), None) if plan is None else _compared(spec, plan, errors, settings, on_progress)
    return Robustness(
        result=result,
        noise=errors.noise,
        samples=samples,
        seed=seed,
        survivals=survivals,
        least_regret=least_regret,
        left_out=left_out,
    )


def _noise_of(spec: Spec, noise: float | Literal["calibrated"], plan: Plan | None) -> float:
    """The noise as a share: as stated, or the error of the predictions of the plan, or without one of any."""
    if noise != "calibrated" or spec.calibration is None:
        return float(noise)
    errors = spec.calibration.errors.calibrated if plan is None else spec.errors_of(plan.chip, plan.engine)
    return errors.tpot


def _compared(
    spec: Spec, best_plan: Plan, errors: "_Errors", settings: Settings | None, on_progress: Callable[[int], None]
) -> tuple[tuple[Survival, ...], Survival | None]:
    """The best plan's layout and its rivals under errors, and the layout with the lowest worst regret."""
    layouts = enumerate_layouts(spec)
    every = [_cost_of_each(spec, _with_errors(layouts, 1 + error, 1 + error)) for error in (-errors.noise, 0.0)]
    # a constraint may bound a time from below, and rule out what is faster than predicted
    can_be_feasible = np.flatnonzero(np.isfinite(every).any(axis=0))
    layouts, (fastest, usd) = layouts.take(can_be_feasible), (cost[can_be_feasible] for cost in every)
    slowest = _cost_of_each(spec, _with_errors(layouts, 1 + errors.noise, 1 + errors.noise))
    worst = _worst_regret(layouts, slowest, fastest)
    best = row_of(layouts, best_plan)
    safest = min(np.flatnonzero(np.isfinite(usd)).tolist(), key=lambda row: (worst[row], usd[row], layouts.chips[row]))
    if worst[safest] * (1 + COST_TIE_RTOL) >= worst[best]:
        safest = best
    told = np.unique([best, safest, *_rivals(layouts, usd, np.zeros(len(layouts), dtype=np.int64), best)])
    rows = np.union1d(told, _contenders(slowest, fastest))
    statistics = _sampled(spec, layouts, rows, errors, on_progress)

    def survival(row: int) -> Survival:
        plan = solve(spec, settings, layouts=layouts.take(np.array([row]))).plan
        if plan is None:
            raise SolverError("a layout with a cost has no plan")
        feasible = int(statistics.feasible[row])
        return Survival(
            plan=plan,
            best_share=float(statistics.best[row] / errors.samples),
            feasible_share=feasible / errors.samples,
            mean_regret=float(statistics.regret_sum[row] / feasible) if feasible else None,
            worst_sampled_regret=float(statistics.worst_regret[row]) if feasible else None,
            worst_regret=float(max(worst[row], statistics.worst_regret[row])) if np.isfinite(worst[row]) else None,
        )

    survivals = tuple(map(survival, [best, *_rivals(layouts, usd, statistics.best, best)]))
    return survivals, survival(safest) if np.isfinite(worst[safest]) else None


def _rivals(layouts: Layouts, usd: Floats, times_best: Ints, best: int) -> list[int]:
    """A layout of each other program, sorted by how often it is best, and then by cost."""
    program = execution_signatures(layouts)
    feasible = [int(row) for row in np.lexsort((layouts.chips, usd, -times_best)) if np.isfinite(usd[row])]
    _, first_of_program = np.unique(program[feasible], return_index=True)
    rivals = [row for row in map(feasible.__getitem__, sorted(first_of_program)) if program[row] != program[best]]
    return rivals[:MAX_RIVALS]


def _contenders(slowest: Floats, fastest: Floats) -> Ints:
    """The layouts that are best under some errors: others cost more at their best than one costs at its worst."""
    return np.flatnonzero(fastest <= slowest.min() * (1 + COST_TIE_RTOL))


class _Errors(NamedTuple):
    """The noise, the number of samples and their seed."""

    noise: float
    samples: int
    seed: int


@dataclass(frozen=True)
class _Statistics:
    """Statistics of each layout over the samples; shape [layouts]. Regrets count feasible samples only."""

    best: Ints
    feasible: Ints
    regret_sum: Floats
    worst_regret: Floats


def _sampled(
    spec: Spec, layouts: Layouts, rows: Ints, errors: _Errors, on_progress: Callable[[int], None]
) -> _Statistics:
    """Draw errors, and compare some layouts under each sample, among which are all that can be best; 0 for others."""
    random, program = np.random.default_rng(errors.seed), execution_signatures(layouts)
    best, feasible = np.zeros(len(layouts), dtype=np.int64), np.zeros(len(layouts), dtype=np.int64)
    regret_sum, worst = np.zeros(len(layouts)), np.zeros(len(layouts))
    compared = replace(layouts.take(rows), number=np.arange(len(rows)))
    for _ in range(errors.samples):
        step, held = random.uniform(1 - errors.noise, 1 + errors.noise, (2, program.max() + 1))[:, program[rows]]
        usd = _cost_of_each(spec, _with_errors(compared, step, held))
        finite = np.isfinite(usd)
        regret = np.where(finite, usd, 0.0) / usd.min() - 1 if finite.any() else np.zeros(len(usd))
        best[rows] += finite & (regret <= COST_TIE_RTOL)
        feasible[rows] += finite
        regret_sum[rows] += np.where(finite, regret, 0.0)
        worst[rows] = np.maximum(worst[rows], np.where(finite, regret, 0.0))
        on_progress(1)
    return _Statistics(best, feasible, regret_sum, worst)


def _worst_regret(layouts: Layouts, slowest: Floats, fastest: Floats) -> Floats:
    """The worst regret of each layout, given its cost with the largest and smallest errors; infinite without a plan.

    It occurs with the errors of its program at +noise and those of every other program at -noise. Layouts of the same
    program, on other machines, share their errors, and are compared at either.
    """
    program = execution_signatures(layouts)
    least = np.full(program.max() + 1, np.inf)
    np.minimum.at(least, program, fastest)
    order = np.argsort(least, kind="stable")
    rival = np.full(len(layouts), least[order[0]])
    rival[program == order[0]] = least[order[1]] if len(order) > 1 else np.inf
    finite = np.isfinite(slowest)
    regret = np.where(finite, 0.0, np.inf)
    regret[finite] = np.maximum(slowest[finite] / rival[finite] - 1, 0.0)
    for cost in (slowest, fastest):
        least_alike = np.full(program.max() + 1, np.inf)
        np.minimum.at(least_alike, program, cost)
        alike = finite & np.isfinite(cost)
        regret[alike] = np.maximum(regret[alike], cost[alike] / least_alike[program[alike]] - 1)
    return regret


def _cost_of_each(spec: Spec, layouts: Layouts) -> Floats:
    """The lowest cost of each layout over the feasible batches [$/1M]; infinite without a feasible batch."""
    columns = evaluate(spec, layouts)
    usd = np.full(int(layouts.number.max(initial=0)) + 1, np.inf)
    feasible = columns.violated == 0
    np.minimum.at(usd, columns.layouts.number[feasible], columns.usd_per_million[feasible])
    return usd[layouts.number]


def _with_errors(layouts: Layouts, step: Floats | float, held: Floats | float) -> Layouts:
    """The layouts with step and prefill times scaled by `step`, and the bytes held scaled by `held`."""
    replica, serving, constants = layouts.replica, layouts.serving, layouts.constants
    return replace(
        layouts,
        hbm_bytes=layouts.hbm_bytes / held,
        constants=None if constants is None else constants.with_times(step),
        serving=replace(
            serving,
            prefill_s=serving.prefill_s * step,
            first_token_s=serving.first_token_s * step,
            chunk_s_per_step=serving.chunk_s_per_step * step,
            prefill_s_per_output_token=serving.prefill_s_per_output_token * step,
            prompt_work_s=serving.prompt_work_s * step,
            host_load_s=serving.host_load_s * step,
        ),
        replica=replace(
            replica,
            hbm_bytes_per_s=replica.hbm_bytes_per_s / step,
            flop_per_s=replica.flop_per_s / step,
            head_flop_per_s=replica.head_flop_per_s / step,
            tp_bytes_per_s=replica.tp_bytes_per_s / step,
            ep_bytes_per_s=replica.ep_bytes_per_s / step,
            pp_bytes_per_s=replica.pp_bytes_per_s / step,
        ),
    )
