"""The check's own reading of an engine, by hand, and the reasons that it gives."""

from dataclasses import replace
from typing import Any

import pytest

from servesat import Spec
from servesat.catalogue.engine import Engine
from servesat.catalogue.load import load_engine
from servesat.core.plan import KvLayout, Mode
from servesat.deployment.check.engine import activation_bytes, cannot_start, runtime_bytes, usable_bytes
from servesat.deployment.check.plan import engine_named, replica_of
from servesat.deployment.solve import solve
from tests.deployment.check.test_replica import replica
from tests.helpers import moe_model, toy_chip, toy_engine, toy_spec

MEMORY = {
    "runtime_bytes": 1e9, "graphs_bytes": 2e9, "collectives_bytes": 4e9,
    "activations": {"width_factors": [10.0, 1.0], "logits_factor": 3.0},
}  # fmt: skip
ENGINE = Engine.model_validate(toy_engine(memory=MEMORY))


def test_memory_by_hand() -> None:
    """Two chips share each matrix and four groups the experts, of which each token visits two, 512 wide."""
    mixture = replica()
    assert runtime_bytes(ENGINE, mixture) == 8 * 7e9
    assert runtime_bytes(ENGINE, replica(tp_axes=(), ep_axes=())) == 3e9
    sampling = 4 * 3.0 * 16 / 4 * 1000 + 2 * (16 / 4 + 12) * 256
    experts = 2 * 16 * 2 * (max(512 / 2, 256) + max(512, 256))
    assert activation_bytes(ENGINE, mixture, 16, 12) == 8 * (sampling + experts)
    dense = replica(moe_model(moe=None))
    assert activation_bytes(ENGINE, dense, 16, 12) == 8 * max(
        2 * 16 * (10 * 256 + 1024 / 2), 4 * 3.0 * 4 * 1000 + 2 * 16 * 256
    )
    assert runtime_bytes(None, mixture) == activation_bytes(None, mixture, 16, 12) == 0


def test_usable_memory_is_a_share_of_what_the_driver_reports() -> None:
    chip = toy_spec(toy_chip(usable_hbm_bytes=9e11)).chips[0]
    half = Engine.model_validate(toy_engine(memory={"utilisation": 0.5}))
    assert usable_bytes(toy_spec(), chip, None) == 1e12
    assert usable_bytes(toy_spec(), chip, half) == 4.5e11
    assert usable_bytes(toy_spec(headroom=0.1), chip, half) * 0.9 == pytest.approx(4.5e11)  # activations need the rest
    kept = {"utilisation": 0.5, "activations": {"width_factors": [0.0, 0.0], "logits_factor": 0.0}}
    assert usable_bytes(toy_spec(headroom=0.1), chip, Engine.model_validate(toy_engine(memory=kept))) == 9e11


def vllm_plan(**search: Any) -> tuple[Any, list[Any]]:
    spec = Spec.load(
        {
            "cost_model": "ideal",
            "model": "llama-3-70b",
            "workload": {"prompt_tokens": 2000, "output_tokens": 500},
            "engine": "vllm",
            "search": {"chips": ["h100-sxm"], **search},
        }
    )
    plan = solve(spec).plan
    assert plan is not None
    return plan, [replica_of(spec, spec.chips[0], plan)]


@pytest.mark.parametrize(
    ("changes", "of_side", "reason"),
    [
        ({}, {}, None),
        ({"mode": Mode.DECODE_ONLY}, {}, None),
        ({}, {"weights": "int8", "compute": "bf16"}, "does not compute int8 weights in bf16 on h100-sxm"),
        ({}, {"weights": "mxfp8"}, "runs no mxfp8 weights on h100-sxm"),
        ({}, {"kv_cache": "nvfp4"}, "stores no nvfp4 KV cache on h100-sxm"),
        ({}, {"kv_layout": KvLayout.BATCH}, "has no KV cache in the layout batch"),
        ({}, {"kv_layout": KvLayout.SEQUENCE, "kv_cache": "int8"}, "cannot split sequences of a KV cache in int8"),
    ],
)
def test_what_keeps_vllm_from_a_plan(changes: dict[str, Any], of_side: dict[str, Any], reason: str | None) -> None:
    plan, (side,) = vllm_plan(topologies={"h100-sxm": ["8x1"]}, weights=["bf16"])
    assert cannot_start(load_engine("vllm"), replace(plan, **changes), [replace(side, **of_side)]) == reason


def test_experts_nodes_modes_and_pools() -> None:
    plan, sides = vllm_plan()
    mixture = replica(kv_layout=KvLayout.HEADS, kv_cache="bf16", chip=toy_spec(toy_chip(node_chips=4)).chips[0])
    spread = Engine.model_validate(toy_engine(experts="data_parallel"))
    assert cannot_start(spread, plan, [mixture]) == "spreads experts over single chips only"
    assert cannot_start(Engine.model_validate(toy_engine(experts="none")), plan, [mixture]) == "does not spread experts"
    single = Engine.model_validate(toy_engine(nodes="one"))
    assert cannot_start(single, plan, [mixture]) == "cannot span several nodes"
    chunks = Engine.model_validate(toy_engine(modes=["chunked"]))
    assert cannot_start(chunks, replace(plan, mode=Mode.INTERLEAVED), [mixture]) == "has no mode interleaved"
    short, whole = Engine.model_validate(toy_engine(whole_prompt_tokens=1000)), replace(plan, mode=Mode.INTERLEAVED)
    assert cannot_start(short, whole, [mixture], 1001) == "takes prompts of more than 1,000 tokens only in chunks"
    assert cannot_start(short, whole, [mixture], 1000) is None
    assert cannot_start(short, replace(plan, mode=Mode.CHUNKED), [mixture], 1001) is None
    pools = replace(plan, mode=Mode.DISAGGREGATED)
    assert cannot_start(ENGINE, pools, [mixture, mixture]) == "cannot move a KV cache in the layout heads between pools"
    assert cannot_start(load_engine("vllm-tpu"), plan, sides) == "does not run on h100-sxm"
    staged = replace(mixture, tp_axes=(), ep_axes=(0,), pp_axes=(1,))
    for stages, reason in {
        "none": "does not support pipeline stages",
        "tensor_parallel": "cannot spread experts within a pipeline stage",
        "any": None,
    }.items():
        assert cannot_start(Engine.model_validate(toy_engine(pipelines=stages)), plan, [staged]) == reason
    drafting = replace(plan, mode=Mode.CHUNKED, draft="eagle3", draft_tokens=3)
    assert cannot_start(Engine.model_validate(toy_engine(drafts=["eagle3"])), drafting, [mixture]) is None
    no_chunks = Engine.model_validate(toy_engine(drafts=["eagle3"], drafts_beside_chunks=False))
    assert (
        cannot_start(no_chunks, drafting, [mixture])
        == "cannot draft tokens in a step that processes a chunk of a prompt"
    )
    assert cannot_start(no_chunks, replace(drafting, mode=Mode.INTERLEAVED), [mixture]) is None
    by_another = replace(plan, draft="small", draft_tokens=3)
    apart = Engine.model_validate(toy_engine(drafts=["model"], models_draft_in_groups=False))
    refused = "cannot draft with another model where groups of chips run their own attention"
    assert cannot_start(apart, by_another, [mixture]) == refused
    assert cannot_start(apart, by_another, [replace(mixture, ep_axes=())]) is None
    assert load_engine("vllm").pipelines == "tensor_parallel"
    assert load_engine("sglang").pipelines == "any"


def test_a_plan_has_an_engine_of_its_spec() -> None:
    spec = toy_spec(engine=toy_engine())
    assert engine_named(spec, "toy-engine") is spec.engine[0]
    assert engine_named(toy_spec(), None) is None
    for name in (None, "vllm-0.32"):
        with pytest.raises(Exception, match=f"engine = {name}: not one of the spec's"):
            engine_named(spec, name)
