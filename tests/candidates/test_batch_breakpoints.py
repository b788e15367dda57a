"""The largest and smallest batches, on both sides of their edges."""

from dataclasses import replace

import numpy as np
import pytest

from servesat.candidates.batch_breakpoints import breakpoints, largest_batch
from servesat.candidates.enumeration import decode_layouts
from servesat.candidates.rule import mask_of
from servesat.core.plan import Assignment, Mode
from servesat.deployment.check.plan import rederive
from servesat.deployment.solve import solve
from tests.helpers import searching, toy_spec

AT_300 = Assignment(
    chip="toy", topology="1", tp_axes=(), weights="bf16", kv_cache="bf16", compute="bf16", batch=300,
    mode=Mode.INTERLEAVED,
)  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "key"),
    [
        ("interleaved", "tpot_ms"), ("interleaved", "e2e_ms"),
        ("chunked", "tpot_ms"), ("chunked", "ttft_ms"), ("chunked", "e2e_ms"), ("chunked", "stall_ms"),
    ],
)  # fmt: skip
def test_the_largest_batch_within_a_limit_is_found_on_both_sides_of_its_edge(mode: str, key: str) -> None:
    # chunks of 900 keep up with more than 300 sequences: 900 · 1,000 / 1,000
    spec = toy_spec(
        workload={"prompt_tokens": 1000, "output_tokens": 1000}, search={"modes": [mode], "chunk_tokens": [900]}
    )
    plan, _ = rederive(spec, replace(AT_300, mode=Mode(mode), chunk_tokens=900 if mode == "chunked" else None))
    for share, batch in ((1.0, 300), (1 - 1e-7, 299)):
        within = solve(spec.changed({f"slo.{key}": getattr(plan, key) * share})).plan
        assert within is not None
        assert within.batch == batch


def test_a_largest_batch_below_the_smallest_allowed_is_none() -> None:
    spec = toy_spec(search={"modes": ["decode_only"], "min_batch": 100}, slo={"tpot_ms": 2.5})  # 59 sequences
    layouts = decode_layouts(spec)
    assert largest_batch(spec, layouts, 0).tolist() == [0]
    assert largest_batch(spec, layouts, mask_of("min_batch")).tolist() == [59]
    assert largest_batch(spec, layouts, mask_of("tpot")).tolist() == [4096]


def test_largest_batches_are_multiples_of_what_the_cache_is_sharded_over() -> None:
    spec = searching(topologies={"tpu-v5e": ["4x8"]}, max_batch=43)
    layouts = decode_layouts(spec)
    by_tp = dict(zip(layouts.tp.tolist(), largest_batch(spec, layouts, mask_of("hbm", "ici")).tolist(), strict=True))
    assert by_tp == {1: 43, 4: 43, 8: 43, 32: 40}  # 8 KV heads: 32 ways shard the batch 4 ways


def test_a_smallest_batch_is_tried_as_it_is_and_as_a_legal_multiple() -> None:
    spec = searching(topologies={"tpu-v5e": ["4x8"]}, min_batch=6)
    layouts = decode_layouts(spec)
    row = np.flatnonzero(layouts.tp == 32)[0]
    assert {6, 8} <= set(breakpoints(spec, layouts)[row].tolist())
