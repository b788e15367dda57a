"""Redundant replicas for requests of several sizes: rows that are added for a configuration once a plan uses it."""

from collections.abc import Mapping
from math import fsum

from ortools.math_opt.python import mathopt

from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.formulation.mixes import TIME_ROW_SCALE, SizeRates, add_mix, best_mix


class RedundancyCuts:
    """The redundancy rows of one workload in one period, added lazily.

    If the redundant replicas of any configuration in use fail, the rest meets the demand. This implies that there are
    at least that many replicas of each configuration in use. Every row needs a copy of the time variables of all
    replicas, and a plan uses few of the configurations, so a row is added only once a plan violates it.
    """

    def __init__(
        self,
        model: mathopt.Model,
        replicas: Mapping[SizeRates, mathopt.LinearSum],
        size_demand: list[float],
        *,
        redundant_replicas: int,
        max_replicas: Mapping[SizeRates, int],
        unserved_share: mathopt.LinearTypes,
        must_serve: bool,
    ) -> None:
        self.model, self.replicas, self.size_demand = model, replicas, size_demand
        self.redundant_replicas, self.max_replicas = redundant_replicas, max_replicas
        self.unserved_share, self.must_serve = unserved_share, must_serve
        self.added: set[SizeRates] = set()

    def add_violated(self, counts: Mapping[SizeRates, int], unserved_share: float) -> bool:
        """Add the rows that a plan violates; whether there are any. The plan leaves a share of the demand unserved."""
        required = (1 - unserved_share) * (1 - LIMIT_RTOL)
        used = [rates for rates, count in counts.items() if count and rates not in self.added]
        violated = [rates for rates in used if self._served_share_without(rates, counts) < required]
        for rates in violated:
            self._add(rates)
        return bool(violated)

    def _served_share_without(self, failing: SizeRates, counts: Mapping[SizeRates, int]) -> float:
        """The multiple of the demand that is served if replicas fail; 0 if there are fewer replicas than may fail."""
        if counts[failing] < self.redundant_replicas:
            return 0.0
        remaining = {
            rates: count - (self.redundant_replicas if rates == failing else 0) for rates, count in counts.items()
        }
        return float(best_mix(remaining, self.size_demand).sum()) / fsum(self.size_demand)

    def _add(self, rates: SizeRates) -> None:
        count, used = self.replicas[rates], self.model.add_binary_variable()
        self.model.add_linear_constraint(count <= self.max_replicas[rates] * used)
        remaining = {**self.replicas, rates: count - self.redundant_replicas * used}
        multiple, _ = add_mix(self.model, remaining, self.size_demand)
        # without the demand limit nothing has to be served, and then the row applies only if replicas are used
        slack = 0.0 if self.must_serve else 1 - used
        self.model.add_linear_constraint(
            TIME_ROW_SCALE * multiple
            >= TIME_ROW_SCALE * (1 - LIMIT_RTOL) - TIME_ROW_SCALE * self.unserved_share - TIME_ROW_SCALE * slack
        )
        self.added.add(rates)
