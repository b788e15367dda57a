"""A plan replayed: its replicas as an engine runs them, the requests of its spec, and what became of these."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from servesat.candidates.replicas import replica_of
from servesat.catalogue.chip import chips_in
from servesat.catalogue.engine import LARGEST_PAGE, Engine, in_units
from servesat.catalogue.traces import Trace
from servesat.core.arrays import Bools, Floats
from servesat.core.errors import SpecError
from servesat.core.plan import Assignment, Mode, Plan
from servesat.core.tolerances import is_at_most, round_up
from servesat.cost_model.decode import Replica as Machine
from servesat.replay.percentiles import RequestTimes, known, times_of
from servesat.replay.pools import Pool, Router, Servers, Serving
from servesat.replay.requests import Lengths, Requests, cached_tokens, drawn
from servesat.replay.scheduler import Scheduling, Served
from servesat.replay.step_times import step_times
from servesat.replay.warm_up import settling_requests, warm_up_requests
from servesat.spec.searched import PERCENTILE_IN_PRODUCTION
from servesat.spec.slo import LIMITS
from servesat.spec.spec import Spec
from servesat.spec.workload import Workload

PREFILL_SEQUENCES = 8
"""Prompts that a server of a prefill pool may hold at a time: one in work, and some whose KV cache is being fetched."""

WARM_UP = 0.1
"""The share of random requests that percentiles leave out; more are left out where replicas fill up more slowly."""

MOST_WARM_UP = 500_000
"""The most requests that are replayed until all replicas are full."""

REPLICAS_OF_POOLS = 16
"""The replicas of two pools up to which all are replayed under random arrivals; of more a sample with their shares."""

SHARES_RTOL = 0.005
"""How near the ratio of the pools of a sample is to that of all."""

AHEAD = frozenset({"vllm"})
"""Programs that prepare a step while the last one runs."""

PROMPTS_FIRST = frozenset({"sglang"})
"""Programs whose steps take whole prompts or decode, prompts first; and both where prompts come in chunks."""


@dataclass(frozen=True)
class Limit:
    """A limit on a time of a share of the requests; `requirement` is `ttft`, `tpot` or `e2e`, `limit_s` in seconds."""

    requirement: str
    share: float
    limit_s: float

    def of_each(self, times: RequestTimes) -> Floats:
        """The figure that it limits; NaN where a request has none."""
        values: Floats = getattr(times, f"{self.requirement}_s")
        return values

    def of(self, times: RequestTimes) -> Floats:
        """The figure that it limits, of the requests that have one: all but those of one token, which have no TPOT."""
        values = self.of_each(times)
        return known(values) if self.requirement == "tpot" else values

    def concerns(self, requests: Requests) -> int:
        """How many of some requests have the figure."""
        return int(np.sum(requests.output_tokens > 1)) if self.requirement == "tpot" else len(requests)

    def met_by(self, times: RequestTimes) -> Bools:
        """Which of the requests that have the figure are within it."""
        return is_at_most(self.of(times), self.limit_s)

    def share_met(self, times: RequestTimes) -> float:
        """The share of them that is within it; 1 where none has the figure."""
        met = self.met_by(times)
        return float(np.mean(met)) if len(met) else 1.0


def limits_of(spec: Spec) -> tuple[Limit, ...]:
    """The limits of a spec whose percentiles hold; each key's own are instead of `slo.percentile`."""
    found = []
    for key in LIMITS:
        value, several = getattr(spec.slo, key), spec.slo.percentiles.get(key, {})
        figure = key.removesuffix("_ms")
        found += [Limit(figure, float(name[1:]) / 100, limit / 1e3) for name, limit in several.items()]
        if value is not None and not several:
            found.append(Limit(figure, spec.percentile or PERCENTILE_IN_PRODUCTION, value / 1e3))
    return tuple(found)


def within(limits: Sequence[Limit], times: RequestTimes) -> Bools:
    """Which requests are within all limits; of several percentiles of a time, within the longest."""
    longest: dict[str, Limit] = {}
    for limit in sorted(limits, key=lambda limit: limit.limit_s):
        longest[limit.requirement] = limit
    found = np.ones(len(times.ttft_s), dtype=np.bool_)
    for limit in longest.values():
        values = limit.of_each(times)
        found &= np.isnan(values) | is_at_most(values, limit.limit_s)
    return found


def servers_of(spec: Spec, plan: Plan) -> Servers:
    """The replicas of a plan, with the flags that start it.

    Raises SpecError where they serve no prompts, TooLongError where the longest request does not fit into one.
    """
    if plan.mode is Mode.DECODE_ONLY:
        raise SpecError("a plan without prompts cannot be replayed: give workload.prompt_tokens and output_tokens")
    machine = _machine(spec, plan)
    times = step_times(spec, machine, plan)
    engine = spec.engine_of(plan.engine) if plan.engine else None
    program = None if engine is None else engine.program
    new = int(round_up(spec.workload.new_prompt_tokens))
    whole = plan.chunk_tokens is None or plan.chunk_tokens >= new
    alone = whole if program in PROMPTS_FIRST else program is None and plan.mode is Mode.INTERLEAVED
    pools = plan.mode is Mode.DISAGGREGATED
    scheduling = Scheduling(
        step_tokens=_step_tokens(plan, engine, 0 if pools else new, whole=whole),
        sequences=plan.batch,
        kv_tokens=room_of(spec, plan),
        prompts_alone=alone and not pools,
        lag=program in AHEAD,
        with_cache=pools,
        verified=plan.draft_tokens + 1,
        accepted=plan.accepted_tokens if plan.draft else 1,
    )
    pool, longest = Pool(times, scheduling, plan.slices * plan.replicas), _longest_tokens(spec, plan)
    if plan.prefill is None:
        return Servers(pool, request_s=times.request_s, longest_tokens=longest)
    side = plan.prefill.alone(plan.kv_cache, plan.engine)
    of_prompts = _machine(spec, side)
    replicas = plan.prefill.slices * chips_in(side.topology) // round(float(of_prompts.chips))
    prompts = Scheduling(
        step_tokens=new + PREFILL_SEQUENCES,
        sequences=PREFILL_SEQUENCES,
        kv_tokens=float(PREFILL_SEQUENCES * (spec.workload.prompt_tokens or 1)),
        lag=program in AHEAD,
    )
    first = Pool(step_times(spec, of_prompts, side), prompts, replicas)
    return Servers(pool, first, (plan.transfer_ms or 0.0) / 1e3, times.request_s, longest)


def _step_tokens(plan: Plan, engine: Engine | None, new: int, *, whole: bool) -> int:
    """Tokens that a step may take in all groups of chips and stages, by the flags that start a plan.

    One for each sequence and each token drafted; of prompts a chunk, or in each group a `whole` one of `new` tokens.
    SGLang takes them in pages, and whole prompts without sequences; others in whole units of their chunks.
    """
    verified, groups = plan.draft_tokens + 1, 1 if engine is None else plan.ep
    prompts_first = engine is not None and engine.program in PROMPTS_FIRST and new > 0
    unit = LARGEST_PAGE if prompts_first else engine.chunk_unit if engine is not None else None
    if unit is None:
        return plan.batch * verified + (new * groups if whole else plan.chunk_tokens or 0) * plan.pp
    decoding = 0 if whole and prompts_first else -(-plan.batch // (groups * plan.pp)) * verified
    prompt = new if whole else -(-(plan.chunk_tokens or 0) // groups)
    return in_units(decoding + prompt, unit) * groups * plan.pp


def _machine(spec: Spec, assignment: Assignment) -> Machine:
    chip = next(chip for chip in spec.chips if chip.id == assignment.chip)
    return replica_of(spec, chip, assignment)


def room_of(spec: Spec, plan: Plan) -> float:
    """Tokens of KV cache that fit beside the weights: of sequences as long as the workload's."""
    free = plan.hbm_bytes * (1 - spec.kept_free) - plan.weights_bytes - plan.runtime_bytes - plan.activation_bytes
    return free / (plan.kv_cache_bytes / plan.batch) * spec.workload.held_tokens


class TooLongError(SpecError):
    """A request that is longer than the room for KV cache: it would never end."""


def _longest_tokens(spec: Spec, plan: Plan) -> int:
    """The most tokens of a request, as servers are started for: within the model's context.

    Raises TooLongError if a group of chips that attends apart has no room for it.
    """
    longest = spec.longest_request_tokens
    room = room_of(spec, plan) * plan.pp / plan.kv_batch_shards
    if not is_at_most(longest, room):
        raise TooLongError(
            f"a request of {longest:,} tokens never fits: weights leave room for {room:,.0f} in a replica"
        )
    return longest


def requests_of(workload: Workload, count: int, seed: int, *, longest_tokens: int, one_of: float = 1) -> Requests:
    """Requests of a workload, as many as asked for: the first of its trace, or random ones, none of which is longer.

    With `one_of` n, the random requests that a router sends to one of n replicas, or to one of n such samples.
    """
    trace, rate = workload.arrivals.recorded, workload.requests_per_s or 1.0
    if trace is not None:
        return of_trace(trace, workload.cached_share).at_rate(rate).take(np.arange(min(count, len(trace.arrival_s))))
    lengths = Lengths(
        float(workload.prompt_tokens or 1),
        float(workload.output_tokens or 1),
        workload.cached_share,
        workload.lengths.prompt_cv,
        workload.lengths.output_cv,
        longest_tokens,
    )
    return drawn(rate / one_of, count, lengths, cv=workload.arrivals.gamma_cv, seed=seed, one_of=one_of)


def of_trace(trace: Trace, cached_share: float = 0.0) -> Requests:
    """The requests of a trace, of whose prompts a share is cached."""
    cached = cached_tokens(trace.prompt_tokens, cached_share)
    return Requests(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, cached)


@dataclass(frozen=True)
class Run:
    """One replay: its requests, what replicas did, and what requests took, `times` without those of the warm-up."""

    requests: Requests
    served: Served
    every: RequestTimes
    times: RequestTimes
    busy_share: float


class Replay:
    """A replay of a workload's requests, which can be looked at while it is under way.

    Under random arrivals one replica stands for a pool, and a sample for two large pools, unless the `whole` is asked
    for. If the replicas take more than the share WARM_UP of the requests to fill up, that many more are replayed, and
    with `settled` as many more as it takes until their queues are as long as they will be.
    """

    def __init__(
        self,
        workload: Workload,
        servers: Servers,
        count: int,
        seed: int,
        *,
        router: Router = "random",
        whole: bool = False,
        settled: bool = False,
    ) -> None:
        """Set up the replay; nothing has run yet.

        Raises SpecError where too many requests arrive while the whole fills up.
        """
        self.is_random, self.router, self.seed = workload.arrivals.trace is None, router, seed
        self.servers = sample_of(servers) if self.is_random and not whole else servers
        one_of = servers.pool.replicas / self.servers.pool.replicas
        self.warm_up = self.settling = 0
        if self.is_random:
            rate = (workload.requests_per_s or 1.0) / one_of
            filling = warm_up_requests(self.servers, workload, rate)
            self.settling = settling_requests(self.servers, workload, rate, one_of)
            filling = max(filling, self.settling) if settled else filling
            if whole and filling > MOST_WARM_UP:
                raise SpecError(
                    f"{filling:,} requests arrive until {servers.pool.replicas:,} replicas are full, more than the "
                    f"{MOST_WARM_UP:,} that are replayed: replay fewer slices, with their share of the rate"
                )
            share = int(WARM_UP * count)
            self.warm_up = max(share, filling)
            count += self.warm_up - share
        self.requests = requests_of(workload, count, seed, one_of=one_of, longest_tokens=servers.longest_tokens)

    def first(self, count: int) -> RequestTimes:
        """The least times of the first so many requests, given all steps before the next one comes, without a warm-up.

        With two pools, the times of a replay of these requests alone.
        """
        some = self.requests.take(np.arange(count))
        if self.servers.prefill is not None:
            return self._so_far(times_of(some, self.servers.serve(some, self.router, self.seed)))
        served = self._serving.until(float(self._serving.arrival_s[count]))
        so_far = replace(served, first_s=served.first_s[:count], last_s=served.last_s[:count])
        return self._so_far(times_of(some, so_far))

    @property
    def has_settled(self) -> bool:
        """Whether queues are as long as they will be after the warm-up."""
        return self.settling <= self.warm_up

    @cached_property
    def run(self) -> Run:
        """All of it, run to its end."""
        one_pool = self.servers.prefill is None
        served = self._serving.until() if one_pool else self.servers.serve(self.requests, self.router, self.seed)
        every = times_of(self.requests, served)
        span_s = float(np.max(served.last_s)) - float(self.requests.arrival_s[0])
        busy_share = served.busy_s / (span_s * self.servers.pool.replicas)
        return Run(self.requests, served, every, every.take(slice(self.warm_up, None)), busy_share)

    @cached_property
    def _serving(self) -> Serving:
        return Serving(self.servers.pool, self.servers.came(self.requests, self.seed), self.router, self.seed)

    def _so_far(self, times: RequestTimes) -> RequestTimes:
        """The first times without the share WARM_UP; times only grow while replicas fill up."""
        return times.take(slice(int(WARM_UP * len(times.ttft_s)), None)) if self.is_random else times


def sample_of(servers: Servers) -> Servers:
    """One replica of a single pool; of two large pools the fewest replicas that keep their ratio."""
    if servers.prefill is None:
        return replace(servers, pool=replace(servers.pool, replicas=1))
    decoding, prompts = servers.pool.replicas, servers.prefill.replicas
    for sampled in range(1, decoding):
        near = (2 * prompts * sampled + decoding) // (2 * decoding)
        off = abs(near * decoding - prompts * sampled)
        if near + sampled > REPLICAS_OF_POOLS and off <= SHARES_RTOL * prompts * sampled:
            pools = replace(servers.pool, replicas=sampled), replace(servers.prefill, replicas=near)
            return replace(servers, pool=pools[0], prefill=pools[1])
    return servers
