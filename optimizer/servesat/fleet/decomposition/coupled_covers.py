"""The least that one workload costs in one period at given prices of a replica, where that is no single covering row.

Requests of several sizes share the time of replicas, and a share of the demand must survive the loss of each region:
then a cover is a small integer program of its own. Its bound is a bound on every cover.
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

GAP = 1e-3
"""The relative gap at which a cover is cheap enough: its bound tells what it lacks."""

LONGEST_S = 2.0
"""Seconds for one cover at most; its bound is the weaker."""

FIRST, FURTHER = 2.0, 2.0
"""The dearest replicas that are looked at first, over the cost of covers that need not be whole; and how much further.
"""


def is_joint(need: WorkloadDemand) -> bool:
    """Whether the covers of a workload take more than one row."""
    return bool(need.sizes) or need.max_share_per_region is not None


@dataclass(frozen=True)
class JointCover:
    """One workload in one period, and what it may rent."""

    need: WorkloadDemand
    options: tuple[ReplicaOption, ...]

    def cheapest(self, price: Floats) -> tuple[float, list[int]]:
        """What it costs at least at the price of a replica of each option, and a cover: replicas by option.

        The cover is empty where none was found. A replica that costs more than a cover is in none that is cheaper:
        so dear ones are left out, unless the cover found without them costs as much.
        """
        own = self._worth_a_look(price)
        dear, found = FIRST * self._divided(own, price), FleetSolution(Status.INFEASIBLE)
        some: list[int] = []
        while len(some) < len(own) and not (found.replicas and found.objective <= dear):
            left = price[own][price[own] > dear] if some else price[own]
            dear = found.objective if found.replicas else max(dear * FURTHER, float(left.min()))
            some = [o for o in own if price[o] <= dear]
            found = self._covered(some, price)
        replicas = [0] * len(self.options)
        for o, counts in zip(some, found.replicas, strict=False):
            replicas[o] = counts[0]
        return inf if found.status is Status.INFEASIBLE else found.bound, replicas if found.replicas else []

    def _divided(self, own: list[int], price: Floats) -> float:
        """What replicas cost at least that need not be whole, each size where it is cheapest."""
        options = [(self.options[o], float(price[o])) for o in own]
        if not self.need.sizes:
            return min(usd / option.capacity for option, usd in options) * self.need.demand[0]
        asked = enumerate(self.need.of_sizes(0))
        return sum(
            rate * min((usd / option.of_size[size] for option, usd in options if option.of_size[size]), default=inf)
            for size, rate in asked
            if rate
        )

    def _covered(self, some: list[int], price: Floats) -> FleetSolution:
        """The cheapest cover by some options."""
        priced = [
            replace(
                self.options[o],
                purchase="spot" if self.options[o].purchase == "spot" else "on_demand",
                usd_per_chip_hour=float(price[o]) / self.options[o].chips,
            )
            for o in some
        ]
        model = FleetModel(FleetInstance((self.need,), tuple(priced), (1.0,), {}, None))
        return model.solve(model.usd(), LONGEST_S, relative_gap=GAP)

    def _worth_a_look(self, price: Floats) -> list[int]:
        """Options that no other undercuts which serves as much of each size, and counts for as many limits.

        With spare replicas a larger one is no better: only options that serve just as much are compared.
        """
        need, found = self.need, []
        for alike in self._interchangeable():
            payable = [o for o in alike if np.isfinite(price[o])]
            if payable:
                rates = np.array([self.options[o].of_size or (self.options[o].capacity,) for o in payable])
                figures = [-rates, price[payable]] if need.sizes or not need.n_plus else [-rates, rates, price[payable]]
                found += [payable[row] for row in undominated(np.column_stack(figures))]
        return sorted(found)

    def _interchangeable(self) -> list[list[int]]:
        """Options by what the limits tell apart: the region, and whether they are spot."""
        need = self.need
        groups: dict[Hashable, list[int]] = {}
        for o, option in enumerate(self.options):
            region = option.region if need.max_share_per_region is not None else None
            spot = option.purchase == "spot" and need.max_spot_share < 1
            groups.setdefault((region, spot), []).append(o)
        return list(groups.values())
