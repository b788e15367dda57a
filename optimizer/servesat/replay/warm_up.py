"""How many requests find replicas that still fill up, by the means of their steps: percentiles leave them out.

Near a steady state with n requests under way, of which x(n) are done a second, an excess decays with the time constant
1 / x'(n), in which λ / x'(n) requests arrive: n where steps take as long for any batch, more where they take longer.
"""

from math import ceil, inf, sqrt

import numpy as np

from servesat.replay.least_times import prompt_work_s
from servesat.replay.pools import Pool, Servers
from servesat.replay.requests import Requests
from servesat.spec.workload import Workload

TIME_CONSTANTS = 2
"""Time constants after which replicas count as full."""

MOST_FILLS = 4
"""The most requests left out, as a multiple of those under way: near saturation a time constant has no end."""

MOST_BUSY = 0.95
"""The largest share of their time that replicas of prompts count as busy for."""


def warm_up_requests(servers: Servers, workload: Workload, requests_per_s: float) -> int:
    """The requests that arrive at all replicas while these fill up."""
    prompts, request = servers.prefill, _mean_request(workload)
    work_s = float(prompt_work_s(prompts or servers.pool, request)[0])
    if prompts is None:
        return ceil(_until_full(servers.pool, request, requests_per_s, work_s))
    decoding = _until_full(servers.pool, request, requests_per_s, 0.0)
    return ceil(max(decoding, _until_queued(prompts.replicas, requests_per_s, work_s)))


def _mean_request(workload: Workload) -> Requests:
    tokens = workload.prompt_tokens or 1, workload.output_tokens or 1, workload.cached_prompt_tokens
    prompt, output, cached = (np.array([round(count)]) for count in tokens)
    return Requests(np.zeros(1), prompt, output, cached)


def _until_full(pool: Pool, request: Requests, requests_per_s: float, prompt_s: float) -> float:
    """The requests until the n under way of each replica are as many as they will be.

    That is the smallest n of which as many are done as arrive, with x(n) = n / (steps · step(n) + n · prompt). None
    where more arrive than are done: they will be ever more.
    """
    limits, arriving = pool.scheduling, requests_per_s / pool.replicas
    prompt, output = float(request.prompt_tokens[0]), float(request.output_tokens[0])

    def done_per_s(under_way: int) -> float:
        step_s = pool.times.decode_run(under_way, under_way * (prompt + output / 2), 0.0)[0]
        return under_way / (output / limits.accepted * step_s + under_way * prompt_s)

    low, high = 1, max(1, limits.sequences)
    if done_per_s(high) < arriving:
        return 0.0
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if done_per_s(middle) >= arriving else (middle + 1, high)
    gained_per_s = done_per_s(low + 1) - done_per_s(low)
    constant = arriving / gained_per_s if gained_per_s > 0 else inf
    return pool.replicas * min(TIME_CONSTANTS * constant, MOST_FILLS * low)


def _until_queued(replicas: int, requests_per_s: float, prompt_s: float) -> float:
    """The requests until queues of prompts are as long as they will be.

    The time constant of a queue is 1 / (1 - √ρ)² services for random ones, half that for equal ones (M/M/1 and M/D/1;
    Cohen, The Single Server Queue).
    """
    busy = min(MOST_BUSY, requests_per_s / replicas * prompt_s)
    return TIME_CONSTANTS * replicas * busy / (1 - sqrt(busy)) ** 2 / 2
