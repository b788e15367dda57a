"""Large fleets by decomposition: each workload and period a small cover of its own, joined by prices of scarce chips.

Workloads and periods touch each other only through quotas and reservations. At given prices on those, the fleet falls
apart into covers that are solved exactly (`covers.py`), and whose costs bound the bill from below. The covers found are
mixed by a linear program within the quotas (`master.py`), whose duals lead to the next prices. A plan in whole replicas
is then chosen among the covers, a period at a time.
"""

import time
from dataclasses import dataclass, replace

import numpy as np

from servesat.arrays import Bools, Floats, Ints
from servesat.fleet.check import bill_of
from servesat.fleet.covers import Covers
from servesat.fleet.formulation import FleetSolution
from servesat.fleet.formulation.master import Cover, Master
from servesat.fleet.formulation.rounding import whole_plan
from servesat.fleet.instance import FleetInstance
from servesat.plan import Status

LARGE = 20_000
"""Replica variables from which a fleet is decomposed; the compact model proves smaller ones faster."""

ENOUGH = 1e-3
"""Stop when the mixture costs so little more than its bound, relatively: the integers lose about as much."""

GRID = 4000
"""Cells of a demand from which covers are made."""

BOUND_GRID = 32_000
"""Cells of a demand for the bound that is reported, at the best prices."""

STALLED = 1e-3
"""Stop when a few rounds have moved bound and mixture together by no more than this, relatively."""

ROUNDS = 10
"""How many rounds those are."""

INERTIA = 0.5
"""How far prices stay with those of the best bound, rather than follow the duals, which swing."""

FOR_COVERS = 0.8
"""Share of the time that goes into finding covers; the rest is for whole replicas."""


def decomposes(instance: FleetInstance) -> bool:
    """Whether a fleet is large, and its workloads are joined by quotas and reservations alone."""
    simple = all(not need.n_plus and need.max_share_per_region is None and not need.one_chip for need in instance.needs)
    large = len(instance.options) * len(instance.hours) >= LARGE
    alone = instance.budget_usd is None and instance.earlier is None and not instance.pods
    return large and simple and alone and all(instance.of(need.name) for need in instance.needs)


def plan_by_decomposition(instance: FleetInstance, deadline: float) -> FleetSolution:
    """A plan with a proved bound on its bill, as near to it as the time allows; UNKNOWN where no plan was found."""
    places = sorted({option.place for option in instance.options})
    blocks, master = _blocks(instance, places), Master(instance, places)
    prices = _Prices.at_first(instance, places)
    best, least, gaps = prices, -np.inf, [1.0]
    start = time.perf_counter()
    until = start + FOR_COVERS * (deadline - start)
    found: list[Cover] = []
    while time.perf_counter() < until:
        covers, lower = _cheapest(instance, blocks, places, prices)
        if lower > least:
            best, least = prices, lower
        found += covers
        usd, scarce, kept = master.with_covers(covers)
        gaps.append(1 - least / usd)
        stalled = len(gaps) > ROUNDS and gaps[-ROUNDS] - gaps[-1] < STALLED and not master.short
        if gaps[-1] <= ENOUGH or stalled:
            break
        prices = best.towards(scarce, kept)
    bound = _bound(instance, blocks, places, best)
    plan = replace(whole_plan(instance, found, master.reserved, master.spent, deadline), bound=bound)
    return plan if plan.status is Status.UNKNOWN else replace(plan, objective=bill_of(instance, plan))


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

    def towards(self, scarce: Floats, kept: Floats) -> "_Prices":
        """These prices, moved towards others."""
        return _Prices(
            INERTIA * self.scarce + (1 - INERTIA) * scarce,
            INERTIA * self.kept + (1 - INERTIA) * kept,
        )


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
    covers: Covers

    def at(self, prices: _Prices) -> Floats:
        """What a replica of each option costs at some prices, infinite where there is none."""
        period = self.period[:, None]
        extra = np.where(self.reserved, prices.kept[self.place, period], prices.scarce[self.place, period])
        return np.where(self.option >= 0, self.usd + self.chips * extra, np.inf)

    def of_item(self, price: Floats) -> Floats:
        """What a replica of each item costs at least, of the shape of the covers' capacity."""
        least = np.full(self.covers.capacity.shape, np.inf)
        rows = np.broadcast_to(np.arange(len(price))[:, None], price.shape)
        np.minimum.at(least, (rows, self.item), price)
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
    return _Blocks(
        period=period,
        option=option[need],
        item=item[need],
        usd=usd[need] * np.array(instance.hours)[period][:, None],
        chips=of_option([float(one.chips) for one in options])[need],
        place=np.where(real, np.array([number[one.place] for one in options])[option], 0)[need],
        reserved=is_reserved[need],
        covers=Covers(
            capacity=np.minimum(capacity[need] / demand[:, None], 1.0),
            spot=np.arange(items) % 2 == 1,
            kept=np.array([1 - one.max_spot_share for one in instance.needs])[need],
        ),
    )


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


def _bound(instance: FleetInstance, blocks: _Blocks, places: list[tuple[str, str]], prices: _Prices) -> float:
    """What no plan's bill is below: the covers at some prices, less what the prices take in."""
    of_item = blocks.of_item(blocks.at(prices))
    return float(blocks.covers.bound(of_item, BOUND_GRID).sum()) - _given_back(instance, places, prices)


def _cheapest(
    instance: FleetInstance, blocks: _Blocks, places: list[tuple[str, str]], prices: _Prices
) -> tuple[list[Cover], float]:
    """The cheapest cover of each block at some prices, and the bound that they give for plans made of such covers."""
    price = blocks.at(prices)
    of_item = blocks.of_item(price)
    usd, replicas = blocks.covers.cheapest(of_item, GRID)
    is_cheapest = price == np.take_along_axis(of_item, blocks.item, axis=1)
    covers = []
    for block in range(len(price)):
        picked = []
        for item in np.flatnonzero(replicas[block]).tolist():
            column = int(np.flatnonzero(is_cheapest[block] & (blocks.item[block] == item))[0])
            picked.append((int(blocks.option[block, column]), int(replicas[block, item])))
        if picked:
            covers.append(Cover(block, int(blocks.period[block]), tuple(picked)))
    return covers, float(usd.sum()) - _given_back(instance, places, prices)


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
