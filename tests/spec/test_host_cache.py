"""A prefix cache in the memory of hosts: what it changes of a plan, and what is refused."""

from pathlib import Path
from typing import Any

import pytest

from servesat import Spec, SpecError, solve
from servesat.fleet.configurations import configurations
from servesat.questions.mode_comparison import compare_modes

CHAT: dict[str, Any] = {
    "model": "llama-3.1-8b",
    "workload": {"prompt_tokens": 8000, "output_tokens": 200, "prefix_cache_hit": 0.25},
    "search": {"chips": ["h100-sxm"], "weights": ["bf16"], "kv_cache": ["bf16"], "modes": ["interleaved"]},
    "speculative": "none",
    "engine": "vllm",
    "constraints": ["batch == 8", "chips == 1"],
}
HALF = {"host_cache": {"tokens": 10**6, "hit": 0.5}}


def with_host(chip: dict[str, float] | None = None, **workload: Any) -> dict[str, Any]:
    fields = {} if chip is None else {"chip": {"h100-sxm": chip}}
    return {**CHAT, **fields, "workload": {**CHAT["workload"], **HALF, **workload}}


def test_the_first_token_comes_later_by_the_load_than_with_a_cache_in_the_chips() -> None:
    """4,000 tokens of 131,072 bytes over PCIe 5, of which 0.8 are reached."""
    on_chip = solve(with_host(prefix_cache_hit=0.75, host_cache=None)).plan
    behind = solve(with_host()).plan
    assert on_chip is not None
    assert behind is not None
    assert behind.host_load_ms == pytest.approx(4000 * 131_072 / (0.8 * 64e9) * 1e3)
    assert behind.ttft_ms == pytest.approx((on_chip.ttft_ms or 0) + behind.host_load_ms)
    assert behind.host_bytes == pytest.approx(10**6 * 131_072)
    assert (behind.tpot_ms, behind.prefill_ms) == (on_chip.tpot_ms, on_chip.prefill_ms)


def test_a_replica_serves_no_more_than_its_links_load() -> None:
    """At 0.1 GB/s a prompt takes 5 s or more to load, whatever the batch."""
    slow = solve(with_host({"host_bytes_per_s": 1e8})).plan
    assert slow is not None
    assert slow.requests_per_s == pytest.approx(1e3 / (slow.host_load_ms or 0))
    assert (slow.host_load_ms or 0) > 5000


def test_what_a_trace_hits_beyond_the_memory_of_the_chips(tmp_path: Path) -> None:
    """Blocks of 10 tokens: 1 and 2 come back after two others, so that a cache of 20 tokens has lost them."""
    rows = ["time,prompt_tokens,output_tokens,prefix_ids", "0,20,1,1 2", "1,20,1,3 4", "2,20,1,1 2", "3,20,1,3 4"]
    (tmp_path / "t.csv").write_text("\n".join(rows))
    hit = {"trace": "t.csv", "cache_tokens": 20}
    workload = {**CHAT["workload"], "prompt_tokens": 20, "prefix_cache_hit": hit, "host_cache": {"tokens": 40}}
    found = Spec.load({**CHAT, "workload": workload}, folder=tmp_path).workload
    assert found.prefix_cache_hit == 0
    assert found.host_hit == pytest.approx(2 * 19 / 80, abs=1e-6)  # the last token of a prompt is computed
    with pytest.raises(SpecError, match=r"host_cache.tokens = 20: hits no more of the trace than cache_tokens = 20"):
        Spec.load({**CHAT, "workload": {**workload, "host_cache": {"tokens": 20}}}, folder=tmp_path)


def test_each_group_of_chips_has_a_cache_and_links_of_its_own() -> None:
    """DeepSeek-V3 over eight groups of one H200, whose latent of 61 layers takes 1,152 bytes in each."""
    spec = {
        **with_host({"host_bytes_per_s": 1e8}), "model": "deepseek-v3", "chip": {"h200": {"host_bytes_per_s": 1e8}},
        "search": {"chips": ["h200"], "topologies": {"h200": ["8x1"]}, "kv_cache": ["bf16"], "modes": ["interleaved"]},
        "constraints": ["ep == 8", "batch == 64"],
    }  # fmt: skip
    plan = solve(spec).plan
    assert plan is not None
    assert plan.host_bytes == pytest.approx(8 * 10**6 * 61 * 1152)
    assert plan.host_load_ms == pytest.approx(4000 * 61 * 1152 / (0.8 * 1e8) * 1e3)
    assert plan.requests_per_s == pytest.approx(8 * 1e3 / plan.host_load_ms)


def test_vllm_keeps_one_copy_of_a_latent_and_sglang_that_of_each_chip() -> None:
    search = {"chips": ["h200"], "topologies": {"h200": ["8x1"]}, "kv_cache": ["bf16"], "kv_layouts": ["copies"]}
    spec = {**with_host(), "model": "deepseek-v3", "search": {**search, "modes": ["interleaved"]}}
    kept = {
        engine: solve({**spec, "engine": engine, "constraints": ["tp == 8", "batch == 8"]}).plan
        for engine in ("vllm", "sglang")
    }
    assert kept["vllm"] is not None
    assert kept["sglang"] is not None
    assert kept["vllm"].host_bytes == pytest.approx(10**6 * 61 * 1152)
    assert kept["sglang"].host_bytes == pytest.approx(8 * 10**6 * 61 * 1152)


def test_modes_are_compared_without_pools() -> None:
    assert list(compare_modes({**with_host(), "constraints": []})) == ["interleaved", "chunked"]


def test_a_fleet_leaves_chips_without_a_known_link_out() -> None:
    spec = Spec.load({**with_host(), "search": {"modes": ["interleaved"]}, "constraints": []})
    found = configurations(spec, ["h100-sxm", "mi300x"])
    assert {one.chip for one in found} == {"h100-sxm"}


def test_chips_without_a_known_link_are_left_out_and_named() -> None:
    spec = Spec.load({**with_host(), "search": {"chips": ["h100-sxm", "mi300x"]}})
    assert [chip.id for chip in spec.chips] == ["h100-sxm"]
    assert any(note.startswith("mi300x has no host_bytes_per_s") for note in spec.notes)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"host_cache": {"hit": 0.5}}, r"workload.host_cache.tokens is missing"),
        ({"host_cache": {"tokens": 10**6}}, r"host_cache.hit is missing: give it, or a trace"),
        ({"host_cache": {"tokens": 10**6, "hit": 0.75}}, r"with prefix_cache_hit = 0.25 expected less than 0.75"),
        ({"host_cache": {"tokens": 0, "hit": 0.5}}, r"host_cache.tokens = 0"),
        (
            {"host_cache": {"tokens": 5999, "hit": 0.5}},
            r"host_cache.tokens = 5999: expected at least the 6000 tokens of a prompt that are cached",
        ),
    ],
)
def test_bad_host_caches_are_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Spec.load(with_host(**keys))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"search": {"modes": ["disaggregated"]}}, r"disaggregated is planned without workload.host_cache"),
        ({"engine": "trtllm"}, r"workload.host_cache: none is planned under TensorRT-LLM 1.3"),
        ({"search": {"chips": ["mi300x"]}}, r"no host_bytes_per_s is known of mi300x; give it, as in chip.mi300x"),
        (
            {"workload": {"context_tokens": 1000, **HALF}, "search": {"chips": ["h100-sxm"]}},
            r"host_cache needs prompt_tokens",
        ),
    ],
)
def test_what_has_no_host_cache_is_refused(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        Spec.load({**with_host(), **keys})
