"""All replicas of a plan: a router before one pool, or two pools one behind the other."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from servesat.replay.requests import Requests, steps_of
from servesat.replay.scheduler import Ledger, Replica, Scheduling, Served, served
from servesat.replay.step_times import StepTimes

Router = Literal["random", "round_robin", "least_load"]
"""How requests find a replica: as a service that keeps no state sends them, in turn, or where the fewest are."""


@dataclass(frozen=True)
class Pool:
    """So many replicas that are alike."""

    times: StepTimes
    scheduling: Scheduling
    replicas: int

    def serve(self, requests: Requests, router: Router = "random", seed: int = 0) -> Served:
        """When each request has its first token, and its last."""
        ledger = Ledger(requests, with_cache=self.scheduling.with_cache)
        replicas = [Replica(self.times, self.scheduling, ledger) for _ in range(self.replicas)]
        if router != "least_load":
            chosen = np.arange(len(requests)) % self.replicas
            if router == "random":
                chosen = np.random.default_rng([seed, 2]).integers(self.replicas, size=len(requests))
            for request, at in enumerate(chosen.tolist()):
                replicas[at].give(request)
        else:
            for request, arrival in enumerate(requests.arrival_s.tolist()):
                for replica in replicas:
                    replica.advance(arrival)
                min(replicas, key=lambda replica: replica.under_way).give(request)
        for replica in replicas:
            replica.advance()
        return served(ledger, replicas)


@dataclass(frozen=True)
class Servers:
    """A pool, and where there is one the pool that prefills before it, with the time in which a KV cache moves.

    A request waits for `request_s` before its prompt.
    """

    pool: Pool
    prefill: Pool | None = None
    transfer_s: float = 0.0
    request_s: float = 0.0

    def scaled(self, factor: float) -> "Servers":
        """The same, every step slower by a factor."""
        pools = [pool and replace(pool, times=pool.times.scaled(factor)) for pool in (self.pool, self.prefill)]
        assert pools[0] is not None
        return replace(self, pool=pools[0], prefill=pools[1], request_s=self.request_s * factor)

    def serve(self, requests: Requests, router: Router = "random", seed: int = 0) -> Served:
        """When each request has its first token, and its last.

        Where tokens are drafted ahead, how many of them are accepted is drawn.
        """
        came = replace(requests, arrival_s=requests.arrival_s + self.request_s)
        limits = self.pool.scheduling
        if limits.verified > 1:
            steps = steps_of(came.output_tokens, limits.verified - 1, limits.accepted, seed)
            came = replace(came, output_tokens=steps)
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
