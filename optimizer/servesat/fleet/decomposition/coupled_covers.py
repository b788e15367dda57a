"""Coupled covers: the pricing problem of a block whose covers need more than one covering row.

If requests of several sizes share the time of replicas, or a share of the demand must survive the loss of each region,
the pricing problem is a small integer program. Its dual bound is a lower bound on the cost of every cover.
"""

from collections.abc import Hashable
from dataclasses import dataclass, replace
from math import inf

import numpy as np

from servesat.core.arrays import Floats
from servesat.core.dominance import undominated
from servesat.core.result import Status
from servesat.fleet.formulation.compact import FleetModel
from servesat.fleet.formulation.limits import FleetSolution
from servesat.fleet.instance import FleetInstance, ReplicaOption, WorkloadDemand

RELATIVE_GAP = 1e-3
"""The relative gap to which a cover is optimised; the dual bound accounts for it."""

TIME_LIMIT_S = 2.0
"""Maximum seconds for one cover; a cover that is cut short has a weaker dual bound."""

INITIAL_PRICE_FACTOR, PRICE_GROWTH = 2.0, 2.0
"""The limit on the price of a replica, as a multiple of the cost of a fractional cover, and how it grows.

It grows before every solve for which no cover is known, the first one included.
"""


def is_coupled(workload: WorkloadDemand) -> bool:
    """Whether the covers of a workload need more than one covering row."""
    return bool(workload.sizes) or workload.max_share_per_region is not None


@dataclass(frozen=True)
class CoupledCover:
    """The pricing problem of one workload in one period, with its options."""

    workload: WorkloadDemand
    options: tuple[ReplicaOption, ...]

    def cheapest(self, price: Floats) -> tuple[float, list[int]]:
        """A lower bound on the cost of a cover, given the price of a replica of each option, and the best cover found.

        The cover has the replicas of each option, and is empty if none was found. Options whose replica is too
        expensive are left out at first. A replica that alone costs more than some cover is in no cheaper cover, so the
        options left out do not matter once a cover costs no more than each of them; until then the price limit grows.
        """
        candidates = self._undominated_options(price)
        max_price = INITIAL_PRICE_FACTOR * self._fractional_cost(candidates, price)
        cover = FleetSolution(Status.INFEASIBLE)
        included: list[int] = []
        while len(included) < len(candidates) and not (cover.replicas and cover.objective <= max_price):
            candidate_prices = price[candidates]
            excluded = candidate_prices[candidate_prices > max_price] if included else candidate_prices
            max_price = cover.objective if cover.replicas else max(max_price * PRICE_GROWTH, float(excluded.min()))
            included = [o for o in candidates if price[o] <= max_price]
            cover = self._solve(included, price)
        replicas = [0] * len(self.options)
        for o, counts in zip(included, cover.replicas, strict=False):
            replicas[o] = counts[0]
        return inf if cover.status is Status.INFEASIBLE else cover.bound, replicas if cover.replicas else []

    def _fractional_cost(self, candidates: list[int], price: Floats) -> float:
        """The cost of a cover of fractional replicas, with each size of requests on its cheapest option."""
        priced = [(self.options[o], float(price[o])) for o in candidates]
        if not self.workload.sizes:
            return min(usd / option.capacity for option, usd in priced) * self.workload.demand[0]
        return sum(
            rate
            * min((usd / option.size_rates[size] for option, usd in priced if option.size_rates[size]), default=inf)
            for size, rate in enumerate(self.workload.size_demand(0))
            if rate
        )

    def _solve(self, included: list[int], price: Floats) -> FleetSolution:
        """The cheapest cover that uses only some options."""
        priced = [
            replace(
                self.options[o],
                purchase="spot" if self.options[o].purchase == "spot" else "on_demand",
                usd_per_chip_hour=float(price[o]) / self.options[o].chips,
                machine=None,  # its share of the instances is in the price
            )
            for o in included
        ]
        model = FleetModel(FleetInstance((self.workload,), tuple(priced), (1.0,), {}, None))
        return model.solve(model.usd(), TIME_LIMIT_S, relative_gap=RELATIVE_GAP)

    def _undominated_options(self, price: Floats) -> list[int]:
        """Options that no comparable option undercuts in price while serving at least as much of each size.

        With redundant replicas a larger replica is not always better: then only options that serve exactly as much are
        compared.
        """
        redundant, candidates = self.workload.redundant_replicas, []
        for group in self._comparable_groups():
            finite = [o for o in group if np.isfinite(price[o])]
            if finite:
                rates = np.array([self.options[o].size_rates or (self.options[o].capacity,) for o in finite])
                exactly_equal = redundant and not self.workload.sizes
                figures = [-rates, rates, price[finite]] if exactly_equal else [-rates, price[finite]]
                candidates += [finite[row] for row in undominated(np.column_stack(figures))]
        return sorted(candidates)

    def _comparable_groups(self) -> list[list[int]]:
        """Options grouped by what the limits distinguish: the region, and whether they are on spot."""
        workload = self.workload
        groups: dict[Hashable, list[int]] = {}
        for o, option in enumerate(self.options):
            region = option.region if workload.max_share_per_region is not None else None
            spot = option.purchase == "spot" and workload.max_spot_share < 1
            groups.setdefault((region, spot), []).append(o)
        return list(groups.values())
