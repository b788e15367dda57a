"""Large fleets by column generation: dual prices of chips couple the covers of workloads and periods.

Workloads and periods are coupled only by quotas and reservations. At given dual prices on those, the fleet decomposes
into blocks, each with a pricing problem that is solved exactly (`pricing.py`); the total cost of their covers gives a
Lagrangian bound on the bill. The master problem, a linear program, mixes the covers generated so far within the quotas
(`master.py`), and its duals lead to the next prices. Finally a rounding heuristic selects integer replicas among the
covers (`rounding.py`). Where whole instances are rented, prices and bound are those of the shares that replicas take of
them, below any bill; only the rounding counts the instances.
"""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from servesat.core.arrays import Floats
from servesat.core.parallel.runs import THIS_PROCESS, Workers
from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.decomposition.improvement import improved
from servesat.fleet.decomposition.master import Cover, Master
from servesat.fleet.decomposition.options import DEFAULT_OPTIONS, ColumnGenerationOptions
from servesat.fleet.decomposition.pricing import DualPrices, Pricing, blocks_of, dual_constant, max_bill
from servesat.fleet.decomposition.rounding import rounded_plan
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, Place, ReservedChips


def decomposes(instance: FleetInstance, options: ColumnGenerationOptions = DEFAULT_OPTIONS) -> bool:
    """Whether a fleet is large, and its workloads are coupled by quotas and reservations only."""
    limited = instance.budget_usd is not None or instance.pods or instance.limits_configurations
    coupled = limited or instance.previous_plan is not None or instance.usd_per_change or instance.reserves_instances
    has_demand = any(any(workload.demand) for workload in instance.workloads)
    return _is_large(instance, options) and not coupled and has_demand and not instance.unservable()


def _is_large(instance: FleetInstance, options: ColumnGenerationOptions) -> bool:
    """Whether the compact model leaves a larger gap; with several sizes it proves independent periods one by one."""
    periods, workloads = len(instance.hours), instance.workloads
    if any(workload.sizes for workload in workloads):
        per_period = sum(len(instance.options_of(workload.name)) * (1 + len(workload.sizes)) for workload in workloads)
        coupled_periods = 1 if instance.periods_are_independent else periods
        return per_period * coupled_periods >= options.min_variables_with_sizes
    region_shares = any(workload.max_share_per_region is not None for workload in workloads)
    min_variables = options.min_variables_with_region_shares if region_shares else options.min_variables
    return len(instance.options) * periods >= min_variables


def plan_by_decomposition(
    instance: FleetInstance,
    deadline: float,
    on_progress: Callable[[str], None] = lambda _: None,
    options: ColumnGenerationOptions = DEFAULT_OPTIONS,
    workers: Workers = THIS_PROCESS,
) -> FleetSolution:
    """A plan with a proved dual bound, as good as the time allows; `on_progress` is called with each step.

    The workers solve the pricing problems, and select the covers of the periods. INFEASIBLE if the dual bound exceeds
    the bill of any plan, UNKNOWN if no plan was found.
    """
    start = time.perf_counter()
    until = start + options.cover_time_share * (deadline - start)
    on_progress("initial prices from a sample of the workloads")
    sample_until = start + options.sample_time_share * (deadline - start)
    prices, gap = _initial_prices(instance, sample_until, options, workers)
    with ColumnGeneration(instance, options=options, workers=workers) as search:
        search.run(prices, until, gap, on_progress=on_progress)
    master = search.master
    if search.is_infeasible():
        return FleetSolution(Status.INFEASIBLE)
    if not search.covers_all_blocks():
        return FleetSolution(Status.UNKNOWN)
    on_progress("rounding to integer replicas")
    plan = rounded_plan(
        instance,
        master.promising(),
        master.reserved_chips,
        master.period_usd,
        deadline,
        options=options.rounding,
        workers=workers,
    )
    if plan.status is Status.UNKNOWN:
        return plan
    plan = replace(plan, bound=search.lower_bound)
    return improved(instance, plan, deadline, options.improvement, on_progress)


def _initial_prices(
    instance: FleetInstance, until: float, options: ColumnGenerationOptions, workers: Workers
) -> tuple[DualPrices, float]:
    """The prices to start from, and their gap: the final prices of a sample of the workloads.

    The sample has its share of the quotas. Chips that are scarce for all workloads are scarce for the sample, which
    takes a fraction of the time.
    """
    places = places_of(instance)
    workloads = instance.workloads[:: max(1, len(instance.workloads) // options.sample_workloads)]
    if 2 * len(workloads) > len(instance.workloads):
        return DualPrices.initial(instance, places), 1.0
    names, share = {workload.name for workload in workloads}, len(workloads) / len(instance.workloads)
    sample = replace(
        instance.with_options(lambda option: option.workload in names),
        workloads=workloads,
        quotas={region_chip: round(quota * share) for region_chip, quota in instance.quotas.items()},
    )
    with ColumnGeneration(sample, places, options, workers) as search:
        gap = search.run(DualPrices.initial(sample, places), until, target_gap=options.sample_target_gap)
    return search.best_prices, gap


def places_of(instance: FleetInstance) -> list[Place]:
    """The chips that replicas could take: by region and type those rented, and those reserved at each price."""
    return [*sorted({option.region_chip for option in instance.options}), *instance.reservable]


class ColumnGeneration:
    """Generates covers at a sequence of dual prices and mixes them, until the gap to the dual bound is small.

    `best_prices` are the dual prices with the largest bound, `lower_bound`. A context manager, which ends the workers.
    """

    def __init__(
        self,
        instance: FleetInstance,
        places: list[Place] | None = None,
        options: ColumnGenerationOptions = DEFAULT_OPTIONS,
        workers: Workers = THIS_PROCESS,
    ) -> None:
        self.instance, self.options = instance, options
        self.places = places or places_of(instance)
        self.blocks = blocks_of(instance, self.places)
        self.master = Master(instance, self.places, options.master)
        self.initial_prices = DualPrices.initial(instance, self.places)
        self.best_prices, self.lower_bound = self.initial_prices, -np.inf
        self.max_bill = max_bill(instance, self.blocks)
        self.random = np.random.default_rng(0)
        self.pricing = Pricing(instance, self.blocks, options.grid_cells, workers)

    def __enter__(self) -> "ColumnGeneration":
        return self

    def __exit__(self, *_: Any) -> None:
        self.pricing.end()

    def run(
        self,
        prices: DualPrices,
        until: float,
        gap: float = 1.0,
        *,
        target_gap: float | None = None,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> float:
        """Start from prices with a gap, and move towards the master's duals, until a moment of `time.perf_counter`.

        Gives the final gap.
        """
        target_gap = self.options.target_gap if target_gap is None else target_gap
        gaps, step, round_s, served_rounds = [gap], self.options.initial_step, 0.0, 0
        while len(gaps) == 1 or time.perf_counter() + round_s < until:
            previous_bound, start = self.lower_bound, time.perf_counter()
            covers = self._cheapest_covers(prices)
            if self.is_infeasible():
                break
            step = self._next_step(step, improved=self.lower_bound > previous_bound)
            covers += self._near_covers(gaps[-1], first_round=len(gaps) == 1, start=start, until=until)
            mixture = self.master.solve_with(covers, until - time.perf_counter())
            if mixture is None:
                break
            gaps.append(1 - self.lower_bound / mixture.usd)
            served_rounds = 0 if self.master.has_unserved else served_rounds + 1
            unserved = "" if served_rounds else ", some demand not served yet"
            on_progress(f"column generation, round {len(gaps) - 1}: gap {gaps[-1]:.1%}{unserved}")
            if served_rounds and (gaps[-1] <= target_gap or self._has_stalled(gaps, served_rounds)):
                break
            prices = self.best_prices.towards(
                mixture.quota_duals, self._cap_reservation_duals(mixture.reservation_duals), step
            )
            round_s = time.perf_counter() - start
        return gaps[-1]

    def is_infeasible(self) -> bool:
        """Whether the dual bound proves that there is no plan: it exceeds a bill that the cheapest plan stays below."""
        return self.lower_bound > self.max_bill * (1 + LIMIT_RTOL)

    def covers_all_blocks(self) -> bool:
        """Whether there is a cover of every workload in every period."""
        return len(self.master.convexity) == len(self.blocks.period)

    def _next_step(self, step: float, *, improved: bool) -> float:
        if improved:
            return min(self.options.max_step, self.options.step_growth * step)
        return max(self.options.step_shrink * step, self.options.min_step)

    def _has_stalled(self, gaps: list[float], served_rounds: int) -> bool:
        rounds = self.options.stall_rounds
        return served_rounds > rounds and gaps[-rounds] - gaps[-1] < self.options.stall_gap

    def _cap_reservation_duals(self, duals: Floats) -> Floats:
        """The duals of reserved chips, scaled down to the cost of a reservation where it has no quota.

        Larger duals would make the bound infinite, and those of PDLP are not exact.
        """
        no_quota = [
            isinstance(place, ReservedChips) and place.region_chip not in self.instance.quotas for place in self.places
        ]
        cost = np.where(no_quota, self.initial_prices.reservation.sum(axis=1), np.inf)
        scale: Floats = np.minimum(1.0, cost / np.maximum(duals.sum(axis=1), LIMIT_RTOL))
        return duals * scale[:, None]

    def _cheapest_covers(self, prices: DualPrices) -> list[Cover]:
        """The cheapest cover of each block; updates the dual bound."""
        covers, usd = self.pricing.cheapest_covers(self.blocks.prices_at(prices))
        bound = usd - dual_constant(self.instance, self.places, prices)
        if bound > self.lower_bound:
            self.best_prices, self.lower_bound = prices, bound
        return covers

    def _near_covers(self, gap: float, *, first_round: bool, start: float, until: float) -> list[Cover]:
        """Near-optimal covers of each block, at randomly perturbed prices, as far as a round's time for them allows."""
        covers: list[Cover] = []
        count = self.options.near_covers_first_round if first_round else self.options.near_covers_later_rounds
        for _ in range(count):
            if time.perf_counter() < start + self.options.near_cover_time_share * (until - start):
                covers += self._covers_at_perturbed_prices(gap)
        return covers

    def _covers_at_perturbed_prices(self, gap: float) -> list[Cover]:
        min_price = self.options.min_perturbed_price_share * self.blocks.prices_at(self.initial_prices)
        price = np.fmax(self.blocks.prices_at(self.best_prices), min_price)
        std = float(np.clip(self.options.perturbation_per_gap * gap, *self.options.perturbation_std_range))
        perturbed = price * self.random.lognormal(sigma=std, size=price.shape)
        covers, _ = self.pricing.cheapest_covers(perturbed)
        return covers
