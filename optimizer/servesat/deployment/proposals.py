"""Proposals of a search under percentiles, in the order of their cost, and what replays say of each.

A proposal is a layout at its largest batch with a number of slices. Only what is provable without a replay rules one
out beforehand: the work offered exceeds its capacity, a prompt alone takes too long, or so does a step of one sequence.
Of a layout that fails, the fewest slices that pass are found by bisection, and the two numbers below are tested again,
as that more slices help was observed and is not proved.
"""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from heapq import heapify, heappop, heappush
from itertools import count as counting
from math import ceil

import numpy as np

from servesat.candidates.columns import Columns
from servesat.candidates.evaluation import evaluate
from servesat.candidates.layouts import Layouts, decoding
from servesat.candidates.requirements import REQUIREMENT_BIT, Requirement, bits_of
from servesat.candidates.serving_modes import in_modes, searched_layouts
from servesat.candidates.step_times import prompt_times, replica_times
from servesat.core.arrays import Floats, Ints
from servesat.core.errors import SolverError
from servesat.core.plan import Mode, Plan
from servesat.core.result import Fallen, Margin
from servesat.core.tolerances import is_at_most
from servesat.deployment.check.plan import rederive
from servesat.deployment.conflicts import minimal_conflicts
from servesat.deployment.settings import Settings
from servesat.replay.pools import Pool, Servers
from servesat.replay.replayed import TooLongError, limits_of, servers_of
from servesat.replay.verdict import GOODPUT, Verdict, alone_too_late, first_look, verdict
from servesat.spec.spec import Spec

MOST_SLICES = 1 << 20
"""Slices beyond which no more are tried."""

BATCHES_TRIED = 6
"""Smaller batches tried where tokens alone are too slow."""


def servers_slower(spec: Spec, plan: Plan) -> Servers:
    """The replicas of a plan, every step slower by the margin that its limits are kept with."""
    return servers_of(spec, plan).scaled(1 + spec.margins_of(plan.chip, plan.engine).tpot)


@dataclass(frozen=True, order=True)
class _Proposal:
    """A layout with slices of each pool, in the order of cost; of equal cost the one with more slack by its means."""

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
        limits = {f"slo.{name}": None for name in ("ttft_ms", "tpot_ms", "e2e_ms")}
        self.offered = spec.in_means().changed(limits)
        self.limits = limits_of(spec)
        self.fallen: list[Fallen] = []
        self.broken_by_all: set[str] = set()
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
        """Of each layout every batch worth trying, with what it violates beside the limits that replays verify."""
        layouts = _layouts(self.spec, self.offered)
        columns = evaluate(self.offered, layouts)
        return replace(columns, violated=columns.violated | _beyond_bounds(self.spec, columns.layouts))

    @cached_property
    def candidates(self) -> Columns:
        """Of each layout that may pass its largest batch, which needs the fewest slices."""
        columns = self.columns
        legal = columns.take(np.flatnonzero(columns.violated == 0))
        order = np.lexsort((-legal.batch, legal.usd_per_hour, legal.layouts.number))
        _, first = np.unique(legal.layouts.number[order], return_index=True)
        return legal.take(order[first])

    @property
    def bound_usd_per_million(self) -> float:
        """The least cost of a proposal."""
        return float(self.candidates.usd_per_million.min())

    def run(self) -> Verified | None:
        """The plan that passes."""
        queue = self._first_proposals()
        passing: dict[tuple[int, int, int], float] = {}  # what those in the queue cost that passed a first look
        while queue and not self.is_out_of_time:
            proposal = heappop(queue)
            passing.pop(proposal.key, None)
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
        strain = self._strain()
        rows = zip(columns.usd_per_hour, strain, columns.slices, columns.layouts.serving.pool_slices, strict=True)
        queue = [
            _Proposal(float(usd), float(slack), row, int(slices), int(pool))
            for row, (usd, slack, slices, pool) in enumerate(rows)
        ]
        heapify(queue)
        return queue

    @property
    def _demanded_tokens_per_s(self) -> float:
        workload = self.spec.workload
        return (workload.requests_per_s or 0.0) * (workload.output_tokens or 0)

    def _strain(self) -> Floats:
        """The largest share of its limit that a mean takes, of each candidate at the batch of its mean load."""
        spec, columns = self.spec, self.candidates
        layouts = columns.layouts
        times = replica_times(spec, layouts)
        each = self._demanded_tokens_per_s / (columns.slices * layouts.counted_replicas)
        at = times.at(np.clip(times.smallest_batch_for(each), 1, columns.batch))
        figures = {"ttft": at.ttft_s, "tpot": at.tpot_s, "e2e": at.e2e_s}
        shares = [figures[limit.requirement] / limit.limit_s for limit in self.limits]
        return np.asarray(np.max(shares, axis=0)) if shares else np.zeros(len(columns))

    def _plan(self, row: int) -> Plan | None:
        """The plan of a candidate, as many slices as it needs; None of one that its check refuses."""
        if row not in self._plans:
            plan, margins = rederive(self.offered, self.candidates.assignment(row))
            bits = bits_of(self.offered)
            self._plans[row] = plan if all(margin.holds for margin in margins if margin.requirement in bits) else None
        return self._plans[row]

    def _test(self, proposal: _Proposal) -> tuple[int, tuple[str, ...]]:
        """The batch with which a proposal passes a first look, or else what it breaks."""
        key = proposal.key
        if key not in self._tested:
            self.proposals += 1
            self._tested[key] = self._first_look(proposal)
        return self._tested[key]

    def _first_look(self, proposal: _Proposal) -> tuple[int, tuple[str, ...]]:
        """The batch with which a proposal passes, or what it breaks; smaller ones by bisection where tokens are slow.

        Fewer at once are faster, and wait longer for their turn: where the fewest that serve the load are too slow, no
        other batch is tried.
        """
        plan = self._plan(proposal.row)
        if plan is None:
            return 0, ("check",)
        plan = _with_slices(plan, proposal.slices, proposal.pool_slices)
        step, broken = plan.kv_batch_shards, self._broken(plan)
        if broken != ("tpot",):
            return plan.batch, broken
        high = plan.batch // step
        middle = low = ceil(min(self._fewest_sequences(proposal) / step, high))
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

    def _fewest_sequences(self, proposal: _Proposal) -> float:
        """The smallest batch at which the slices of a proposal put out the tokens that are asked for."""
        layouts = self.candidates.layouts.take(np.array([proposal.row]))
        each = self._demanded_tokens_per_s / (proposal.slices * layouts.counted_replicas)
        return float(replica_times(self.spec, layouts).smallest_batch_for(each)[0])

    def _broken(self, plan: Plan) -> tuple[str, ...]:
        workload, servers = self.spec.workload, servers_slower(self.spec, plan)
        if self._is_late(servers):
            return (Requirement.TTFT,)
        alone = alone_too_late(workload, servers, self.limits)
        if alone:
            return (*alone, "alone")
        try:
            broken = first_look(workload, servers, self.limits)
        except TooLongError:
            return Requirement.HBM, "alone"
        self._remember(servers, broken)
        return broken

    def _remember(self, servers: Servers, broken: Iterable[str]) -> None:
        """Where a pool of its own makes first tokens too late, no other pool behind it helps."""
        if servers.prefill is not None and Requirement.TTFT in broken:
            self._late_prefill.add(_of_first_tokens(servers))

    def _is_late(self, servers: Servers) -> bool:
        return _of_first_tokens(servers) in self._late_prefill

    def _verified(self, proposal: _Proposal, batch: int) -> Verified | tuple[str, ...]:
        """The plan of a proposal after its replays, of as many sequences as were ever under way; or what it breaks."""
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
        most = max(one.served.most_sequences for one in tested.runs)
        step = plan.kv_batch_shards
        for sequences in dict.fromkeys((min(batch, -(-most // step) * step), batch)):
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
        self.broken_by_all |= set(names)
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
        """The next proposals of a layout that fell: the fewest slices that pass, or one more of either pool."""
        if "alone" in broken or "check" in broken:
            return
        if proposal.pool_slices:
            of_prompts = Requirement.TTFT in broken  # which more slices that decode do not help
            for more, pool_more in ((0, 1),) if of_prompts else ((1, 0), (0, 1)):
                slices = proposal.slices + more * max(1, proposal.slices // 32)
                pool = proposal.pool_slices + pool_more * max(1, proposal.pool_slices // 32)
                following = self._proposal(proposal, slices, pool)
                if following is not None and following.key not in self._proposed:
                    self._proposed.add(following.key)
                    yield following
            return
        fewest = self._fewest_that_pass(proposal, most)
        if fewest is not None:
            yield fewest

    def _fewest_that_pass(self, proposal: _Proposal, most: float) -> _Proposal | None:
        """The fewest slices more than a proposal's that pass a first look for less than `most`.

        If none pass, the first number of slices that costs at least `most`, untested: the plan that set `most` may
        still fail its full replays. None if limits on resources forbid more slices.
        """
        failed, found = proposal.slices, None
        for power in counting():
            following = self._proposal(proposal, proposal.slices + 2**power, 0)
            if following is None or following.usd_per_hour >= most:
                found = self._dearest_below(proposal, failed, most)
                if found is None or not self._passes(found):
                    return self._proposal(proposal, (failed if found is None else found.slices) + 1, 0)
                break
            if self._passes(following):
                found = following
                break
            failed = following.slices
        return None if found is None else self._fewest_between(failed, found)

    def _fewest_between(self, failed: int, passes: _Proposal) -> _Proposal:
        """The fewest slices that pass, of those above a number that failed and up to one that passes, by bisection."""
        above = failed
        while passes.slices - failed > 1:
            middle = self._proposal(passes, (passes.slices + failed) // 2, 0)
            if middle is not None and self._passes(middle):
                passes = middle
            else:
                failed = (passes.slices + failed) // 2
        for fewer in (passes.slices - 2, passes.slices - 1):
            below = self._proposal(passes, fewer, 0) if fewer > above else None
            if below is not None and self._passes(below):
                return below
        return passes

    def _dearest_below(self, proposal: _Proposal, failed: int, most: float) -> _Proposal | None:
        """The most slices above `failed` that limits allow for less than `most`; None where none do."""
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
        """The same layout with other slices; None where limits on what is taken do not allow them, or as many."""
        if max(slices, pool_slices) > MOST_SLICES:
            return None
        row = self.candidates.layouts.take(np.array([proposal.row]))
        usd = float(row.purchase.usd_per_hour(np.array([slices]), np.array([pool_slices]))[0])
        plan = self._plan(proposal.row)
        if plan is None:
            return None
        if self._has_resource_limits:
            _, margins = rederive(self.spec, _with_slices(plan, slices, pool_slices))
            if not all(margin.holds for margin in margins):
                return None
        return _Proposal(usd, proposal.strain, proposal.row, slices, pool_slices)

    @cached_property
    def _has_resource_limits(self) -> bool:
        search = self.spec.search
        limits = (search.max_chips, search.max_usd_per_hour, search.max_instances, search.max_slices, search.quota)
        return any(limits) or bool(self.spec.expressions)

    def conflicts(self) -> tuple[tuple[str, ...], ...]:
        """The minimal sets of requirements that no plan satisfies together."""
        columns = self.columns
        if self.broken_by_all:
            bits = sum(REQUIREMENT_BIT[name] for name in self.broken_by_all if name in REQUIREMENT_BIT)
            passed = columns.violated == 0
            columns = replace(columns, violated=np.where(passed, bits, columns.violated))
        return minimal_conflicts(columns, bits_of(self.offered))


def _layouts(spec: Spec, offered: Spec) -> Layouts:
    """The layouts of a search; of pairs of pools those that are cheapest, and those whose means are within limits."""
    one_pool = [mode for mode in spec.modes if mode is not Mode.DISAGGREGATED]
    searched = searched_layouts(offered, undominated=True)
    parts = []
    if one_pool:
        parts.append(in_modes(offered.changed({"search.modes": one_pool}), searched))
    if Mode.DISAGGREGATED in spec.modes:
        for limited in (offered, spec.in_means()):
            parts.append(in_modes(limited.changed({"search.modes": [Mode.DISAGGREGATED]}), searched))
    parts = [part for part in parts if len(part)] or parts[:1]
    joined = parts[0].join(*parts[1:])
    return replace(joined, number=np.arange(len(joined)))


def _beyond_bounds(spec: Spec, layouts: Layouts) -> Ints:
    """The bits of limits that a request alone on a replica breaks: its prompt's work, and a step of one sequence."""
    slower = 1 + layouts.tpot_margin
    without_prompts = replace(layouts, serving=decoding(layouts.serving.slices))
    drafting = layouts.replica.drafting  # with luck every token drafted is accepted
    step = replica_times(spec, without_prompts).at(np.ones(len(layouts))).tpot_s * slower
    step = step * (drafting.accepted / drafting.verified)
    prompt = prompt_times(spec, layouts)
    work = (prompt.request_s + np.minimum(prompt.prefill_s, prompt.chunked_s)) * slower
    work = np.where(layouts.serving.pool_place >= 0, layouts.serving.first_token_s, work)
    least = {"ttft": work, "tpot": step, "e2e": work + ((spec.workload.output_tokens or 1) - 1) * step}
    mask = np.zeros(len(layouts), dtype=np.int64)
    for limit in limits_of(spec):
        mask |= np.where(is_at_most(least[limit.requirement], limit.limit_s), 0, REQUIREMENT_BIT[limit.requirement])
    return mask


def _of_first_tokens(servers: Servers) -> tuple[Pool | None, float, float]:
    """What the times of first tokens depend on where a pool of its own makes them."""
    return servers.prefill, servers.transfer_s, servers.request_s


def _with_slices(plan: Plan, slices: int, pool_slices: int) -> Plan:
    pool = None if plan.prefill is None else replace(plan.prefill, slices=pool_slices)
    return replace(plan, slices=slices, prefill=pool)


def _with_batch(plan: Plan, batch: int) -> Plan:
    return replace(plan, batch=batch, kv_cache_bytes=plan.kv_cache_bytes * batch / plan.batch)
