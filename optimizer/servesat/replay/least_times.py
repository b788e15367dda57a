"""Lower bounds on the times of requests without a replay: what prompts ahead of them take, however steps are filled."""

import numpy as np

from servesat.core.arrays import Floats
from servesat.replay.percentiles import RequestTimes
from servesat.replay.pools import Pool, Servers
from servesat.replay.requests import Requests
from servesat.replay.step_times import StepTimes


def least_times(servers: Servers, requests: Requests) -> RequestTimes:
    """The least that requests can take which are all sent to one replica of the pool of their prompts.

    Prompts are computed in the order of their arrival, so that the last token of prompt i is not computed before
    max over k ≤ i of (a_k + w_k + … + w_i), with w the work of a prompt in `prompt_work_s` (Lindley's recursion of a
    queue with one server). Each later token takes a step, or its share of one where all drafted tokens are accepted.
    """
    work_s = prompt_work_s(servers.prefill or servers.pool, requests)
    came_s, so_far_s = requests.arrival_s + servers.request_s, np.cumsum(work_s)
    first_s = so_far_s + np.maximum.accumulate(came_s - (so_far_s - work_s)) + servers.transfer_s
    ttft_s = first_s - requests.arrival_s
    later, times = requests.output_tokens - 1, servers.pool.times
    token_s = least_step_s(times) / times.verified
    return RequestTimes(ttft_s, np.where(later > 0, token_s, np.nan), ttft_s + later * token_s)


def least_step_s(times: StepTimes) -> float:
    """The time of a step with a single token: of launches, and to load what every token needs [s]."""
    loaded_s = times.resident_s + times.experts_s * (1.0 - times.not_visited)
    return max(times.least_s, times.fixed_s + loaded_s + times.head_s + times.sent_s)


def prompt_work_s(pool: Pool, requests: Requests) -> Floats:
    """What the prompts add to the steps that they are in, whatever else is in these [s]; shape [requests].

    Their FLOPs, what is sent of them, what the engine takes for each, and of the fixed time of a step the share of its
    tokens that are theirs.
    """
    times, cached = pool.times, requests.cached_tokens
    new = requests.prompt_tokens - cached
    pairs = new * (cached + new / 2)
    token_s = times.prompt_token_s + times.sent_s + times.fixed_s / max(1, pool.scheduling.step_tokens)
    return np.asarray(new * token_s + pairs * times.attention_s + times.prompt_end_s)
