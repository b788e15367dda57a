"""Large fleets by decomposition: each workload and period a small cover of its own, joined by prices of scarce chips.

Workloads and periods touch each other only through quotas and reservations. At given prices on those, the fleet falls
apart into covers that are solved exactly (`covers.py`), and whose costs bound the bill from below. The covers found are
mixed by a linear program within the quotas (`master.py`), whose duals lead to the next prices. A plan in whole replicas
is then chosen among the covers, a period at a time.
"""

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from servesat.core.arrays import Bools, Floats, Ints
from servesat.core.result import Status
from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.check import bill_of
from servesat.fleet.decomposition.coupled_covers import JointCover, is_joint
from servesat.fleet.decomposition.covers import Covers
from servesat.fleet.decomposition.master import Cover, Master
from servesat.fleet.decomposition.rounding import whole_plan
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance

LARGE = 20_000
"""Replica variables from which a fleet is decomposed; the compact model proves smaller ones faster."""

LARGE_WITH_SHARES = 100_000
"""The same where a share of some demand survives the loss of a region: such covers are integer programs, and slower."""

LARGE_OF_MIXES = 9_000
"""The same where requests of several sizes share replicas, of variables with their time for each."""

ENOUGH = 1e-3
"""Stop when the mixture costs so little more than its bound, relatively: the integers lose about as much."""

GRIDS = (4000, 32_000)
"""Cells of a demand from which covers are made: the second where the first does not tell what is cheapest."""

STALLED = 1e-3
"""Stop when a few rounds have moved bound and mixture together by no more than this, relatively."""

ROUNDS = 8
"""How many rounds those are."""

STEP, LONGEST = 0.5, 1.0
"""How far prices go from those of the best bound to the duals, which swing: at first, and at most."""

LONGER, SHORTER = 1.5, 0.5
"""What a step is multiplied by after a better bound, and after a worse one."""

SHORTEST = 0.03
"""A step at least."""

NEAR, OF_GAP = (0.1, 0.4), 2.0
"""How far the price of each replica is put off for covers that are nearly the cheapest: so many gaps, within a range.

At one price all blocks want the same chips; a mixture within the quotas needs what is second best for many of them. The
worse the prices are, the farther off is what it needs. As a standard deviation, relatively.
"""

NOT_FREE = 0.05
"""What a replica costs then at least, of its own price: where reserved chips are idle any number of them costs nothing.
"""

NEAR_AT_FIRST, NEAR_LATER = 7, 1
"""How many such covers of each block are made in the first round, and in each later one."""

FOR_NEAR = 0.4
"""Share of the time left for covers after which a round makes no more of those."""

SAMPLE = 100
"""Workloads of a larger fleet from which its first prices come."""

ENOUGH_OF_SAMPLE = 2e-3
"""Stop the sample when its mixture costs so little more than its bound."""

FOR_SAMPLE = 0.2
"""Share of the time that goes into the sample at most."""

FOR_COVERS = 0.75
"""Share of the time that goes into finding covers; the rest is for whole replicas."""


def decomposes(instance: FleetInstance) -> bool:
    """Whether a fleet is large, and its workloads are joined by quotas and reservations alone."""
    simple = not any(need.one_chip for need in instance.needs)
    alone = instance.budget_usd is None and instance.earlier is None and not instance.pods
    asked = any(any(need.demand) for need in instance.needs)
    return _is_large(instance) and simple and alone and asked and not instance.unservable()


def _is_large(instance: FleetInstance) -> bool:
    """Whether the compact model proves less; with mixes it proves periods that nothing joins, one by one."""
    periods, needs = len(instance.hours), instance.needs
    if any(need.sizes for need in needs):
        each = sum(len(instance.of(need.name)) * (1 + len(need.sizes)) for need in needs)
        return each * (1 if instance.periods_stand_alone else periods) >= LARGE_OF_MIXES
    shares = any(need.max_share_per_region is not None for need in needs)
    return len(instance.options) * periods >= (LARGE_WITH_SHARES if shares else LARGE)


def plan_by_decomposition(
    instance: FleetInstance, deadline: float, on_progress: Callable[[str], None] = lambda _: None
) -> FleetSolution:
    """A plan with a proved bound on its bill, as near to it as the time allows; `on_progress` is called with each step.

    INFEASIBLE where the bound exceeds all that there is to be rented, UNKNOWN where no plan was found.
    """
    start = time.perf_counter()
    until = start + FOR_COVERS * (deadline - start)
    search = _Search(instance)
    on_progress("prices from a sample of the workloads")
    first, gap = _first_prices(instance, search.places, start + FOR_SAMPLE * (deadline - start))
    search.run(first, until, gap, on_progress=on_progress)
    master = search.master
    if search.has_no_room():
        return FleetSolution(Status.INFEASIBLE)
    if not search.covers_all():
        return FleetSolution(Status.UNKNOWN)
    on_progress("whole replicas")
    plan = whole_plan(instance, master.promising(), master.reserved, master.spent, deadline)
    if plan.status is Status.UNKNOWN:
        return plan
    return replace(plan, objective=bill_of(instance, plan), bound=search.least)


def _first_prices(instance: FleetInstance, places: list[tuple[str, str]], until: float) -> tuple["_Prices", float]:
    """Prices to start from, and their gap: those that a sample of the workloads ends with, in its share of the quotas.

    What is scarce for all of them is scarce for some, and found in a fraction of the time.
    """
    needs = instance.needs[:: max(1, len(instance.needs) // SAMPLE)]
    if 2 * len(needs) > len(instance.needs):
        return _Prices.at_first(instance, places), 1.0
    names, share = {need.name for need in needs}, len(needs) / len(instance.needs)
    few = replace(
        instance.only(lambda option: option.workload in names),
        needs=needs,
        quotas={place: round(quota * share) for place, quota in instance.quotas.items()},
    )
    search = _Search(few, places)
    gap = search.run(_Prices.at_first(few, places), until, enough=ENOUGH_OF_SAMPLE)
    return search.best, gap


class _Search:
    """Covers found at one price after another, mixed, until the mixture costs little more than its bound.

    `best` are the prices with the largest bound, `least`.
    """

    def __init__(self, instance: FleetInstance, places: list[tuple[str, str]] | None = None) -> None:
        self.instance = instance
        self.places = places or sorted({option.place for option in instance.options})
        self.blocks, self.master = _blocks(instance, self.places), Master(instance, self.places)
        self.at_first = _Prices.at_first(instance, self.places)
        self.best, self.least = self.at_first, -np.inf
        self.most = _most_usd(instance, self.blocks)
        self.random = np.random.default_rng(0)

    def run(
        self,
        first: "_Prices",
        until: float,
        gap: float = 1.0,
        *,
        enough: float = ENOUGH,
        on_progress: Callable[[str], None] = lambda _: None,
    ) -> float:
        """Start from prices of some gap, and go on to those of the mixtures, until a moment of `time.perf_counter`.

        Gives the last gap.
        """
        prices, gaps, step, took, settled = first, [gap], STEP, 0.0, 0
        while len(gaps) == 1 or time.perf_counter() + took < until:
            before, start = self.least, time.perf_counter()
            covers = self._covers_at(prices)
            if self.has_no_room():
                break
            step = min(LONGEST, LONGER * step) if self.least > before else max(SHORTER * step, SHORTEST)
            for _ in range(NEAR_AT_FIRST if len(gaps) == 1 else NEAR_LATER):
                if time.perf_counter() < start + FOR_NEAR * (until - start):
                    covers += self._covers_near_best(gaps[-1])
            mixed = self.master.with_covers(covers, until - time.perf_counter())
            if mixed is None:
                break
            usd, scarce, kept = mixed
            gaps.append(1 - self.least / usd)
            settled = 0 if self.master.short else settled + 1
            all_is_served = "" if settled else ", with some demand not served"
            on_progress(f"round {len(gaps) - 1} of prices, a gap of {gaps[-1]:.1%}{all_is_served}")
            stalled = settled > ROUNDS and gaps[-ROUNDS] - gaps[-1] < STALLED
            if settled and (gaps[-1] <= enough or stalled):
                break
            prices = self.best.towards(scarce, self._no_gain(kept), step)
            took = time.perf_counter() - start
        return gaps[-1]

    def has_no_room(self) -> bool:
        """Whether the bound tells that there is no plan: none costs more than all that it may need."""
        return self.least > self.most * (1 + LIMIT_RTOL)

    def covers_all(self) -> bool:
        """Whether there is a cover of every workload in every period."""
        return len(self.master.whole) == len(self.blocks.period)

    def _no_gain(self, kept: Floats) -> Floats:
        """The prices of reserved chips, in all no more than they cost where any number may be: duals are not exact."""
        any_number = [place not in self.instance.quotas for place in self.places]
        paid = np.where(any_number, self.at_first.kept.sum(axis=1), np.inf)
        share: Floats = np.minimum(1.0, paid / np.maximum(kept.sum(axis=1), LIMIT_RTOL))
        return kept * share[:, None]

    def _covers_at(self, prices: "_Prices") -> list[Cover]:
        covers, usd = _cheapest(self.blocks, self.blocks.at(prices))
        lower = usd - _given_back(self.instance, self.places, prices)
        if lower > self.least:
            self.best, self.least = prices, lower
        return covers

    def _covers_near_best(self, gap: float) -> list[Cover]:
        price = np.fmax(self.blocks.at(self.best), NOT_FREE * self.blocks.at(self.at_first))
        far = float(np.clip(OF_GAP * gap, *NEAR))
        covers, _ = _cheapest(self.blocks, price * self.random.lognormal(sigma=far, size=price.shape))
        return covers


@dataclass(frozen=True)
class _Prices:
    """What a chip of each place is made to cost in each period, beyond its price: where it is scarce, and reserved."""

    scarce: Floats  # [places, periods]
    kept: Floats

    @classmethod
    def at_first(cls, instance: FleetInstance, places: list[tuple[str, str]]) -> "_Prices":
        """Nothing is scarce, and reserved chips are paid by the hour."""
        reserved = np.array([instance.reserved_prices.get(place, 0.0) for place in places])
        return cls(np.zeros((len(places), len(instance.hours))), reserved[:, None] * np.array(instance.hours)[None])

    def towards(self, scarce: Floats, kept: Floats, step: float) -> "_Prices":
        """These prices, moved a step towards others."""
        return _Prices(self.scarce + step * (scarce - self.scarce), self.kept + step * (kept - self.kept))


@dataclass(frozen=True)
class _Blocks:
    """Every workload in every period with a demand; arrays of shape [blocks, options of a workload], padded."""

    period: Ints  # [blocks]
    option: Ints  # position in the instance, -1 where there is none
    item: Ints  # which configuration, on spot or off
    usd: Floats  # of a replica for the period, 0 where reserved
    chips: Floats
    place: Ints
    reserved: Bools
    simple: Ints  # blocks that a single row covers
    covers: Covers  # of those
    joint: dict[int, JointCover]  # of the others

    def at(self, prices: _Prices) -> Floats:
        """What a replica of each option costs at some prices, infinite where there is none."""
        period = self.period[:, None]
        extra = np.where(self.reserved, prices.kept[self.place, period], prices.scarce[self.place, period])
        return np.where(self.option >= 0, self.usd + self.chips * extra, np.inf)

    def of_item(self, price: Floats) -> Floats:
        """What a replica of each item costs at least in simple blocks, of the shape of the covers' capacity."""
        least = np.full(self.covers.capacity.shape, np.inf)
        rows = np.broadcast_to(np.arange(len(price))[:, None], price.shape)
        np.minimum.at(least, (rows, self.item[self.simple]), price)
        return least


def _blocks(instance: FleetInstance, places: list[tuple[str, str]]) -> _Blocks:
    number = {place: position for position, place in enumerate(places)}
    options, of_need = instance.options, [instance.of(need.name) for need in instance.needs]
    width = max(map(len, of_need))
    pairs = [(n, t) for n, need in enumerate(instance.needs) for t, demand in enumerate(need.demand) if demand]
    need, period = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
    option = np.array([own + [-1] * (width - len(own)) for own in of_need])
    item, items = _items(instance, option)
    real = option >= 0

    def of_option(values: list[float]) -> Floats:
        return np.where(real, np.array(values)[option], 0.0)

    demand = np.array([[float(units) for units in one.demand] for one in instance.needs])[need, period]
    capacity = np.zeros((len(of_need), items))
    rows = np.broadcast_to(np.arange(len(of_need))[:, None], option.shape)
    np.maximum.at(capacity, (rows, item), of_option([float(one.capacity) for one in options]))
    is_reserved = real & np.array([one.purchase == "reserved" for one in options])[option]
    usd = np.where(is_reserved, 0.0, of_option([one.usd_per_hour for one in options]))
    is_simple = np.array([not is_joint(one) for one in instance.needs])[need]
    simple = need[is_simple]
    return _Blocks(
        period=period,
        option=option[need],
        item=item[need],
        usd=usd[need] * np.array(instance.hours)[period][:, None],
        chips=of_option([float(one.chips) for one in options])[need],
        place=np.where(real, np.array([number[one.place] for one in options])[option], 0)[need],
        reserved=is_reserved[need],
        simple=np.flatnonzero(is_simple),
        covers=Covers(
            capacity=capacity[simple] / demand[is_simple, None],
            spot=np.arange(items) % 2 == 1,
            kept=np.array([1 - one.max_spot_share for one in instance.needs])[simple],
            spare=np.array([one.n_plus for one in instance.needs])[simple],
        ),
        joint={
            block: JointCover(instance.needs[need[block]].in_period(int(period[block])), of_block)
            for block in np.flatnonzero(~is_simple).tolist()
            for of_block in [tuple(options[o] for o in of_need[need[block]])]
        },
    )


def _most_usd(instance: FleetInstance, blocks: _Blocks) -> float:
    """What some plan does not exceed, if there is one: every quota rented whole, the rest by the dearest replicas.

    What a plan has where there is no quota could as well be replicas of one option that serve all of a block; of a
    joint one, no more than some of each.
    """
    hours, dearest = sum(instance.hours), defaultdict[tuple[str, str], float](float)
    for option in instance.options:
        dearest[option.place] = max(dearest[option.place], option.usd_per_chip_hour)
    quotas = sum(count * dearest[place] * hours for place, count in instance.quotas.items())
    free = np.array([option.place not in instance.quotas for option in instance.options])
    simple, covers = blocks.simple, blocks.covers
    capacity = np.take_along_axis(covers.capacity, blocks.item[simple], axis=1)
    is_free = free[blocks.option[simple]] & (blocks.option[simple] >= 0)
    served = 1 + covers.spare * covers.capacity.max(axis=1, initial=0.0)  # any replica may be one to spare
    count = np.ceil(served[:, None] / np.where(is_free, capacity, 1.0)) + 1
    usd = np.array([option.usd_per_hour for option in instance.options])
    of_simple = np.where(is_free, count * usd[blocks.option[simple]] * hours, 0.0).max(axis=1).sum()
    of_joint = sum(
        2 * (ceil(own.need.enough(option, largest)) + 1) * option.usd_per_hour * hours
        for own in blocks.joint.values()
        for largest in [max(option.capacity for option in own.options)]
        for option in own.options
        if option.place not in instance.quotas
    )
    return float(quotas + of_simple + of_joint)


def _items(instance: FleetInstance, option: Ints) -> tuple[Ints, int]:
    """What each option is to a cover, and how many such items there are: its capacity, even off spot and odd on it."""
    item = np.zeros(option.shape, dtype=np.int64)
    most = 0
    for row, own in enumerate(option.tolist()):
        numbers: dict[tuple[str, int], int] = {}
        for column, position in enumerate(own):
            if position >= 0:
                one = instance.options[position]
                number = numbers.setdefault(("spot" if one.purchase == "spot" else "", one.capacity), len(numbers))
                item[row, column] = 2 * number + (one.purchase == "spot")
        most = max(most, len(numbers))
    return item, 2 * most


def _cheapest(blocks: _Blocks, price: Floats) -> tuple[list[Cover], float]:
    """The cheapest cover of each block at prices of its options, and what all of them cost at least."""
    of_simple = price[blocks.simple]
    of_item = blocks.of_item(of_simple)
    least, _, replicas = blocks.covers.cheapest(of_item, GRIDS)
    is_cheapest = of_simple == np.take_along_axis(of_item, blocks.item[blocks.simple], axis=1)
    covers, total = [], float(least.sum())
    for row, block in enumerate(blocks.simple.tolist()):
        picked = []
        for item in np.flatnonzero(replicas[row]).tolist():
            column = int(np.flatnonzero(is_cheapest[row] & (blocks.item[block] == item))[0])
            picked.append((int(blocks.option[block, column]), int(replicas[row, item])))
        covers.append(Cover(block, int(blocks.period[block]), tuple(picked)))
    for block, own in blocks.joint.items():
        usd, counts = own.cheapest(price[block, : len(own.options)])
        total += usd
        picked = [(int(blocks.option[block, column]), count) for column, count in enumerate(counts) if count]
        covers.append(Cover(block, int(blocks.period[block]), tuple(picked)))
    return [cover for cover in covers if cover.replicas], total


def _given_back(instance: FleetInstance, places: list[tuple[str, str]], prices: _Prices) -> float:
    """What the prices take in that is no cost: the quotas at what is scarce, and reservations that they make a gain.

    Infinite where a reservation without a quota would be a gain.
    """
    total = 0.0
    for position, place in enumerate(places):
        quota = instance.quotas.get(place)
        scarce, kept = float(prices.scarce[position].sum()), float(prices.kept[position].sum())
        total += scarce * (quota or 0)
        if place in instance.reserved_prices:
            gain = kept - scarce - instance.reserved_prices[place] * sum(instance.hours)
            if gain > 1e-9 * kept:
                total += np.inf if quota is None else gain * quota
    return total
