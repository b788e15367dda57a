"""Engines of the catalogue: chips that exist, and words that the engines' own command lines know."""

from collections.abc import Iterator

import pytest

from servesat import CatalogueError
from servesat.catalogue.engine import Engine, Support
from servesat.catalogue.load import chip_ids, engine_ids, load_engine, load_model
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
