"""The serving modes of one pool, and all of them together, against enumeration."""

from typing import Any

import pytest
from hypothesis import given

from servesat import Spec
from servesat.candidates.serving_modes import SharedLayouts, enumerate_layouts
from servesat.deployment.solve import solve
from tests.helpers import spec_of
from tests.strategies import SOME, examples
from tests.whole_requests import agrees, small_specs


def test_layouts_are_shared_until_the_search_changes() -> None:
    shared, base = SharedLayouts(), spec_of()
    first = shared.of(base)
    dearer = shared.of(base.changed({"price.tpu-v5e": 2.4, "slo.tpot_ms": 9}))
    assert dearer.place is first.place
    assert (dearer.units.usd_per_hour == 2 * first.units.usd_per_hour).all()
    assert dearer.places[0].offer.usd_per_chip_hour == 2.4
    other = base.changed({"chip.tpu-v5e.hbm_bytes_per_s": 1e12})
    assert shared.of(other).replica.hbm_bytes_per_s[0] == 1e12
    wider = base.changed({"search.weights": ["int8", "int4"]})
    assert len(shared.of(wider)) == len(enumerate_layouts(wider)) == 2 * len(first)


def test_layouts_are_not_shared_with_a_cache_in_the_hosts_that_some_cannot_have() -> None:
    """vLLM keeps no prefix in hosts of sequences that are split over chips."""
    with_cache = Spec.load(
        {
            "model": "llama-3.3-70b", "engine": "vllm", "speculative": "none", "slo": {"percentile": "mean"},
            "workload": {"prompt_tokens": 4000, "output_tokens": 500, "prefix_cache_hit": 0.3,
                         "host_cache": {"tokens": 1_000_000, "hit": 0.2}, "requests_per_s": 2},
            "search": {"chips": ["h100-sxm"], "kv_layouts": ["heads", "copies", "sequence"], "modes": ["interleaved"]},
        }
    )  # fmt: skip
    without = with_cache.changed({"workload.host_cache": None})
    for undominated in (False, True):
        shared = SharedLayouts(undominated=undominated)
        for spec in (with_cache, without, with_cache):
            assert len(shared.of(spec)) == len(enumerate_layouts(spec, undominated=undominated))
    assert len(enumerate_layouts(with_cache, undominated=True)) < len(enumerate_layouts(without, undominated=True))


@pytest.mark.slow
@SOME
@given(small_specs(["interleaved", "chunked"], 40))
def test_one_pool_is_as_enumerated(spec: dict[str, Any]) -> None:
    agrees(spec)


@pytest.mark.slow
@examples(40)
@given(small_specs(["interleaved", "chunked", "disaggregated"], 5))
def test_all_modes_together_are_as_enumerated(spec: dict[str, Any]) -> None:
    agrees(spec)


@pytest.mark.slow
@SOME
@given(small_specs(["interleaved"], 12))
def test_a_chunk_that_holds_the_prompt_is_interleaved(spec: dict[str, Any]) -> None:
    chunk = spec["workload"]["prompt_tokens"]
    chunked = solve({**spec, "search": {**spec["search"], "modes": ["chunked"], "chunk_tokens": [chunk]}})
    interleaved = solve(spec)
    assert chunked.status == interleaved.status
    if interleaved.plan is not None:
        assert chunked.plan is not None
        for figure in ("batch", "tpot_ms", "ttft_ms", "stall_ms", "usd_per_million_output_tokens"):
            assert getattr(chunked.plan, figure) == getattr(interleaved.plan, figure)


def test_a_prompt_alone_may_take_too_long_in_one_pool_and_not_in_another() -> None:
    agrees(
        {"cost_model": "ideal",
            "model": {
                "name": "random", "layers": 1, "d_model": 256, "d_ff": 256, "query_heads": 8, "kv_heads": 8,
                "head_dim": 64, "vocab_size": 1000, "gated_mlp": False, "nominal_parameters": 7e9,
            },
            "workload": {"prompt_tokens": 1000, "output_tokens": 1},
            "slo": {"e2e_ms": 100.0, "stall_ms": 20.0},
            "search": {
                "weights": ["bf16"], "kv_cache": ["int8"], "max_batch": 5,
                "modes": ["interleaved", "chunked", "disaggregated"],
                "chips": [
                    {
                        "name": "chip0", "vendor": "random", "hbm_bytes": 16e9, "hbm_bytes_per_s": 3e11,
                        "flop_per_s": {"bf16": 1e14, "int8": 1e13}, "topologies": ["2x2"], "usd_per_chip_hour": 0.5,
                        "network_bytes_per_s": 1e9,
                        "axes": [{"name": f"axis{number}", "bytes_per_s": 9e10} for number in range(2)],
                    }
                ],
            },
        }
    )  # fmt: skip
