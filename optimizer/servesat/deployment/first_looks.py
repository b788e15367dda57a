"""First looks at proposals: whether a replay shows a limit to be broken.

A proposal is a layout at its largest batch, with a number of slices. Without a replay, it is ruled out only by what can
be proved: the load exceeds its capacity, or a prompt alone or a step with one sequence takes too long.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.requirements import bits_of
from servesat.candidates.rule import Requirement
from servesat.core.arrays import Ints
from servesat.core.plan import Plan
from servesat.core.tolerances import round_up
from servesat.deployment.check.plan import rederive
from servesat.deployment.proposable import fewest_sequences
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import Limit, TooLongError, servers_of
from servesat.replay.verdict import SEEDS_TO_FALL, alone_too_late, first_look, surely_late, verdict
from servesat.spec.spec import Spec

BATCHES_TRIED = 6
"""Smaller batches tried where the largest breaks TPOT alone."""

STRIDES = 4
"""Part of the smallest batch that serves the load by which the next one tried is larger; then twice as much."""

Key = tuple[int, int, int]
"""The row of a layout, and the slices of its pools."""

CHECK, ALONE = "check", "alone"
"""Stand beside the limits that a proposal breaks: the check refuses its plan; more slices would not help."""


@dataclass(frozen=True, order=True)
class Proposal:
    """A layout with a number of slices in each pool.

    Ordered by cost; then by whether its pools count on a network that no price states, which others do without; and
    then by how close the means are to the limits.
    """

    usd_per_hour: float
    assumes_network: bool
    strain: float
    row: int
    slices: int = field(compare=False)
    pool_slices: int = field(compare=False)

    @property
    def key(self) -> Key:
        """What identifies it."""
        return self.row, self.slices, self.pool_slices


@dataclass(frozen=True)
class Outcome:
    """The batch at which a proposal passes; or the limits that it breaks."""

    batch: int
    broken: tuple[str, ...]


class FirstLooks:
    """The first look at each proposal of a search, taken once."""

    def __init__(self, spec: Spec, offered: Spec, candidates: Columns, limits: tuple[Limit, ...]) -> None:
        """Proposals are rows of `candidates`, evaluated under `offered`: the spec without the `limits` to verify."""
        self.spec, self.offered, self.candidates, self.limits = spec, offered, candidates, limits
        self.outcomes: dict[Key, Outcome] = {}
        self._plans: dict[int, Plan | None] = {}
        self._late_prefill: set[tuple[Pool | None, float, float]] = set()

    def of(self, proposal: Proposal) -> Outcome:
        """What a first look says."""
        key = proposal.key
        if key not in self.outcomes:
            self.outcomes[key] = self._look(proposal)
        return self.outcomes[key]

    def passes(self, proposal: Proposal) -> bool:
        """Whether no limit is shown to be broken."""
        return not self.of(proposal).broken

    def is_likely(self, proposal: Proposal) -> bool:
        """Whether a proposal passes, and is within the limits on average over the few replays that may reject it."""
        look, plan = self.of(proposal), self.plan(proposal.row)
        if look.broken or plan is None:
            return False
        plan = with_batch(with_slices(plan, proposal.slices, proposal.pool_slices), look.batch)
        servers, goodput = servers_slower(self.spec, plan), self.spec.slo.goodput
        found = verdict(self.spec.workload, servers, self.limits, goodput, SEEDS_TO_FALL)
        return all(one.is_likely for one in found.kept)

    def plan(self, row: int) -> Plan | None:
        """The plan of a candidate with the slices that it needs; None if the check refuses it."""
        if row not in self._plans:
            plan, margins = rederive(self.offered, self.candidates.assignment(row))
            bits = bits_of(self.offered)
            self._plans[row] = plan if all(margin.holds for margin in margins if margin.requirement in bits) else None
        return self._plans[row]

    def remember(self, servers: Servers, broken: Iterable[str]) -> None:
        """Remember a prefill pool that is too slow: a different decode pool does not help it."""
        if servers.prefill is not None and Requirement.TTFT in broken:
            self._late_prefill.add(_of_first_tokens(servers))

    def is_late(self, servers: Servers) -> bool:
        """Whether the prefill pool was too slow before."""
        return _of_first_tokens(servers) in self._late_prefill

    def _look(self, proposal: Proposal) -> Outcome:
        """A look at the largest batch, and if TPOT is the only limit that it breaks at smaller ones."""
        plan = self.plan(proposal.row)
        if plan is None:
            return Outcome(0, (CHECK,))
        broken = self.broken(with_slices(plan, proposal.slices, proposal.pool_slices))
        smaller = self.smaller_batch(proposal, self.broken) if broken == (Requirement.TPOT,) else None
        return Outcome(plan.batch, broken) if smaller is None else Outcome(smaller, ())

    def smaller_batch(self, proposal: Proposal, broken: Callable[[Plan], tuple[str, ...]]) -> int | None:
        """A batch below the largest of which `broken` names no limit, near the smallest that serves the load.

        Smaller batches are faster, but requests wait longer. If the smallest is too slow as well, no other is tried.
        """
        whole = self.plan(proposal.row)
        assert whole is not None
        plan = with_slices(whole, proposal.slices, proposal.pool_slices)
        batches = self.batches(proposal)[:-1].tolist()
        low, middle, high = 0, 0, len(batches)
        stride = max(1, batches[0] // plan.kv_batch_shards // STRIDES) if batches else 1
        for _ in range(BATCHES_TRIED):
            if middle >= high:
                break
            found = broken(with_batch(plan, batches[middle]))
            if not found:
                return int(batches[middle])
            if Requirement.TPOT in found:
                high = middle
            if found != (Requirement.TPOT,):
                low = middle + 1
            middle, stride = min((low + high) // 2, middle + stride), 2 * stride
        return None

    def batches(self, proposal: Proposal, least: int = 1) -> Ints:
        """The batches from `least` to the largest of a proposal that serve the load, and that the spec allows."""
        plan = self.plan(proposal.row)
        assert plan is not None
        layout, step = self.candidates.layouts.take(np.array([proposal.row])), plan.kv_batch_shards
        (fewest,) = fewest_sequences(self.spec, layout, np.array([proposal.slices]))
        first = max(least, self.offered.search.min_batch or 1, min(float(fewest), float(plan.batch)))
        batches = np.arange(int(round_up(first / step)) * step, plan.batch + 1, step)
        if self.offered.expressions:
            columns = evaluate(self.offered, layout, batches=batches)
            batches = columns.batch[columns.violated == 0]
        return batches if plan.batch in batches else np.append(batches, plan.batch)

    def broken(self, plan: Plan) -> tuple[str, ...]:
        """The limits that a look shows a plan to break."""
        try:
            servers = servers_slower(self.spec, plan)
        except TooLongError:
            return Requirement.HBM, ALONE
        if self.is_late(servers):
            return (Requirement.TTFT,)
        alone = alone_too_late(self.spec.workload, servers, self.limits)
        if alone:
            return (*alone, ALONE)
        broken = surely_late(self.spec.workload, servers, self.limits)
        broken = broken or first_look(self.spec.workload, servers, self.limits)
        self.remember(servers, broken)
        return broken


def servers_slower(spec: Spec, plan: Plan) -> Servers:
    """The replicas of a plan, with every step slowed by the margin that its limits allow for."""
    return servers_of(spec, plan).scaled(1 + spec.margins_of(plan.chip, plan.engine).tpot)


def with_slices(plan: Plan, slices: int, pool_slices: int) -> Plan:
    """A plan with other numbers of slices in its pools."""
    pool = None if plan.prefill is None else replace(plan.prefill, slices=pool_slices)
    return replace(plan, slices=slices, prefill=pool)


def with_batch(plan: Plan, batch: int) -> Plan:
    """A plan with another batch."""
    return replace(plan, batch=batch, kv_cache_bytes=plan.kv_cache_bytes * batch / plan.batch)


def _of_first_tokens(servers: Servers) -> tuple[Pool | None, float, float]:
    """What TTFT depends on when prompts have a pool of their own."""
    return servers.prefill, servers.transfer_s, servers.request_s
