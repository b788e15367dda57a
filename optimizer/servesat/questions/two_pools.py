"""What is predicted of a measured deployment with prefill and decode workers: a closed network of two pools."""

from dataclasses import replace
from math import inf

import numpy as np

from servesat.catalogue.measurements import Measurement
from servesat.cost_model.calibrated import Constants, prompt_s, prompt_work_s, step_curve
from servesat.cost_model.memory import kv_cache_bytes
from servesat.cost_model.storage import BYTES_PER_VALUE, Storage
from servesat.questions.measured_rows import sequences_in_memory, work_of_row

HALVINGS = 60


def two_pools_figures(row: Measurement, constants: Constants) -> dict[str, float]:
    """The mean times of a row, and its output [tokens/s], with N requests under way in both pools together.

    B of them decode, B / W on each of W workers, so that λ = B / ((G - 1) · step) leave and come in a second. A prompt
    waits as in an M/D/1 queue of the prefill workers, ρ / (2 · (1 - ρ)) of its work with ρ of the others, takes its
    time alone, is sent, and has its first token with the next step: B is where λ · TTFT and B are N together. Where
    more want to decode than the KV cache holds, the others wait, and the time to the first token is not predicted.
    """
    pool, asked, steps = row.prefill, row.concurrency or 1.0, max(row.output_tokens - 1.0, 1.0)
    if pool is None:
        raise ValueError("a row without prefill workers")
    curve = step_curve(work_of_row(row), constants)
    of_prompt = work_of_row(replace(row, tp=pool.tp, dp=pool.dp))
    work_s, alone_s = float(prompt_work_s(of_prompt, constants)), float(prompt_s(of_prompt, constants))
    alone_s += float(constants.request_s) + _sent_s(row)

    def step_s(decoding: float) -> float:
        return float(curve.at(np.float64(decoding / row.workers)))

    def under_way(decoding: float) -> float:
        rate = decoding / (steps * step_s(decoding))
        load = rate * work_s / pool.workers * (1 - 1 / asked)  # a request does not wait for itself
        if load >= 1:
            return inf
        return decoding + rate * (alone_s + step_s(decoding) + work_s * load / (2 * (1 - load)))

    low, high = 0.0, min(asked, sequences_in_memory(row) * row.workers)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if under_way(middle) < asked else (low, middle)
    tpot_s = step_s(high)
    rate = high / (steps * tpot_s)
    ttft_s = asked / rate - steps * tpot_s
    figures = {"tpot_ms": tpot_s * 1e3, "e2e_ms": asked / rate * 1e3, "tokens_per_s": rate * row.output_tokens}
    return figures | ({} if under_way(high) < asked else {"ttft_ms": ttft_s * 1e3})


def _sent_s(row: Measurement) -> float:
    """The KV cache of a prompt over the networks of the smaller worker [s]; 0 where no network is known."""
    network = row.chip.network_bytes_per_s
    if network is None or row.prefill is None:
        return 0.0
    token_bytes = Storage(row.model).kv_token_bytes(row.kv_cache)
    held = kv_cache_bytes(row.model, row.prompt_tokens, token_bytes, BYTES_PER_VALUE[row.kv_cache])
    return float(held) / (network * min(row.tp * row.dp, row.prefill.tp * row.prefill.dp))
