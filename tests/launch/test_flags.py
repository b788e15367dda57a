"""Flags against the engines' own parsers, and back to the plan."""

import re
from math import ceil
from typing import Any

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st

from servesat import Spec
from servesat.catalogue.load import load_engine
from servesat.core.errors import LaunchError
from servesat.deployment.solve import solve
from servesat.launch.flags import environment, node_flags, trtllm_config
from servesat.launch.servers import Launch, Server, launch_of
from servesat.launch.targets import written
from servesat.replay.replayed import servers_of
from tests.engine_flags import snapshot_of
from tests.launch.launches import CHAT, SPLIT, SPREAD, WIDE, example, flags, launch
from tests.strategies import examples

EXAMPLES = [
    "deepseek-v3-sglang-h200", "deepseek-v3-vllm-h200", "qwen3-32b-fp8-two-h100", "gpt-oss-120b-one-h100",
    "llama-3-405b-vllm-tpu",
]  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_parses(name: str) -> None:
    (server,) = example(name).servers
    assert flags(server).port == 8000


def test_deepseek_over_eight_h200_by_sglang() -> None:
    (server,) = example("deepseek-v3-sglang-h200").servers
    read = flags(server)
    assert (read.tp_size, read.attn_dp_size, read.ep_size) == (8, 8, 8)
    assert read.model_path == "deepseek-ai/DeepSeek-V3"
    assert (read.max_running_requests, read.kv_cache_dtype, read.mem_fraction_static) == (280, None, 0.85)
    drafting = (read.speculative_algorithm, read.speculative_num_steps, read.speculative_num_draft_tokens)
    assert (*drafting, read.speculative_draft_model_path) == ("EAGLE", 1, 2, None)
    assert read.chunked_prefill_size == 8 * 2048  # divided by the groups of attention: a prompt in each, in whole pages


def test_deepseek_over_eight_h200_by_vllm() -> None:
    (server,) = example("deepseek-v3-vllm-h200").servers
    read = flags(server)
    assert (read.tensor_parallel_size, read.data_parallel_size, read.enable_expert_parallel) == (1, 8, True)
    assert (read.max_num_seqs, read.max_num_batched_tokens) == (296 / 8, 2 * 296 / 8 + 2000)
    assert read.speculative_config == {"method": "mtp", "num_speculative_tokens": 1}
    assert read.max_model_len == 2500


def test_a_checkpoint_is_allowed_that_vllm_would_refuse() -> None:
    """config/model.py: fbgemm_fp8, which Meta's fp8 checkpoint of 405B is in, is deprecated."""
    spec = {
        "model": "llama-3.1-405b", "workload": {"prompt_tokens": 2000, "output_tokens": 500}, "engine": "vllm",
        "search": {"chips": ["h200"], "weights": ["fp8"], "topologies": {"h200": ["8x1"]}},
    }  # fmt: skip
    read = flags(launch(spec).servers[0])
    assert (read.model, read.allow_deprecated_quantization) == ("meta-llama/Llama-3.1-405B-Instruct-FP8", True)
    assert not flags(launch({**spec, "model": "llama-3.1-70b"}).servers[0]).allow_deprecated_quantization


@pytest.mark.parametrize(("speculative", "reserved"), [("none", 0), ("eagle3", 6)])
def test_sglang_takes_the_longest_request_with_what_it_reserves(speculative: str, reserved: int) -> None:
    """srt/managers: a prompt within 6 tokens of the context is refused, as are tokens and drafts beyond it."""
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}}
    spec = {
        "model": "llama-3.1-8b", "workload": {"prompt_tokens": 2000, "output_tokens": 500}, "slo": {"tpot_ms": 60},
        "engine": "sglang", "search": search, "speculative": speculative,
    }  # fmt: skip
    (server,) = launch(spec).servers
    read = flags(server)
    assert (read.speculative_num_draft_tokens or 0) == reserved
    assert read.context_length - 1 - 5 > 2000 + reserved
    assert read.context_length >= 2000 + reserved + 500 + 2
    whole = {**spec, "workload": {"prompt_tokens": 131_000, "output_tokens": 72}}
    assert flags(launch(whole).servers[0]).context_length == 131_072  # more is beyond the checkpoint


def test_sglang_sizes_its_pool_for_windows_as_planned() -> None:
    """srt/model_executor/pool_configurator.py: by the most requests without a radix cache, else by a share of tokens.

    Of 6,500 tokens 128 are in a window, as many at the end of a cached prefix, and 256 in pages to be given back; two
    steps have a chunk each.
    """
    spec = {
        "model": "gpt-oss-120b", "workload": {"prompt_tokens": 6000, "output_tokens": 500}, "engine": "sglang",
        "search": {"chips": ["h200"], "topologies": {"h200": ["1x1"]}, "modes": ["chunked"]},
    }  # fmt: skip
    alone = flags(launch(spec).servers[0])
    assert (alone.disable_radix_cache, alone.swa_full_tokens_ratio) == (True, None)
    hits = {"workload": {**spec["workload"], "prefix_cache_hit": 0.5}}
    (server,) = launch({**spec, **hits}).servers
    read = flags(server)
    share = (server.sequences * (2 * 128 + 256) + 2 * read.chunked_prefill_size) / (server.sequences * 6500)
    assert not read.disable_radix_cache
    assert share <= read.swa_full_tokens_ratio <= share + 0.01
    for model in ("gemma-3-27b", "llama-3.1-8b"):  # the one keeps every token, the other has no windows
        whole = flags(launch({**spec, **hits, "model": model}).servers[0])
        assert (whole.disable_radix_cache, whole.swa_full_tokens_ratio) == (None, None)


@pytest.mark.parametrize("hits", [{"prefix_cache_hit": 0.3}, {"host_cache": {"tokens": 100_000, "hit": 0.3}}])
def test_sglang_reuses_no_prefixes_beside_states(hits: dict[str, Any]) -> None:
    workload = {"prompt_tokens": 2000, "output_tokens": 500, **hits}
    spec = {"model": "qwen3-next-80b-a3b", "workload": workload, "engine": "sglang", "search": {"chips": ["h200"]}}
    assert solve(spec).conflict == (("engine",),)


def test_adapters_are_pinned_where_groups_of_sglang_attend_apart() -> None:
    """srt/lora/lora_manager.py: under DP attention none but pinned ones are taken, and not in all slots."""
    spec = {
        "model": "qwen3-235b-a22b", "workload": {"prompt_tokens": 2000, "output_tokens": 500}, "engine": "sglang",
        "lora": {"adapters": 4}, "search": {"chips": ["h200"], "topologies": {"h200": ["8x1"]}},
    }  # fmt: skip
    apart, together = (launch({**spec, "constraints": [f"ep == {ep}"]}) for ep in (8, 1))
    assert [flags(one.servers[0]).max_loras_per_batch for one in (apart, together)] == [5, 4]
    assert ["pinned" in written(one, "command")["serve.sh"] for one in (apart, together)] == [True, False]


def test_sglang_prefills_without_splitting_sequences() -> None:
    """srt/disaggregation/common/conn.py: sequences split over 8 chips come to none that splits them over fewer."""
    spec = {
        "model": "deepseek-v3", "workload": {"prompt_tokens": 4000, "output_tokens": 300, "requests_per_s": 10},
        "slo": {"ttft_ms": 4000, "tpot_ms": 60, "percentile": "mean"}, "engine": "sglang",
        "search": {"chips": ["h200"], "topologies": {"h200": ["8x1"]}, "modes": ["disaggregated"]},
    }  # fmt: skip
    prefill, decode = launch(spec).servers
    assert (flags(prefill).tp_size, flags(prefill).dcp_size or 1) == (8, 1)
    assert (flags(decode).dcp_size or 1) in {1, 8}


@pytest.mark.parametrize(("model", "hit", "kept"), [
    ("qwen3-next-80b-a3b", 0.0, False), ("qwen3-next-80b-a3b", 0.3, None), ("llama-3.1-8b", 0.0, None),
])  # fmt: skip
def test_vllm_keeps_no_prefixes_beside_states_that_none_is_planned_for(
    model: str, hit: float, kept: bool | None
) -> None:
    """v1/core/sched/scheduler.py: else chunks end where blocks of states do, some 1,000 tokens apart."""
    workload = {"prompt_tokens": 4000, "output_tokens": 300, "prefix_cache_hit": hit}
    spec = {"model": model, "workload": workload, "engine": "vllm", "search": {"chips": ["h100-sxm"]}}
    assert flags(launch(spec).servers[0]).enable_prefix_caching is kept


def test_the_cores_of_a_tpu_chip_are_devices_of_their_own() -> None:
    """tpu_inference/utils.py: a device of TPU 7x is a core, with half of the chip's memory."""
    search = {"chips": ["tpu-7x"], "topologies": {"tpu-7x": ["1x1x1"]}}
    (server,) = launch({**CHAT, "engine": "vllm-tpu", "search": search, "price": {"tpu-7x": 12.0}}).servers
    assert (server.tp, flags(server).tensor_parallel_size) == (1, 2)


@pytest.mark.parametrize("modules", ["all", "attention"])
def test_adapters_by_vllm_and_sglang(modules: str) -> None:
    lora = {"adapters": 12, "rank": 64, "modules": modules}
    spec = {**CHAT, "lora": lora, "search": {"chips": ["h100-sxm"]}}
    (server,) = launch({**spec, "engine": "vllm"}).servers
    read = flags(server)
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    assert (read.enable_lora, read.max_loras, read.max_lora_rank) == (True, 12, 64)
    assert read.lora_target_modules == (None if modules == "all" else attention)
    (server,) = launch({**spec, "engine": "sglang"}).servers
    read = flags(server)
    assert (read.enable_lora, read.max_loras_per_batch, read.max_lora_rank) == (True, 12, 64)
    assert read.lora_target_modules == (["all"] if modules == "all" else attention)


def test_a_cache_in_the_memory_of_hosts_by_vllm_and_sglang() -> None:
    """Qwen3-32B in bf16 has 262,144 bytes of cache a token; SGLang is told the part of each of two chips in GB."""
    workload = {**CHAT["workload"], "host_cache": {"tokens": 2**20, "hit": 0.5}}
    kept = {**CHAT, "workload": workload, "constraints": ["kv_cache == bf16"]}
    (server,) = launch(kept).servers
    assert flags(server).kv_offloading_size == 256
    (server,) = launch({**kept, "engine": "sglang"}).servers
    read = flags(server)
    assert (read.enable_hierarchical_cache, read.hicache_size) == (True, 138)  # 275 GB


def test_adapters_of_latent_attention_have_its_matrices() -> None:
    lora = {"adapters": 1, "modules": "attention"}
    spec = {**CHAT, "model": "deepseek-v3", "lora": lora, "search": {"chips": ["h200"]}, "engine": "sglang"}
    (server,) = launch(spec).servers
    assert flags(server).lora_target_modules == ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj"]


def test_405b_on_64_tpus_splits_attention_over_the_batch() -> None:
    (server,) = example("llama-3-405b-vllm-tpu").servers
    read = flags(server)
    assert (server.nodes, server.node_chips, read.tensor_parallel_size) == (16, 4, 64)
    strategy = read.additional_config["sharding"]["sharding_strategy"]
    # of 64 / 8 ways twice as many: two of the 8 heads fill a row of fp8 on a device, for half the sequences
    assert strategy == {"enable_dp_attention": True, "attn_dp_size": 16}
    assert (read.max_num_seqs, read.max_num_batched_tokens) == (ceil(88 / 16), ceil(88 / 16) + 2048 / 16)
    assert environment(server) == {"NEW_MODEL_DESIGN": "1", "TPU_MULTIHOST_BACKEND": "ray"}
    assert read.model == "RedHatAI/Meta-Llama-3.1-405B-Instruct-quantized.w8a8"


def test_an_engine_quantises_where_no_checkpoint_is_known() -> None:
    spec = {"cost_model": "ideal", **CHAT, "model": "gemma-2-27b", "search": {**CHAT["search"], "weights": ["fp8"]}}
    read = flags(launch(spec).servers[0])
    assert (read.model, read.quantization) == ("google/gemma-2-27b-it", "fp8_per_tensor")
    assert flags(launch(spec, checkpoint="me/mine").servers[0]).model == "me/mine"


def test_a_stated_headroom_is_the_share_of_memory() -> None:
    assert flags(launch({**CHAT, "headroom": 0.15}).servers[0]).gpu_memory_utilization == 0.85
    assert flags(launch(CHAT).servers[0]).gpu_memory_utilization == 0.92


def test_pools_hand_the_cache_over() -> None:
    prefill, decode = launch({**SPLIT, "search": {**SPLIT["search"], "weights": ["fp8"]}}).servers
    assert flags(prefill).kv_transfer_config == {"kv_connector": "NixlConnector", "kv_role": "kv_producer"}
    assert flags(decode).kv_transfer_config == {"kv_connector": "NixlConnector", "kv_role": "kv_consumer"}
    assert flags(prefill).max_num_batched_tokens == 2000 + flags(prefill).max_num_seqs
    assert flags(decode).max_num_batched_tokens == flags(decode).max_num_seqs == decode.sequences
    prefill, decode = launch({**SPLIT, "engine": "sglang"}).servers
    assert (flags(prefill).disaggregation_mode, flags(decode).disaggregation_mode) == ("prefill", "decode")
    assert flags(prefill).disaggregation_bootstrap_port == 8998


def test_nodes_of_tensor_and_of_data_parallelism() -> None:
    (wide,) = launch(WIDE).servers
    assert (wide.nodes, wide.node_chips, flags(wide).tensor_parallel_size) == (2, 8, 16)
    assert node_flags(wide, "0", "a") == [("--nnodes", "2"), ("--node-rank", "0"), ("--master-addr", "a")]
    assert node_flags(wide, "1", "a")[1:] == [("--node-rank", "1"), ("--master-addr", "a"), ("--headless", None)]
    (spread,) = launch(SPREAD).servers
    found = dict(node_flags(spread, "1", "a"))
    assert (found["--data-parallel-size-local"], found["--data-parallel-start-rank"]) == ("8", "8")
    assert found["--data-parallel-address"] == "a"
    (other,) = launch({**WIDE, "engine": "sglang"}).servers
    assert node_flags(other, "1", "a") == [("--nnodes", "2"), ("--node-rank", "1"), ("--dist-init-addr", "a:20000")]


def test_split_sequences() -> None:
    search = {**WIDE["search"], "kv_layouts": ["sequence"]}
    assert flags(launch({**WIDE, "search": search}).servers[0]).decode_context_parallel_size == 16 // 8


def trtllm_plan(model: str, chip: str, topology: str, **keys: Any) -> dict[str, Any]:
    search = {"chips": [chip], "topologies": {chip: [topology]}, **keys.pop("search", {})}
    workload = {"prompt_tokens": 2000, "output_tokens": 500}
    return {"model": model, "workload": workload, "engine": "trtllm", "search": search, **keys}


@pytest.mark.parametrize(
    ("model", "chip", "backend"),
    [
        ("deepseek-v3", "b200", "DEEPGEMM"),  # fp8 blocks of 128
        ("deepseek-v3", "h200", None),  # which CUTLASS has on Hopper
        ("llama-4-scout", "b200", None),  # fp8 of a scale for a tensor
        ("llama-3.1-70b", "b200", None),
    ],
)
def test_trtllm_is_told_what_runs_experts_in_blocks_on_blackwell(model: str, chip: str, backend: str | None) -> None:
    """_torch/modules/fused_moe: CUTLASS, which it takes by itself, has fp8 blocks on Hopper alone."""
    spec = trtllm_plan(model, chip, "8x1", search={"weights": ["fp8"]})
    config = trtllm_config(launch(spec).servers[0])
    assert config.get("moe_config", {}).get("backend") == backend
    assert set(config) <= set(snapshot_of("trtllm")["keys"])


@pytest.mark.parametrize("ep", [8, 16])
def test_trtllm_takes_chunks_in_whole_blocks(ep: int) -> None:
    """microBatchScheduler.cpp rounds a chunk down to blocks of 64 tokens: 32 a group would wait for ever."""
    search = {"modes": ["chunked"], "chunk_tokens": [256, 1024]}
    spec = trtllm_plan("deepseek-v3", "h200", "8x2", slo={"tpot_ms": 90}, search=search, constraints=[f"ep == {ep}"])
    (server,) = launch(spec).servers
    config = trtllm_config(server)
    assert server.prompt_tokens % (64 * server.ep) == 0
    assert config["max_num_tokens"] % 64 == 0
    left = config["max_num_tokens"] - config["max_batch_size"]  # beside a token of each sequence
    assert left // 64 * 64 == server.prompt_tokens // server.ep


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_code_of_a_repository_is_allowed_where_it_has_some(engine: str) -> None:
    """Kimi K2 has a tokenizer of its own, DeepSeek V3 none."""
    kimi, deepseek = (
        launch({**trtllm_plan(model, "b200", "8x2"), "engine": engine}) for model in ("kimi-k2", "deepseek-v3")
    )
    for one, allowed in ((kimi, True), (deepseek, False)):
        files = written(one, "command")
        told = "trust_remote_code: true" if engine == "trtllm" else "--trust-remote-code"
        assert (told in files["trtllm.yaml" if engine == "trtllm" else "serve.sh"]) is allowed
        assert ("--trust-remote-code" in files["benchmark.sh"]) is (allowed and engine != "sglang")


def test_trtllms_file_has_keys_that_it_knows() -> None:
    spec = {**CHAT, "engine": "trtllm", "search": {**CHAT["search"], "weights": ["fp8"]}}
    (server,) = launch(spec).servers
    config, keys = trtllm_config(server), snapshot_of("trtllm")["keys"]
    assert flags(server).config == "trtllm.yaml"
    assert set(config) <= set(keys)
    assert set(config["kv_cache_config"]) <= set(keys["kv_cache_config"])
    assert config["tensor_parallel_size"] == 2
    assert config["max_batch_size"] == server.sequences
    assert config["kv_cache_config"]["dtype"] in keys["kv_cache_config"]["dtype"]


MODELS = [
    "llama-3-8b", "llama-3-70b", "qwen3-32b", "qwen3-30b-a3b", "gpt-oss-120b", "deepseek-v3", "mixtral-8x7b",
    "gemma-2-27b",
]  # fmt: skip
CHIPS = ["h100-sxm", "h200", "a100-80gb", "b200", "mi300x", "l40s", "tpu-v5e", "tpu-v6e"]
PLAIN = {"llama-3-8b", "llama-3-70b", "qwen3-32b", "qwen3-30b-a3b", "mixtral-8x7b"}
BYTES = {"auto": 2, "fp8": 1, "fp8_e4m3": 1, "int8_per_token_head": 1, "int4_per_token_head": 0.5}


@st.composite
def asked(draw: st.DrawFn) -> dict[str, Any]:
    """Random questions under engines."""
    engine = draw(st.sampled_from(["vllm", "sglang", "trtllm", "vllm-tpu", "any"]))
    prompt, output = draw(st.sampled_from([200, 2000, 7000])), draw(st.sampled_from([50, 500, 1000]))
    workload: dict[str, Any] = {"prompt_tokens": prompt, "output_tokens": output}
    demand = draw(st.sampled_from([None, 0.5, 20.0]))
    search: dict[str, Any] = {"chips": draw(st.lists(st.sampled_from(CHIPS), min_size=1, max_size=3, unique=True))}
    if draw(st.booleans()):
        search["kv_cache"] = draw(st.sampled_from([["bf16"], ["fp8"], ["int8"]]))
    if demand is not None:
        workload["requests_per_s"] = demand
        search["modes"] = draw(
            st.sampled_from([["chunked"], ["interleaved"], ["disaggregated"], ["chunked", "disaggregated"]])
        )
    return {"cost_model": "ideal",
        "model": draw(st.sampled_from(MODELS)), "workload": workload, "engine": engine, "search": search,
        "slo": {"tpot_ms": draw(st.sampled_from([10, 40, 200]))}, "ici": draw(st.sampled_from(["forbid", "pay"])),
    }  # fmt: skip


@pytest.mark.slow
@examples(100)
@given(asked())
def test_random_plans_parse_and_read_back(question: dict[str, Any]) -> None:
    spec = Spec.load(question)
    plan = solve(spec).plan
    assume(plan is not None)
    assert plan is not None
    started = launch_of(spec, plan, checkpoint="owner/name")
    for server in started.servers:
        read_back(spec, server)
    assert started.servers[-1].sequences == plan.batch
    assert sum(server.count * server.chips for server in started.servers) == plan.chips_used
    if spec.model.id in PLAIN:
        assert kv_bytes(spec, started.servers[-1]) == pytest.approx(plan.kv_cache_bytes)


def read_back(spec: Spec, server: Server) -> None:
    """What the flags say is what the server is."""
    read = flags(server)
    context = spec.workload.longest_context_tokens
    match server.engine.program:
        case "sglang":
            assert (read.tp_size, read.ep_size or 1) == (server.tp * server.ep, server.ep)
            reserved = 0 if read.speculative_algorithm not in {"EAGLE", "EAGLE3"} else server.verified
            most = spec.model.max_context_tokens or 10**9
            assert min(context + reserved + 6, max(context, most)) <= read.context_length <= context + reserved + 32
            assert read.max_running_requests == server.sequences
            chunk = (read.chunked_prefill_size or 0) / server.ep
            of_step = server.verified * ceil(server.sequences / server.ep / server.pp)
            left = chunk - (0 if server.whole_prompts else of_step)
            assert (read.pp_size or 1) == server.pp
            taken = server.prompt_tokens if server.whole_prompts else server.prompt_tokens / server.ep
            assert server.prompt_tokens == 0 or (chunk % 128 == 0 and taken <= left < taken + 129)
            assert bool(read.enable_mixed_chunk) == (server.prompt_tokens > 0 and not server.whole_prompts)
            assert (read.attn_dp_size or 1) == server.ep
        case "trtllm":
            config = trtllm_config(server)
            assert config["tensor_parallel_size"] == server.tp * server.ep
            each = ceil(server.sequences / (server.ep * server.pp))
            assert (config["max_seq_len"], config["max_batch_size"]) == (context, each)
            assert config.get("pipeline_parallel_size", 1) == server.pp
        case _:
            assert (read.tensor_parallel_size, read.data_parallel_size or 1) == (
                server.tp,
                server.ep * server.data_parallel,
            )
            in_batches = server.kv_layout == "batch"  # of which a TPU takes the limits for each part
            groups = parts_of_attention(spec, server) if in_batches else server.ep
            assert (read.max_model_len, read.max_num_seqs) == (context, ceil(server.sequences / groups))
            prompt = server.prompt_tokens / (1 if server.whole_prompts else groups)
            of_step = server.verified * ceil(server.sequences / groups / server.pp)
            assert read.max_num_batched_tokens == of_step + ceil(prompt)
            assert (read.pipeline_parallel_size or 1) == server.pp
            drafted = read.speculative_config or {"num_speculative_tokens": 0}
            assert drafted["num_speculative_tokens"] == server.verified - 1


def parts_of_attention(spec: Spec, server: Server) -> int:
    """The size of attention data parallelism that tpu_inference, layers/common/sharding.py, chooses by itself."""
    packing = 4 // (1 if server.loading.kv_cache == "fp8" else 2) * (2 if spec.model.head_dim == 64 else 1)
    heads = 1 if spec.model.mla is not None else spec.model.kv_heads
    return int(server.tp * server.chip.devices // max(1, heads * 2 / packing))


def kv_bytes(spec: Spec, server: Server) -> float:
    """The KV cache that the flags allow for: sequences, their context and copies, and the dtype by its name."""
    read, model = flags(server), spec.model
    if server.engine.program == "trtllm":
        dtype = trtllm_config(server)["kv_cache_config"]["dtype"]
    else:
        dtype = read.kv_cache_dtype or "auto"
    copies = max(1, server.tp / model.kv_heads) if server.kv_layout == "copies" else 1
    token = 2 * model.layers * model.kv_heads * model.head_dim * BYTES[dtype] * copies
    return server.sequences * spec.workload.held_tokens * token


def test_images_are_those_of_the_chip() -> None:
    spec = {**CHAT, "search": {"chips": ["mi300x"], "topologies": {"mi300x": ["1x1"]}}}
    assert launch(spec).servers[0].image == "vllm/vllm-openai-rocm:v0.32.0"
    assert launch(CHAT).servers[0].image == load_engine("vllm").image


def test_sequences_take_their_tokens_of_a_chunk_first() -> None:
    """SGLang takes the running sequences off the chunk: 64 of them and 256 of prompts are 320, in pages 384."""
    (server,) = launch({**CHAT, "engine": "sglang", "search": {**CHAT["search"], "modes": ["chunked"]}}).servers
    assert (server.sequences, server.prompt_tokens) == (64, 256)
    assert (flags(server).chunked_prefill_size, flags(server).enable_mixed_chunk) == (384, True)


def test_replicas_in_a_slice_of_several_hosts_share_a_process() -> None:
    search = {"chips": ["tpu-v6e"], "topologies": {"tpu-v6e": ["4x4"]}}
    spec = {
        "cost_model": "ideal",
        **CHAT,
        "model": "llama-3-8b",
        "engine": "vllm-tpu",
        "search": search,
        "constraints": ["tp == 4"],
        "ici": "pay",
    }
    (server,) = launch(spec).servers
    assert (server.nodes, server.data_parallel) == (4, 4)
    assert environment(server)["TPU_MULTIPROCESS_DP"] == "0"


@pytest.mark.parametrize(
    ("engine", "names"),
    [("vllm", ("tensor_parallel_size", "pipeline_parallel_size")), ("sglang", ("tp_size", "pp_size"))],
)
def test_stages_are_a_node_each(engine: str, names: tuple[str, str]) -> None:
    launch = staged(engine)
    read = flags(launch.servers[0])
    assert (launch.servers[0].nodes, *(getattr(read, name) for name in names)) == (2, 8, 2)
    assert re.search(r"up to 16 sequences, [\d,]+ tokens a micro-batch\n", written(launch, "command")["serve.sh"])


def test_tensorrt_llm_stands_on_nodes_in_an_mpi_world() -> None:
    files = written(staged("trtllm"), "command")
    assert list(files) == ["serve.sh", "trtllm.yaml", "benchmark.sh"]
    world = 'mpirun -n 16 --map-by ppr:8:node --allow-run-as-root --host "$nodes" trtllm-llmapi-launch trtllm-serve'
    assert world in files["serve.sh"]
    config = yaml.safe_load(files["trtllm.yaml"])
    assert (config["tensor_parallel_size"], config["pipeline_parallel_size"], config["max_batch_size"]) == (8, 2, 8)
    with pytest.raises(LaunchError, match="starts servers of one node, and this one stands on 2"):
        written(staged("trtllm"), "compose")


def staged(engine: str) -> Launch:
    """LLaMA 3.1 405B in two stages of eight chips, 16 sequences at a time: 8 in a micro-batch."""
    spec = Spec.load(
        {
            "model": "llama-3.1-405b",
            "workload": {"prompt_tokens": 2000, "output_tokens": 500},
            "engine": engine,
            "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x2"]}, "max_batch": 16, "pp": [2]},
        }
    )
    plan = solve(spec).plan
    assert plan is not None
    return launch_of(spec, plan)


@pytest.mark.parametrize(
    ("engine", "modes", "chunks", "tokens"),
    [
        ("sglang", ["chunked"], [512], 640),  # 512 and a token for each of 16 sequences, in pages of 128
        ("sglang", ["interleaved"], None, 2048),  # of 2,000
        ("vllm", ["chunked"], [512], 528),
        ("trtllm", ["interleaved"], None, 2048),  # of 2,016, in blocks of 64
    ],
)
def test_a_step_takes_as_many_tokens_in_a_replay_as_its_flags_allow(
    engine: str, modes: list[str], chunks: list[int] | None, tokens: int
) -> None:
    search = {**CHAT["search"], "modes": modes, "max_batch": 16}
    spec = Spec.load({**CHAT, "engine": engine, "search": search | ({"chunk_tokens": chunks} if chunks else {})})
    plan = solve(spec).plan
    assert plan is not None
    assert plan.batch == 16
    (server,) = launch_of(spec, plan).servers
    if engine == "trtllm":
        launched = trtllm_config(server)["max_num_tokens"]
    else:
        told = flags(server)
        launched = told.max_num_batched_tokens if engine == "vllm" else told.chunked_prefill_size
    scheduling = servers_of(spec, plan).pool.scheduling
    assert scheduling.step_tokens == launched == tokens
    assert scheduling.prompts_alone == (engine == "sglang" and not chunks)


@pytest.mark.parametrize(
    ("changes", "chunks"),
    [({}, False), ({"prefix_cache_hit": 0.75}, True), ({"lengths": {"prompt_cv": 1.5}}, True)],
)
def test_tensorrt_llm_takes_prompts_that_are_longer_than_a_step(changes: dict[str, Any], chunks: bool) -> None:
    """It refuses them without chunks, what is cached of them included: of 2,000 tokens 500 are new at a hit of 0.75."""
    workload = {"prompt_tokens": 2000, "output_tokens": 200, "requests_per_s": 10, **changes}
    search = {**CHAT["search"], "modes": ["interleaved"]}
    (server,) = launch({**CHAT, "engine": "trtllm", "workload": workload, "search": search}).servers
    config = trtllm_config(server)
    assert (config["max_num_tokens"] < server.longest_prompt_tokens, config["enable_chunked_prefill"]) == (
        chunks,
        chunks,
    )


def test_gemma_starts_without_images_where_a_step_has_no_room_for_one() -> None:
    """vLLM takes an image of 256 tokens whole; a pool that only decodes has a token for each of its sequences."""
    pools = {**SPLIT, "model": "gemma-3-12b", "search": {"chips": ["h100-sxm"], "modes": ["disaggregated"]}}
    prefill, decode = launch(pools).servers
    assert flags(decode).max_num_batched_tokens < 256 < flags(prefill).max_num_batched_tokens
    assert (flags(prefill).language_model_only, flags(decode).language_model_only) == (None, True)


def test_pools_of_two_checkpoints_answer_to_one_name() -> None:
    constraints = ["prefill.weights == bf16", "weights == fp8"]
    search = {"chips": ["h100-sxm"], "modes": ["disaggregated"], "weights": ["bf16", "fp8"]}
    prefill, decode = launch({**SPLIT, "search": search, "constraints": constraints}).servers
    assert (prefill.checkpoint, decode.checkpoint) == ("Qwen/Qwen3-32B", "Qwen/Qwen3-32B-FP8")
    for server in (prefill, decode):
        read = flags(server)
        assert read.served_model_name == ["Qwen/Qwen3-32B"]
        assert read.kv_transfer_config["kv_connector_extra_config"] == {"enforce_handshake_compat": False}
    (alone,) = launch(CHAT).servers
    assert flags(alone).served_model_name is None
    with pytest.raises(LaunchError, match="--to kserve: has one model for both pools, and those of the plan load diff"):
        written(launch({**SPLIT, "search": search, "constraints": constraints}), "kserve")


def test_trtllm_keeps_no_blocks_of_a_model_with_states() -> None:
    """Its cache of states asserts that blocks are not reused, as they are by default."""
    search = {"chips": ["h200"], "topologies": {"h200": ["1x1"]}}
    hybrid, plain = (
        launch({**CHAT, "engine": "trtllm", "model": model, "search": search})
        for model in ("nemotron-3-nano-30b-a3b", "qwen3-32b")
    )
    assert trtllm_config(hybrid.servers[0])["kv_cache_config"]["enable_block_reuse"] is False
    assert "enable_block_reuse" not in trtllm_config(plain.servers[0])["kv_cache_config"]
    said = "and what of earlier prompts it reuses"
    assert [said in written(one, "command")["serve.sh"] for one in (hybrid, plain)] == [False, True]
