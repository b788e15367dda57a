"""The search for the cheapest plan under percentiles: proposals in order of cost, each tested by replays.

A proposal is a layout at its largest batch, with a number of slices. Without a replay, it is ruled out only by what can
be proved: the load exceeds its capacity, or a prompt alone or a step with one sequence takes too long.
Of a layout that fails, the fewest slices that pass are found by bisection, and two fewer are tested again, as that more
slices help was observed and is not proved. Where constraints name what follows the number of slices, numbers are
proposed one after another, and those that they forbid passed over without a replay.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import count as counting

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.requirements import bits_of
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.core.errors import SolverError
from servesat.core.plan import Plan
from servesat.core.result import Fallen, Margin
from servesat.core.tolerances import round_up
from servesat.deployment.check.plan import rederive
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.proposable import fewest_sequences, largest_batches, largest_shares, worth_replaying
from servesat.deployment.settings import Settings
from servesat.deployment.slice_limits import SliceLimits
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import TooLongError, limits_of, servers_of
from servesat.replay.verdict import GOODPUT, Verdict, alone_too_late, first_look, surely_late, verdict
from servesat.spec.spec import Spec

MOST_SLICES = 1 << 20
"""Slices beyond which no more are tried, of requests that never end."""

FORBIDDEN = 64
"""Slices added to two pools whose numbers constraints forbid, after which no more are."""

BATCHES_TRIED = 6
"""Smaller batches tried when TPOT is the only limit broken."""


def servers_slower(spec: Spec, plan: Plan) -> Servers:
    """The replicas of a plan, with every step slowed by the margin that its limits allow for."""
    return servers_of(spec, plan).scaled(1 + spec.margins_of(plan.chip, plan.engine).tpot)


@dataclass(frozen=True, order=True)
class _Proposal:
    """A layout with a number of slices in each pool; ordered by cost, then by how close the means are to the limits."""

    usd_per_hour: float
    strain: float
    row: int
    slices: int = field(compare=False)
    pool_slices: int = field(compare=False)

    @property
    def key(self) -> tuple[int, int, int]:
        """What identifies it."""
        return self.row, self.slices, self.pool_slices


@dataclass(frozen=True)
class Verified:
    """A plan that passed its replays, with its margins."""

    plan: Plan
    margins: tuple[Margin, ...]
    verdict: Verdict


class Search:
    """The proposals of a spec and the outcome of each test."""

    def __init__(self, spec: Spec, start: float, settings: Settings) -> None:
        self.spec, self.start, self.settings = spec, start, settings
        self.slice_limits = SliceLimits(spec)
        self.offered, self.bits = self.slice_limits.offered, self.slice_limits.bits
        self.limits = limits_of(spec)
        self.fallen: list[Fallen] = []
        self.broken: set[int] = set()  # what each proposal that fell violates, as a mask
        self.undecided = False
        self.proposals = 0
        self._plans: dict[int, Plan | None] = {}
        self._proposed: set[tuple[int, int, int]] = set()  # of two pools: each is reached by adding to either
        self._tested: dict[tuple[int, int, int], tuple[int, tuple[str, ...]]] = {}
        self._late_prefill: set[tuple[Pool | None, float, float]] = set()

    @property
    def is_out_of_time(self) -> bool:
        """Whether the time limit is reached."""
        limit = self.settings.time_limit_s
        return limit is not None and time.perf_counter() - self.start > limit

    @cached_property
    def columns(self) -> Columns:
        """Every batch worth trying of each layout, with what it violates besides the limits that replays verify."""
        return worth_replaying(self.spec, self.offered)

    @cached_property
    def candidates(self) -> Columns:
        """The largest batch of each layout that may pass: it needs the fewest slices."""
        return largest_batches(self.columns)

    @property
    def bound_usd_per_million(self) -> float:
        """The least cost of a proposal."""
        return float(self.candidates.usd_per_million.min())

    def run(self) -> Verified | None:
        """The plan that passes."""
        queue = self._first_proposals()
        passing: dict[tuple[int, int, int], float] = {}  # costs of queued proposals that passed a first look
        while queue and not self.is_out_of_time:
            proposal = heappop(queue)
            passing.pop(proposal.key, None)
            if forbidden := self._forbidden(proposal):
                self.broken.add(forbidden)
                for allowed in self._allowed_after(proposal, forbidden):
                    heappush(queue, allowed)
                continue
            batch, broken = self._test(proposal)
            if not broken:
                found = self._verified(proposal, batch)
                if not isinstance(found, tuple):
                    return found
                broken = found
            self._fell(proposal, broken)
            for following in self._following(proposal, broken, min(passing.values(), default=np.inf)):
                if self._tested.get(following.key, (0, ("untested",)))[1] == ():
                    passing[following.key] = following.usd_per_hour
                heappush(queue, following)
        return None

    def _first_proposals(self) -> list[_Proposal]:
        columns = self.candidates
        strain = largest_shares(self.spec, columns, self.limits)
        rows = zip(columns.usd_per_hour, strain, columns.slices, columns.layouts.serving.pool_slices, strict=True)
        queue = [
            _Proposal(float(usd), float(slack), row, int(slices), int(pool))
            for row, (usd, slack, slices, pool) in enumerate(rows)
        ]
        heapify(queue)
        return queue

    def _forbidden(self, proposal: _Proposal) -> int:
        """The constraints on numbers of slices that a proposal violates, with the limits on resources, as a mask."""
        if not self.slice_limits.constraints:
            return 0
        slices, pool_slices = np.array([proposal.slices]), np.array([proposal.pool_slices])
        return int(self.slice_limits.violated(self._candidate(proposal), slices, pool_slices)[0])

    def _allowed_after(self, proposal: _Proposal, forbidden: int) -> Iterator[_Proposal]:
        """What to propose of a layout in place of numbers of slices that constraints forbid.

        Of one pool the next number that they allow, of two one more in either. Where none is found, and no limit ends
        the numbers, the search is undecided.
        """
        if forbidden & self.slice_limits.ending:
            return
        if not proposal.pool_slices:
            slices, ended = self.slice_limits.next_allowed(self._candidate(proposal), proposal.slices)
            if slices is not None:
                yield self._counted(proposal, slices, 0)
            elif ended:
                self.broken.add(ended)
            else:
                self.undecided = True
            return
        first = self._candidate(proposal)
        if proposal.slices + proposal.pool_slices < first.slices[0] + first.layouts.serving.pool_slices[0] + FORBIDDEN:
            yield from self._new(proposal, ((1, 0), (0, 1)))
        else:
            self.undecided = True

    def _candidate(self, proposal: _Proposal) -> Columns:
        """The column that a proposal began with."""
        return self.candidates.take(np.array([proposal.row]))

    def _plan(self, row: int) -> Plan | None:
        """The plan of a candidate with the slices that it needs; None if the check refuses it."""
        if row not in self._plans:
            plan, margins = rederive(self.offered, self.candidates.assignment(row))
            bits = bits_of(self.offered)
            self._plans[row] = plan if all(margin.holds for margin in margins if margin.requirement in bits) else None
        return self._plans[row]

    def _test(self, proposal: _Proposal) -> tuple[int, tuple[str, ...]]:
        """The batch at which a proposal passes a first look, or the limits that it breaks."""
        key = proposal.key
        if key not in self._tested:
            self.proposals += 1
            self._tested[key] = self._first_look(proposal)
        return self._tested[key]

    def _first_look(self, proposal: _Proposal) -> tuple[int, tuple[str, ...]]:
        """The batch at which a proposal passes, or the limits that it breaks.

        If TPOT is the only limit broken, smaller batches are tried: they are faster, but requests wait longer. If the
        smallest batch that serves the load is too slow as well, no other is tried.
        """
        plan = self._plan(proposal.row)
        if plan is None:
            return 0, ("check",)
        plan = _with_slices(plan, proposal.slices, proposal.pool_slices)
        step, broken = plan.kv_batch_shards, self._broken(plan)
        if broken != ("tpot",):
            return plan.batch, broken
        high = plan.batch // step
        layout = self.candidates.layouts.take(np.array([proposal.row]))
        (fewest,) = fewest_sequences(self.spec, layout, np.array([proposal.slices]))
        middle = low = int(round_up(min(fewest / step, high)))
        for _ in range(BATCHES_TRIED):
            if middle >= high:
                break
            found = self._broken(_with_batch(plan, middle * step))
            if not found:
                return middle * step, ()
            if "tpot" in found:
                high = middle
            if found != ("tpot",):
                low = middle + 1
            middle = (low + high) // 2
        return plan.batch, broken

    def _broken(self, plan: Plan) -> tuple[str, ...]:
        workload, servers = self.spec.workload, servers_slower(self.spec, plan)
        if self._is_late(servers):
            return (Requirement.TTFT,)
        alone = alone_too_late(workload, servers, self.limits)
        if alone:
            return (*alone, "alone")
        try:
            broken = surely_late(workload, servers, self.limits) or first_look(workload, servers, self.limits)
        except TooLongError:
            return Requirement.HBM, "alone"
        self._remember(servers, broken)
        return broken

    def _remember(self, servers: Servers, broken: Iterable[str]) -> None:
        """Remember a prefill pool that is too slow: a different decode pool does not help it."""
        if servers.prefill is not None and Requirement.TTFT in broken:
            self._late_prefill.add(_of_first_tokens(servers))

    def _is_late(self, servers: Servers) -> bool:
        return _of_first_tokens(servers) in self._late_prefill

    def _verified(self, proposal: _Proposal, batch: int) -> Verified | tuple[str, ...]:
        """The plan of a proposal, with only the sequences that replays ran at once; or the limits that it breaks."""
        whole = self._plan(proposal.row)
        assert whole is not None
        plan = _with_batch(_with_slices(whole, proposal.slices, proposal.pool_slices), batch)
        servers = servers_slower(self.spec, plan)
        if self._is_late(servers):
            return (Requirement.TTFT,)
        tested = verdict(self.spec.workload, servers, self.limits, self.spec.slo.goodput)
        if tested.holds is not True:
            self.undecided |= tested.holds is None
            broken = tuple(dict.fromkeys(kept.limit.requirement for kept in tested.kept if kept.holds is False))
            self._remember(servers, broken)
            return broken or ("undecided",)
        step = plan.kv_batch_shards
        for sequences in dict.fromkeys((min(batch, -(-tested.most_sequences // step) * step), batch)):
            try:
                final, margins = rederive(self.spec, _with_batch(plan, sequences))
            except SolverError:
                continue
            if all(margin.holds for margin in margins):
                return Verified(final, margins, tested)
        return ("check",)

    def _fell(self, proposal: _Proposal, broken: tuple[str, ...]) -> None:
        columns = self.candidates
        place = columns.layouts.places[columns.layouts.place[proposal.row]]
        assignment = columns.assignment(proposal.row)
        names = tuple(name for name in broken if name in REQUIREMENT_BIT or name == GOODPUT)
        self.broken.add(sum(self.bits[name] for name in names or {limit.requirement for limit in self.limits}))
        self.fallen.append(
            Fallen(
                chip=place.offer.chip.id,
                topology=place.topology,
                mode=str(assignment.mode),
                engine=assignment.engine,
                slices=proposal.slices,
                usd_per_hour=proposal.usd_per_hour,
                broken=names,
            )
        )

    def _following(self, proposal: _Proposal, broken: tuple[str, ...], most: float) -> Iterator[_Proposal]:
        """What to propose next of a layout that failed: the fewest slices that pass, or more in either pool."""
        if "alone" in broken or "check" in broken:
            return
        if not proposal.pool_slices:
            if self.slice_limits.constraints:
                yield self._counted(proposal, proposal.slices + 1, 0)
            elif (fewest := self._fewest_that_pass(proposal, most)) is not None:
                yield fewest
            return
        of_prompts = Requirement.TTFT in broken  # more slices in the decode pool would not help
        steps = max(1, proposal.slices // 32), max(1, proposal.pool_slices // 32)
        yield from self._new(proposal, ((0, steps[1]),) if of_prompts else ((steps[0], 0), (0, steps[1])))

    def _new(self, proposal: _Proposal, steps: Iterable[tuple[int, int]]) -> Iterator[_Proposal]:
        """The proposals that are some steps from one, and were not proposed before."""
        for step, pool_step in steps:
            following = self._proposal(proposal, proposal.slices + step, proposal.pool_slices + pool_step)
            if following is not None and following.key not in self._proposed:
                self._proposed.add(following.key)
                yield following

    def _fewest_that_pass(self, proposal: _Proposal, most: float) -> _Proposal | None:
        """The smallest number of slices above a proposal's that passes a first look and costs less than `most`.

        If none passes, the first number that costs at least `most`, untested, because the plan that set `most` may
        still fail its full replays. None if limits on resources forbid more slices.
        """
        failed = proposal.slices
        if not np.isfinite(most):
            for power in counting():
                following = self._proposal(proposal, proposal.slices + 2**power, 0)
                if following is None or self.is_out_of_time:
                    break
                if self._passes(following):
                    return self._fewest_between(failed, following)
                failed = following.slices
        dearest = self._dearest_below(proposal, failed, most)
        if dearest is None or not self._passes(dearest):
            return self._proposal(proposal, (failed if dearest is None else dearest.slices) + 1, 0)
        return self._fewest_between(failed, dearest)

    def _fewest_between(self, failed: int, passes: _Proposal) -> _Proposal:
        """The fewest slices that pass, by bisection between a number that failed and one that passes."""
        above = failed
        while passes.slices - failed > 1:
            middle = self._proposal(passes, (passes.slices + failed) // 2, 0)
            if middle is not None and self._passes(middle):
                passes = middle
            else:
                failed = (passes.slices + failed) // 2
        below = self._proposal(passes, passes.slices - 2, 0) if passes.slices - 2 > above else None
        return below if below is not None and self._passes(below) else passes

    def _dearest_below(self, proposal: _Proposal, failed: int, most: float) -> _Proposal | None:
        """The most slices above `failed` that limits allow and that cost less than `most`; None if there are none."""
        low, high = failed, failed + 1
        allowed = None
        while True:
            found = self._proposal(proposal, high, 0)
            if found is None or found.usd_per_hour >= most:
                break
            allowed, low, high = found, high, high + max(1, high - failed)
        while allowed is not None and high - low > 1:
            found = self._proposal(proposal, (low + high) // 2, 0)
            if found is None or found.usd_per_hour >= most:
                high = (low + high) // 2
            else:
                allowed, low = found, (low + high) // 2
        return allowed

    def _passes(self, proposal: _Proposal) -> bool:
        return not self._test(proposal)[1]

    def _proposal(self, proposal: _Proposal, slices: int, pool_slices: int) -> _Proposal | None:
        """The same layout with other numbers of slices; None if limits on resources forbid them."""
        if max(slices, pool_slices) > self._most_slices:
            return None
        plan = self._plan(proposal.row)
        if plan is not None and not self.slice_limits.constraints:  # which are asked when it is due
            violated = self.slice_limits.resources_violated(_with_slices(plan, slices, pool_slices))
            if violated:
                self.broken.add(violated)
                return None
        return self._counted(proposal, slices, pool_slices)

    def _counted(self, proposal: _Proposal, slices: int, pool_slices: int) -> _Proposal:
        layout = self.candidates.layouts.take(np.array([proposal.row]))
        usd = float(layout.purchase.usd_per_hour(np.array([slices]), np.array([pool_slices]))[0])
        return _Proposal(usd, proposal.strain, proposal.row, slices, pool_slices)

    @cached_property
    def _most_slices(self) -> int:
        """The most slices tried; of a trace as many as it has requests, as each is then alone but for chance."""
        trace = self.spec.workload.arrivals.recorded
        return MOST_SLICES if trace is None else min(MOST_SLICES, len(trace.arrival_s))

    def conflicts(self) -> tuple[tuple[str, ...], ...]:
        """The minimal sets of requirements that no plan satisfies together."""
        violated = self.columns.violated
        masks = [*violated[violated > 0].tolist(), *self.broken]
        return minimal_conflicts(masks, self.bits)


def _of_first_tokens(servers: Servers) -> tuple[Pool | None, float, float]:
    """What TTFT depends on when prompts have a pool of their own."""
    return servers.prefill, servers.transfer_s, servers.request_s


def _with_slices(plan: Plan, slices: int, pool_slices: int) -> Plan:
    pool = None if plan.prefill is None else replace(plan.prefill, slices=pool_slices)
    return replace(plan, slices=slices, prefill=pool)


def _with_batch(plan: Plan, batch: int) -> Plan:
    return replace(plan, batch=batch, kv_cache_bytes=plan.kv_cache_bytes * batch / plan.batch)
