"""Servers of a plan: how many, on what, and what is refused."""

from dataclasses import replace

import pytest

from servesat import Spec
from servesat.core.errors import LaunchError
from servesat.core.plan import KvLayout
from servesat.deployment.solve import solve
from servesat.launch.servers import Role, launch_of
from tests.launch.launches import CHAT, SPLIT, launch


def test_replicas_of_a_slice_are_servers_of_their_own() -> None:
    search = {"chips": ["h100-sxm"], "topologies": {"h100-sxm": ["8x1"]}, "max_batch": 16}
    one = launch({**CHAT, "search": search, "constraints": ["tp == 1"]})
    (server,) = one.servers
    assert (server.role, server.count, server.chips, server.tp, server.sequences) == (Role.SERVE, 8, 1, 1, 16)
    assert one.plan.replicas == 8


def test_a_slice_of_tpus_starts_as_one() -> None:
    search = {"chips": ["tpu-v6e"], "topologies": {"tpu-v6e": ["2x4"]}}
    spec = {
        "cost_model": "ideal",
        **CHAT,
        "model": "llama-3-8b",
        "engine": "vllm-tpu",
        "search": search,
        "constraints": ["tp == 2"],
    }
    (server,) = launch({**spec, "ici": "pay"}).servers
    assert (server.count, server.chips, server.data_parallel, server.nodes) == (1, 8, 4, 1)


def test_a_demand_multiplies_servers() -> None:
    busy = launch({**CHAT, "workload": {**CHAT["workload"], "requests_per_s": 100}})
    assert busy.servers[0].count == busy.plan.slices > 1
    pools = launch(SPLIT)
    assert pools.plan.prefill is not None
    prefill, decode = pools.servers
    assert (prefill.count * prefill.chips, decode.count * decode.chips) == (2, 2)  # a slice of two chips each
    assert (prefill.tp, decode.tp) == (1, 2)


def test_a_plan_of_the_ideal_machine_is_refused() -> None:
    spec = Spec.load({**CHAT, "engine": "none"})
    plan = solve(spec).plan
    assert plan is not None
    with pytest.raises(LaunchError, match="the plan is of the ideal machine, which nothing starts"):
        launch_of(spec, plan)


def test_a_plan_that_its_engine_cannot_start_names_the_rule() -> None:
    spec = Spec.load(CHAT)
    plan = solve(spec).plan
    assert plan is not None
    with pytest.raises(LaunchError, match=r"vLLM 0\.32 has no KV cache in the layout batch"):
        launch_of(spec, replace(plan, kv_layout=KvLayout.BATCH))


def test_an_unknown_checkpoint_has_to_be_named() -> None:
    spec = {"cost_model": "ideal", **CHAT, "model": "gemma-2-27b", "search": {**CHAT["search"], "weights": ["int4"]}}
    with pytest.raises(LaunchError, match=r"no checkpoint of gemma-2-27b in int4: name one with --checkpoint"):
        launch(spec)
    assert launch(spec, checkpoint="me/mine").checkpoint == "me/mine"


def test_a_machine_is_the_one_that_is_rented() -> None:
    search = {"chips": ["l4"], "topologies": {"l4": ["1x1"]}}
    spec = {
        "cost_model": "ideal",
        **CHAT,
        "model": "llama-3-8b",
        "search": search,
        "price_book": "all",
        "buy": "instances",
        "cloud": "gcp",
    }
    (server,) = launch({**spec, "workload": {**CHAT["workload"], "requests_per_s": 20}}).servers
    assert server.count > 1
    assert server.machine_chips == launch(spec).plan.bills[0].instance_chips


@pytest.mark.parametrize(
    ("tp", "checkpoint", "quantises"),
    [("4x1", "Qwen/Qwen3-235B-A22B-FP8", None), ("8x1", "Qwen/Qwen3-235B-A22B", "fp8_per_tensor")],
)
def test_blocks_that_would_be_cut_are_not_loaded(tp: str, checkpoint: str, quantises: str | None) -> None:
    """vllm-project/vllm#17569: experts 1,536 wide are 12 blocks of 128, which eight chips cannot share."""
    spec = Spec.load(
        {
            "model": "qwen3-235b-a22b", "workload": {"prompt_tokens": 1000, "output_tokens": 200}, "engine": "vllm",
            "search": {"chips": ["h200"], "topologies": {"h200": [tp]}, "weights": ["fp8"], "modes": ["interleaved"]},
            "constraints": ["ep == 1", f"tp == {tp[0]}"],
        }
    )  # fmt: skip
    plan = solve(spec).plan
    assert plan is not None
    (server,) = launch_of(spec, plan).servers
    assert (server.checkpoint, server.loading.quantises) == (checkpoint, quantises)


def test_blocks_that_would_be_cut_need_another_checkpoint_where_the_engine_makes_none() -> None:
    spec = Spec.load(
        {
            "model": "qwen3-235b-a22b", "workload": {"prompt_tokens": 1000, "output_tokens": 200}, "engine": "trtllm",
            "search": {"chips": ["h200"], "topologies": {"h200": ["8x1"]}, "weights": ["fp8"]},
            "constraints": ["tp == 8"],
        }
    )  # fmt: skip
    plan = solve(spec).plan
    assert plan is not None
    with pytest.raises(LaunchError, match="no checkpoint of qwen3-235b-a22b in fp8: name one with --checkpoint"):
        launch_of(spec, plan)
