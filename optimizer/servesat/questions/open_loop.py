"""What is predicted of a measured deployment whose requests arrive at a rate: a replay of as many as were sent."""

from dataclasses import replace
from math import isfinite

import numpy as np

from servesat.catalogue.measurements import Measurement
from servesat.cost_model.calibrated import Constants, Work
from servesat.cost_model.decode import Replica
from servesat.replay.percentiles import percentile, times_of
from servesat.replay.pools import Pool
from servesat.replay.replayed import AHEAD, PROMPTS_FIRST
from servesat.replay.requests import Lengths, drawn
from servesat.replay.scheduler import Scheduling
from servesat.replay.step_times import kv_line, of_work, pairs_of

SEEDS = 4
"""Replays of a row; a measurement is one of them."""

LARGE, SMALL = (8192, 1024), (2048, 256)
"""Tokens and sequences of a step that engines allow by default: on chips of at least LARGE_BYTES, and on others."""

LARGE_BYTES = 70e9


def open_loop_figures(
    row: Measurement, replica: Replica, work: Work, constants: Constants, sequences_in_memory: float
) -> dict[str, float]:
    """The figures of a row with `requests_per_s`: means and percentiles of Poisson arrivals, and the output [tokens/s].

    By the defaults of engines for what a step may hold, as rows do not say.
    """
    kv = kv_line(row.model, replica, row.prompt_tokens, row.output_tokens)
    times = of_work(work, constants, *kv, pairs_of(0.0, row.prompt_tokens))
    is_large = row.chip.hbm_bytes >= LARGE_BYTES and "fp8" in row.chip.flop_per_s.by_dtype()
    tokens, sequences = LARGE if is_large else SMALL
    scheduling = Scheduling(
        step_tokens=tokens,
        sequences=sequences,
        kv_tokens=sequences_in_memory * (row.prompt_tokens + row.output_tokens),
        prompts_alone=row.engine in PROMPTS_FIRST,
        lag=row.engine in AHEAD,
    )
    lengths = Lengths(row.prompt_tokens, row.output_tokens)
    runs: dict[str, list[float]] = {}
    for seed in range(SEEDS):
        requests = drawn(row.requests_per_s or 1.0, row.requests, lengths, seed=seed)
        came = replace(requests, arrival_s=requests.arrival_s + times.request_s)
        served = Pool(times, scheduling, 1).serve(came)
        found = times_of(requests, served)
        whole_s = float(np.max(served.last_s)) - float(requests.arrival_s[0])
        figures = {"ttft_ms": float(found.ttft_s.mean()) * 1e3, "tpot_ms": float(found.tpot_s.mean()) * 1e3}
        for name, values in (("ttft", found.ttft_s), ("tpot", found.tpot_s)):
            figures |= {f"{name}_p{share}_ms": percentile(values, share / 100) * 1e3 for share in (50, 90, 99)}
        figures["tokens_per_s"] = float(requests.output_tokens.sum()) / whole_s
        for name, value in figures.items():
            runs.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in runs.items() if all(map(isfinite, values))}
