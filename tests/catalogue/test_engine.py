"""Engines of the catalogue: chips that exist, and words that the engines' own command lines know."""

import fnmatch
from collections.abc import Iterator

import pytest

from servesat import CatalogueError, Spec
from servesat.catalogue.engine import Engine, Support
from servesat.catalogue.load import chip_ids, engine_ids, load_engine, load_model, model_ids
from servesat.deployment.solve import solve
from tests.engine_flags import snapshot_of
from tests.helpers import toy_engine

ENGINES = [load_engine(name) for name in engine_ids()]
OF_GPUS = [engine for engine in ENGINES if engine.program in {"vllm", "sglang"}]


def test_the_newest_version_of_a_program_is_first() -> None:
    assert engine_ids() == ["vllm-0.32", "sglang-0.5.23", "trtllm-1.3", "vllm-tpu-0.32"]
    assert load_engine("vllm").id == "vllm-0.32"


def test_an_unknown_engine_names_the_nearest() -> None:
    with pytest.raises(CatalogueError, match=r"no engine 'vlm'.*vllm-0\.32"):
        load_engine("vlm")
    with pytest.raises(CatalogueError, match=r"no engine 'vllm-0\.31'.*vllm-0\.32"):
        load_engine("vllm-0.31")


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.id)
def test_engines_run_on_chips_of_the_catalogue_each_once(engine: Engine) -> None:
    chips = [chip for support in engine.runs for chip in support.chips]
    assert set(chips) <= set(chip_ids())
    assert len(chips) == len(set(chips))
    assert engine.checked is not None
    assert "default" in engine.sources


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.id)
def test_models_and_repositories_that_engines_name_are_there(engine: Engine) -> None:
    listed = {*engine.without_models, *engine.without_adapters, *engine.whole_windows, *engine.own_checkpoints}
    assert listed | {model for support in engine.runs for model in support.without_models} <= set(model_ids())
    assert all(load_model(model).has_windows for model in engine.whole_windows)
    known = {name for model in model_ids() for name in load_model(model).checkpoints.values()}
    for pattern in engine.refused_checkpoints:
        assert fnmatch.filter(known, pattern), pattern


def test_each_model_with_windows_has_a_pool_for_them_or_none_in_sglang() -> None:
    """srt/configs/model_config.py, is_hybrid_swa_model: Gemma 4, gpt-oss, Llama 4, MiMo-V2 and DeepSeek-V4 have one."""
    pooled = ("gemma-4", "gpt-oss", "llama-4", "mimo-v2", "deepseek-v4")
    windowed = {model for model in model_ids() if load_model(model).has_windows}
    assert set(load_engine("sglang").whole_windows) == {one for one in windowed if not one.startswith(pooled)}


def choices(engine: Engine, flag: str) -> set[str]:
    flags = snapshot_of(engine.program)["flags"]
    return set(next(one["choices"] for one in flags if flag in one["names"]))


def caches(support: Support) -> Iterator[str]:
    yield from support.kv_cache.values()
    yield from support.latent_kv_cache.values()
    yield from support.sparse_kv_cache.values()


@pytest.mark.parametrize("engine", OF_GPUS, ids=lambda engine: engine.id)
def test_dtypes_are_named_as_the_command_line_does(engine: Engine) -> None:
    assert {name for support in engine.runs for name in caches(support)} <= choices(engine, "--kv-cache-dtype")
    made = {one.quantises for support in engine.runs for one in support.weights.values() if one.quantises}
    assert made
    assert made <= choices(engine, "--quantization")


def test_a_cache_is_stored_by_the_kind_of_attention() -> None:
    vllm = load_engine("vllm")
    assert set(vllm.kv_dtypes(load_model("llama-3-70b"), "h100-sxm")) == {"bf16", "fp8", "int8", "int4"}
    assert set(vllm.kv_dtypes(load_model("deepseek-v3"), "h100-sxm")) == {"bf16", "fp8"}
    assert vllm.kv_dtypes(load_model("deepseek-v3.2"), "h100-sxm")["fp8"] == "fp8_ds_mla"
    assert vllm.kv_dtypes(load_model("deepseek-v3.2"), "l40s") == {}
    assert vllm.kv_dtypes(load_model("llama-3-70b"), "tpu-v5e") == {}


def test_a_layout_moves_between_pools_where_the_engine_says_so() -> None:
    vllm, model = load_engine("vllm"), load_model("llama-3-70b")
    assert set(vllm.layouts_of(model)) == {"heads", "copies", "sequence"}
    assert vllm.layouts_of(model, pools=True) == ("heads",)
    alone = Engine.model_validate(toy_engine())
    assert alone.layouts_of(model, pools=True) == ()


def test_heads_with_sinks_have_caches_of_their_own_on_ampere() -> None:
    """v1/attention/backends: on Ampere FlashInfer has no sinks and no images attended to both ways, Triton no fp8."""
    vllm = load_engine("vllm")
    for model in ("gpt-oss-120b", "mimo-v2-flash", "gemma-3-27b"):
        assert "fp8" not in vllm.kv_dtypes(load_model(model), "a100-80gb")
        assert "fp8" in vllm.kv_dtypes(load_model(model), "l40s")
    assert "fp8" in vllm.kv_dtypes(load_model("llama-3-70b"), "a100-80gb")


def test_experts_are_run_in_fewer_dtypes_than_dense_layers() -> None:
    """srt/layers/quantization: Marlin has fp8 of linear layers alone, int8 experts are of NPUs, mxfp4 of no CDNA 3."""
    sglang, dense, experts = load_engine("sglang"), load_model("qwen3-32b"), load_model("qwen3-30b-a3b")
    assert {"fp8", "int8"} <= set(sglang.weights_for(dense, "a100-80gb"))
    assert set(sglang.weights_for(experts, "a100-80gb")) == {"bf16", "int4"}
    assert "fp8" in sglang.weights_for(experts, "l40s")
    assert "mxfp4" not in sglang.weights_for(load_model("gpt-oss-120b"), "mi300x")
    assert sglang.weights_for(experts, "tpu-v5e") == {}


def test_experts_in_mxfp4_stay_on_one_group_of_hopper() -> None:
    """srt/layers/quantization/mxfp4.py: those that are spread become bf16, three times as large."""
    spec = Spec.load(
        {
            "model": "gpt-oss-120b", "engine": "sglang", "workload": {"prompt_tokens": 2000, "output_tokens": 500},
            "slo": {"tpot_ms": 50}, "search": {"chips": ["h200"], "topologies": {"h200": ["2x1"]}},
        }
    )  # fmt: skip
    plan = solve(spec).plan
    assert plan is not None
    assert (plan.weights, plan.ep) == ("mxfp4", 1)
    assert solve(spec.constrained(["ep == 2", "weights == mxfp4"])).plan is None


def test_sequences_lie_on_several_chips_where_kernels_take_them() -> None:
    """v1/core: no layers with windows; v1/attention/backends: of ROCm latents alone, of Hopper none with an indexer."""
    vllm = load_engine("vllm")
    assert vllm.splits_on(load_model("qwen3-235b-a22b"), "h200")
    assert not vllm.splits_on(load_model("qwen3-235b-a22b"), "mi300x")
    assert vllm.splits_on(load_model("deepseek-v3"), "mi300x")
    assert not vllm.splits_on(load_model("gemma-4-26b-a4b"), "h200")
    assert not vllm.splits_on(load_model("deepseek-v3.2"), "h200")
    assert vllm.splits_on(load_model("deepseek-v3.2"), "b200")


def test_some_chips_lack_the_kernels_of_a_model() -> None:
    vllm, flash, mimo = load_engine("vllm"), load_model("deepseek-v4-flash"), load_model("mimo-v2-flash")
    assert [vllm.weights_for(flash, chip) == {} for chip in ("a100-80gb", "l40s", "mi300x", "h200")] == [
        True, True, True, False,
    ]  # fmt: skip
    assert [set(vllm.kv_dtypes(mimo, chip)) == {"bf16"} for chip in ("a100-80gb", "h200", "b200", "l40s")] == [
        True, True, True, False,
    ]  # fmt: skip
