"""Scenarios that differ in prices and latencies alone, or do so in groups, evaluated together.

A plan costs no more where limits are looser and prices lower. So what layouts cost at the ends of a block of scenarios
leaves few that could be best in any of them. These are evaluated once for the whole block, a row for each layout in
each scenario, and of each scenario the first column is taken in the order of `formulation.solver`: by cost, then as
ties are broken. The chosen plan is checked as that of `solve` is.
"""

import json
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from servesat.candidates.batch_breakpoints import breakpoints, tie_breakpoints
from servesat.candidates.columns import Columns, columns_at
from servesat.candidates.evaluation import cheapest, evaluate
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirements import violations
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.candidates.tabulation import least_cost_of_each
from servesat.candidates.undominated_offers import HeldSlices, held_slices
from servesat.core.arrays import Floats, Ints
from servesat.core.errors import SpecError
from servesat.core.plan import Mode
from servesat.core.result import Result, Status
from servesat.core.tolerances import COST_TIE_RTOL
from servesat.deployment.binding import binding_limits
from servesat.deployment.formulation.instance import STEP_TIE, round_columns
from servesat.deployment.solve import checked
from servesat.questions.scenarios import Factor, Scenarios, as_written
from servesat.spec.overrides import split_key
from servesat.spec.slo import LIMITS
from servesat.spec.spec import Spec

LATENCIES = {f"slo.{name}" for name in LIMITS}
"""Keys of upper limits on times."""

ROWS = 20_000
"""Layouts in scenarios that are evaluated together."""

FEWEST = 4
"""Scenarios that are not split any further, and of which it is worth evaluating together what other keys leave."""

BAND = 1 + 2 * COST_TIE_RTOL
"""Times the least cost: what may tie with it, and a little more."""


def can_share(base: Spec, scenarios: Scenarios) -> bool:
    """Whether some scenarios differ in prices and latencies alone, of a spec whose answer is a cheapest column."""
    shared, others = _divided(scenarios)
    roots = {split_key(factor.key)[0] for factor in shared}
    if not shared or scenarios.one_at_a_time or any(factor.key in roots for factor in others):
        return False
    return math.prod(len(factor.values) for factor in shared) >= FEWEST if others else _is_plain(base)


def _divided(scenarios: Scenarios) -> tuple[list[Factor], list[Factor]]:
    """The factors that are prices and latencies, all of them numbers, and the others."""
    shared = [factor for factor in scenarios.factors if _is_price_or_latency(factor)]
    return shared, [factor for factor in scenarios.factors if factor not in shared]


def _is_price_or_latency(factor: Factor) -> bool:
    is_one = factor.key in LATENCIES or split_key(factor.key)[0] == "price"
    return is_one and all(type(value) in {int, float} for value in factor.values)


def _is_plain(spec: Spec) -> bool:
    """Whether the answer of a spec is a cheapest column."""
    return spec.percentile is None and not spec.expressions and spec.modes != (Mode.DISAGGREGATED,)


def solve_together(base: Spec, scenarios: Scenarios, numbers: Sequence[int]) -> dict[int, Result]:
    """The answers of scenarios for which `can_share`, by number, but for those without a plan and with two pools.

    Those are not known to be optimal from here; nor is any where the schema refuses a value. Where other keys vary as
    well, scenarios that are alike in these are evaluated together, unless they are fewer than `FEWEST`.
    """
    found: dict[int, Result] = {}
    _, others = _divided(scenarios)
    for alike in _alike(scenarios, numbers, [factor.key for factor in others]):
        if others and len(alike) < FEWEST:
            continue
        try:
            values = scenarios[alike[0]]
            spec = base.changed({factor.key: as_written(factor.key, values[factor.key]) for factor in others})
            if _is_plain(spec):
                found |= _solved(_Block(spec, scenarios, alike))
        except SpecError:
            continue
    return found


def _alike(scenarios: Scenarios, numbers: Sequence[int], keys: list[str]) -> Iterable[list[int]]:
    """Scenarios grouped by their values of some keys."""
    groups: dict[str, list[int]] = {}
    for number in numbers:
        values = scenarios[number]
        groups.setdefault(json.dumps([values[key] for key in keys], sort_keys=True), []).append(number)
    return groups.values()


def _solved(block: "_Block") -> dict[int, Result]:
    """The answers of the scenarios of a block that have one here."""
    of_pools = block.least_with_pools()
    found = {}
    for columns, scenario in _chosen(block, block.layouts, np.arange(len(block.numbers))):
        for row, at in enumerate(scenario.tolist()):
            if columns.usd_per_million[row] * BAND < of_pools:
                found[block.numbers[at]] = block.answer(columns, row, at)
    return found


class _Block:
    """Some scenarios of a spec that differ in prices and latencies alone."""

    def __init__(self, base: Spec, scenarios: Scenarios, numbers: Sequence[int]) -> None:
        """Evaluate what they share. Raises SpecError where the schema refuses a value."""
        self.base, self.numbers = base, numbers
        keys = [factor.key for factor in _divided(scenarios)[0]]
        self.values = [{key: scenarios[number][key] for key in keys} for number in numbers]
        self.one_pool = base.changed(self.values[0]).in_one_pool()  # the first scenario, without pairs of pools
        self.layouts = enumerate_layouts(self.one_pool, undominated=True)
        self.limits = self._limits([key for key in keys if key in LATENCIES])
        self.usd_of_places = self._usd_of_places([key for key in keys if key not in LATENCIES])
        self._answers: dict[Any, Result] = {}
        self._specs: dict[Any, Spec] = {}

    def _limits(self, keys: list[str]) -> dict[str, Floats]:
        """The latencies that vary, by their names in the spec; shape [scenarios] each."""
        for key in keys:
            for value in dict.fromkeys(each[key] for each in self.values):
                self.base.changed({key: value})
        return {split_key(key)[1]: np.array([float(each[key]) for each in self.values]) for key in keys}

    def _usd_of_places(self, keys: list[str]) -> Floats | None:
        """What a unit costs at each place in each scenario [$/h]; shape [scenarios, places].

        None where not the same slices are worth trying in each.
        """
        places = self.layouts.places
        usd = np.tile(np.array([place.unit.usd_per_hour for place in places]), (len(self.numbers), 1))
        for key in keys:
            chip = split_key(key)[1]
            columns = [at for at, place in enumerate(places) if place.offer.chip.id == chip]
            here = {(places[at].topology, places[at].offer.place): places[at].unit[:3] for at in columns}
            held = {value: self._held(key, value, chip) for value in {each[key] for each in self.values}}
            if any({at: one.unit[:3] for at, one in of_value.items()} != here for of_value in held.values()):
                return None
            at_value = {
                value: [of_value[places[at].topology, places[at].offer.place].unit.usd_per_hour for at in columns]
                for value, of_value in held.items()
            }
            if columns:
                usd[:, columns] = [at_value[each[key]] for each in self.values]
        return usd

    def _held(self, key: str, value: Any, chip: str) -> dict[tuple[str, Any], HeldSlices]:
        """The slices of a chip that are worth trying at one value of its price."""
        spec = self.one_pool.changed({key: value})
        return {(one.topology, one.offer.place): one for one in held_slices(spec) if one.offer.chip.id == chip}

    def least_with_pools(self) -> float:
        """Less than a plan with two pools costs in any scenario; infinite where the search has none."""
        if Mode.DISAGGREGATED not in self.base.modes:
            return np.inf
        prices = {key: min(each[key] for each in self.values) for key in self.values[0] if key not in LATENCIES}
        loosest = {f"slo.{name}": float(limit.max()) for name, limit in self.limits.items()}
        spec = self.base.changed({**prices, **loosest})
        if not any(offer.network_bytes_per_s for offer in spec.offers):
            return np.inf
        return cheapest(evaluate(spec.changed({"search.modes": [Mode.DISAGGREGATED]})))

    def priced(self, layouts: Layouts, usd_of_places: Floats) -> Layouts:
        """Layouts at what units cost at their places."""
        return replace(layouts, units=replace(layouts.units, usd_per_hour=usd_of_places[layouts.place]))

    def limited(self, limits: Mapping[str, Any]) -> Spec:
        """The spec under other latencies, which may be those of rows."""
        return self.one_pool.model_copy(update={"slo": self.one_pool.slo.model_copy(update=dict(limits))})

    def answer(self, columns: Columns, row: int, at: int) -> Result:
        """The answer of a scenario, given its best column; one for all scenarios that are alike to that plan."""
        start, values, layouts = time.perf_counter(), self.values[at], columns.layouts
        chip = layouts.places[layouts.place[row]].offer.chip.id
        prices = {key: value for key, value in values.items() if key not in LATENCIES and split_key(key)[1] == chip}
        latencies = {name: float(limit[at]) for name, limit in self.limits.items()}
        plan = columns.assignment(row)
        key = (plan, *prices.values(), *latencies.values())
        if key not in self._answers:
            spec = self._specs.get(tuple(prices.items()))
            if spec is None:
                spec = self._specs[tuple(prices.items())] = self.one_pool.changed(prices)
            spec = spec.model_copy(update={"slo": spec.slo.model_copy(update=latencies)})
            found, margins = checked(spec, columns, row)
            binding = binding_limits(spec, columns, row, margins)
            self._answers[key] = Result(
                status=Status.OPTIMAL, plan=found, binding=binding, margins=margins, solve_s=time.perf_counter() - start
            )
        return self._answers[key]


def _chosen(block: _Block, layouts: Layouts, scenarios: Ints) -> Iterator[tuple[Columns, Ints]]:
    """The best column of each of some scenarios with a plan, and its scenario, in several parts."""
    usd = block.usd_of_places
    if usd is None or not len(layouts):
        return
    limits = {name: limit[scenarios] for name, limit in block.limits.items()}
    loosest = block.limited({name: float(limit.max()) for name, limit in limits.items()})
    tightest = block.limited({name: float(limit.min()) for name, limit in limits.items()})
    least = least_cost_of_each(loosest, block.priced(layouts, usd[scenarios].min(axis=0)), 0)
    most = least_cost_of_each(tightest, block.priced(layouts, usd[scenarios].max(axis=0)), 0)
    layouts = layouts.take(np.flatnonzero(np.isfinite(least) & (least <= most.min(initial=np.inf) * BAND)))
    if len(layouts) * len(scenarios) > ROWS and len(scenarios) > FEWEST:
        half = len(scenarios) // 2
        yield from _chosen(block, layouts, scenarios[:half])
        yield from _chosen(block, layouts, scenarios[half:])
    elif len(layouts):
        yield _best_of_each(block, layouts, scenarios)


def _best_of_each(block: _Block, layouts: Layouts, scenarios: Ints) -> tuple[Columns, Ints]:
    """The best column of each scenario that has a plan, and its scenario."""
    scenario, row = np.repeat(scenarios, len(layouts)), np.tile(np.arange(len(layouts)), len(scenarios))
    rows, usd = layouts.take(row), block.usd_of_places
    if usd is None:
        raise TypeError("scenarios that do not share their slices")
    rows = replace(rows, number=scenario, units=replace(rows.units, usd_per_hour=usd[scenario, rows.place]))
    columns = _satisfying(block, rows, breakpoints(_limited(block, rows), rows))
    least = np.full(len(block.numbers), np.inf)
    np.minimum.at(least, columns.layouts.number, columns.usd_per_million)
    near = columns.take(np.flatnonzero(columns.usd_per_million <= least[columns.layouts.number] * BAND))
    ties = tie_breakpoints(_limited(block, near.layouts), near.layouts, least[near.layouts.number], 0)
    near = near.join(_satisfying(block, near.layouts, ties))
    return _first_of_each(near)


def _limited(block: _Block, rows: Layouts) -> Spec:
    """The spec with the latencies of the scenario of each row."""
    return block.limited({name: limit[rows.number] for name, limit in block.limits.items()})


def _satisfying(block: _Block, rows: Layouts, batches: Ints) -> Columns:
    """The columns of rows at batches of shape [rows, k] that satisfy every requirement of their scenario."""
    row, position = np.nonzero((batches >= 1) & (batches <= block.one_pool.search.max_batch))
    columns = columns_at(block.one_pool, rows.take(row), batches[row, position])
    violated = violations(_limited(block, columns.layouts), columns)
    return columns.take(np.flatnonzero(violated == 0))


def _first_of_each(columns: Columns) -> tuple[Columns, Ints]:
    """Of the columns of each scenario that tie with the cheapest the first, in the solver's order."""
    instance, scenario = round_columns(columns), columns.layouts.number
    size = int(scenario.max(initial=-1)) + 1
    least = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(least, scenario, instance.cost)
    tied = np.flatnonzero(instance.cost <= least[scenario] + instance.tie)
    scenario, step = scenario[tied], instance.step[tied]
    fastest = np.full(size, np.iinfo(np.int64).max)
    np.minimum.at(fastest, scenario, step)
    behind = step - fastest[scenario]
    behind[behind <= STEP_TIE] = 0
    order = np.lexsort((instance.order[tied], behind, scenario))
    first = order[np.flatnonzero(np.diff(scenario[order], prepend=-1))]
    return columns.take(tied[first]), scenario[first]
