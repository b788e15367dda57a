"""Whole replicas for a large fleet, from the covers that a mixture is made of: a period at a time (HiGHS)."""

import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from ortools.math_opt.python import mathopt

from servesat.core.arrays import Floats
from servesat.core.result import Status
from servesat.fleet.decomposition.master import Cover, RegionChip
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.formulation.solvers import solved
from servesat.fleet.instance import FleetInstance, ReplicaOption

GAP = 3e-4
"""The relative gap at which a period's choice of covers is good enough."""

FOR_CHOICE = 0.8
"""Share of a period's time that goes into that choice."""

OVER = 10.0
"""What a chip beyond a quota or a reservation costs in that choice, times the dearest: it is mended afterwards."""

FEW = 25
"""Workloads that are planned anew at once, while the others stay as they are."""

FEW_S = 2.0
"""Seconds for that at most."""

FEW_GAP = 1e-3
"""The relative gap at which they are planned well enough."""

MENDED_GAP = 2e-2
"""The same where they are planned anew because too much is taken: it is improved on later."""

LOSS = 2e-3
"""How much more a period may cost in whole replicas than in the mixture, relatively, before some are planned anew."""


def whole_plan(
    instance: FleetInstance, covers: list[Cover], mixed: Mapping[RegionChip, float], spent: Floats, deadline: float
) -> FleetSolution:
    """The plan of one cover for each block, with some workloads planned anew where that does not fit or is dear.

    Reservations are those of the mixture, rounded, more where there is no plan otherwise, and no more than are used at
    most. `spent` is what the mixture spends in each period, and `deadline` a
    moment of `time.perf_counter`. UNKNOWN where a period found no plan in time.
    """
    reserved = {place: round(count) for place, count in mixed.items()}
    periods = [_Period(instance, reserved, period, spends) for period, spends in enumerate(spent.tolist())]
    for period, plan in enumerate(periods):
        left = FOR_CHOICE * (deadline - time.perf_counter()) / (len(periods) - period)
        if not (plan.choose(covers, left) and plan.mend(deadline)):
            return FleetSolution(Status.UNKNOWN)
    if not all(plan.mend(deadline) for plan in periods):  # where a later period reserved more
        return FleetSolution(Status.UNKNOWN)
    for plan in sorted(periods, key=lambda plan: plan.spends - plan.usd()):  # the dearest first
        if plan.is_dear() and time.perf_counter() < deadline - FEW_S:
            plan.improve()
    replicas = np.stack([plan.replicas for plan in periods], axis=1)
    used = {place: max(plan.reserved_used(place) for plan in periods) for place in reserved}
    return FleetSolution(
        Status.FEASIBLE, tuple(map(tuple, replicas.tolist())), {place: n for place, n in used.items() if n}
    )


class _Period:
    """The replicas of each option in one period, chosen and then mended; `spends` is what its mixture spends.

    `reserved` is the same for all periods: one that finds no plan otherwise adds to it.
    """

    def __init__(self, instance: FleetInstance, reserved: dict[RegionChip, int], period: int, spends: float) -> None:
        self.instance, self.whole = instance.in_period(period), instance
        self.reserved, self.period, self.spends = reserved, period, spends
        self.replicas = np.zeros(len(instance.options), dtype=np.int64)
        self.names = [need.name for need in instance.needs]
        self.random = np.random.default_rng(period)

    def usd(self) -> float:
        """What the replicas cost without those reserved [$]."""
        hours = self.instance.hours[0]
        return sum(
            one.usd_per_hour * hours * count for one, count in self._used(self.names) if one.purchase != "reserved"
        )

    def is_dear(self) -> bool:
        """Whether it costs notably more than the mixture."""
        return self.usd() > self.spends * (1 + LOSS)

    def choose(self, covers: list[Cover], time_limit_s: float) -> bool:
        """Choose the cheapest covers, which may take more than there is where they must; whether there are any."""
        own = list(dict.fromkeys(cover for cover in covers if cover.period == self.period))
        model = mathopt.Model()
        picked = [model.add_binary_variable() for _ in own]
        of_block: dict[int, list[mathopt.Variable]] = defaultdict(list)
        rows: dict[tuple[RegionChip, bool], list[mathopt.LinearTerm]] = defaultdict(list)
        cost = []
        for cover, variable in zip(own, picked, strict=True):
            of_block[cover.block].append(variable)
            usd, *chips = cover.takes(self.whole)
            cost.append(usd * variable)
            for is_reserved, counts in zip((False, True), chips, strict=True):
                for place, count in counts.items():
                    rows[place, is_reserved].append(count * variable)
        for variables in of_block.values():
            model.add_linear_constraint(mathopt.fast_sum(variables) == 1)
        dear = OVER * max(one.usd_per_chip_hour for one in self.instance.options) * self.instance.hours[0]
        for (place, is_reserved), terms in rows.items():
            room = self.reserved.get(place, 0) if is_reserved else self._rented(place)
            if room is not None:
                over = model.add_variable(lb=0)
                cost.append(dear * over)
                model.add_linear_constraint(mathopt.fast_sum(terms) - over <= room)
        model.minimize(mathopt.fast_sum(cost))
        found = solved(model, relative_gap=GAP, time_limit_s=time_limit_s)
        if not found.has_primal_feasible_solution():
            return False
        for cover, value in zip(own, found.variable_values(picked), strict=True):
            if value > 0.5:
                for option, count in cover.replicas:
                    self.replicas[option] += count
        return True

    def reserved_used(self, place: RegionChip) -> int:
        """Reserved chips of a place that replicas take."""
        return self._taken(self.names)[place, True]

    def mend(self, deadline: float) -> bool:
        """Plan workloads anew where more is taken than there is, and others beside; whether all fits in the end.

        Where all of them together find no plan, they may reserve more.
        """
        others, reserve = FEW, False
        while over := self._over():
            here = sorted({one.workload for one, _ in self._used(self.names) if one.place in over})
            some = {*self._few(here, others), *self._few(self.names, others)}
            left = deadline - time.perf_counter()
            if left > 0 and self._replan(some, min(FEW_S * others / FEW, left), MENDED_GAP, reserve=reserve):
                continue
            if left <= 0 or reserve:
                return False
            reserve = others >= len(self.names)
            others *= 2
        return True

    def improve(self) -> None:
        """Plan a few workloads anew."""
        self._replan(self._few(self.names, FEW), FEW_S, FEW_GAP)

    def _few(self, names: list[str], count: int) -> set[str]:
        """Some workloads by chance."""
        return set(self.random.choice(names, min(count, len(names)), replace=False).tolist())

    def _rented(self, place: RegionChip) -> int | None:
        """Chips of a place that are not reserved; None where there are any number."""
        return self.instance.quotas[place] - self.reserved.get(place, 0) if place in self.instance.quotas else None

    def _used(self, names: Collection[str]) -> list[tuple[ReplicaOption, int]]:
        """What some workloads run, with the number of replicas."""
        used = ((self.instance.options[o], int(self.replicas[o])) for o in np.flatnonzero(self.replicas).tolist())
        return [(one, count) for one, count in used if one.workload in names]

    def _taken(self, names: Collection[str]) -> dict[tuple[RegionChip, bool], int]:
        """Chips that some workloads take of each place, rented and reserved."""
        taken: dict[tuple[RegionChip, bool], int] = defaultdict(int)
        for one, count in self._used(names):
            taken[one.place, one.purchase == "reserved"] += one.chips * count
        return taken

    def _over(self) -> set[RegionChip]:
        """Where more is taken than there is."""
        over = set()
        for (place, is_reserved), chips in self._taken(self.names).items():
            room = self.reserved.get(place, 0) if is_reserved else self._rented(place)
            if room is not None and chips > room:
                over.add(place)
        return over

    def _replan(self, names: set[str], time_limit_s: float, gap: float, *, reserve: bool = False) -> bool:
        """Plan some workloads anew in what the others leave, by the compact model; whether a plan is found.

        They may `reserve` more, which costs so much in every period.
        """
        some = self.instance.only(lambda option: option.workload in names)
        fixed = self._taken([name for name in self.names if name not in names])
        left = {place: count - fixed[place, True] for place, count in self.reserved.items()}
        own = some.reserved_prices
        taken: dict[RegionChip, tuple[int, ...]] = {
            place: (fixed[place, False] + fixed[place, True] + (0 if place in own else left.get(place, 0)),)
            for place in self.instance.quotas
        }
        needs = tuple(need for need in self.instance.needs if need.name in names)
        model = FleetModel(
            replace(some, needs=needs, taken=taken),
            reserved={place: left.get(place, 0) for place in own},
            at_least=reserve,
        )
        kept = mathopt.fast_sum(own[place] * count for place, count in model.reserved.items())
        bill = model.usd() + (sum(self.whole.hours) - self.instance.hours[0]) * kept
        found = model.solve(bill, time_limit_s, relative_gap=gap)
        if not found.replicas:
            return False
        before, over = self.replicas.copy(), bool(self._over())
        usd = self.usd()
        mine = [o for o, option in enumerate(self.instance.options) if option.workload in names]
        self.replicas[mine] = np.array(found.replicas)[:, 0]
        if reserve:
            self.reserved.update({place: fixed[place, True] + count for place, count in found.reserved.items()})
        elif not over and self.usd() > usd:
            self.replicas = before
        return True
