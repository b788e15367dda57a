"""The fewest slices of a layout that pass a first look, or a few replays: by bisection, then two fewer are tried.

That more slices help was observed, and is not proved.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count as counting

import numpy as np

from servesat.candidates.purchases import Purchase
from servesat.deployment.first_looks import FirstLooks, Proposal, with_slices
from servesat.deployment.slice_limits import SliceLimits

MOST_SLICES = 1 << 20
"""The most slices tried; beyond it a layout is given up."""


@dataclass(frozen=True)
class Deadline:
    """A time limit from a start on, a reading of `time.perf_counter` [s]."""

    start_s: float
    limit_s: float | None

    @property
    def is_over(self) -> bool:
        """Whether the time limit is reached."""
        return self.limit_s is not None and time.perf_counter() - self.start_s > self.limit_s


class FewestSlices:
    """The numbers of slices of each layout of a search."""

    def __init__(self, looks: FirstLooks, limits: SliceLimits, deadline: Deadline) -> None:
        """`looks` says what passes, `limits` which numbers of slices are allowed, `deadline` when to stop."""
        self.looks, self.limits, self.deadline = looks, limits, deadline
        self._purchases: dict[int, Purchase] = {}
        self.violated: set[int] = set()  # the limits on resources that more slices were beyond, as masks

    def passing_after(self, proposal: Proposal, most: float, passes: Callable[[Proposal], bool]) -> Proposal | None:
        """The smallest number of slices above a proposal's that passes and costs less than `most`.

        If none passes, the first number that costs at least `most`, untested, because the plan that set `most` may
        still fail its full replays. None if limits on resources forbid more slices.
        """
        failed = proposal.slices
        if not np.isfinite(most):
            for power in counting():
                following = self.proposal(proposal, proposal.slices + 2**power, 0)
                if following is None or self.deadline.is_over:
                    break
                if passes(following):
                    return self._fewest_between(failed, following, passes)
                failed = following.slices
        dearest = self._dearest_below(proposal, failed, most)
        if dearest is None or not passes(dearest):
            return self.proposal(proposal, (failed if dearest is None else dearest.slices) + 1, 0)
        return self._fewest_between(failed, dearest, passes)

    def proposal(self, proposal: Proposal, slices: int, pool_slices: int) -> Proposal | None:
        """The same layout with other numbers of slices; None if limits on resources forbid them."""
        if max(slices, pool_slices) > self._most_slices:
            return None
        if self.limits.on_resources and not self.limits.constraints:  # which are asked when it is due
            plan = self.looks.plan(proposal.row)
            violated = 0 if plan is None else self.limits.resources_violated(with_slices(plan, slices, pool_slices))
            if violated:
                self.violated.add(violated)
                return None
        return self.counted(proposal, slices, pool_slices)

    def counted(self, proposal: Proposal, slices: int, pool_slices: int) -> Proposal:
        """The same layout with other numbers of slices."""
        purchase = self._purchase(proposal.row)
        usd = float(purchase.usd_per_hour(np.array([slices]), np.array([pool_slices]))[0])
        return replace(proposal, usd_per_hour=usd, slices=slices, pool_slices=pool_slices)

    def _purchase(self, row: int) -> Purchase:
        if row not in self._purchases:
            self._purchases[row] = self.looks.candidates.layouts.purchase.take(np.array([row]))
        return self._purchases[row]

    def _fewest_between(self, failed: int, passed: Proposal, passes: Callable[[Proposal], bool]) -> Proposal:
        """The fewest slices that pass, by bisection between a number that failed and one that passed."""
        above = failed
        while passed.slices - failed > 1:
            middle = self.proposal(passed, (passed.slices + failed) // 2, 0)
            if middle is not None and passes(middle):
                passed = middle
            else:
                failed = (passed.slices + failed) // 2
        below = self.proposal(passed, passed.slices - 2, 0) if passed.slices - 2 > above else None
        return below if below is not None and passes(below) else passed

    def _dearest_below(self, proposal: Proposal, failed: int, most: float) -> Proposal | None:
        """The most slices above `failed` that limits allow and that cost less than `most`; None if there are none."""
        low, high = failed, failed + 1
        allowed = None
        while True:
            found = self.proposal(proposal, high, 0)
            if found is None or found.usd_per_hour >= most:
                break
            allowed, low, high = found, high, high + max(1, high - failed)
        while allowed is not None and high - low > 1:
            found = self.proposal(proposal, (low + high) // 2, 0)
            if found is None or found.usd_per_hour >= most:
                high = (low + high) // 2
            else:
                allowed, low = found, (low + high) // 2
        return allowed

    @cached_property
    def _most_slices(self) -> int:
        """The most slices tried; of a trace as many as it has requests, as each is then alone but for chance."""
        trace = self.limits.spec.workload.arrivals.recorded
        return MOST_SLICES if trace is None else min(MOST_SLICES, len(trace.arrival_s))
