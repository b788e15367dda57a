"""What is predicted of a measured deployment whose requests arrive at a rate: a replay of as many as were sent."""

from collections.abc import Sequence
from dataclasses import replace
from math import inf, isfinite

import numpy as np

from servesat.catalogue.measurements import Measurement
from servesat.cost_model.calibrated import Constants, Work
from servesat.cost_model.decode import Replica
from servesat.replay.percentiles import known, percentile, times_of
from servesat.replay.pools import Pool
from servesat.replay.replayed import AHEAD, PROMPTS_FIRST
from servesat.replay.requests import Lengths, drawn
from servesat.replay.scheduler import Scheduling
from servesat.replay.step_times import kv_line, of_work, pairs_of

SEEDS = range(4)
"""Replays of a row; a measurement is one of them."""

LARGE, SMALL = (8192, 1024), (2048, 256)
"""Tokens and sequences of a step that engines allow by default: on chips of at least LARGE_BYTES, and on others."""

LARGE_BYTES = 70e9

SEQUENCES = {"sglang": 256}
"""The most sequences of a step of engines that leave it to the memory, as far as measurements go."""


def open_loop_figures(
    row: Measurement,
    replica: Replica,
    work: Work,
    constants: Constants,
    sequences_in_memory: float,
    *,
    seeds: Sequence[int] = SEEDS,
) -> dict[str, float]:
    """Of Poisson arrivals at `requests_per_s`, or all at once: means, percentiles, and the output [tokens/s].

    By the defaults of engines for what a step may hold, as rows do not say.
    """
    kv = kv_line(row.model, replica, row.prompt_tokens, row.output_tokens)
    times = of_work(work, constants, *kv, pairs_of(0.0, row.prompt_tokens))
    is_large = row.chip.hbm_bytes >= LARGE_BYTES and "fp8" in row.chip.flop_per_s.by_dtype()
    tokens, sequences = LARGE if is_large else SMALL
    scheduling = Scheduling(
        step_tokens=tokens,
        sequences=min(sequences, SEQUENCES.get(row.engine, sequences)),
        kv_tokens=sequences_in_memory * (row.prompt_tokens + row.output_tokens),
        prompts_alone=row.engine in PROMPTS_FIRST,
        lag=row.engine in AHEAD,
    )
    lengths = Lengths(row.prompt_tokens, row.output_tokens, prompt_cv=row.prompt_cv)
    runs: dict[str, list[float]] = {}
    for seed in seeds:
        requests = drawn(inf if row.at_once else row.requests_per_s or 1.0, row.requests, lengths, seed=seed)
        if row.longest_output:
            spread = row.longest_output - row.output_tokens
            even = np.random.default_rng([seed, 2]).uniform(-spread, spread, row.requests)
            answers = np.maximum(1, np.rint(row.output_tokens + even)).astype(np.int64)
            requests = replace(requests, output_tokens=answers)
        came = replace(requests, arrival_s=requests.arrival_s + times.request_s)
        served = Pool(times, scheduling, 1).serve(came)
        found = times_of(requests, served)
        whole_s = float(np.max(served.last_s)) - float(requests.arrival_s[0])
        figures = {}
        for name, values in (("ttft", found.ttft_s), ("tpot", known(found.tpot_s)), ("e2e", found.e2e_s)):
            if not len(values):
                continue
            figures[f"{name}_ms"] = float(values.mean()) * 1e3
            figures |= {f"{name}_p{share}_ms": percentile(values, share / 100) * 1e3 for share in (50, 90, 99)}
        figures["tokens_per_s"] = float(requests.output_tokens.sum()) / whole_s
        for name, value in figures.items():
            runs.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in runs.items() if all(map(isfinite, values))}
