"""All replicas of a plan: a router before one pool, or two pools one behind the other."""

from bisect import bisect_left
from dataclasses import dataclass, replace
from math import inf
from typing import Literal

import numpy as np

from servesat.replay.requests import Requests, steps_of
from servesat.replay.scheduler import Ledger, Replica, Scheduling, Served, served
from servesat.replay.step_times import StepTimes
from servesat.spec.workload import MAX_TOKENS

Router = Literal["random", "round_robin", "least_load"]
"""How a request is assigned to a replica: at random, in turn, or to the one with the fewest requests under way."""


@dataclass(frozen=True)
class Pool:
    """So many replicas that are alike."""

    times: StepTimes
    scheduling: Scheduling
    replicas: int

    def serve(self, requests: Requests, router: Router = "random", seed: int = 0) -> Served:
        """When each request has its first token, and its last."""
        return Serving(self, requests, router, seed).until()


class Serving:
    """A pool at work on requests, each of which is with one of its replicas."""

    def __init__(self, pool: Pool, requests: Requests, router: Router = "random", seed: int = 0) -> None:
        """Set up the replicas; no request has arrived yet."""
        self.ledger = Ledger(requests, with_cache=pool.scheduling.with_cache)
        self.arrival_s: list[float] = requests.arrival_s.tolist()
        self.replicas = [Replica(pool.times, pool.scheduling, self.ledger) for _ in range(pool.replicas)]
        self.given = 0
        self.chosen: list[int] | None = None  # the replica of each request, where it does not depend on their loads
        if router == "random":
            self.chosen = np.random.default_rng([seed, 2]).integers(pool.replicas, size=len(requests)).tolist()
        elif router == "round_robin":
            self.chosen = (np.arange(len(requests)) % pool.replicas).tolist()

    def until(self, time_s: float = inf) -> Served:
        """Run the steps that begin before a time; tokens of later steps are set to that time, the least they can be."""
        came = bisect_left(self.arrival_s, time_s, self.given)
        for request in range(self.given, came):
            self._replica_of(request).give(request)
        self.given = came
        for replica in self.replicas:
            replica.advance(time_s)
        done = served(self.ledger, self.replicas)
        if time_s == inf:
            return done
        return replace(done, first_s=np.minimum(done.first_s, time_s), last_s=np.minimum(done.last_s, time_s))

    def _replica_of(self, request: int) -> Replica:
        """Where a request is sent, after those before it."""
        if self.chosen is not None:
            return self.replicas[self.chosen[request]]
        for replica in self.replicas:
            replica.advance(self.arrival_s[request])
        return min(self.replicas, key=lambda replica: replica.under_way)


@dataclass(frozen=True)
class Servers:
    """A pool, and where there is one the pool that prefills before it, with the time in which a KV cache moves.

    A request waits for `request_s` before its prompt, and has `longest_tokens` at most.
    """

    pool: Pool
    prefill: Pool | None = None
    transfer_s: float = 0.0
    request_s: float = 0.0
    longest_tokens: int = 2 * MAX_TOKENS

    def scaled(self, factor: float) -> "Servers":
        """The same, every step slower by a factor."""
        pools = [pool and replace(pool, times=pool.times.scaled(factor)) for pool in (self.pool, self.prefill)]
        assert pools[0] is not None
        return replace(self, pool=pools[0], prefill=pools[1], request_s=self.request_s * factor)

    def came(self, requests: Requests, seed: int = 0) -> Requests:
        """Requests as the first pool gets them: later, and with steps for tokens.

        Where tokens are drafted ahead, how many of them are accepted is drawn.
        """
        came = replace(requests, arrival_s=requests.arrival_s + self.request_s)
        limits = self.pool.scheduling
        if limits.verified > 1:
            steps = steps_of(came.output_tokens, limits.verified - 1, limits.accepted, seed)
            came = replace(came, output_tokens=steps)
        return came

    def serve(self, requests: Requests, router: Router = "random", seed: int = 0) -> Served:
        """When each request has its first token, and its last."""
        came = self.came(requests, seed)
        if self.prefill is None:
            return self.pool.serve(came, router, seed)
        prompts = replace(came, output_tokens=np.ones_like(came.output_tokens))
        first = self.prefill.serve(prompts, router, seed)
        ready_s = first.first_s + self.transfer_s
        order = np.argsort(ready_s, kind="stable")
        moved = replace(came, arrival_s=ready_s).take(order)
        then = self.pool.serve(moved, router, seed + 1)
        last_s = np.empty_like(ready_s)
        last_s[order] = then.last_s
        return replace(then, first_s=ready_s, last_s=last_s)
