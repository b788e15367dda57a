"""Spare replicas for requests of several sizes: rows for configurations that are used, once they are."""

from collections.abc import Mapping
from math import fsum

from ortools.math_opt.python import mathopt

from servesat.core.tolerances import LIMIT_RTOL
from servesat.fleet.formulation.mixes import PARTS, Rates, add_mix, best_mix


class SpareMix:
    """One workload in one period: without n_plus replicas of any configuration in use, the rest serves what is asked.

    So there are at least as many of it. Each such row needs the time of all replicas once more, and a plan uses few
    configurations of many: so a row is added when a plan breaks it.
    """

    def __init__(
        self,
        model: mathopt.Model,
        replicas: Mapping[Rates, mathopt.LinearSum],
        asked: list[float],
        *,
        n_plus: int,
        most: Mapping[Rates, int],
        unserved: mathopt.LinearTypes,
        must_serve: bool,
    ) -> None:
        self.model, self.replicas, self.asked, self.n_plus = model, replicas, asked, n_plus
        self.most, self.unserved, self.must_serve = most, unserved, must_serve
        self.added: set[Rates] = set()

    def ask(self, counts: Mapping[Rates, int], unserved: float) -> bool:
        """Add the rows that so many replicas break, which leave a share unserved; whether there are any."""
        used = [rates for rates, count in counts.items() if count and rates not in self.added]
        broken = [rates for rates in used if self._often_without(rates, counts) < (1 - unserved) * (1 - LIMIT_RTOL)]
        for rates in broken:
            self._add(rates)
        return bool(broken)

    def _often_without(self, gone: Rates, counts: Mapping[Rates, int]) -> float:
        """How often the rest serves what is asked; never where there are fewer than n_plus."""
        if counts[gone] < self.n_plus:
            return 0.0
        left = {rates: count - (self.n_plus if rates == gone else 0) for rates, count in counts.items()}
        return float(best_mix(left, self.asked).sum()) / fsum(self.asked)

    def _add(self, rates: Rates) -> None:
        count, used = self.replicas[rates], self.model.add_binary_variable()
        self.model.add_linear_constraint(count <= self.most[rates] * used)
        times, _ = add_mix(self.model, {**self.replicas, rates: count - self.n_plus * used}, self.asked)
        idle = 0.0 if self.must_serve else 1 - used  # else it may as well run nothing
        self.model.add_linear_constraint(
            PARTS * times >= PARTS * (1 - LIMIT_RTOL) - PARTS * self.unserved - PARTS * idle
        )
        self.added.add(rates)
