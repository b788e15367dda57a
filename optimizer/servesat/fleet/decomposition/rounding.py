"""The rounding heuristic: integer replicas for a large fleet, selected among covers one period at a time."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple, NoReturn

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.arrays import Floats, Ints
from servesat.core.errors import ServesatError
from servesat.core.parallel.runs import DIED_TWICE, THIS_PROCESS, Crew, Workers
from servesat.core.result import Status
from servesat.fleet.check import instances_of
from servesat.fleet.decomposition.master import Cover
from servesat.fleet.decomposition.options import RoundingOptions
from servesat.fleet.decomposition.swaps import Choice, CoverTable, swapped
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.instance_rows import hold_pieces
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.formulation.solvers import solve_model
from servesat.fleet.instance import FleetInstance, Place, RegionChip, ReplicaOption, ReservedChips, region_chip_of
from servesat.fleet.machines import Machine, fewest_instances


def rounded_plan(
    instance: FleetInstance,
    covers: list[Cover],
    reserved_chips: Mapping[ReservedChips, float],
    mixture_usd: Floats,
    deadline: float,
    *,
    options: RoundingOptions,
    workers: Workers = THIS_PROCESS,
) -> FleetSolution:
    """A plan with one cover for each block, in which workloads are re-planned if it violates limits or costs too much.

    The workers select the covers of a period each. Reservations start from those of the mixture, rounded. They grow if
    a period has no plan otherwise, and are finally reduced to the chips in use. `mixture_usd` is the mixture's cost in
    each period without reserved chips, and `deadline` a moment of `time.perf_counter`. UNKNOWN if some period has no
    plan in time.
    """
    reserved = {place: round(chips) for place, chips in reserved_chips.items()}
    plans = [_PeriodPlan(instance, reserved, period, usd, options) for period, usd in enumerate(mixture_usd.tolist())]
    for plan, selected in zip(plans, _selections(plans, covers, deadline, options, workers), strict=True):
        plan.replicas = selected
    for _ in range(2):  # a later period may have reserved more of a quota
        overused = [plan for plan in plans if plan.overused()]
        for left, plan in zip(range(len(overused), 0, -1), overused, strict=True):
            now = time.perf_counter()
            if not plan.repair(now + (deadline - now) / left):
                plan.reserve_what_is_used()
    if any(plan.overused() for plan in plans):
        return FleetSolution(Status.UNKNOWN)
    for plan in sorted(plans, key=lambda plan: plan.mixture_usd - plan.usd()):  # the largest excess cost first
        if plan.exceeds_mixture() and time.perf_counter() < deadline - options.repair_time_s:
            plan.improve()
    replicas = np.stack([plan.replicas for plan in plans], axis=1)
    chips_used = [plan.chips_used() for plan in plans]
    used = {place: max(used[place] for used in chips_used) for place in reserved}
    return FleetSolution(
        Status.FEASIBLE,
        tuple(map(tuple, replicas.tolist())),
        {place: chips for place, chips in used.items() if chips},
    )


class _Selection(NamedTuple):
    """The covers among which those of a period are selected, and the time for that [s]."""

    period: int
    covers: list[Cover]
    time_limit_s: float


def _selections(
    plans: list["_PeriodPlan"], covers: list[Cover], deadline: float, options: RoundingOptions, workers: Workers
) -> Iterator[Ints]:
    """The replicas of the covers that are selected in each period."""
    by_period: list[list[Cover]] = [[] for _ in plans]
    for cover in covers:
        by_period[cover.period].append(cover)
    start = time.perf_counter()
    until = start + options.selection_time_share * (deadline - start)

    def shared_out(crew: Crew[_Selection, Ints]) -> Iterator[_Selection]:
        for period, candidates in enumerate(by_period):
            turns = -(-(len(plans) - period) // crew.size)
            yield _Selection(period, candidates, (until - time.perf_counter()) / turns)

    with Crew(partial(_selected, plans), workers, _lost) as crew:
        yield from crew.in_order(shared_out(crew))


def _selected(plans: list["_PeriodPlan"], selection: _Selection) -> Ints:
    return plans[selection.period].select_covers(selection.covers, selection.time_limit_s)


def _lost(selection: _Selection) -> NoReturn:
    raise ServesatError(f"the replicas of period {selection.period + 1}: {DIED_TWICE}")


class _PeriodPlan:
    """The replicas of each option in one period; `mixture_usd` is the cost of the period in the mixture.

    `reserved` is shared by all periods: a period that has no plan otherwise adds to it.
    """

    def __init__(
        self,
        instance: FleetInstance,
        reserved: dict[ReservedChips, int],
        period: int,
        mixture_usd: float,
        options: RoundingOptions,
    ) -> None:
        self.instance, self.all_periods = instance.in_period(period), instance
        self.reserved, self.period, self.mixture_usd, self.options = reserved, period, mixture_usd, options
        self.replicas = np.zeros(len(instance.options), dtype=np.int64)
        self.names = [workload.name for workload in instance.workloads]
        self.random = np.random.default_rng(period)

    def usd(self) -> float:
        """The cost of the replicas and the instances that hold them, without reserved ones [$]."""
        by_chip = sum(
            option.usd_per_hour * count
            for option, count in self._replicas_of()
            if option.purchase != "reserved" and option.machine is None
        )
        whole = sum(machine.usd_per_hour * count for machine, count in self._instances().items())
        return (by_chip + whole) * self.instance.hours[0]

    def _instances(self) -> dict[Machine, int]:
        """The instances of each machine that hold the replicas."""
        if not self.instance.machines:
            return {}
        rented = instances_of(self.instance, self.replicas[:, None].tolist())
        return {machine: count for machine, (count,) in rented.items()}

    def exceeds_mixture(self) -> bool:
        """Whether the period costs notably more than in the mixture."""
        return self.usd() > self.mixture_usd * (1 + self.options.max_rounding_loss)

    def select_covers(self, candidates: list[Cover], time_limit_s: float) -> Ints:
        """The replicas of the cheapest covers found, one for each block.

        The best of what swaps make, in a moment, of the first of each block, which is of the mixture, and of random
        ones while limits are exceeded; and of an integer program's choice, nearly optimal where the time is enough.
        """
        deadline = time.perf_counter() + time_limit_s
        first = np.unique([cover.block for cover in candidates], return_index=True)[1]
        if self.instance.machines:  # covers share instances, so that what one uses of a quota depends on the others
            selected = self._selected_by_program(candidates, time_limit_s)
            chosen = first if selected is None else selected
        else:
            chosen = self._best_choice(candidates, first, deadline).covers
        replicas = np.zeros_like(self.replicas)
        for number in chosen.tolist():
            for position, count in candidates[number].replicas:
                replicas[position] += count
        return replicas

    def _best_choice(self, candidates: list[Cover], first: Ints, deadline: float) -> Choice:
        """Of the choices that exceed the limits least, all after swaps, the cheapest."""
        table = self._table_of(candidates)
        choices = [swapped(table, first, deadline)]
        while choices[-1].excess and len(choices) < self.options.most_starts and time.perf_counter() < deadline:
            choices.append(swapped(table, self._any_of_each_block(table.block), deadline))
        left_s = deadline - time.perf_counter()
        selected = self._selected_by_program(candidates, left_s) if left_s >= self.options.least_program_s else None
        if selected is not None:
            choices.append(swapped(table, selected[np.argsort(table.block[selected])], deadline))
        return min(choices, key=lambda choice: (choice.excess, choice.usd))

    def _selected_by_program(self, candidates: list[Cover], time_limit_s: float) -> Ints | None:
        """The cheapest covers, with a penalty for exceeded limits; None if none are found in time."""
        model = mathopt.Model()
        selected = [model.add_binary_variable() for _ in candidates]
        by_block: dict[int, list[mathopt.Variable]] = defaultdict(list)
        used: dict[Place, list[mathopt.LinearTerm]] = defaultdict(list)
        pieces: dict[Machine, dict[int, list[mathopt.LinearTypes]]] = defaultdict(lambda: defaultdict(list))
        costs: list[mathopt.LinearTypes] = []
        hours = self.instance.hours[0]
        for cover, variable in zip(candidates, selected, strict=True):
            by_block[cover.block].append(variable)
            for position, count in cover.replicas:
                option = self.instance.options[position]
                if option.machine is None:
                    used[option.place].append(option.chips * count * variable)
                    is_rented = not isinstance(option.place, ReservedChips)
                    costs += [option.usd_per_hour * hours * count * variable] if is_rented else []
                    continue
                for size, number in option.pieces:
                    pieces[option.machine][size].append(number * count * variable)
        for machine, by_size in pieces.items():
            instances = model.add_integer_variable(lb=0)
            hold_pieces(model, machine.chips, by_size, instances)
            costs.append(machine.usd_per_hour * hours * instances)
            used[machine.region, machine.chip].append(machine.chips * instances)
        for variables in by_block.values():
            model.add_linear_constraint(mathopt.fast_sum(variables) == 1)
        max_price = max(option.usd_per_chip_hour for option in self.instance.options)
        penalty = self.options.overuse_penalty * max_price * self.instance.hours[0]
        for place, terms in used.items():
            available = self._available(place)
            if available is not None:
                excess = model.add_variable(lb=0)
                costs.append(penalty * excess)
                model.add_linear_constraint(mathopt.fast_sum(terms) - excess <= available)
        model.minimize(mathopt.fast_sum(costs))
        result = solve_model(model, relative_gap=self.options.selection_gap, time_limit_s=time_limit_s)
        if not result.has_primal_feasible_solution():
            return None
        return np.flatnonzero(np.array(result.variable_values(selected)) > 0.5)

    def _any_of_each_block(self, block: Ints) -> Ints:
        """A random cover of each block."""
        order = self.random.permutation(len(block))
        return order[np.unique(block[order], return_index=True)[1]]

    def _table_of(self, candidates: list[Cover]) -> CoverTable:
        """What each cover uses of the limits, and costs."""
        limits = {place: chips for place in self._places if (chips := self._available(place)) is not None}
        number = {place: position for position, place in enumerate(limits)}
        used_by = np.zeros((len(candidates), len(limits)), dtype=np.int64)
        usd = np.zeros(len(candidates))
        for row, cover in enumerate(candidates):
            for position, count in cover.replicas:
                option = self.instance.options[position]
                if option.place in number:
                    used_by[row, number[option.place]] += option.chips * count
                usd[row] += 0.0 if isinstance(option.place, ReservedChips) else option.usd_per_hour * count
        block = np.unique([cover.block for cover in candidates], return_inverse=True)[1]
        return CoverTable(used_by, usd, block, np.array(list(limits.values()), dtype=np.int64))

    @property
    def _places(self) -> set[Place]:
        """The chips that options use."""
        return {option.place for option in self.instance.options}

    def repair(self, deadline: float) -> bool:
        """Re-plan workloads where too many chips are used, with random others; whether all limits hold in the end.

        The batches grow; if all workloads together have no plan, they may reserve more chips.
        """
        batch, may_reserve_more = self.options.repair_batch, False
        while overused := self.overused():
            affected = sorted({option.workload for option, _ in self._replicas_of() if option.region_chip in overused})
            names = {*self._sample(affected, batch), *self._sample(self.names, batch)}
            left_s = deadline - time.perf_counter()
            time_limit_s = min(self.options.repair_time_s * batch / self.options.repair_batch, left_s)
            gap = self.options.repair_gap
            if left_s > 0 and self._replan(names, time_limit_s, gap, may_reserve_more=may_reserve_more):
                continue
            if left_s <= 0 or may_reserve_more:
                return False
            may_reserve_more = batch >= len(self.names)
            batch *= 2
        return True

    def reserve_what_is_used(self) -> None:
        """Reserve as many chips as the replicas use of those reserved, where no others were found."""
        for place, chips in self.chips_used().items():
            if isinstance(place, ReservedChips):
                self.reserved[place] = max(self.reserved.get(place, 0), chips)

    def improve(self) -> None:
        """Re-plan a random batch of workloads, to reduce the cost."""
        names = self._sample(self.names, self.options.repair_batch)
        self._replan(names, self.options.repair_time_s, self.options.improvement_gap)

    def _sample(self, names: list[str], count: int) -> set[str]:
        """A random sample of workloads."""
        return set(self.random.choice(names, min(count, len(names)), replace=False).tolist())

    def _available(self, place: Place) -> int | None:
        """The chips of a place that may be used; None if there is no quota on them."""
        if isinstance(place, ReservedChips):
            return self.reserved.get(place, 0)
        reserved = sum(chips for one, chips in self.reserved.items() if one.region_chip == place)
        return self.instance.quotas[place] - reserved if place in self.instance.quotas else None

    def _replicas_of(self, names: set[str] | None = None) -> list[tuple[ReplicaOption, int]]:
        """The options that some workloads run, or all do, with the number of replicas."""
        used = ((self.instance.options[o], int(self.replicas[o])) for o in np.flatnonzero(self.replicas).tolist())
        return [(option, count) for option, count in used if names is None or option.workload in names]

    def chips_used(self, names: set[str] | None = None) -> dict[Place, int]:
        """Chips that some workloads, or all, pay for by the chip, by place."""
        used: dict[Place, int] = defaultdict(int)
        for option, count in self._replicas_of(names):
            if option.machine is None:
                used[option.place] += option.chips * count
        return used

    def _pieces_used(self, names: set[str]) -> dict[Machine, dict[int, int]]:
        """What some workloads take of the instances of each machine."""
        used: dict[Machine, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for option, count in self._replicas_of(names):
            if option.machine is not None:
                for size, number in option.pieces:
                    used[option.machine][size] += number * count
        return used

    def overused(self) -> set[RegionChip]:
        """The regions and types of which more chips are used than are available."""
        overused, used = set(), self.chips_used()
        for machine, count in self._instances().items():
            used[machine.region, machine.chip] += machine.chips * count
        for place, chips in used.items():
            available = self._available(place)
            if available is not None and chips > available:
                overused.add(region_chip_of(place))
        return overused

    def _replan(self, names: set[str], time_limit_s: float, gap: float, *, may_reserve_more: bool = False) -> bool:
        """Re-plan some workloads with the compact model, all others fixed; whether a plan is found.

        With `may_reserve_more` they may reserve more chips, which are paid for in every period.
        """
        others = set(self.names) - names
        fixed = self.chips_used(others)
        model = self._model_of(names, fixed, self._pieces_used(others), may_reserve_more=may_reserve_more)
        bill = model.usd(reserved_hours=sum(self.all_periods.hours))
        solution = model.solve(bill, time_limit_s, relative_gap=gap)
        if not solution.replicas:
            return False
        previous_replicas, was_overused, previous_usd = self.replicas.copy(), bool(self.overused()), self.usd()
        positions = [o for o, option in enumerate(self.instance.options) if option.workload in names]
        self.replicas[positions] = np.array(solution.replicas)[:, 0]
        if may_reserve_more:
            self.reserved.update({place: fixed[place] + chips for place, chips in solution.reserved.items()})
        elif not was_overused and self.usd() > previous_usd:
            self.replicas = previous_replicas
        return True

    def _model_of(
        self,
        names: set[str],
        fixed: Mapping[Place, int],
        pieces: Mapping[Machine, dict[int, int]],
        *,
        may_reserve_more: bool,
    ) -> FleetModel:
        """The compact model of some workloads, given the chips and the pieces of instances that the others use."""
        instance = self.instance.with_options(lambda option: option.workload in names)
        workloads = tuple(workload for workload in self.instance.workloads if workload.name in names)
        left = {place: chips - fixed[place] for place, chips in self.reserved.items()}
        can_reserve = instance.reservable
        occupied_chips: dict[RegionChip, tuple[int, ...]] = {}
        for region_chip in self.instance.quotas:
            there = [place for place in self.reserved if place.region_chip == region_chip]
            unusable = sum(left[place] for place in there if place not in can_reserve)
            occupied_chips[region_chip] = (fixed[region_chip] + sum(fixed[place] for place in there) + unusable,)
        for machine, taken in pieces.items():
            place = (machine.region, machine.chip)
            if machine not in instance.machines and place in occupied_chips:
                whole = machine.chips * fewest_instances(machine.chips, taken)
                occupied_chips[place] = (occupied_chips[place][0] + whole,)
        return FleetModel(
            replace(instance, workloads=workloads, occupied_chips=occupied_chips, occupied_pieces=dict(pieces)),
            reserved={place: left.get(place, 0) for place in can_reserve},
            may_reserve_more=may_reserve_more,
        )
