"""Engines of a spec: what they let a search try, what they take of memory, and what they rule out."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from servesat import Spec, SpecError, Status
from servesat.candidates.columns import columns_at
from servesat.candidates.engine_memory import engine_bytes, prefill_engine_bytes
from servesat.candidates.engines import loading, searched_dtypes, unsupported
from servesat.candidates.enumeration import decode_layouts
from servesat.candidates.layouts import Layouts
from servesat.candidates.requirement_formulas import not_run_by_engine, outside_engine
from servesat.candidates.requirements import structural_violations
from servesat.candidates.rule import REQUIREMENT_BIT, Requirement
from servesat.candidates.serving_modes import enumerate_layouts
from servesat.catalogue.load import load_engine
from servesat.core.arrays import Bools
from servesat.core.plan import Assignment, KvLayout, Mode
from servesat.deployment.check.engine import cannot_start
from servesat.deployment.check.plan import rederive, replica_of
from servesat.deployment.settings import Settings
from servesat.deployment.solve import solve
from servesat.questions.explain import answer
from tests.helpers import toy_chip, toy_engine, toy_spec

CHAT: dict[str, Any] = {
    "cost_model": "ideal",
    "model": "llama-3-70b",
    "workload": {"prompt_tokens": 2000, "output_tokens": 500},
    "search": {"chips": ["h100-sxm"]},
}


def under(engine: Any, **keys: Any) -> Spec:
    return Spec.load({**CHAT, "engine": engine, **keys})


def test_an_engine_is_named_by_id_program_list_or_any() -> None:
    assert under("vllm-0.32").engine_ids == under("vllm").engine_ids == ("vllm-0.32",)
    assert under(["sglang", "vllm"]).engine_ids == ("sglang-0.5.23", "vllm-0.32")
    assert under("any").engine_ids == ("vllm-0.32", "sglang-0.5.23", "trtllm-1.3", "vllm-tpu-0.32")
    assert under("none").engine == Spec.load(CHAT).engine == ()
    assert under(toy_engine()).engine_ids == ("toy-engine",)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("vlm", r"engine = 'vlm': no engine 'vlm'.*vllm-0\.32"),
        (["vllm", "vllm-0.32"], r"engine: 'vllm-0\.32' is listed twice"),
        (7, r"engine = 7: expected an engine, a list of them, `any` or `none`"),
        ({"name": "half"}, r"engine\.program"),
    ],
)
def test_a_bad_engine_is_refused(engine: Any, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        under(engine)


def test_what_is_not_listed_is_what_the_engines_run() -> None:
    vllm = under("vllm")
    assert vllm.weights == ("bf16", "fp8", "int8")  # fp8 is made while loading, int8 has a checkpoint
    assert vllm.kv_cache == ("bf16", "fp8", "int8")
    assert under("sglang").kv_cache == ("bf16", "fp8")
    assert {str(layout) for layout in vllm.kv_layouts} == {"heads", "sequence", "copies"}
    on_hopper = {choice[:3] for choice in searched_dtypes(vllm)}
    assert ("fp8", "fp8", "fp8") in on_hopper
    assert not any(weights == "fp8" and compute == "bf16" for weights, _, compute in on_hopper)
    assert under("trtllm").weights == ("bf16", "fp8", "int8")
    assert ("int8", "bf16", "int8") not in {choice[:3] for choice in searched_dtypes(under("trtllm"))}


def test_pools_are_searched_for_a_demand_and_on_one_chip_type() -> None:
    assert [str(mode) for mode in under("vllm").modes] == ["interleaved", "chunked"]
    demand = {**CHAT["workload"], "requests_per_s": 5}
    assert "disaggregated" in [str(mode) for mode in under("vllm", workload=demand).modes]
    assert not under("vllm").mixes_pools
    assert under("vllm", mixed_pools="allow").mixes_pools
    assert Spec.load(CHAT).mixes_pools


@pytest.mark.parametrize("constraint", ["mode == disaggregated", "prefill.slices >= 1"])
def test_pools_are_searched_without_a_demand_where_a_constraint_names_them(constraint: str) -> None:
    spec = Spec.load(
        {
            "model": "llama-3-8b", "engine": "vllm", "workload": {"prompt_tokens": 1000, "output_tokens": 200},
            "search": {"chips": ["h100-sxm"]}, "slo": {"ttft_ms": 800}, "constraints": [constraint],
        }
    )  # fmt: skip
    assert Mode.DISAGGREGATED in spec.modes
    assert Mode.DISAGGREGATED not in spec.changed({"constraints": []}).modes
    plan = solve(spec).plan
    assert plan is not None
    assert plan.prefill is not None


def test_an_engine_takes_memory_by_hand() -> None:
    """Two chips: 1 + 2 GB and 4 GB for collectives on each; of a step of B + 128 tokens 2 · (10 · 1000 + 4000 / 2)."""
    memory: dict[str, Any] = {"runtime_bytes": 1e9, "graphs_bytes": 2e9, "collectives_bytes": 4e9}
    memory["activations"] = {"width_factors": [10.0, 1.0], "logits_factor": 0.0}
    chip = toy_chip(topologies=["2"], hbm_bytes=100e9, usable_hbm_bytes=90e9)
    search = {"modes": ["chunked"], "chunk_tokens": [128], "kv_cache": ["bf16"]}
    spec = toy_spec(chip, search=search, engine=toy_engine(memory={**memory, "utilisation": 0.5}))
    layouts = enumerate_layouts(spec)
    (row,) = np.flatnonzero(layouts.tp == 2)
    layouts = layouts.take(np.array([row]))
    batch = np.array([32.0])
    assert engine_bytes(spec, layouts, batch) == pytest.approx(2 * 7e9 + 2 * 2 * (32 + 128) * (10 * 1000 + 4000 / 2))
    assert layouts.replica_hbm_bytes == pytest.approx(2 * 0.5 * 90e9)
    assert prefill_engine_bytes(spec, layouts) == pytest.approx(2 * 7e9 + 2 * 2 * 1000 * 12000)
    logits = toy_engine(memory={"activations": {"width_factors": [0.0, 0.0], "logits_factor": 1e3}})
    spec = toy_spec(chip, search=search, engine=logits)
    layouts = enumerate_layouts(spec).take(np.array([row]))
    assert engine_bytes(spec, layouts, batch) == pytest.approx(2 * (4 * 1e3 * 32 * 1000 + 2 * 160 * 1000))


def test_a_stated_headroom_goes_in_place_of_the_engines_share() -> None:
    chip, kept = toy_chip(usable_hbm_bytes=9e11), {"width_factors": [0.0, 0.0], "logits_factor": 0.0}

    def usable(memory: dict[str, Any], **keys: Any) -> float:
        spec = toy_spec(chip, engine=toy_engine(memory={"utilisation": 0.5, **memory}), **keys)
        return float(decode_layouts(spec).replica_hbm_bytes[0]) * (1 - spec.kept_free)

    assert usable({"activations": kept}) == 4.5e11
    assert usable({"activations": kept}, headroom=0.2) == pytest.approx(0.8 * 9e11)
    assert usable({"activations": kept}, headroom=0.0) == 9e11
    assert usable({}, headroom=0.2) == pytest.approx(4.5e11)  # activations need the other half
    assert usable({}, headroom=0.7) == pytest.approx(0.3 * 9e11)


def test_the_batch_ends_where_the_activations_would_not_fit() -> None:
    """2 GB of weights and 8 kB a token: of 10 GB a sequence of 1,100 takes 8.8 MB, and 4 · 100 · 1000 to sample.

    A step has a token of 2 · 1000 bytes for each, and 2,048 of prompts, which servers take all the same.
    """
    chip = toy_chip(hbm_bytes=10e9, flop_per_s={"bf16": 1e18})
    search = {"modes": ["decode_only"], "max_batch": 4096}
    free = solve(toy_spec(chip, search=search, engine=toy_engine())).plan
    sampling = {"activations": {"width_factors": [0.0, 0.0], "logits_factor": 100}}
    taken = solve(toy_spec(chip, search=search, engine=toy_engine(memory=sampling))).plan
    assert free is not None
    assert taken is not None
    assert free.batch == 8e9 // 8.8e6
    assert taken.batch == (8e9 - 2048 * 2000) // (8.8e6 + 4 * 100 * 1000 + 2 * 1000) == 868
    assert taken.activation_bytes == taken.batch * (400_000 + 2000) + 2048 * 2000


def test_prompts_that_are_too_long_to_take_whole_are_taken_in_chunks() -> None:
    """Of prompts of 1,000 tokens an engine that takes 500 whole has no plan but chunked ones."""
    for largest, mode in ((1000, "interleaved"), (500, "chunked")):
        spec = toy_spec(engine=toy_engine(whole_prompt_tokens=largest), search={"modes": [mode]})
        assert solve(spec).plan is not None
    refused = toy_spec(engine=toy_engine(whole_prompt_tokens=500), search={"modes": ["interleaved"]})
    assert answer(refused).conflict == (("engine",),)
    assert unsupported(refused) == ("toy-engine takes prompts of more than 500 tokens only in chunks",)


def test_a_conflict_says_what_the_engine_lacks() -> None:
    spec = under("vllm", model="deepseek-v3", search={"chips": ["h200"], "kv_cache": ["int8"]})
    assert unsupported(spec) == ("vLLM 0.32 stores no int8 KV cache beside latent attention on h200",)
    result = answer(spec)
    assert result.conflict == (("engine",),)
    assert [change.value for change in result.corrections[0].changes] == ["bf16"]


def test_a_model_that_an_engine_has_no_class_of_is_not_planned_on_it() -> None:
    """TensorRT-LLM 1.3.0rc3 registers no architecture of Jamba; of Qwen3-Next it does, and reuses no blocks of it."""
    jamba = under("trtllm", model="jamba-1.5-mini", search={"chips": ["h200"]})
    assert solve(jamba).conflict == (("engine",),)
    assert unsupported(jamba) == ("TensorRT-LLM 1.3 does not serve jamba-1.5-mini",)
    best = solve(jamba.changed({"engine": "any"})).plan
    assert best is not None
    assert best.engine == "vllm-0.32"
    refused = replace(best, engine="trtllm-1.3", kv_cache="bf16", weights="bf16", compute="bf16")
    assert not next(one.holds for one in rederive(jamba, refused)[1] if one.requirement == "engine")


@pytest.mark.parametrize(
    ("model", "checkpoint"),
    [
        ("llama-3.1-405b", "nvidia/Llama-3.1-405B-Instruct-FP8"),  # Meta's own is FBGEMM's
        ("llama-3.3-70b", "nvidia/Llama-3.3-70B-Instruct-FP8"),
        ("qwen2.5-72b", "RedHatAI/Qwen2.5-72B-Instruct-FP8-dynamic"),  # a scale a channel
        ("llama-3-70b", None),  # a scale a tensor
        ("devstral-small-2-24b", None),
    ],
)
def test_a_checkpoint_is_in_a_format_that_the_engine_loads(model: str, checkpoint: str | None) -> None:
    """_torch/model_config.py of TensorRT-LLM 1.3.0rc3 has no other formats of fp8 than ModelOpt's, blocks and rows."""
    spec = under("trtllm", model=model, search={"chips": ["h200"]})
    assert spec.engine[0].checkpoint_of(spec.model, "fp8") == checkpoint
    fp8 = spec.changed({"search.weights": ["fp8"]})  # which may be the user's own
    plan = solve(fp8).plan
    assert plan is not None
    loaded = loading(fp8, plan)
    assert loaded is not None
    assert (loaded.checkpoint, loaded.quantises) == (checkpoint, None)
    found = solve(spec).plan
    at_hand = ["fp8"] if checkpoint else ["bf16"] if model == "llama-3-70b" else []
    assert ([] if found is None else [found.weights]) == at_hand
    starts = next(one.holds for one in rederive(spec, replace(plan, slices=1))[1] if one.requirement == "engine")
    assert starts is (checkpoint is not None)


@pytest.mark.parametrize("refused", [[], ["acme/*"]])
def test_search_and_check_agree_on_checkpoints_of_an_engines_own(refused: list[str]) -> None:
    """70 GB of fp8 fit beside nothing on an H100, and are not quantised there of 140 GB in 16 bits."""
    sglang = load_engine("sglang").model_dump(mode="json", exclude={"id"})
    own = {"llama-2-70b": {"fp8": "acme/llama-2-70b-fp8"}}
    engine = {**sglang, "own_checkpoints": own, "refused_checkpoints": refused}
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}}
    found = solve(
        under(engine, model="llama-2-70b", workload={"prompt_tokens": 500, "output_tokens": 50}, search=search)
    )
    assert (found.plan is None) is bool(refused)


def test_a_model_without_a_checkpoint_that_loads_is_said_to_have_none() -> None:
    spec = under("trtllm", model="devstral-small-2-24b", search={"chips": ["h200"]})
    assert unsupported(spec) == ("TensorRT-LLM 1.3 loads no known checkpoint of devstral-small-2-24b on h200",)


def test_prefixes_of_states_are_hit_only_where_the_engine_keeps_them() -> None:
    workload = {"prompt_tokens": 2000, "output_tokens": 500, "prefix_cache_hit": 0.5}
    spec = under("trtllm", model="qwen3-next-80b-a3b", workload=workload, search={"chips": ["h200"]})
    said = "is not planned to reuse prefixes of qwen3-next-80b-a3b, whose layers keep states"
    assert solve(spec).conflict == (("engine",),)
    assert unsupported(spec) == (f"TensorRT-LLM 1.3 {said}",)
    without = spec.changed({"workload.prefix_cache_hit": 0})
    plan = solve(without).plan
    assert plan is not None
    replicas = [replica_of(one, one.chips[0], plan) for one in (spec, without)]
    engine = spec.engine[0]
    assert [cannot_start(engine, plan, [one], 1000) for one in replicas] == [said, None]
    assert solve(spec.changed({"engine": "vllm"})).plan is not None


def test_weights_that_are_quantised_whole_fit_before_that_too() -> None:
    """Kimi Linear has 98.2 GB in bf16: SGLang holds them all before it makes fp8 of them, vLLM a layer at a time."""
    one_card = {
        "cost_model": "ideal", "model": "kimi-linear-48b-a3b", "engine": "sglang",
        "workload": {"prompt_tokens": 1000, "output_tokens": 300},
        "search": {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["1x1"]}, "modes": ["interleaved"]},
    }  # fmt: skip
    spec = Spec.load(one_card)
    assert solve(spec).conflict == (("hbm", "engine"),)  # fp8 cannot be loaded, and bf16 does not fit
    plan = solve(spec.changed({"engine": "vllm"})).plan
    assert plan is not None
    assert (plan.weights, plan.compute) == ("fp8", "fp8")
    sides = [replica_of(spec, spec.chips[0], replace(plan, engine="sglang-0.5.23"))]
    assert cannot_start(spec.engine[0], plan, sides) == (
        "needs 98.2 GB a chip for the 16-bit weights before it quantises them, of 85.5 GB in all"
    )
    two = solve(spec.changed({"search": {**one_card["search"], "topologies": {"h100-sxm": ["2x1"]}}})).plan
    assert two is not None
    assert two.weights == "fp8"
    published = solve(spec.changed({"model": "qwen3-32b"})).plan  # whose repository has fp8
    assert published is not None
    assert published.weights == "fp8"


def test_another_engine_may_be_the_correction() -> None:
    spec = under("sglang", search={"chips": ["h100-sxm"], "kv_cache": ["int8"], "weights": ["bf16"]})
    changes = {change.key: change.value for correction in answer(spec).corrections for change in correction.changes}
    assert changes["engine"] == "vllm-0.32"
    assert changes["search.kv_cache"] == "bf16"


def test_an_engine_that_runs_on_none_of_the_chips_is_a_result() -> None:
    result = solve(under("vllm-tpu"))
    assert result.status is Status.INFEASIBLE
    assert result.conflict == (("engine",),)
    assert unsupported(under("vllm-tpu")) == ("vLLM-TPU 0.32 does not run on h100-sxm",)


def test_the_first_engine_listed_is_preferred_where_they_tie() -> None:
    for engines in (["vllm", "sglang"], ["sglang", "vllm"]):
        plan = solve(under(engines, search={"chips": ["h100-sxm"], "max_batch": 8, "kv_cache": ["bf16"]})).plan
        assert plan is not None
        assert plan.engine is not None
        assert plan.engine.startswith(engines[0])


def test_explanations_have_what_other_engines_would_cost() -> None:
    result = answer(under("vllm"), Settings())
    costs = {cost.engine: cost.plan for cost in result.engines}
    assert list(costs) == ["SGLang 0.5.23", "TensorRT-LLM 1.3", "none"]
    assert costs["none"] == solve(under("vllm").without_engines()).plan
    assert costs["none"] is not None
    assert result.plan is not None
    assert costs["none"].usd_per_million_output_tokens <= result.plan.usd_per_million_output_tokens
    assert costs["SGLang 0.5.23"] == solve(under("sglang")).plan
    assert answer(Spec.load(CHAT)).engines == ()


@pytest.mark.parametrize(
    ("model", "weights", "checkpoint", "quantises"),
    [
        ("qwen3-32b", "bf16", "Qwen/Qwen3-32B", None),
        ("qwen3-32b", "fp8", "Qwen/Qwen3-32B-FP8", None),
        ("gemma-2-27b", "fp8", "google/gemma-2-27b-it", "fp8_per_tensor"),
        ("gpt-oss-120b", "mxfp4", "openai/gpt-oss-120b", None),
        ("gemma-2-27b", "int4", None, None),
    ],
)
def test_weights_come_from_a_checkpoint_or_are_made_of_one(
    model: str, weights: str, checkpoint: str | None, quantises: str | None
) -> None:
    spec = under("vllm", model=model, search={"chips": ["h100-sxm"], "weights": [weights]})
    plan = solve(spec).plan
    assert plan is not None
    found = loading(spec, plan)
    assert found is not None
    assert (found.engine, found.checkpoint, found.quantises) == ("vLLM 0.32", checkpoint, quantises)


def test_layouts_that_no_engine_runs_are_left_out_unless_listed() -> None:
    engine = toy_engine()
    assert {choice.weights for choice in decode_layouts(toy_spec(engine=engine)).dtypes} == {"bf16"}
    listed = toy_spec(engine=engine, search={"weights": ["bf16", "int8"]})
    assert {choice.weights for choice in decode_layouts(listed).dtypes} == {"bf16", "int8"}
    assert unsupported(listed) == ("toy-engine runs no int8 weights on toy",)


def test_an_engine_that_computes_in_no_dtype_of_the_chips_is_a_result() -> None:
    spec = under("trtllm", model="deepseek-v3", search={"chips": ["tpu-v5e"]})  # fp8 alone, which a v5e lacks
    assert solve(spec).conflict == (("engine",),)


def test_weights_that_nothing_makes_and_nobody_has_are_not_searched_unless_listed() -> None:
    shape = {
        "cost_model": "ideal",
        "model": "llama-2-13b",
        "search": {"chips": ["h100-sxm"]},
    }  # of which bf16 alone is known
    plan = solve(under(["trtllm", "vllm"], **shape)).plan
    assert plan is not None
    assert (plan.engine, plan.weights) == ("vllm-0.32", "fp8")  # which it makes itself
    alone = solve(under("trtllm", **shape)).plan
    assert alone is not None
    assert alone.weights == "bf16"
    listed = under("trtllm", model="llama-2-13b", search={"chips": ["h100-sxm"], "weights": ["fp8"]})
    assert solve(listed).status is Status.OPTIMAL


def test_pools_on_two_chips_share_a_cache_that_is_not_the_narrowest_of_either() -> None:
    """SGLang stores fp8 on an H100 and bf16 alone on an A100: with one A100 beside two H100, both hold bf16."""
    chips, modes = ["h100-sxm", "a100-80gb"], ["disaggregated"]
    search = {"chips": chips, "modes": modes, "weights": ["bf16"], "compute": ["bf16"]}
    spec = under(
        "sglang",
        model="llama-3-8b",
        mixed_pools="allow",
        workload={"prompt_tokens": 1000, "output_tokens": 100, "requests_per_s": 1},
        search={**search, "quota": {"h100-sxm": 2, "a100-80gb": 1}},
    )
    screened, whole = (solve(spec, Settings(screen=screen)).plan for screen in (True, False))
    assert screened is not None
    assert whole is not None
    assert screened.usd_per_million_output_tokens == pytest.approx(whole.usd_per_million_output_tokens)


def test_the_engine_listed_first_is_preferred_whatever_other_chips_are_searched() -> None:
    only = {"max_batch": 8, "kv_cache": ["bf16"], "weights": ["bf16"]}
    both = [["h100-sxm"], ["h100-sxm", "a100-80gb"]]
    specs = [
        under(["trtllm", "vllm"], search={"chips": chips, **only}, constraints=["chip == h100-sxm"]) for chips in both
    ]
    plans = [solve(spec).plan for spec in specs]
    assert [plan and plan.engine for plan in plans] == ["trtllm-1.3", "trtllm-1.3"]


@pytest.mark.parametrize(("engine", "spread"), [("vllm", False), ("sglang", True)])
def test_vllm_spreads_no_experts_within_stages(engine: str, spread: bool) -> None:
    """Its replicas of attention would have to span the nodes of their stages, and it keeps each on one."""
    slices = {"topologies": {"h100-sxm": ["8x2"]}, "pp": [2], "kv_layouts": ["heads"]}
    spec = under(engine, model="deepseek-v3", search={"chips": ["h100-sxm"], **slices})
    layouts = decode_layouts(spec)
    starts = ~not_run_by_engine(spec, layouts)
    assert set(layouts.replica.ep[starts].tolist()) == ({1, 8} if spread else {1})


@pytest.mark.parametrize(("engine", "beside"), [("vllm", True), ("sglang", False)])
def test_sglang_drafts_no_tokens_in_mixed_chunks(engine: str, beside: bool) -> None:
    speculative = {"draft": "eagle3", "tokens": [3]}
    spec = under(
        engine, model="llama-3.1-8b", speculative=speculative, search={"chips": ["h200"], "modes": ["chunked"]}
    )
    layouts = enumerate_layouts(spec)
    drafts = np.asarray(layouts.replica.drafting.tokens) > 0
    assert drafts.any()
    starts = ~outside_engine(spec, columns_at(spec, layouts, np.ones(len(layouts), dtype=np.int64)))
    assert bool(starts[drafts].any()) is beside
    assert starts[~drafts].any()


def drafted_by(draft: str, engine: str, **keys: Any) -> tuple[Spec, Layouts, Bools]:
    """A spec, its layouts, and which of them another model drafts for."""
    speculative = {"draft": draft, "tokens": [3], "accepted": 2.0}
    search = {"chips": ["h200"], "topologies": {"h200": ["8x1", "4x1", "2x1"]}, "weights": ["bf16"]}
    spec = under(engine, speculative=speculative, search=search, **keys)
    layouts = decode_layouts(spec)
    return spec, layouts, np.asarray(layouts.replica.drafting.tokens) > 0


def test_a_model_that_drafts_is_split_as_the_one_that_it_drafts_for() -> None:
    """Of Qwen2.5 0.5B 14 heads split over two chips, and not over four or eight, as the 64 of Qwen3 32B do."""
    spec, layouts, drafts = drafted_by("qwen2.5-0.5b", "vllm", model="qwen3-32b")
    whole = structural_violations(spec, layouts) & REQUIREMENT_BIT[Requirement.HEADS] == 0
    assert set(layouts.tp[whole & drafts].tolist()) == {1, 2}
    assert set(layouts.tp[whole & ~drafts].tolist()) == {1, 2, 4, 8}
    for tp, splits in {2: True, 4: False}.items():
        at = Assignment(
            chip="h200", topology=f"{tp}x1", tp_axes=(0,), kv_layout=KvLayout.HEADS, weights="bf16", kv_cache="bf16",
            compute="bf16", batch=1, engine="vllm-0.32", draft="qwen2.5-0.5b", draft_tokens=3,
        )  # fmt: skip
        assert replica_of(spec, spec.chips[0], at).divides_heads is splits


@pytest.mark.parametrize(("engine", "groups"), [("vllm", {1, 2, 4, 8}), ("sglang", {1})])
def test_sglang_drafts_by_no_other_model_in_groups(engine: str, groups: set[int]) -> None:
    spec, layouts, drafts = drafted_by("qwen3-8b", engine, model="qwen3-235b-a22b")
    starts = ~not_run_by_engine(spec, layouts)
    assert set(np.asarray(layouts.replica.ep)[starts & drafts].tolist()) == groups
    assert set(np.asarray(layouts.replica.ep)[starts & ~drafts].tolist()) == {1, 2, 4, 8}


def test_another_kv_layout_may_be_the_correction() -> None:
    search = {"chips": ["h200"], "kv_cache": ["fp8"], "kv_layouts": ["batch"]}
    changes = [one.changes for one in answer(under("vllm", model="deepseek-v3", search=search)).corrections]
    assert ("search.kv_layouts", "heads") in [(change.key, change.value) for one in changes for change in one]


def test_a_checkpoint_whose_groups_chips_would_cut_is_not_run_unless_the_engine_makes_it() -> None:
    """Experts of 1,536 in groups of 128: 12 groups, which 4 chips share and 8 do not; fp8 vLLM makes of bf16 itself."""
    keys = {"model": "qwen3-235b-a22b", "speculative": {"draft": "none"}}
    search = {"chips": ["h100-sxm"], "weights": ["int4", "fp8"], "kv_layouts": ["heads", "copies"], "pp": [1]}

    def run(spec: Spec) -> set[tuple[str, int]]:
        layouts = decode_layouts(spec)
        rows = np.flatnonzero(~not_run_by_engine(spec, layouts) & (np.asarray(layouts.replica.ep) == 1))
        return {(layouts.dtypes[layouts.dtype[row]].weights, int(layouts.tp[row])) for row in rows.tolist()}

    published = run(under("vllm", **keys, search=search))
    assert {("int4", 4), ("fp8", 4), ("fp8", 8)} <= published
    assert ("int4", 8) not in published
    own = run(under("vllm", **keys, search=search, int4_group=32))
    assert ("int4", 8) in own, "weights with a group of its own are the spec's"


def test_the_check_refuses_a_checkpoint_that_chips_would_cut() -> None:
    keys = {"model": "qwen3-235b-a22b", "speculative": {"draft": "none"}}
    spec = under("vllm", **keys, search={"chips": ["h100-sxm"], "weights": ["int4"], "pp": [1]})
    held = {}
    for tp, group in ((4, 128), (8, 64)):  # 8 chips hold 3 groups of 64 each, of weights that are the spec's own
        plan = solve(spec.changed({"int4_group": group, "constraints": [f"tp == {tp}"]})).plan
        assert plan is not None
        margins = rederive(spec, plan)[1]
        held[tp] = next(margin.holds for margin in margins if margin.requirement == "engine")
    assert held == {4: True, 8: False}


@pytest.mark.soak
def test_pools_of_vllm_split_a_latent_beside_states_over_as_many_chips() -> None:
    """Its connector refuses others at the first handshake; a latent alone moves between any."""
    asked = {"prompt_tokens": 8000, "output_tokens": 500, "requests_per_s": 4}
    spec = {
        "model": "kimi-linear-48b-a3b", "workload": asked, "engine": "vllm", "speculative": "none",
        "slo": {"ttft_ms": 2000, "tpot_ms": 25, "percentile": "mean"},
        "search": {"chips": ["h100-sxm"], "modes": ["disaggregated"], "kv_layouts": ["sequence"]},
    }  # fmt: skip
    other = answer(Spec.load({**spec, "constraints": ["prefill.tp == 4", "tp == 2"]}))
    alike = answer(Spec.load({**spec, "constraints": ["prefill.tp == 4", "tp == 4"]}))
    assert (other.status, alike.status) == (Status.INFEASIBLE, Status.OPTIMAL)
    plan = alike.plan
    assert plan is not None
    assert plan.prefill is not None
    kept = [margin.holds for margin in rederive(Spec.load(spec), plan)[1] if margin.requirement == "engine"]
    apart = replace(plan, prefill=replace(plan.prefill, topology="2x1"))
    refused = [margin.holds for margin in rederive(Spec.load(spec), apart)[1] if margin.requirement == "engine"]
    assert (kept, refused) == ([True], [False])
