"""How many requests find replicas that still fill up, by the means of their steps: percentiles leave them out.

Near a steady state with n requests under way, of which x(n) are done a second, an excess decays with the time constant
1 / x'(n), in which λ / x'(n) requests arrive: n where steps take as long for any batch, more where they take longer.
"""

from math import inf, sqrt

from servesat.core.tolerances import round_down, round_up
from servesat.replay.least_times import prompt_work_s
from servesat.replay.pools import Pool, Servers
from servesat.replay.requests import Lengths, Requests, drawn
from servesat.replay.step_times import pairs_of
from servesat.spec.workload import Workload

TIME_CONSTANTS = 2
"""Time constants after which replicas count as full."""

MOST_FILLS = 10
"""The most requests left out, as a multiple of those under way by the means: near saturation a constant has no end."""

MOST_BUSY = 0.95
"""The largest share of their time that replicas of prompts count as busy for."""

MOST_SETTLING = 20_000
"""The most requests of a replica until queues have settled: as many as at 98.6 % of its capacity if they are alike."""


def warm_up_requests(servers: Servers, workload: Workload, requests_per_s: float) -> int:
    """The requests that arrive at all replicas while these fill up."""
    prompts, request = servers.prefill, _mean_request(workload)
    found = _until_full(servers.pool, request, requests_per_s)
    if prompts is not None:
        work_s = float(prompt_work_s(prompts, request)[0])
        found = max(found, _until_queued(prompts.replicas, requests_per_s, work_s))
    return int(round_up(found))


def settling_requests(servers: Servers, workload: Workload, requests_per_s: float, one_of: float = 1) -> int:
    """The requests that arrive at all replicas until the queues before full ones, too, are as long as they will be.

    Near saturation these are many times as many as `warm_up_requests`: 9,700 at 98 % of what a replica can do. Bursts,
    of which a router sends one in `one_of` here, and lengths that differ multiply them by their squared variation.
    """
    pool, prompts, request, lengths = servers.pool, servers.prefill, _mean_request(workload), workload.lengths
    of_arrivals = 1 + (workload.arrivals.gamma_cv**2 - 1) / one_of
    varied = max(1.0, of_arrivals + max(lengths.prompt_cv, lengths.output_cv) ** 2)
    fit = pool.scheduling.kv_tokens / float(request.prompt_tokens[0] + request.output_tokens[0])
    most = max(1, min(pool.scheduling.sequences, int(round_down(min(fit, 1e9)))))
    under_way = {most, *(2**power for power in range(most.bit_length()))}
    most_per_s = max(done_per_s(pool, request, some) for some in under_way)
    found = _until_queued(pool.replicas, requests_per_s, 1 / most_per_s, most_busy=1.0, varied=varied)
    if prompts is not None:
        work_s = float(prompt_work_s(prompts, request)[0])
        found = max(found, _until_queued(prompts.replicas, requests_per_s, work_s, most_busy=1.0, varied=varied))
    return int(round_up(found))


def _mean_request(workload: Workload) -> Requests:
    lengths = Lengths(float(workload.prompt_tokens or 1), float(workload.output_tokens or 1), workload.cached_share)
    return drawn(1.0, 1, lengths)


def _until_full(pool: Pool, request: Requests, requests_per_s: float) -> float:
    """The requests until the n under way of each replica are as many as they will be.

    That is the smallest n at which as many requests finish as arrive; more than that leave prompts less of a step. 0
    where fewer finish than arrive at any n: such replicas never settle.
    """
    arriving_per_s, most = requests_per_s / pool.replicas, max(1, pool.scheduling.sequences)
    low, high = 1, 1
    while done_per_s(pool, request, high) < arriving_per_s:
        if high == most:
            return 0.0
        low, high = high + 1, min(2 * high, most)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if done_per_s(pool, request, middle) >= arriving_per_s else (middle + 1, high)
    gained_per_s = done_per_s(pool, request, low + 1) - done_per_s(pool, request, low)
    constant = arriving_per_s / gained_per_s if gained_per_s > 0 else inf
    return pool.replicas * min(TIME_CONSTANTS * constant, MOST_FILLS * low)


def done_per_s(pool: Pool, request: Requests, under_way: int) -> float:
    """The requests alike that a replica finishes in a second with so many that decode.

    In a step n / steps of them end and as many prompts are computed: in the same step, in its budget, or in one of
    their own where prompts are alone; by another pool if it keeps the cache.
    """
    limits, times = pool.scheduling, pool.times
    prompt, output, cached = (
        float(tokens[0]) for tokens in (request.prompt_tokens, request.output_tokens, request.cached_tokens)
    )
    kv_tokens, new, ended = under_way * (prompt + output / 2), prompt - cached, under_way * limits.accepted / output
    if limits.with_cache:
        return ended / times.decode_run(under_way, kv_tokens, 0.0)[0]
    if limits.prompts_alone:
        step_s = times.decode_run(under_way, kv_tokens, 0.0)[0]
        return ended / (step_s + ended * float(prompt_work_s(pool, request)[0]))
    decoded = under_way * limits.verified if output > 1 else 0
    ended = min(ended, (limits.step_tokens - decoded) / new)
    pairs = ended * pairs_of(cached, new)
    return ended / times.mixed_run(under_way, kv_tokens, ended * new, pairs, ended, 0.0, 1)[0]


def _until_queued(
    replicas: int, requests_per_s: float, service_s: float, *, most_busy: float = MOST_BUSY, varied: float = 1.0
) -> float:
    """The requests until queues are as long as they will be, before replicas that count as busy for so long at most.

    The time constant of a queue is 1 / (1 - √ρ)² services for random ones (M/M/1; Cohen, The Single Server Queue), and
    under heavy load half that for equal ones: as far as the squared variation of arrivals and services, `varied`.
    """
    busy = min(most_busy, requests_per_s / replicas * service_s)
    constant = varied * busy / (1 - sqrt(busy)) ** 2 / 2 if busy < 1 else inf
    return replicas * min(TIME_CONSTANTS * constant, MOST_SETTLING)
